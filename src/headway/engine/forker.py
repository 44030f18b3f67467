"""`python -m headway.engine.forker`: one warm process, from which a nanny has engines forked.

It has imported what an engine needs, and nothing else: no context of ZeroMQ, no thread, no user
code. A request brings the descriptors of one engine. The engine is forked twice, so that it is
not our child but the nanny's (which adopts orphans): the nanny sees how it ended, and engines
live on if we die. Rule 1: an engine does not begin before the nanny was told its process id.
Rule 2: nothing of ours stays open in an engine.

It ends when the nanny does: its socket is closed then, and where it can the kernel kills it.

What this file must not know: what an engine does, and when one is started (starter.py).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import socket
import sys
from collections.abc import Sequence

from headway.engine import lifeline
from headway.engine.__main__ import main as run_engine
from headway.engine.child import Ends

#: Descriptors that travel with a request, those of `Ends`; and how large a request may be.
FDS = len(Ends.__dataclass_fields__)
MESSAGE_BYTES_MAX = 1 << 16

#: What a request brings is closed where other programs are started.
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

#: What a new engine waits for.
_GO = b"!"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fork engines until the nanny is gone; the exit code, also of each engine."""
    told = _parser().parse_args(arguments)
    lifeline.die_with_parent(told.parent)
    requests = socket.socket(fileno=told.socket_fd)
    requests.set_inheritable(False)
    gc.collect()
    gc.freeze()  # so that no collection in an engine touches, and copies, what they all share
    _say(requests, ready=True)
    engine = _serve(requests, told.cwd)
    if engine is None:
        return 0
    return run_engine([*told.arguments, "--parent", str(told.parent), *engine])


def _serve(requests: socket.socket, cwd: str | None) -> list[str] | None:
    """Do what is asked. None once nobody is left to ask; in an engine, its arguments."""
    while True:
        message, fds, _, _ = socket.recv_fds(requests, MESSAGE_BYTES_MAX, FDS, _CLOSE_ON_EXEC)
        if not message:
            return None
        token = json.loads(message)["token"]
        try:
            if cwd is not None:
                os.chdir(cwd)  # it may have been written anew, or be gone
            born = _fork_orphan()
        except OSError as error:
            _say(requests, token=token, error=str(error))
        else:
            if born is None:
                requests.close()
                return ["--token", token, *_take(Ends(*fds))]
            pid, hold_fd = born
            _say(requests, token=token, pid=pid)
            os.write(hold_fd, _GO)
            os.close(hold_fd)
        for fd in fds:
            os.close(fd)


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


def _take(ends: Ends) -> list[str]:
    """Make `ends` this process's own; the arguments that tell an engine of the rest."""
    for fd, standard_fd in ((ends.stdin, 0), (ends.stdout, 1), (ends.stderr, 2)):
        os.dup2(fd, standard_fd)
        os.close(fd)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write("headway-engine")  # for people who look at processes: the rest says "forker"
    return ends.arguments()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m headway.engine.forker", description=__doc__)
    parser.add_argument("--socket-fd", type=int, required=True, help="where requests come from")
    parser.add_argument("--parent", type=int, required=True, help="the nanny's process id")
    parser.add_argument("--cwd", help="the engines' working directory")
    parser.add_argument("arguments", nargs="*", help="after --: what each engine is told")
    return parser


if __name__ == "__main__":
    sys.exit(main())
