"""One engine, as its nanny holds it: process, pipes, shared files. It decides nothing.

Rule 1: whoever made a Child calls `close` once it is dead, or was never launched. Rule 2:
nothing here waits. Rule 3: the process is looked at without being reaped until its session is
killed: the id of a reaped process may be somebody else's.

What this file must not know: sockets, messages, how a process is started (starter.py), who is
restarted and why (supervise.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from headway.engine import descendants, stack, vitals
from headway.engine.death import Tail, new_utf8_decoder
from headway.engine.status import Status, StatusReader, create_status_file

#: What is read at once from a pipe: all that a pipe of Linux holds.
READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended. `exit_code` is negative for a signal."""

    exit_code: int
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Ends:
    """The engine's ends of what it shares with its nanny: descriptors, to be handed over."""

    #: Its lifeline: the nanny never writes to it.
    stdin: int
    stdout: int
    stderr: int
    status: int
    #: A byte written there makes the nanny look at the status file.
    notify: int
    stack: int

    def fds(self) -> list[int]:
        """All of them, in the order of the fields."""
        return list(astuple(self))

    def others(self) -> list[int]:
        """Those beside the standard ones."""
        return [self.status, self.notify, self.stack]

    def arguments(self) -> list[str]:
        """What tells an engine of the others."""
        status, notify, stack = map(str, self.others())
        return ["--status-fd", status, "--notify-fd", notify, "--stack-fd", stack]


class Child:
    """An engine: about to be launched, alive, or dead and not yet buried."""

    def __init__(self, token: str, tail_lines: int, *, stands_in: bool = False) -> None:
        """Make all that it shares with its nanny. `stands_in`: it is for tasks of tasks alone.

        Raises:
            OSError: there are too many files.
        """
        self.token = token
        self.stands_in = stands_in
        self.tail = Tail(tail_lines)
        #: None until it is launched.
        self.pid: int | None = None
        self.started_at_s = 0.0
        self.oom_kills_before = 0
        self._popen: subprocess.Popen[bytes] | None = None
        with contextlib.ExitStack() as undo:

            def kept(fd: int) -> int:
                undo.callback(os.close, fd)
                return fd

            stdin, self._lifeline_fd = map(kept, os.pipe())
            stdout_fd, stdout = map(kept, os.pipe())
            stderr_fd, stderr = map(kept, os.pipe())
            self._notify_fd, notify = map(kept, os.pipe())
            status, self._stack_fd = kept(create_status_file()), kept(stack.create_stack_file())
            self._status = StatusReader(status)
            undo.pop_all()
        os.set_blocking(notify, False)
        self._ends: Ends | None = Ends(stdin, stdout, stderr, status, notify, self._stack_fd)
        #: Descriptors of output, to the name of the stream.
        self.streams = {stdout_fd: "stdout", stderr_fd: "stderr"}
        self._decoders = {fd: new_utf8_decoder() for fd in self.streams}
        self._readable = {*self.streams, self._notify_fd}
        for fd in self._readable:
            os.set_blocking(fd, False)

    # --- the launch ------------------------------------------------------------------------------

    @property
    def ends(self) -> Ends:
        """What the process is to be given. Not after `launched`."""
        assert self._ends is not None
        return self._ends

    def arguments(self) -> list[str]:
        """What tells the process who it is, where it has a command line of its own."""
        return ["--token", self.token, *(["--stand-in"] if self.stands_in else [])]

    def launched(
        self,
        pid: int,
        now_s: float,
        oom_kills_before: int,
        popen: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """It runs, as our child `pid`, and has its ends, which are closed here."""
        self.pid = pid
        self.started_at_s = now_s
        self.oom_kills_before = oom_kills_before
        self._popen = popen
        self._close_ends()

    def _close_ends(self) -> None:
        if self._ends is not None:
            for fd in self._ends.fds():
                if fd != self._stack_fd:  # there is one end only: a file
                    os.close(fd)
            self._ends = None

    # --- what it does and says -------------------------------------------------------------------

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

    def has_stack(self) -> bool:
        """Whether it has written something since `ask_for_stack`."""
        return os.fstat(self._stack_fd).st_size > 0

    def stack(self, crashed: bool) -> Sequence[str]:
        """Where it was when it crashed, or when `ask_for_stack` asked last."""
        return stack.read(self._stack_fd, crashed)

    # --- what is done to it ----------------------------------------------------------------------

    def interrupt(self, run: int, reason: int) -> None:
        """Raise KeyboardInterrupt in its task, if that is still `run`."""
        self._status.interrupt(run, reason)
        self._signal(signal.SIGINT)

    def ask_for_stack(self) -> None:
        """Have it write down where it is, for `stack`. Only once it is ready: before, the signal
        would end it."""
        stack.empty(self._stack_fd)
        self._signal(stack.STACK_SIGNAL)

    def terminate(self) -> None:
        """Ask it to end: SIGTERM, to itself alone."""
        self._status.order_stop()
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and what its tasks started. Before it is reaped only: the id is still its own."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: only zombies left
            os.killpg(self.pid, signal.SIGKILL)
        self._signal(signal.SIGKILL)  # also where it has not come to lead a group yet
        descendants.kill_session(self.pid)

    def reap_if_dead(self) -> End | None:
        """How it ended, the rest of its group being killed; None while it lives. Once."""
        if self.pid is None:
            return None
        if hasattr(os, "waitid"):
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self.pid, flags) is None:
                return None
            self.kill()
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        exit_code = os.waitstatus_to_exitcode(status)
        if self._popen is not None:
            self._popen.returncode = exit_code  # or it would wait by itself
        return End(exit_code, usage.ru_maxrss * vitals.MAXRSS_UNIT_BYTES)

    def close(self) -> None:
        """Give back what it took. It must be dead, or never launched: then whoever has its ends
        takes our leaving for our death, and ends."""
        self._close_ends()
        for fd in (self._lifeline_fd, *self.streams, self._notify_fd, self._stack_fd):
            os.close(fd)
        self._status.close()
