"""The process of an embedded controller: starts it, watches it, stops it.

Its stdin is its lifeline: while we live we hold the other end, and when that closes it stops,
whichever way we ended. That end is ours, and not the Popen's, so that it closes also where Ctrl-C
comes between the start of the process and the moment in which anybody knows of it. On its stdout
it writes one line of JSON when it is ready: where its connection file is, or why it did not start.
What it writes on stderr is kept, the last of it, to be shown when it ends unasked.

What this file must not know: ZeroMQ, tasks, threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from headway.errors import StartError
from headway.interpreter import module_command
from headway.wire.connection import remove_cluster_dir

#: What is kept of its stderr: some screens of traceback.
_TAIL_BYTES = 8_000

#: It stops its engines first, which are given `EngineConfig.stop_grace_s`; then these.
_STOP_GRACE_S = 6.0
_TERMINATE_GRACE_S = 2.0


class ControllerProcess:
    """A controller of our own: to be started, then connected to, and stopped."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = json.dumps(settings)
        self._tail = b""
        self._is_ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: IO[bytes] | None = None
        self._pidfd: int | None = None
        #: Where it can be found, once it is started.
        self.connection_file = Path()

    def start(self, timeout_s: float) -> None:
        """Start it, and wait until it is ready. Call `stop` also if this raises anything.

        Raises:
            StartError: it ended, said why it can't start, or said nothing for `timeout_s`.
        """
        command = [*module_command("headway.controller"), "--embedded"]
        its_end, our_end = os.pipe()
        self._lifeline = os.fdopen(our_end, "wb", buffering=0)
        try:
            self._process = subprocess.Popen(
                [*command, "--settings", self._settings],
                stdin=its_end,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a terminal's Ctrl-C is not for it
            )
        except OSError as error:
            raise StartError(f"{sys.executable} can't be started: {error}") from None
        finally:
            os.close(its_end)
        os.set_blocking(self.stderr_fd, False)
        self._pidfd = _open_pidfd(self.pid)
        self.connection_file = self._wait_ready(timeout_s)
        self._is_ready = True

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
    def stderr_fd(self) -> int:
        """Becomes readable when `drain_stderr` has something to read."""
        assert self.process.stderr is not None
        return self.process.stderr.fileno()

    @property
    def end_fd(self) -> int | None:
        """Becomes readable when the process ends, where the system can do that."""
        return self._pidfd

    def _wait_ready(self, timeout_s: float) -> Path:
        assert self.process.stdout is not None
        stdout_fd = self.process.stdout.fileno()
        deadline_at = time.monotonic() + timeout_s
        line = b""
        watched = {stdout_fd, self.stderr_fd}
        while b"\n" not in line:
            left_s = deadline_at - time.monotonic()
            readable = select.select(watched, [], [], left_s)[0] if left_s > 0 else []
            if not readable:
                raise StartError(f"the controller was not ready within {timeout_s:g} s{self._said}")
            if self.stderr_fd in readable and not self.drain_stderr():
                watched.discard(self.stderr_fd)
            if stdout_fd in readable:
                data = os.read(stdout_fd, 65536)
                if not data:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.process.wait(2.0)
                    raise StartError(self.end_text() or "the controller closed its stdout")
                line += data
        return _read_ready_line(line)

    def drain_stderr(self) -> bool:
        """Read what it wrote; False once it has closed its stderr. Never waits."""
        while True:
            try:
                data = os.read(self.stderr_fd, 65536)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
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

    def stop(self, grace_s: float = _STOP_GRACE_S) -> None:
        """Make it end, and wait until it has: its lifeline, then SIGTERM, then SIGKILL.

        It can be called again, from any thread, also after an interrupted call, or before `start`.
        """
        if self._lifeline is not None:
            self._lifeline.close()
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
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        if process.returncode < 0 and self._is_ready:
            # Killed, it could not clear up after itself. Once: its name may be taken anew.
            self._is_ready = False
            remove_cluster_dir(self.connection_file.parent)
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)

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
        for pipe in (self._lifeline, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self.process.returncode = 0  # it is not the child's to wait for


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
