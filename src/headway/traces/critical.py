"""The path through a trace that made it take as long as it did.

It goes back from the task that ended last: from each task to the upstream that made it ready, to
one that waited for nothing. So its steps follow each other in time, and their parts add up to all
of the time that passed. Beside it, the chain of dependencies that ran longest: no number of engines
makes it shorter.

What this file must not know: how it is shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from headway.traces.longest import chains
from headway.traces.model import TraceData, TracedTask
from headway.traces.phases import Phases


@dataclass(frozen=True, slots=True)
class Step:
    """One task of the path, from `ready_s` to `ended_s`, and the seconds in each phase: see
    phases.py. `engine` is the last on which it ran; "" if it never did."""

    id: str
    name: str
    state: str
    engine: str
    attempts: int
    ready_s: float
    ended_s: float
    queue_s: float
    behind_s: float
    transfer_s: float
    run_s: float
    report_s: float


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """The path, in order.

    `before_s` passed before its first task was submitted, or ended without having run; `took_s` is
    the time from the beginning to the end of the last step. `chain_s` is the time that the longest
    chain of dependencies ran, and `chain` the ids of its tasks.
    """

    steps: tuple[Step, ...]
    before_s: float
    took_s: float
    chain_s: float
    chain: tuple[str, ...]

    @property
    def run_s(self) -> float:
        """For how long a task of the path was running."""
        return sum(step.run_s for step in self.steps)

    @property
    def waited_s(self) -> dict[str, float]:
        """The rest of the time that it took, by phase."""
        phases = ("queue", "behind", "transfer", "report")
        return {
            "before": self.before_s,
            **{phase: sum(getattr(step, f"{phase}_s") for step in self.steps) for phase in phases},
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "took_s": self.took_s,
            "run_s": self.run_s,
            "waited_s": self.waited_s,
            "chain_s": self.chain_s,
            "chain": list(self.chain),
            "steps": [asdict(step) for step in self.steps],
        }


def critical_path(trace: TraceData) -> CriticalPath:
    """The critical path of `trace`."""
    by_id = {task.id: task for task in trace.tasks}
    ran = [task for task in trace.tasks if task.attempts]
    phases = Phases(trace)
    steps: list[Step] = []
    seen: set[str] = set()
    last = max(ran, key=lambda task: task.ended_s, default=None)
    task = last
    while task is not None and task.id not in seen:  # a task that ran twice may look like a circle
        seen.add(task.id)
        steps.append(_step(task, phases))
        task = by_id.get(task.after)
    steps.reverse()
    ordered = sorted(ran, key=lambda task: (task.attempts[0].assigned_s, task.ended_s))
    found = chains(
        (task.id for task in ordered),
        lambda id_: by_id[id_].upstreams,
        lambda id_: by_id[id_].run_s,
    )
    chain = found.longest()
    return CriticalPath(
        tuple(steps),
        before_s=steps[0].ready_s if steps else 0.0,
        took_s=last.ended_s if last is not None else 0.0,
        chain_s=found.cost[chain[-1]] if chain else 0.0,
        chain=tuple(chain),
    )


def _step(task: TracedTask, phases: Phases) -> Step:
    spent = [spent for _, spent in phases.spent(task)]
    # One that never ran, and whose end another waited for, is a step that takes no time.
    first_s = task.attempts[0].assigned_s if task.attempts else task.ended_s
    return Step(
        task.id,
        task.name,
        task.state,
        task.attempts[-1].engine if task.attempts else "",
        len(task.attempts),
        first_s if task.ready_s is None else task.ready_s,
        task.ended_s,
        sum(each.queue for each in spent),
        sum(each.behind for each in spent),
        sum(each.transfer for each in spent),
        sum(each.run for each in spent),
        sum(each.report for each in spent),
    )
