"""One engine, as its nanny holds it: process, pipes, status file. It decides nothing.

Rule 1: whoever made a Child calls `close` once it is dead. Rule 2: nothing here waits, except
`start`, for the kernel. Rule 3: the process is looked at without being reaped until its group
is killed: the id of a reaped process may be somebody else's.

What this file must not know: sockets, messages, who is restarted and why (supervise.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.engine import vitals
from headway.engine.death import Tail, new_utf8_decoder
from headway.engine.status import Status, StatusReader, create_status_file

#: What is read at once from a pipe: all that a pipe of Linux holds.
READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """How engines are started. The options that differ from one to the next are added."""

    command: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended. `exit_code` is negative for a signal."""

    exit_code: int
    peak_rss_bytes: int


class Child:
    """A started engine."""

    def __init__(self, command: EngineCommand, token: str, now_s: float, tail_lines: int) -> None:
        """Start it.

        Raises:
            OSError: the command or the working directory does not exist, or there are too many
                processes or files.
        """
        self.token = token
        self.started_at_s = now_s
        self.oom_kills_before = vitals.count_oom_kills()
        self.tail = Tail(tail_lines)
        with contextlib.ExitStack() as always, contextlib.ExitStack() as on_failure:
            status_fd = create_status_file()
            always.callback(os.close, status_fd)
            # Before the process: where this fails for want of memory, none is left behind.
            self._status = StatusReader(status_fd)
            on_failure.callback(self._status.close)
            notify_fd, child_notify_fd = os.pipe()
            always.callback(os.close, child_notify_fd)
            on_failure.callback(os.close, notify_fd)
            os.set_blocking(child_notify_fd, False)
            self._popen = subprocess.Popen(
                [
                    *command.command,
                    *("--token", token, "--parent", str(os.getpid())),
                    *("--status-fd", str(status_fd), "--notify-fd", str(child_notify_fd)),
                ],
                cwd=command.cwd,
                env=dict(command.environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(status_fd, child_notify_fd),
                start_new_session=True,
            )
            on_failure.pop_all()
        self.pid = self._popen.pid
        self._notify_fd = notify_fd
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        #: Descriptors of output, to the name of the stream.
        self.streams = {
            self._popen.stdout.fileno(): "stdout",
            self._popen.stderr.fileno(): "stderr",
        }
        self._decoders = {fd: new_utf8_decoder() for fd in self.streams}
        self._readable = {*self.streams, notify_fd}
        for fd in self._readable:
            os.set_blocking(fd, False)

    def status(self) -> Status:
        """What it does now, or did when it died."""
        return self._status.read()

    def fds(self) -> list[int]:
        """Every descriptor that may become readable."""
        return list(self._readable)

    def read(self, fd: int) -> str:
        """Some of what waits in the pipe `fd`; "" for none, at its end, and for a notice."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return ""
        if not data:  # its end, also where a task closes all descriptors
            self._readable.discard(fd)
        if fd == self._notify_fd:
            return ""
        text = self._decoders[fd].decode(data, final=not data)
        if text:
            self.tail.add(self.streams[fd], text)
        return text

    def interrupt(self, run: int, reason: int) -> None:
        """Raise KeyboardInterrupt in its task, if that is still `run`."""
        self._status.interrupt(run, reason)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def terminate(self) -> None:
        """Ask it to end: SIGTERM, to itself alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill_group(self) -> None:
        """End it and what its tasks started. Before it is reaped only: the id is still its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: only zombies left
            os.killpg(self.pid, signal.SIGKILL)

    def reap_if_dead(self) -> End | None:
        """How it ended, the rest of its group being killed; None while it lives. Once."""
        if hasattr(os, "waitid"):
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self.pid, flags) is None:
                return None
            self.kill_group()
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        exit_code = self._popen.returncode = os.waitstatus_to_exitcode(status)
        return End(exit_code, usage.ru_maxrss * vitals.MAXRSS_UNIT_BYTES)

    def close(self) -> None:
        """Give back what it took. It must be dead."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._popen.stdin.close()
        self._popen.stdout.close()
        self._popen.stderr.close()
        os.close(self._notify_fd)
        self._status.close()
