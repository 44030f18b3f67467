"""Where the time went: of all tasks by phase, and of all engines.

What this file must not know: how it is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headway.traces.model import TraceData, TracedEngine, TracedTask
from headway.traces.phases import PHASES, Phases, runs_by_engine


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """Seconds that tasks were in one phase: all together, at most in one, and how many were."""

    total_s: float
    most_s: float
    tasks: int

    @property
    def mean_s(self) -> float:
        """Of those that were in it."""
        return self.total_s / self.tasks if self.tasks else 0.0


@dataclass(frozen=True, slots=True)
class EngineTime:
    """One engine: how many attempts ran there, and for how much of the time that it was there."""

    id: str
    host: str
    attempts: int
    there_s: float
    busy_s: float

    @property
    def idle_s(self) -> float:
        """When it ran nothing."""
        return max(0.0, self.there_s - self.busy_s)


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace in figures.

    `states` counts tasks by how they ended. `starved_s` is the part of the engines' idle time in
    which no task could have run: none was ready, or on its way to an engine. In the rest some
    could, and were being placed, sent, or reported, or were held up by their options.
    """

    took_s: float
    states: dict[str, int]
    attempts: int
    phases: dict[str, PhaseTime]
    engines: tuple[EngineTime, ...]
    starved_s: float

    @property
    def busy_s(self) -> float:
        """The time of all runs on engines together."""
        return sum(engine.busy_s for engine in self.engines)

    @property
    def idle_s(self) -> float:
        """The time in which engines were there and ran nothing."""
        return sum(engine.idle_s for engine in self.engines)

    @property
    def utilisation(self) -> float:
        """The part of the engines' time in which they ran tasks, from 0 to 1."""
        there_s = sum(engine.there_s for engine in self.engines)
        return self.busy_s / there_s if there_s else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "took_s": self.took_s,
            "states": self.states,
            "attempts": self.attempts,
            "phases": {
                name: {**asdict(phase), "mean_s": phase.mean_s}
                for name, phase in self.phases.items()
            },
            "engines": [{**asdict(each), "idle_s": each.idle_s} for each in self.engines],
            "busy_s": self.busy_s,
            "idle_s": self.idle_s,
            "starved_s": self.starved_s,
            "utilisation": self.utilisation,
        }


def summary(trace: TraceData) -> Summary:
    """The figures of `trace`."""
    engines = tuple(_engine_times(trace))
    return Summary(
        trace.span_s,
        dict(Counter(task.state for task in trace.tasks)),
        sum(len(task.attempts) for task in trace.tasks),
        _phase_times(trace),
        engines,
        min(_starved_s(trace), sum(engine.idle_s for engine in engines)),
    )


def _phase_times(trace: TraceData) -> dict[str, PhaseTime]:
    phases = Phases(trace)
    totals = dict.fromkeys(PHASES, 0.0)
    most = dict.fromkeys(PHASES, 0.0)
    count = dict.fromkeys(PHASES, 0)
    for task in trace.tasks:
        of_task = dict.fromkeys(PHASES, 0.0)
        of_task["dependencies"] = phases.dependencies_s(task)
        for _, spent in phases.spent(task):
            for name, seconds in zip(spent._fields, spent, strict=True):
                of_task[name] += seconds
        for name, seconds in of_task.items():
            if seconds > 0:
                totals[name] += seconds
                most[name] = max(most[name], seconds)
                count[name] += 1
    return {name: PhaseTime(totals[name], most[name], count[name]) for name in PHASES}


def _there(engine: TracedEngine, span_s: float) -> tuple[float, float]:
    """From when to when it was there, within the trace."""
    begin_s = 0.0 if engine.joined_s is None else min(max(engine.joined_s, 0.0), span_s)
    end_s = span_s if engine.left_s is None else min(max(engine.left_s, begin_s), span_s)
    return begin_s, end_s


def _engine_times(trace: TraceData) -> Iterator[EngineTime]:
    runs = dict(runs_by_engine(trace.tasks))
    for engine in trace.engines:
        begin_s, end_s = _there(engine, trace.span_s)
        its = runs.get(engine.id, [])
        if its or end_s > begin_s:
            busy_s = sum(attempt.run_s for _, attempt in its)
            yield EngineTime(engine.id, engine.host, len(its), max(end_s - begin_s, busy_s), busy_s)


def _starved_s(trace: TraceData) -> float:
    """How long engines were there and nothing could run: all of them together."""
    #: At a time: so many more engines are there, so many more run, so many more could.
    changes: list[tuple[float, int, int, int]] = []
    for engine in trace.engines:
        begin_s, end_s = _there(engine, trace.span_s)
        changes += [(begin_s, 1, 0, 0), (end_s, -1, 0, 0)]
    for task in trace.tasks:
        changes += _could_run(task)
    changes.sort()
    there = running = could = 0
    starved_s = last_s = 0.0
    for at_s, engines, runs, more in changes:
        if not could:
            starved_s += (at_s - last_s) * max(0, there - running)
        last_s = at_s
        there, running, could = there + engines, running + runs, could + more
    return starved_s


def _could_run(task: TracedTask) -> Sequence[tuple[float, int, int, int]]:
    """When `task` ran, and when it could have."""
    changes: list[tuple[float, int, int, int]] = []
    since_s = task.ready_s
    for attempt in task.attempts:
        begin_s = attempt.assigned_s if since_s is None else since_s
        if attempt.started_s > begin_s:
            changes += [(begin_s, 0, 0, 1), (attempt.started_s, 0, 0, -1)]
        changes += [(attempt.started_s, 0, 1, 0), (attempt.ended_s, 0, -1, 0)]
        since_s = attempt.heard_s
    return changes
