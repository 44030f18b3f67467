"""Shows the progress of futures while they end: one thread for each showing.

The thread sleeps until something has ended, so that nothing is paid while nothing happens; what
ends while it draws waits for the next picture. Of a future only its label and its end are kept:
results go with the last reference that the user has, as ever.

What this file must not know: clients, and how progress is shown.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from headway.tally.model import OPEN, Progress, Tally

_log = logging.getLogger("headway.progress")

#: Seconds between two pictures at least: more often no eye follows.
FRAME_S = 0.1
#: At the end of the program, the last picture may take so long; a stream that blocks is left.
_LAST_S = 1.0

_ADDED = ""


class View(Protocol):
    """Where progress is shown."""

    def show(self, progress: Progress) -> None:
        """Show it, in place of what was shown before."""

    def close(self, progress: Progress) -> None:
        """Show it, and leave it there: nothing comes after it."""


class Showing(Protocol):
    """What is asked of a future."""

    label: str

    @property
    def state(self) -> str:
        """How it ended, once it has."""

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Have `fn` called at its end."""


class Live:
    """Progress that is shown as it happens. `total` is how many futures will be followed, if that
    is known; `start` it, `follow` them, and then `seal` it."""

    def __init__(
        self, view: View, total: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._view: View | None = view
        self._clock = clock
        self._tally = Tally(clock(), total)
        #: (label, state) of what has ended, and (label, _ADDED) of what was added: appended by
        #: any thread, taken out by ours.
        self._news: deque[tuple[str, str]] = deque()
        #: Rung after something was appended. Appended first, cleared before it is taken out: so
        #: nothing waits unheard.
        self._bell = threading.Event()
        self._open = 0
        self._is_sealed = self._is_stopped = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headway-progress", daemon=True)

    def start(self) -> None:
        """Begin to show."""
        self._thread.start()
        _running.add(self)

    def follow(self, future: Showing) -> None:
        """Count `future`, and its end when it comes. Any thread."""
        self._news.append((future.label, _ADDED))
        future.add_done_callback(self._on_end)
        self._ring()

    def seal(self) -> None:
        """No more futures come: once all have ended, it is over."""
        self._is_sealed = True
        self._bell.set()

    def stop(self) -> None:
        """Show how it is now, and no more of it; tasks go on."""
        self._is_stopped = True
        self._bell.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._over.wait(_LAST_S)

    def wait(self) -> None:
        """Wait until all futures have ended, and that was shown."""
        self._over.wait()

    def _ring(self) -> None:
        if not self._bell.is_set():
            self._bell.set()

    def _on_end(self, future: Showing) -> None:
        self._news.append((future.label, future.state))
        self._ring()

    def _run(self) -> None:
        try:
            while not self._turn():
                time.sleep(FRAME_S)
        finally:
            _running.discard(self)
            self._over.set()

    def _turn(self) -> bool:
        """Wait for news, and show it; whether it was the last."""
        self._bell.wait()
        self._bell.clear()
        is_sealed, is_stopped = self._is_sealed, self._is_stopped  # before what they are about
        now = self._clock()
        if is_sealed:
            self._tally.all_added()
        for _ in range(len(self._news)):
            label, state = self._news.popleft()
            if state == _ADDED:
                self._open += 1
                self._tally.add(label)
            else:
                self._open -= 1
                self._tally.move(label, OPEN, state, now)
        is_last = is_stopped or (is_sealed and self._open == 0)
        self._show(self._tally.view(now), is_last)
        return is_last

    def _show(self, progress: Progress, is_last: bool) -> None:
        view = self._view
        if view is None:
            return
        try:
            if is_last:
                view.close(progress)
            else:
                view.show(progress)
        except Exception as error:  # whatever a stream or a notebook raises; the tasks go on
            self._view = None
            _log.warning("progress can't be shown any more: %s: %s", type(error).__name__, error)


_running: weakref.WeakSet[Live] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """At the end of the program each says how it is, and leaves the terminal as it was."""
    for live in list(_running):
        live.stop()
