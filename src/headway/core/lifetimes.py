"""Engines that end, and whether a run would before they do: by its bound, or as its function's runs
went of late.

A bound holds: a task that has one is sent nowhere else. What was learned is a guess. It keeps a
task from an engine only as long as another one is here, idle or busy, on which it would fit; where
none is, it runs wherever there is room, and is repeated if it is cut short. For tasks of less than
a second nothing is guessed.

Pure rules and numbers. What this file must not know: queues, and which engine has room.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, frexp, inf, ldexp

from headway.core.records import Engine, Function, Task

#: Bounds of runs are rounded up to one of 2^5 steps between two powers of two, by at most a 16th:
#: tasks with bounds of their own would each have a lane of its own.
_BOUND_BITS = 5
_BOUND_MIN_S = 2.0**-10
#: To lose a run that is shorter than this costs less than to let an engine wait.
LIKELY_MIN_S = 1.0
#: What is taken for the time of a run is the longest of late: it rises at once, and falls by this
#: part of the way with each run that is shorter.
_FORGETS = 16


def bound_of(run_timeout_s: float | None) -> float | None:
    """How long a run is taken to last at most, where engines end: the bound, rounded up."""
    if run_timeout_s is None:
        return None
    part, power = frexp(max(run_timeout_s, _BOUND_MIN_S))
    return ldexp(ceil(ldexp(part, _BOUND_BITS)), power - _BOUND_BITS)


def last_start_s(engine: Engine, run_s: float) -> float:
    """By when a run of `run_s` must have been sent to `engine`, which ends, to end before it does:
    also if each task that is ahead of it takes as long as the longest may."""
    assert engine.ends_at_s is not None
    ahead_s = engine.longest_s * engine.load if engine.assigned else 0.0
    return engine.ends_at_s - run_s - ahead_s


def last_likely_start_s(engine: Engine, run_s: float) -> float:
    """The same where it is a guess that the run takes `run_s`, and so does what is ahead of it: not
    more than that, since tasks that queue behind a long one are recalled."""
    assert engine.ends_at_s is not None
    return engine.ends_at_s - run_s * (2 if engine.assigned else 1)


def note_run(function: Function, run_s: float) -> None:
    """A run of `function` has succeeded."""
    if not 0.0 <= run_s < inf:
        return  # by a clock that went wrong
    if run_s >= function.usual_s:
        function.usual_s = run_s
    else:
        function.usual_s += (run_s - function.usual_s) / _FORGETS


def likely_s(task: Task) -> float | None:
    """How long a run of `task` is likely to take, rounded up as a bound; None where nothing is
    guessed."""
    function = task.function
    if function is None or function.usual_s < LIKELY_MIN_S:
        return None
    return bound_of(function.usual_s)


def last_end_s(engines: Iterable[Engine]) -> float:
    """When the last of `engines` ends of those that take tasks; inf for never."""
    ends = (e.ends_at_s if e.ends_at_s is not None else inf for e in engines if not e.draining)
    return max(ends, default=-inf)
