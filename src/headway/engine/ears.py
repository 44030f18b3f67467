"""Who hears the controller: the main thread while it has nothing to run, else the receiver thread.

A task that comes to an idle engine would wake the receiver, and that the main thread: a hop that
costs as much as a short task's whole way through the engine. So the main thread hears for itself
between short tasks, and the receiver is parked.

Rule 1: one thread hears at a time, and which is changed under `_lock` alone, by the one that gives
the ears away or finds nobody having them; link, results' acknowledgements and the poll are his.
Rule 2: before a task that may be long, and when nothing has come for a while, the main thread
gives the ears to the receiver, which then waits without a timeout. Rule 3: a task that was thought
to be short may not end: while the receiver is parked it looks now and then, and takes the ears
when the main thread does not hear. So what is said during any task is heard, at the latest then.

What this file must not know: what a message leads to, and how tasks run.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

from headway.engine.link import Link
from headway.engine.results import Results
from headway.wire import messages as m

#: A parked receiver looks this often whether the main thread hears: as long as idle engines wait
#: until another's tasks are recalled.
_LOOK_S = 0.02
#: The main thread hears for so long while nothing comes; then nobody looks at anything.
_LINGER_S = 1.0
#: A wait for news lasts so long at most; and where there is no connection to wait for.
_WAIT_MAX_S = 3600.0
_BLIND_WAIT_S = 0.1


class Ears:
    """Hears the controller, in one thread or the other.

    Parameters:
        on_message: told what was heard, by the thread that heard it.
    """

    def __init__(
        self, link: Link[m.ToEngine], results: Results, on_message: Callable[[m.ToEngine], None]
    ) -> None:
        self._link = link
        self._results = results
        self._on_message = on_message
        self._lock = threading.Lock()
        #: Who hears: one of them, or nobody while a short task runs.
        self._receiver_hears = True
        self.main_hears = False
        #: The main thread waits for the ears: the receiver shall give them. Only while it has them.
        self._is_wanted = False
        # Locks as the cheapest things to wait for: released to unpark the receiver, and to let the
        # main thread go on with the ears.
        self._unpark = threading.Lock()
        self._unpark.acquire()
        self._granted = threading.Lock()
        self._granted.acquire()
        #: Readable when whoever waits for news shall look up. For the whole process: never closed.
        self._rouse_reader, self._rouse_writer = os.pipe()
        os.set_blocking(self._rouse_reader, False)
        os.set_blocking(self._rouse_writer, False)
        self._waited_for: tuple[int, ...] = ()
        self._poll = select.poll()

    def rouse(self) -> None:
        """Let whoever waits for news look up. From any thread, and from a signal handler."""
        with contextlib.suppress(BlockingIOError):  # full: it will look up anyway
            os.write(self._rouse_writer, b"!")

    # --- the receiver thread ---------------------------------------------------------------------

    def listen(self) -> None:
        """Hear whenever the main thread does not, until the context ends, which raises.

        Raises:
            zmq.ContextTerminated: the engine ends.
            HeadwayError: see Link.hear.
        """
        while True:
            while not self._is_wanted:
                self._hear_or_wait(_WAIT_MAX_S)
            with self._lock:
                self._is_wanted = self._receiver_hears = False
                self.main_hears = True
            self._granted.release()
            self._park()

    def _park(self) -> None:
        """Wait until the ears are given, or take them if the main thread does not hear."""
        while not self._unpark.acquire(timeout=_LOOK_S):
            with self._lock:
                if not self.main_hears and not self._receiver_hears:  # else they are given just now
                    self._receiver_hears = True
                    return

    # --- the main thread -------------------------------------------------------------------------

    def hear_until(self, is_done: Callable[[], bool]) -> bool:
        """Hear until `is_done`; the ears stay here. False if nothing has come for a while: then
        they are the receiver's.

        Raises:
            HeadwayError: see Link.hear.
        """
        self._take()
        try:
            give_up_at_s = time.monotonic() + _LINGER_S
            while not is_done():
                left_s = give_up_at_s - time.monotonic()
                if left_s <= 0:
                    break
                self._hear_or_wait(left_s)
            else:
                return True
        finally:
            with self._lock:
                self.main_hears = False
        self.give()
        return False

    def _take(self) -> None:
        with self._lock:
            if not self._receiver_hears:
                self.main_hears = True
                return
            self._is_wanted = True
        self.rouse()
        self._granted.acquire()

    def give(self) -> None:
        """Give the ears to the receiver, if it has not got them."""
        with self._lock:
            if self._receiver_hears:
                return
            self._receiver_hears = True
        self._unpark.release()

    # --- whoever has the ears -----------------------------------------------------------------

    def _hear_or_wait(self, wait_s: float) -> None:
        """Hear one message; or, if none has come, wait for news for `wait_s` at most."""
        now_s = time.monotonic()
        message = self._link.hear(now_s)
        if message is not None:
            self._on_message(message)
        elif self._results.has_lost_connection():
            self._link.doubt(now_s)
        else:
            self._wait_for_news(min(wait_s, self._link.due_s() - now_s))

    def _wait_for_news(self, wait_s: float) -> None:
        fds = (self._rouse_reader, *self._link.fds(), *self._results.fds())
        if fds != self._waited_for:
            self._waited_for = fds
            self._poll = select.poll()
            for fd in fds:
                self._poll.register(fd, select.POLLIN)
        if len(fds) == 1:
            wait_s = min(wait_s, _BLIND_WAIT_S)
        for fd, _ in self._poll.poll(max(0, int(wait_s * 1000) + 1)):
            if fd == self._rouse_reader:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._rouse_reader, 4096)
