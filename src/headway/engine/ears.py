"""Who hears the controller: the main thread while it has nothing to run, else the receiver thread.

A task that comes to an idle engine would wake the receiver, and that the main thread: a hop that
costs as much as a short task's whole way through the engine. So the main thread hears for itself
between short tasks, and the receiver is parked.

Rule 1: whoever hears holds `_right`; link, results' acknowledgements and the poll are his alone.
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
        self._right = threading.Lock()
        #: The main thread wants the ears, or has them.
        self._is_wanted = False
        #: The main thread is in `hear_until`.
        self.main_hears = False
        # A lock as the cheapest thing to wait for: released to unpark the receiver.
        self._unpark = threading.Lock()
        self._unpark.acquire()
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
            with self._right:
                while not self._is_wanted:
                    self._hear_or_wait(_WAIT_MAX_S)
            self._park()

    def _park(self) -> None:
        """Wait until the ears are given, or are to be taken from one who does not hear."""
        while not self._unpark.acquire(timeout=_LOOK_S):
            if self._right.acquire(blocking=False):
                self._is_wanted = False
                self._right.release()
                return

    # --- the main thread -------------------------------------------------------------------------

    def hear_until(self, is_done: Callable[[], bool]) -> bool:
        """Hear until `is_done`; the ears stay here. False if nothing has come for a while: then
        they are the receiver's.

        Raises:
            HeadwayError: see Link.hear.
        """
        self.main_hears = self._is_wanted = True
        if not self._right.acquire(blocking=False):
            self.rouse()
            self._right.acquire()
        try:
            self._is_wanted = True  # the receiver may have taken them meanwhile
            give_up_at_s = time.monotonic() + _LINGER_S
            while not is_done():
                left_s = give_up_at_s - time.monotonic()
                if left_s <= 0:
                    break
                self._hear_or_wait(left_s)
            else:
                return True
        finally:
            self.main_hears = False
            self._right.release()
        self.give()
        return False

    def give(self) -> None:
        """Give the ears to the receiver, if they are here."""
        if self._is_wanted:
            self._is_wanted = False
            with contextlib.suppress(RuntimeError):  # it was unparked already
                self._unpark.release()

    # --- whoever holds the right -----------------------------------------------------------------

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
