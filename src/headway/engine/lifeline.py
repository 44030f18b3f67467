"""How a process notices that the one that started it is gone, however that one ended.

Its stdin is a pipe, whose other end the parent holds and never writes to: the end of the file
there is the end of the parent. Since a fork of the parent may hold the pipe as well, the
parent's id is looked at every second.

On Linux the kernel acts by itself, at once, also while a task holds the interpreter: when the
pipe's other end closes it kills the whole group of the engine, with what its tasks have started
(`kill_group_at_end_of`); and when the parent ends, the engine (`die_with_parent`). The first
comes first, since a process that ends closes its files before its children hear of it.

What this file must not know: sockets, tasks.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import threading
import time
from typing import NoReturn

#: How often the parent's id is looked at.
_LOOK_S = 1.0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def take_stdin() -> int:
    """Move the lifeline away from stdin, which becomes empty: nobody else shall read from it."""
    lifeline_fd = os.dup(0)
    null_fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.close(null_fd)
    return lifeline_fd


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel, where it can, to kill this process when its parent ends.

    Raises:
        SystemExit: the parent has ended already, so that the kernel won't notice.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise SystemExit(f"the process {parent_pid} that started this one is gone")


def adopt_orphans() -> bool:
    """Become the parent of all descendants that lose theirs. Whether this system can do so."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int) -> bool:
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) == 0  # type: ignore[no-any-return]


def kill_group_at_end_of(lifeline_fd: int) -> None:
    """Let the kernel kill our group, where it can, when the last other end of the pipe closes.

    It does so itself, by the signal that it would send for input on the pipe: no process of ours
    needs to run for that. Nothing but its end ever happens on this pipe. Without a group of our
    own there is nothing to do.
    """
    if sys.platform != "linux" or os.getpgrp() != os.getpid():
        return
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpid())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline_fd, fcntl.F_GETFL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, flags | os.O_ASYNC)


def watch_in_thread(lifeline_fd: int, parent_pid: int) -> None:
    """Kill this process and its children as soon as its parent is gone.

    From a thread, since the main thread may be busy with a task for hours; and by SIGKILL,
    since nobody is left whom anything could be told.
    """

    def watch() -> None:
        poll = select.poll()
        poll.register(lifeline_fd, select.POLLIN)
        with contextlib.suppress(OSError):  # a task has closed it, with all descriptors
            while os.getppid() == parent_pid:
                if poll.poll(_LOOK_S * 1000) and not os.read(lifeline_fd, 4096):
                    kill_own_group()
        while os.getppid() == parent_pid:
            time.sleep(_LOOK_S)
        kill_own_group()

    threading.Thread(target=watch, name="headway-lifeline", daemon=True).start()


def die(text: str) -> NoReturn:
    """End this process at once, from any thread, and say why on the real stderr."""
    os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    os._exit(1)


def kill_own_group() -> NoReturn:
    """End this process, now, and with it its group if it leads one. Does not return."""
    if os.getpgrp() == os.getpid():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
