"""Where an engine was in its Python code, for the report of its death.

An engine has faulthandler write stacks into a file that its nanny holds as well: by itself where
C code crashes, and when the nanny asks for it by a signal, just before it kills. faulthandler
answers in the signal handler, so also while C code holds the GIL. The file has no name and is in
memory where the system can; it is read when the engine is dead.

What this file must not know: who is killed and why.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile

#: Asks an engine for its stack. A real-time signal, where there are any: programs seldom use
#: one, and SIGUSR1 and SIGUSR2 are the user's.
STACK_SIGNAL = signal.SIGRTMAX - 4 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2

#: What is read of a file, and the lines of it that a report has: the innermost frames come first.
_READ_BYTES_MAX = 1 << 16
_LINES_MAX = 30

#: How faulthandler begins its report of a crash, and ends the head of each thread's stack.
_FATAL = "Fatal Python error"
_HEAD_END = "(most recent call first):"

#: In every path of a module of the engine; and in the one that calls the task.
_OURS = os.path.join("headway", "engine", "")
_CALLER = os.path.join("headway", "engine", "runner.py")


def create_stack_file() -> int:
    """A descriptor of a new, empty file for stacks."""
    if sys.platform == "linux":
        return os.memfd_create("headway-stack", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


# --- the engine's side --------------------------------------------------------------------------


def write_to(fd: int) -> None:
    """Let crashes, and STACK_SIGNAL, write stacks to `fd`, which must stay open."""
    os.set_inheritable(fd, False)  # not for what tasks start
    faulthandler.enable(file=fd)
    faulthandler.register(STACK_SIGNAL, file=fd)


def write_to_stderr() -> None:
    """In a fork of the engine: its crashes are not the engine's."""
    faulthandler.enable(file=2)
    faulthandler.unregister(STACK_SIGNAL)


# --- the nanny's side ---------------------------------------------------------------------------


def empty(fd: int) -> None:
    """Forget what was written: a new answer is to come. The file's position is shared."""
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)


def read(fd: int, crashed: bool) -> list[str]:
    """The lines to show of what was written to `fd`, innermost frame first.

    `crashed`: the engine ended by a crash of its own, and an answer from before does not count.
    """
    text = os.pread(fd, _READ_BYTES_MAX, 0).decode("utf-8", "replace")
    if crashed:
        _, fatal, text = text.rpartition(_FATAL)
        if not fatal:
            return []
    return trimmed(text)


def trimmed(text: str) -> list[str]:
    """Of faulthandler's `text`, the frames of the task, and of threads that it has started."""
    shown: list[str] = []
    for block in text.split("\n\n"):
        head, _, body = block.partition(_HEAD_END)
        frames = [line.strip() for line in body.splitlines() if line.strip().startswith("File ")]
        caller = next((n for n, frame in enumerate(frames) if _CALLER in frame), None)
        if caller is not None:
            shown[:0] = frames[:caller]  # the main thread, up to where the task was called
        elif frames and not any(_OURS in frame for frame in frames):
            name = head.strip().splitlines()[-1:] or ["Thread"]
            shown += [f"{name[0].strip()}:", *(f"  {frame}" for frame in frames)]
    return shown[:_LINES_MAX]
