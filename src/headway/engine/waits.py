"""Whether the task that runs waits for tasks that it has submitted: the controller is told, so that
the engine's slot is somebody else's meanwhile.

Any thread of a task may wait, and several at once: the engine is blocked from the first that begins
until the last that ends. Rule 1: what is left waiting of a run that is over counts no more. Rule 2:
who is told is told in the order in which it happened, under the lock.

What this file must not know: futures, sockets, and who runs what is waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from headway import current
from headway.current import Run
from headway.wire import messages as m

#: A task is about to wait, or goes on.
Say = Callable[[m.Blocked | m.Unblocked], None]


class Waits:
    """Who waits in the run that goes on."""

    def __init__(self, say: Say) -> None:
        """`say` is called when the engine is blocked, and when it is not any more."""
        self._say = say
        self._lock = threading.RLock()  # a signal handler may raise, and who catches that wait
        self._run: Run = (0, 0)
        self._count = 0
        self._why_not = ""
        self._wakers: list[Callable[[], None]] = []

    def begin(self, wake: Callable[[], None] | None = None) -> Run | None:
        """See current.Waits."""
        run = (current.task, current.attempt)
        if not run[0]:
            return None
        with self._lock:
            if run != self._run:
                self._run, self._count = run, 0
                self._wakers.clear()
            if wake is not None:
                self._wakers.append(wake)
            self._count += 1
            if self._count == 1:
                self._why_not = ""
                self._say(m.Blocked(*run))  # type: ignore[arg-type]
        return run

    def end(self, run: Run | None, wake: Callable[[], None] | None = None) -> None:
        """See current.Waits."""
        with self._lock:
            if run is None or run != self._run:
                return
            if wake in self._wakers:
                self._wakers.remove(wake)
            self._count -= 1
            if self._count == 0 and run == (current.task, current.attempt):
                self._say(m.Unblocked())

    def why_not(self, run: Run) -> str:
        """See current.Waits."""
        return self._why_not if run == self._run and self._count else ""

    def refuse(self, task: int, attempt: int, why: str) -> None:
        """What that attempt waits for will not come: `why` is raised where it waits."""
        with self._lock:
            if self._run != (task, attempt) or not self._count:
                return
            self._why_not = why
            wakers = list(self._wakers)
        for wake in wakers:
            wake()
