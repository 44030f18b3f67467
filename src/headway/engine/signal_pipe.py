"""Signals as bytes to read, so that one loop waits for everything.

What this file must not know: what a signal leads to.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_NUMBERS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)


class SignalPipe:
    """Takes SIGCHLD, SIGTERM and SIGINT. Must be closed."""

    def __init__(self) -> None:
        #: Readable when a signal came.
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._old_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._old = {number: signal.signal(number, _ignore) for number in _NUMBERS}

    def take(self) -> set[int]:
        """The numbers of the signals that came."""
        try:
            return set(os.read(self.fd, 4096))
        except BlockingIOError:
            return set()

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self.fd)
        os.close(self._write_fd)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """A handler must be there, or no byte is written; the byte is all that is wanted."""
