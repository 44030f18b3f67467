"""Watches the process of an embedded controller, and starts it again where that can help.

Where the cluster has a journal, a controller that was killed is started again, and goes on where
the journal ends; engines and this client come back to it by themselves. One that ends by itself
has said why, and would do so again.

What this file must not know: messages, tasks, threads.
"""

from __future__ import annotations

import logging
from collections import deque

import zmq

from headway.client.spawn import ControllerProcess
from headway.errors import ConnectionLost, StartError

_log = logging.getLogger("headway.client")

#: Seconds between looks at the process, where the system does not tell of its end.
_POLL_S = 0.5

#: A controller that is killed more often than this in so many seconds will be killed again: for
#: its memory, or by a task that its journal gives it each time.
_RESTARTS_MAX = 3
_RESTARTS_WITHIN_S = 60.0


class Watch:
    """One embedded controller, process after process. Used by the io thread alone."""

    def __init__(self, process: ControllerProcess, poller: zmq.Poller) -> None:
        self._process = process
        self._poller = poller
        self._watched: set[int] = set()
        self._looked_at = 0.0
        self._restarted_at: deque[float] = deque()
        #: How the process before this one ended.
        self._end_before = ""
        self._register()

    def _register(self) -> None:
        process = self._process
        for fd in (process.stdout_fd, process.stderr_fd, process.end_fd):
            if fd is not None:
                self._watched.add(fd)
                self._poller.register(fd, zmq.POLLIN)

    def _unregister(self, fd: int) -> None:
        self._watched.discard(fd)
        self._poller.unregister(fd)

    def on_readable(self, source: object) -> None:
        """The poller found `source`, which may be none of ours, to be readable."""
        if source not in self._watched:
            return
        self._looked_at = 0.0  # look at the process now
        process = self._process
        if source == process.stderr_fd and not process.drain_stderr():
            self._unregister(process.stderr_fd)
        elif source == process.stdout_fd and not self._hear_stdout():
            self._unregister(process.stdout_fd)

    def _hear_stdout(self) -> bool:
        try:
            return self._process.hear_stdout()
        except StartError as error:
            raise ConnectionLost(
                f"{self._end_before}; it could not be started again: {error}"
            ) from None

    def has_ended(self, now: float) -> bool:
        """Whether the process has ended; looked at when there may be news, or now and then.

        Raises:
            ConnectionLost: it was started again, and said why it can't.
        """
        if now - self._looked_at < _POLL_S:
            return False
        self._looked_at = now
        self._process.drain_stderr()
        if self._process.end_text() is None:
            return False
        self._hear_stdout()
        return True

    def restart(self, now: float) -> None:
        """Start the process that has ended again. Does not wait until it is ready.

        Raises:
            ConnectionLost: it ended by itself, it has no journal, or it is killed too often.
        """
        process = self._process
        end = process.end_text() or ""
        if not process.is_durable or not process.was_killed:
            raise ConnectionLost(end)
        while self._restarted_at and now - self._restarted_at[0] > _RESTARTS_WITHIN_S:
            self._restarted_at.popleft()
        if len(self._restarted_at) >= _RESTARTS_MAX:
            raise ConnectionLost(
                f"{end}; it was started again {_RESTARTS_MAX} times within "
                f"{_RESTARTS_WITHIN_S:g} s, and killed each time"
            )
        if not process.is_killed_on_purpose:
            self._restarted_at.append(now)
        process.is_killed_on_purpose = False
        self._end_before = end
        for fd in list(self._watched):
            self._unregister(fd)
        _log.warning("%s; it is started again, on its journal", end)
        try:
            process.restart()
        except StartError as error:
            raise ConnectionLost(f"{end}; it could not be started again: {error}") from None
        self._register()
