"""Asks the controller for its numbers, for all who want to know them at the moment.

Rule 1: an answer, or that there was none, holds for a second. So however many probes and scrapes
come, from whoever, the controller is asked at most once a second, and by one at a time.
Rule 2: nobody waits long: a probe wants to hear "no" in time.

A client that is over for good, since its cluster was stopped, is replaced where that is possible:
the next cluster of that name or connection file is then looked after.

What this file must not know: HTTP, and what the numbers are called.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from headway import errors
from headway.client.client import Client
from headway.client.observing import count_engines, read_metrics
from headway.wire.metrics import Metrics

_T = TypeVar("_T")

#: So long an answer holds.
_FRESH_S = 1.0
#: The controller answers in milliseconds, or it is not there.
ANSWER_S = 3.0


class Source:
    """The numbers of one cluster. Any thread may ask.

    Parameters:
        connect: makes a client of it, or has one; raises HeadwayError or OSError if there is none.
        owns_clients: whether `connect` makes them, so that they are to be closed.
        say: told when the controller can be asked no more, and why; and when it can again.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        *,
        owns_clients: bool,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._connect = connect
        self._owns_clients = owns_clients
        self._lock = threading.Lock()
        self._client: Client | None = None
        #: By what was asked: when, and the answer.
        self._answers: dict[str, tuple[float, Any]] = {}
        self._say = say
        self._is_troubled = False
        self._failed_at_s = float("-inf")

    def metrics(self) -> Metrics | None:
        """The numbers as they are; None if the controller can't be asked."""
        return self._fresh("metrics", read_metrics)

    def engines(self) -> int | None:
        """How many engines are here; None if the controller can't be asked. For who asks nothing
        else, nothing is measured."""
        return self._fresh("engines", count_engines)

    def _fresh(self, what: str, ask: Callable[[Client, float], _T]) -> _T | None:
        with self._lock:
            if time.monotonic() - self._failed_at_s < _FRESH_S:
                return None
            asked_at_s, answer = self._answers.get(what, (float("-inf"), None))
            if time.monotonic() - asked_at_s >= _FRESH_S:
                answer = self._ask(ask)
                self._answers[what] = time.monotonic(), answer
            found: _T | None = answer
            return found

    def close(self) -> None:
        """Say goodbye."""
        with self._lock:
            self._let_go()

    def _ask(self, ask: Callable[[Client, float], _T]) -> _T | None:
        try:
            if self._client is not None and self._client.closed:
                self._let_go()
            if self._client is None:
                self._client = self._connect()
            answer = ask(self._client, ANSWER_S)
        except (errors.HeadwayError, OSError) as error:
            if not self._is_troubled:
                self._say(f"the controller can't be asked: {error}")
            self._is_troubled = True
            self._failed_at_s = time.monotonic()
            return None
        if self._is_troubled:
            self._say("the controller can be asked again")
        self._is_troubled = False
        return answer

    def _let_go(self) -> None:
        if self._client is not None and self._owns_clients:
            self._client.close()
        self._client = None
