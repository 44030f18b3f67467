"""`python -m headway.engine --requests-fd N`: a warm process, from which engines are forked.

It has imported what an engine needs, and nothing else: no context of ZeroMQ, no thread, no user
code. A request brings the descriptors of one engine. The engine is forked twice, so that it is
not our child but the nanny's (which adopts orphans): the nanny sees how it ended, and engines
live on if we die. Rule 1: an engine does not begin before the nanny was told its process id.
Rule 2: nothing of ours stays open in an engine.

Here are both sides of it: the process (`serve`), and what its nanny holds of it (`Forker`). It
ends when the nanny does: its socket is closed then, and where it can the kernel kills it. To people
who look at processes it is `headway-forker` among engines with the same command line.

What this file must not know: what an engine does, and when one is started (starter.py).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

from headway.engine import lifeline
from headway.engine.child import Child, Ends
from headway.engine.death import describe_end

#: Descriptors that travel with a request, those of `Ends`; and how large a request may be.
FDS = len(Ends.__dataclass_fields__)
MESSAGE_BYTES_MAX = 1 << 16

#: What a request brings is closed where other programs are started.
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

#: What a task needs that submits others. By name: engines know no clients.
_NESTED = "headway.client.engine_client"

#: What a new engine waits for.
_GO = b"!"

#: How much of what a forker says on stderr is kept, for when it fails.
_TAIL_BYTES = 2_000


# --- its own side -------------------------------------------------------------------------------


class Born(NamedTuple):
    """A new engine: its token, its ends of what it shares with its nanny, and whether it stands in
    for another."""

    token: str
    ends: Ends
    stands_in: bool


def serve(requests_fd: int, cwd: str | None, parent_pid: int) -> Born | None:
    """Fork engines until the nanny is gone: then returns None. Returns in each engine as well.

    Parameters:
        requests_fd: a socket to the nanny.
        cwd: the engines' working directory.
        parent_pid: the nanny's process id.
    """
    lifeline.die_with_parent(parent_pid)
    _set_name("headway-forker")
    requests = socket.socket(fileno=requests_fd)
    requests.set_inheritable(False)
    gc.collect()
    gc.freeze()  # so that no collection in an engine touches, and copies, what they all share
    _say(requests, ready=True)
    while True:
        message, fds, _, _ = socket.recv_fds(requests, MESSAGE_BYTES_MAX, FDS, _CLOSE_ON_EXEC)
        if not message:
            return None
        request = json.loads(message)
        token = request["token"]
        try:
            if cwd is not None:
                os.chdir(cwd)  # it may have been written anew, or be gone
            born = _fork_orphan()
        except OSError as error:
            _say(requests, token=token, error=str(error))
        else:
            if born is None:
                requests.close()
                ends = Ends(*fds)
                _take_standard(ends)
                return Born(token, ends, request["stands_in"])
            pid, hold_fd = born
            _say(requests, token=token, pid=pid)
            os.write(hold_fd, _GO)
            os.close(hold_fd)
        for fd in fds:
            os.close(fd)
        if request["stands_in"] and _NESTED not in sys.modules:
            # Where tasks submit tasks, stand-ins run such that do so as well.
            importlib.import_module(_NESTED)
            gc.collect()
            gc.freeze()


def _say(requests: socket.socket, **words: object) -> None:
    # The nanny is gone: so are we, as soon as we listen again.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        requests.send(json.dumps(words).encode())


def _fork_orphan() -> tuple[int, int] | None:
    """A new process, whose parent has ended: its id, and a descriptor on which it waits for a
    word, and without one ends. In the new process, None.

    Raises:
        OSError: there are too many processes or files.
    """
    pid_reader, pid_writer = os.pipe()
    go_reader, go_writer = os.pipe()
    try:
        middle = os.fork()
    except OSError:
        for fd in (pid_reader, pid_writer, go_reader, go_writer):
            os.close(fd)
        raise
    if middle == 0:
        try:
            pid = os.fork()
        except OSError as error:
            os.write(pid_writer, f"- {error}".encode())
            os._exit(1)
        if pid:
            os.write(pid_writer, str(pid).encode())
            os._exit(0)
        for fd in (pid_reader, pid_writer, go_writer):
            os.close(fd)
        os.setsid()
        if os.read(go_reader, 1) != _GO:
            os._exit(1)  # the forker was killed: the nanny has not heard of us, and never will
        os.close(go_reader)
        return None
    os.close(pid_writer)
    os.close(go_reader)
    said = os.read(pid_reader, 1024).decode()
    os.close(pid_reader)
    os.waitpid(middle, 0)  # from here on the new process is the nanny's
    if not said.isdecimal():
        os.close(go_writer)
        raise OSError(said.removeprefix("- ") or "the process in the middle was killed")
    return int(said), go_writer


def _take_standard(ends: Ends) -> None:
    """Make the three of `ends` this process's own."""
    for fd, standard_fd in ((ends.stdin, 0), (ends.stdout, 1), (ends.stderr, 2)):
        os.dup2(fd, standard_fd)
        os.close(fd)
    _set_name("headway-engine")


def _set_name(name: str) -> None:
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)


# --- the nanny's side ---------------------------------------------------------------------------


class Forker:
    """The forker, as its nanny holds it."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: str | None
    ) -> None:
        """Start it; `is_ready` once it says so.

        Raises:
            OSError: the command does not exist, or there are too many processes or files.
        """
        self.is_ready = False
        with contextlib.ExitStack() as undo:
            self._stderr: IO[bytes] = undo.enter_context(tempfile.TemporaryFile())
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self._socket.close)
            with theirs:
                self._socket.setblocking(False)
                where = () if cwd is None else ("--cwd", cwd)
                self._popen = subprocess.Popen(
                    [*command, "--requests-fd", str(theirs.fileno()), *where],
                    cwd=cwd,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            undo.pop_all()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def fileno(self) -> int:
        """Readable when it has said something, or is gone."""
        return self._socket.fileno()

    def ask(self, child: Child) -> None:
        """Ask for `child`.

        Raises:
            BlockingIOError: it has not looked at what it was asked before.
            OSError: it is gone.
        """
        request = json.dumps({"token": child.token, "stands_in": child.stands_in}).encode()
        socket.send_fds(self._socket, [request], child.ends.fds())

    def hear(self) -> dict[str, Any] | None:
        """What it says next; None if it has said all.

        Raises:
            OSError, ValueError: it is gone, or talks nonsense.
        """
        try:
            message = self._socket.recv(MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return None
        if not message:
            raise OSError("it ended")
        said = json.loads(message)
        if not isinstance(said, dict):
            raise ValueError(f"it said {said!r}")
        return said

    def end_text(self) -> str | None:
        """How it ended; None while it lives."""
        code = self._popen.poll()
        return None if code is None else describe_end(code, 0)

    def end(self) -> int:
        """Make sure that it has ended; its exit code. What it had said can still be heard."""
        self._popen.kill()
        return self._popen.wait()

    def close(self) -> str:
        """Give back what it took, once it has ended; what it had said on stderr."""
        self._socket.close()
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - _TAIL_BYTES))
        said = self._stderr.read().decode("utf-8", "replace")
        self._stderr.close()
        return said
