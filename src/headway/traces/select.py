"""A part of a trace: some of its tasks, with times from their own beginning; or with other names.

What this file must not know: who wants which, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from msgspec import structs

from headway.traces.model import Attempt, TraceData, TracedEngine, TracedTask


def select(trace: TraceData, wants: Callable[[TracedTask], bool]) -> TraceData:
    """The tasks that `wants` wants, and all engines; time begins with the first of them."""
    tasks = [task for task in trace.tasks if wants(task)]
    notes = list(trace.notes)
    moved = _Moved(min(map(_began_s, tasks), default=0.0))
    chosen = {task.id for task in tasks}
    until_s = max((task.ended_s for task in tasks), default=0.0)
    others = sum(
        moved.origin_s < attempt.ended_s and attempt.started_s < until_s
        for task in trace.tasks
        if task.id not in chosen
        for attempt in task.attempts
    )
    if others:
        notes.append(
            f"{others:,} runs of other tasks were on the engines meanwhile: they are not in this "
            "trace, and the engines count as idle for their time"
        )
    return TraceData(
        trace.began_at_s + moved.origin_s,
        [moved.task(task) for task in tasks],
        [moved.engine(engine) for engine in trace.engines],
        notes,
    )


def renamed(trace: TraceData, names: Mapping[str, str]) -> TraceData:
    """`trace` with other ids for tasks; who is not in `names` keeps its own."""

    def name(task: str) -> str:
        return names.get(task, task)

    tasks = [
        structs.replace(
            task,
            id=name(task.id),
            upstreams=[name(each) for each in task.upstreams],
            after=name(task.after),
        )
        for task in trace.tasks
    ]
    return structs.replace(trace, tasks=tasks)


def _began_s(task: TracedTask) -> float:
    known = (task.submitted_s, task.ready_s)
    first = min((at_s for at_s in known if at_s is not None), default=inf)
    return min([first, task.ended_s, *(attempt.assigned_s for attempt in task.attempts)])


@dataclass(frozen=True, slots=True)
class _Moved:
    """The same with times since `origin_s`."""

    origin_s: float

    def task(self, task: TracedTask) -> TracedTask:
        return structs.replace(
            task,
            submitted_s=self._at(task.submitted_s),
            ready_s=self._at(task.ready_s),
            ended_s=task.ended_s - self.origin_s,
            attempts=[self._attempt(attempt) for attempt in task.attempts],
        )

    def _attempt(self, attempt: Attempt) -> Attempt:
        origin_s = self.origin_s
        return Attempt(
            attempt.number,
            attempt.engine,
            attempt.end,
            attempt.assigned_s - origin_s,
            attempt.started_s - origin_s,
            attempt.ended_s - origin_s,
            attempt.heard_s - origin_s,
        )

    def engine(self, engine: TracedEngine) -> TracedEngine:
        return structs.replace(
            engine, joined_s=self._at(engine.joined_s), left_s=self._at(engine.left_s)
        )

    def _at(self, at_s: float | None) -> float | None:
        return None if at_s is None else at_s - self.origin_s
