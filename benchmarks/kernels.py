"""What the benchmarks run: tasks of nothing, of some duration, and of some bytes.

They are a module's functions, so that every system can send them by name. Values that arrive from
upstream tasks are taken and not looked at, except where looking at them is the point.
"""

from __future__ import annotations

import time
from itertools import repeat
from typing import Any


def no_op(*upstream: object) -> None:
    """Nothing, of anything."""


def spin(loops: int, *upstream: object) -> None:
    """Keep a core busy for so many loops."""
    for _ in repeat(None, loops):
        pass


def pause(duration_s: float, *upstream: object) -> None:
    """Occupy an engine for a while, but not a core."""
    time.sleep(duration_s)


def await_file(path: str) -> None:
    """Hold an engine until there is a file at `path`."""
    import os

    while not os.path.exists(path):
        time.sleep(0.01)


def make(size_bytes: int, as_array: bool) -> Any:
    """A value of that size: numpy's array, or plain bytes. Its memory is written, not just asked
    for."""
    if as_array:
        from importlib import import_module

        return import_module("numpy").ones(size_bytes, dtype="uint8")
    return b"\x01" * size_bytes


def size_of(value: Any) -> int:
    """How many bytes arrived; the last one is read."""
    assert value[-1] == 1
    return len(value)


def loops_a_second(least_s: float = 0.2) -> float:
    """How many loops of `spin` a core makes in a second of CPU time; by CPU time, since others may
    want the core meanwhile."""
    loops, spent_s = 10_000, 0.0
    while True:
        start = time.thread_time()
        spin(loops)
        spent_s = time.thread_time() - start
        if spent_s >= least_s:
            return loops / spent_s
        loops *= 2


def work_for(duration_s: float, loops: int) -> float:
    """Call `spin(loops)` for `duration_s` of wall time, and nothing else: loops a second that a
    process gets through where nothing schedules it."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < duration_s:
        spin(loops)
        done += loops
    return done / (time.perf_counter() - start)
