"""The start of a nanny: it says hello, and is welcomed or not, within a time limit.

Somebody waits for it, and wants to be told what is wrong. Later, and in engines, nobody does:
there a Link tries for as long as it takes.

What this file must not know: what is said after the Welcome.
"""

from __future__ import annotations

import select
import time
from typing import Any

from headway.engine.link import Link
from headway.errors import ConnectionLost, StartError
from headway.wire import messages as m


def wait_welcome(link: Link[Any], timeout_s: float, lifeline_fd: int | None) -> None:
    """Wait for the first Welcome. The end of `lifeline_fd` ends the waiting.

    Raises:
        ConnectionLost: nobody answered within `timeout_s`, or the keys do not fit.
        StartError: the controller refused, or stops; or the parent is gone.
        ProtocolError: the answer is no message.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        now_s = time.monotonic()
        message = link.hear(now_s)
        if isinstance(message, m.Bye):
            raise StartError(f"the controller stops: {message.reason}")
        if link.is_welcome:
            return
        if link.failure is not None:
            raise ConnectionLost(f"the controller can't be reached: {link.failure}")
        if now_s >= deadline_s:
            raise ConnectionLost(f"the controller did not answer within {timeout_s:g} s")
        if message is not None:
            continue
        fds = [*link.fds()] if lifeline_fd is None else [*link.fds(), lifeline_fd]
        wait_s = max(0.0, min(deadline_s, link.due_s()) - now_s)
        if lifeline_fd in select.select(fds, [], [], wait_s)[0]:
            raise StartError("the process that started this one is gone")
