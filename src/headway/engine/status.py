"""The status file: what an engine does now, readable by its nanny even after the engine died.

104 bytes of memory that an engine and its nanny share. Rule 1: every field is one aligned store of
eight bytes, so a reader never sees half of one, and a process that is killed leaves none.
Rule 2: one store, of SEQUENCE, makes a begun or ended run visible: the records of this run and
of the one before take turns, so that the record it points to is whole at any moment. Rule 3:
the engine writes everything but INTERRUPT and STOP_ORDERED, which only the nanny writes. The first
names the *run* it means, so that an interrupt that comes late never hits the next task.

Deadlines are on the monotonic clock, which the processes of one host share, so that setting
the wall clock neither kills a task nor lets one run for ever.

What this file must not know: processes, sockets, what a task is.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from dataclasses import dataclass

from headway.core.events import TaskId

#: Changes with the layout; an engine of another version of headway must not misread it.
_LAYOUT = 0x4845_4144_5741_5903

# Indices of 8-byte words. Two records of three words follow the header.
_LAYOUT_WORD = 0
_READY = 1
_SEQUENCE = 2  # number of the run * 2, plus 1 while it goes on
_INTERRUPT = 3  # number of the run to interrupt * 4, plus why
_LOOK_AT = 4
_STOP_HEARD = 5  # the last task of which the engine has heard that it shall not run
_STOP_ORDERED = 6  # the nanny wants the engine to end
_RECORDS = 7
_RECORD_WORDS = 3
_TASK, _STARTED_AT, _DEADLINE = range(_RECORD_WORDS)
_WORDS = _RECORDS + 2 * _RECORD_WORDS

SIZE_BYTES = _WORDS * 8

#: Why a run is interrupted: somebody asked, or its `run_timeout_s` passed.
INTERRUPT_ASKED = 1
INTERRUPT_OVERRAN = 2

#: A live engine may start two tasks while it is being read; it won't do so a hundred times.
_READ_TRIES_MAX = 100


@dataclass(frozen=True, slots=True)
class Status:
    """A consistent snapshot. `task` is the last one begun, None before the first."""

    ready: bool
    run: int
    busy: bool
    task: TaskId | None
    started_at_s: float
    deadline_s: float
    look_at_s: float
    stop_heard: int = 0


def create_status_file() -> int:
    """A descriptor of a new status file, of an engine that has not begun anything.

    It has no name, so nothing is left behind however its owners end; and where the system can,
    it is memory alone, so that no store ever waits for a disk.
    """
    if sys.platform == "linux":
        fd = os.memfd_create("headway-status", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.write(fd, _LAYOUT.to_bytes(8, sys.byteorder) + bytes(SIZE_BYTES - 8))
    return fd


class _Mapped:
    """The file in memory, as words and as floats. Must be closed; `fd` may be before that."""

    def __init__(self, fd: int) -> None:
        if os.fstat(fd).st_size != SIZE_BYTES:
            raise ValueError(f"descriptor {fd} is not a status file of {SIZE_BYTES} bytes")
        self._mmap = mmap.mmap(fd, SIZE_BYTES)
        self._view = memoryview(self._mmap)
        self._words = self._view.cast("Q")
        self._floats = self._view.cast("d")
        if self._words[_LAYOUT_WORD] != _LAYOUT:
            self.close()
            raise ValueError(f"descriptor {fd} has the status layout of another headway")

    def close(self) -> None:
        """Give the memory back. The file's descriptors stay."""
        self._words.release()
        self._floats.release()
        self._view.release()
        self._mmap.close()


class StatusWriter(_Mapped):
    """The engine's side: one caller, its main thread, but where another is named."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        #: The number of the current or last run, from 1.
        self.run = 0

    def set_ready(self) -> None:
        """The engine takes tasks, if there is a controller: its start has succeeded."""
        self._words[_READY] = 1

    def begin(self, task: int, started_at_s: float, deadline_s: float = 0.0) -> None:
        """Note that `task` begins. `deadline_s` is on the monotonic clock; 0 is none."""
        run = self.run = self.run + 1
        record = _RECORDS + _RECORD_WORDS * (run & 1)
        self._words[record] = task
        self._floats[record + _STARTED_AT] = started_at_s
        self._floats[record + _DEADLINE] = deadline_s
        self._words[_SEQUENCE] = run * 2 + 1

    def end(self) -> None:
        """Note that the run has ended."""
        self._words[_SEQUENCE] = self.run * 2

    def set_look_at(self, look_at_s: float) -> None:
        """The nanny shall look at the file again at that time of the monotonic clock."""
        self._floats[_LOOK_AT] = look_at_s

    def set_stop_heard(self, task: int) -> None:
        """`task`, and what was to be stopped before it, will not begin. By the receiver thread."""
        self._words[_STOP_HEARD] = task

    def is_stop_ordered(self) -> bool:
        """Whether the nanny wants the engine to end."""
        return bool(self._words[_STOP_ORDERED])

    def interrupt_reason(self) -> int:
        """Why the nanny wants the current run interrupted; 0 if it does not."""
        word = self._words[_INTERRUPT]
        return word & 3 if word >> 2 == self.run else 0


class StatusReader(_Mapped):
    """The nanny's side."""

    def read(self) -> Status:
        """What the engine does now, or did when it died."""
        words, floats = self._words, self._floats
        # First: what began before the engine heard of it is then seen as begun below.
        stop_heard = words[_STOP_HEARD]
        for _ in range(_READ_TRIES_MAX):
            sequence = words[_SEQUENCE]
            run = sequence >> 1
            record = _RECORDS + _RECORD_WORDS * (run & 1)
            status = Status(
                ready=bool(words[_READY]),
                run=run,
                busy=bool(sequence & 1),
                task=TaskId(words[record]) if run else None,
                started_at_s=floats[record + _STARTED_AT],
                deadline_s=floats[record + _DEADLINE],
                look_at_s=floats[_LOOK_AT],
                stop_heard=stop_heard,
            )
            if words[_SEQUENCE] >> 1 == run:
                break
        return status

    def interrupt(self, run: int, reason: int) -> None:
        """Say that `run`, and no other, is meant by the SIGINT that follows."""
        self._words[_INTERRUPT] = run * 4 + reason

    def order_stop(self) -> None:
        """Say that the SIGTERM that follows is the nanny's."""
        self._words[_STOP_ORDERED] = 1
