"""The process of an embedded controller: starts it, again if need be, and stops it.

Its stdin is its lifeline: while we live we hold the other end, and when that closes it stops,
whichever way we ended. That end is ours, and not the Popen's, so that it closes also where Ctrl-C
comes between the start of the process and the moment in which anybody knows of it. There is one
such pipe for the life of the cluster: a child that inherits the controller's stdin sees our end,
also when the controller was killed. On its stdout it writes one line of JSON when it is ready:
where its connection file is, or why it did not start. What it writes on stderr is kept, the last
of it, to be shown when it ends unasked.

What this file must not know: ZeroMQ, tasks, threads.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from headway.errors import StartError
from headway.interpreter import module_command
from headway.values.shared import open_shared
from headway.values.store import sweep_dead
from headway.wire.connection import JOURNAL_FILE, remove_cluster_dir

_log = logging.getLogger("headway.client")

#: What is kept of its stderr: some screens of traceback.
_TAIL_BYTES = 8_000

#: It stops its engines first, which are given `EngineConfig.stop_grace_s`; then these.
_STOP_GRACE_S = 6.0
_TERMINATE_GRACE_S = 2.0


class ControllerProcess:
    """A controller of our own: to be started, then connected to, and stopped."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)
        #: Whether one that is killed can be started again: it has a journal.
        self.is_durable = settings.get("durability", "off") != "off"
        #: Its own random name, once a client was let in.
        self.cluster = ""
        #: Its own client kills it: that is not counted as a kill that comes again and again.
        self.is_killed_on_purpose = False
        self._tail = self._announcement = b""
        self._is_ready = False
        self._process: subprocess.Popen[bytes] | None = None
        #: The two ends of its stdin: its own, for the next one, and ours.
        self._lifeline_end: IO[bytes] | None = None
        self._lifeline: IO[bytes] | None = None
        self._pidfd: int | None = None
        #: Where it can be found, once it is started; whether there may be a directory of it.
        self.connection_file = Path()
        self._has_dir = False
        self._is_stopped = False

    @property
    def engines(self) -> int:
        """How many engines it starts."""
        return int(self._settings["engines"])

    def start(self, timeout_s: float) -> None:
        """Start it, and wait until it is ready. Call `stop` also if this raises anything.

        Raises:
            StartError: it ended, said why it can't start, or said nothing for `timeout_s`.
        """
        its_end, our_end = os.pipe()
        self._lifeline_end = os.fdopen(its_end, "rb", buffering=0)
        self._lifeline = os.fdopen(our_end, "wb", buffering=0)
        self._launch()
        self._wait_ready(timeout_s)

    def restart(self) -> None:
        """Start it again, on its journal, after it has ended. Does not wait: see `hear_stdout`.

        Raises:
            StartError: it can't be started.
        """
        if self._is_stopped:
            raise StartError("it is being stopped")
        self._close_pipes()
        if self._settings.get("journal") is None:
            # It is in the cluster's own directory, which the new one does not know yet.
            self._settings["journal"] = str(self.connection_file.parent / JOURNAL_FILE)
        # It is in the journal, and may have been changed since.
        self._settings.pop("limits", None)
        self._launch()

    def _launch(self) -> None:
        self._tail = self._announcement = b""
        self._is_ready = False
        command = [*module_command("headway.controller"), "--embedded"]
        try:
            self._process = subprocess.Popen(
                [*command, "--settings", json.dumps(self._settings)],
                stdin=self._lifeline_end,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a terminal's Ctrl-C is not for it
            )
        except OSError as error:
            raise StartError(f"{sys.executable} can't be started: {error}") from None
        os.set_blocking(self.stdout_fd, False)
        os.set_blocking(self.stderr_fd, False)
        self._pidfd = _open_pidfd(self.pid)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process; it must have been started."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """The controller's process id."""
        return self.process.pid

    @property
    def stdout_fd(self) -> int:
        """Becomes readable when `hear_stdout` has something to read."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    @property
    def stderr_fd(self) -> int:
        """Becomes readable when `drain_stderr` has something to read."""
        assert self.process.stderr is not None
        return self.process.stderr.fileno()

    @property
    def end_fd(self) -> int | None:
        """Becomes readable when the process ends, where the system can do that."""
        return self._pidfd

    def _wait_ready(self, timeout_s: float) -> None:
        deadline_at = time.monotonic() + timeout_s
        watched = {self.stdout_fd, self.stderr_fd}
        while not self._is_ready:
            left_s = deadline_at - time.monotonic()
            readable = select.select(watched, [], [], left_s)[0] if left_s > 0 else []
            if not readable:
                raise StartError(f"the controller was not ready within {timeout_s:g} s{self._said}")
            if self.stderr_fd in readable and not self.drain_stderr():
                watched.discard(self.stderr_fd)
            if self.stdout_fd in readable and not (self.hear_stdout() or self._is_ready):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(2.0)
                raise StartError(self.end_text() or "the controller closed its stdout")

    def hear_stdout(self) -> bool:
        """Hear whether it is ready; False once it has closed its stdout. Never waits.

        Raises:
            StartError: it says that it can't start, or what it says makes no sense.
        """
        return _read_all(self.stdout_fd, self._on_stdout)

    def _on_stdout(self, data: bytes) -> None:
        if not self._is_ready:
            self._announcement += data
            if b"\n" in self._announcement:
                self.connection_file = _read_ready_line(self._announcement)
                self._is_ready = self._has_dir = True

    def drain_stderr(self) -> bool:
        """Read what it wrote; False once it has closed its stderr. Never waits."""
        return _read_all(self.stderr_fd, self._on_stderr)

    def _on_stderr(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-_TAIL_BYTES:]

    @property
    def _said(self) -> str:
        text = self._tail.decode(errors="replace").strip()
        return f"; its last words were:\n{text}" if text else ""

    def end_text(self) -> str | None:
        """How it ended, with its last words; None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        self.drain_stderr()
        how = f"exit status {status}" if status >= 0 else f"{_signal_name(-status)}"
        return f"the controller (pid {self.pid}) ended with {how}{self._said}"

    @property
    def was_killed(self) -> bool:
        """Whether it has ended by a signal."""
        return (self.process.returncode or 0) < 0

    @property
    def _left_its_dir(self) -> bool:
        """Whether the one that has ended could not clear up after itself, or left that to the
        next one, as a controller with a journal does when it fails."""
        failed = self.is_durable and self.process.returncode != 0
        return self.was_killed or failed or not self._is_ready

    def stop(self, grace_s: float = _STOP_GRACE_S) -> None:
        """Make it end, and wait until it has: its lifeline, then SIGTERM, then SIGKILL.

        It can be called again, from any thread, also after an interrupted call, or before `start`.
        """
        self._is_stopped = True
        self._close_lifeline()
        process = self._process
        if process is None:  # not started; or if it was, it ends with its lifeline
            return
        for ask, wait_s in (
            (None, grace_s),
            (process.terminate, _TERMINATE_GRACE_S),
            (process.kill, None),
        ):
            if ask is not None:
                ask()
            if self._wait_end(wait_s):
                break
        self._close_pipes()
        sweep_dead()  # should its nanny have been killed
        if self._has_dir and self._left_its_dir:
            # Once: its name may be taken anew.
            self._has_dir = False
            remove_cluster_dir(self.connection_file.parent)
            self._remove_shared()

    def _remove_shared(self) -> None:
        """Remove what it kept where hosts share values, as it would have itself."""
        url = self._settings.get("value_store")
        if not url or not self.cluster:
            return
        try:
            open_shared(url, self.cluster).remove_all()
        except Exception as error:  # of whatever library opens it: the next cluster there does it
            _log.warning("values stay in %s: %s: %s", url, type(error).__name__, error)

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)

    def _close_lifeline(self) -> None:
        for end in (self._lifeline, self._lifeline_end):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()

    def _wait_end(self, wait_s: float | None) -> bool:
        """Wait for its end, reading what it writes, so that a full pipe does not hold it up."""
        deadline_at = None if wait_s is None else time.monotonic() + wait_s
        step_s = 0.001
        while self.process.poll() is None:
            if deadline_at is not None and time.monotonic() >= deadline_at:
                return False
            if self.process.stderr is not None and not self.process.stderr.closed:
                self.drain_stderr()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(step_s)
            step_s = min(step_s * 2, 0.05)
        return True

    def forget(self) -> None:
        """In a fork's child: let go of the parent's process, without ending it."""
        # The child's copy of the lifeline would keep the controller alive after the parent.
        self._is_stopped = True
        self._close_lifeline()
        self._close_pipes()
        self.process.returncode = 0  # it is not the child's to wait for


def _read_all(fd: int, hear: Callable[[bytes], None]) -> bool:
    """Let `hear` have what is there to be read; False once the other end is closed. Never waits."""
    while True:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        hear(data)


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or an old one: the process is polled instead
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _read_ready_line(line: bytes) -> Path:
    """The connection file that the controller announced."""
    try:
        told = json.loads(line.split(b"\n", 1)[0])
        if "error" in told:
            raise StartError(str(told["error"]))
        return Path(told["connection"])
    except (ValueError, KeyError, TypeError):
        raise StartError(f"the controller announced itself with {line[:200]!r}") from None
