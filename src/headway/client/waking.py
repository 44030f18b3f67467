"""Telling an event loop what has ended, from any thread: one wake-up for all that has gathered.

`call_soon_threadsafe` costs a system call and a handle each time; results come in batches. So
what has ended waits in a list, and the loop is called once, until it has looked into that.

What this file must not know: tasks, futures, sockets.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("headway.client")


class Waker:
    """Calls things in one event loop: made by `waker_of`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._waiting: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._is_called = False

    def soon(self, callback: Callable[[Any], object], argument: Any) -> None:
        """Have the loop call `callback(argument)`; in the order in which this is called."""
        self._waiting.append((callback, argument))
        # Two threads may both find it unset: then the loop is called twice, which does no harm.
        if self._is_called:
            return
        self._is_called = True
        loop = self._loop()
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._run)
        except RuntimeError:  # it was closed in the meantime: nobody waits there
            self._waiting.clear()
            _log.debug("what was waited for ended after its event loop")

    def _run(self) -> None:
        self._is_called = False  # first: what comes from here on calls again
        waiting = self._waiting
        for _ in range(len(waiting)):
            callback, argument = waiting.popleft()
            callback(argument)


_wakers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Waker] = weakref.WeakKeyDictionary()


def waker_of(loop: asyncio.AbstractEventLoop) -> Waker:
    """The waker of `loop`; called in that loop."""
    waker = _wakers.get(loop)
    if waker is None:
        waker = _wakers[loop] = Waker(loop)
    return waker
