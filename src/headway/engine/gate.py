"""When a signal may raise inside a task, and only inside the task that is meant.

Python runs signal handlers in the main thread between any two bytecodes. So the handlers here
raise only while the gate is open, and it is open only around a task's own code. Rule 1: a
handler that raises closes the gate first, so that one run is hit at most once, and the
`finally` that closes the gate cannot be hit twice. Rule 2: SIGINT alone means nothing: it must
be backed by a note that names the run (the status file, from the nanny) or the task (`stop`,
from the receiver thread). A late SIGINT finds no note for what runs now, and does nothing; one
that came just too early is found by `enter`.

What this file must not know: sockets, payloads, how outcomes travel.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from headway.engine.status import INTERRUPT_ASKED, StatusWriter


class Gate:
    """Open while a task's own code runs. Made, and entered, in the main thread."""

    __slots__ = (
        "_is_open",
        "_is_patient",
        "_item",
        "_on_stop",
        "_stop_item",
        "interrupted",
        "status",
        "stopping",
        "terminated",
    )

    def __init__(
        self, status: StatusWriter, on_stop: Callable[[], None], *, is_patient: bool = False
    ) -> None:
        """`on_stop` is called by SIGTERM when no task runs, and must not raise.

        `is_patient`: only the SIGTERM of the nanny counts. Batch systems and service managers send
        it to all processes of a job, where the nanny would wait for what runs.
        """
        self.status = status
        #: Why this run was interrupted: one of the INTERRUPT_ values of status.py, or 0.
        self.interrupted = 0
        #: SIGTERM came: the engine ends.
        self.stopping = False
        #: It came while a task's code ran, and raised there.
        self.terminated = False
        self._is_open = False
        self._is_patient = is_patient
        self._item: object = None
        self._stop_item: object = None
        self._on_stop = on_stop

    def heed_all(self) -> None:
        """From now on every SIGTERM counts."""
        self._is_patient = False

    def install(self) -> None:
        """Take SIGINT and SIGTERM. Again after a task took them: a task may do as it likes."""
        if signal.getsignal(signal.SIGINT) != self._on_sigint:
            signal.signal(signal.SIGINT, self._on_sigint)
        if signal.getsignal(signal.SIGTERM) != self._on_sigterm:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def enter(self, item: object) -> None:
        """A task's own code begins: `item` is what `stop` may name. Call `leave` in a finally.

        Raises:
            KeyboardInterrupt: it shall be interrupted already.
            SystemExit: the engine shall end.
        """
        self.interrupted = 0
        self._item = item
        self._is_open = True
        if self.stopping:
            self._on_sigterm(signal.SIGTERM, None)
        self._interrupt_if_meant()

    def leave(self) -> None:
        """The task's own code has ended: signals raise no more.

        A run that was to be interrupted counts as interrupted, also where the signal did not get
        through: the task ignored or blocked it, or was in C code until its end.
        """
        self._is_open = False
        if not self.interrupted:
            self.interrupted = self._reason()
        self._item = None

    def stop(self, item: object) -> None:
        """Interrupt `item` if its code runs, or is about to. For any other thread."""
        self._stop_item = item
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _reason(self) -> int:
        """Why this run is to be interrupted: an INTERRUPT_ value, or 0 if it is not."""
        reason = self.status.interrupt_reason()
        if not reason and self._stop_item is not None and self._stop_item is self._item:
            return INTERRUPT_ASKED
        return reason

    def _interrupt_if_meant(self) -> None:
        if not self._is_open:
            return
        reason = self._reason()
        if reason:
            self._is_open = False
            self._stop_item = None
            self.interrupted = reason
            raise KeyboardInterrupt

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        self._interrupt_if_meant()

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        if self._is_patient and not self.status.is_stop_ordered():
            return
        self.stopping = True
        if self._is_open:
            self._is_open = False
            self.terminated = True
            raise SystemExit
        self._on_stop()
