"""The tasks of one graph while they run: whoever waits for them hears of the first that failed.

What this file must not know: what a graph is made of.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from typing import Any

from headway.client import nesting
from headway.client.client import Client
from headway.client.futures import Future
from headway.errors import ConnectionLost


class Running:
    """Tasks that were submitted together, and end together."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._open: set[Future[Any]] = set()
        self._failed: Future[Any] | None = None
        self._news = threading.Event()

    def add(self, future: Future[Any]) -> Future[Any]:
        """One more of them."""
        self._open.add(future)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: concurrent.futures.Future[Any]) -> None:
        assert isinstance(future, Future)
        self._open.discard(future)
        # Not one that only could not run since another had failed.
        if self._failed is None and future.state not in ("succeeded", "impossible"):
            self._failed = future
        if self._failed is not None or not self._open:
            self._news.set()

    def wait(self) -> None:
        """Wait until all have ended; call it once all are added.

        Raises:
            Exception: what the first that failed raised, as soon as it did.
        """
        self._client._link.check_may_wait("a graph")
        while True:
            self._news.clear()
            if self._failed is not None:
                self._failed.result()
            if not self._open:
                return
            nesting.wait(self._client, self._news.wait, None)

    def cancel_open(self) -> None:
        """Nobody wants the rest: an error, or Ctrl-C."""
        if self._open:
            with contextlib.suppress(ConnectionLost):  # then none of them will run
                self._client.cancel(list(self._open))
