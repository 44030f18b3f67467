"""Where the time of each attempt went, from the moment when its task could run.

    ready ── queue ── assigned ── behind ── transfer ── started ── run ── ended ── report ── heard

What this file must not know: how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from headway.traces.model import Attempt, TraceData, TracedTask

#: In the order in which a task goes through them, and what each is, for people.
PHASES = {
    "dependencies": "submitted, until its upstreams had ended",
    "queue": "ready, until an engine was chosen",
    "behind": "on its engine, behind other tasks",
    "transfer": "to its engine",
    "run": "running",
    "report": "until the scheduler heard of the end",
}


class Spent(NamedTuple):
    """Seconds of one attempt in each phase but the first."""

    queue: float
    behind: float
    transfer: float
    run: float
    report: float

    @property
    def total_s(self) -> float:
        """All of them."""
        return sum(self)


class Phases:
    """The phases of the tasks in a trace."""

    def __init__(self, trace: TraceData) -> None:
        #: By task and attempt: when the attempt before it on the same engine had ended.
        self._free_s: dict[tuple[str, int], float] = {}
        for _, runs in runs_by_engine(trace.tasks):
            before_s = 0.0
            for task, attempt in runs:
                self._free_s[task.id, attempt.number] = before_s
                before_s = max(before_s, attempt.ended_s)

    def dependencies_s(self, task: TracedTask) -> float:
        """How long `task` waited for its upstreams; 0 where its submission was forgotten."""
        if task.submitted_s is None:
            return 0.0
        # One that never ran waited for them to its end, or for an engine: that is not known.
        until_s = task.ready_s if task.ready_s is not None else task.ended_s
        return max(0.0, until_s - task.submitted_s)

    def spent(self, task: TracedTask) -> Iterator[tuple[Attempt, Spent]]:
        """Each attempt at `task`, and where its time went. They follow each other without a gap,
        from when it was ready to its last attempt's end."""
        since_s = task.ready_s
        for attempt in task.attempts:
            queued_s = 0.0 if since_s is None else max(0.0, attempt.assigned_s - since_s)
            free_s = self._free_s[task.id, attempt.number]
            started_s = max(attempt.started_s, attempt.assigned_s)
            behind_s = min(max(0.0, free_s - attempt.assigned_s), started_s - attempt.assigned_s)
            yield (
                attempt,
                Spent(
                    queued_s,
                    behind_s,
                    started_s - attempt.assigned_s - behind_s,
                    attempt.run_s,
                    max(0.0, attempt.heard_s - attempt.ended_s),
                ),
            )
            since_s = attempt.heard_s


def runs_by_engine(
    tasks: Iterable[TracedTask],
) -> Iterator[tuple[str, list[tuple[TracedTask, Attempt]]]]:
    """By engine, in the order of their numbers: what ran there, in the order in which it began."""
    runs: dict[str, list[tuple[TracedTask, Attempt]]] = {}
    for task in tasks:
        for attempt in task.attempts:
            runs.setdefault(attempt.engine, []).append((task, attempt))
    for engine in sorted(runs, key=lambda name: (len(name), name)):  # e2 before e10
        yield engine, sorted(runs[engine], key=lambda run: (run[1].started_s, run[1].ended_s))
