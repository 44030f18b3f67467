"""How far a run is: counts by label and state, its rate, and the time that is left.

What this file must not know: clocks, clusters, and how it is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headway.flows.plan import PlanTask

KEPT = "kept"
SUCCEEDED = "succeeded"
#: What it wanted to fail has succeeded, so that it was not needed.
SKIPPED = "skipped"
_FINE = frozenset({KEPT, SUCCEEDED, SKIPPED})


def is_bad(state: str) -> bool:
    """Whether a task that ended like this makes the run fail."""
    return state not in _FINE


@dataclass(slots=True)
class LabelTally:
    """The tasks of one label: how many, how many run now, and how those ended that have."""

    total: int = 0
    running: int = 0
    ended: Counter[str] = field(default_factory=Counter)

    @property
    def bad(self) -> int:
        """How many ended badly."""
        return sum(count for state, count in self.ended.items() if is_bad(state))

    @property
    def open(self) -> int:
        """How many have not ended."""
        return self.total - self.ended.total()


class Tally:
    """All tasks of a run."""

    def __init__(self, tasks: Iterable[PlanTask]) -> None:
        self.labels: dict[str, LabelTally] = {}
        self.states: Counter[str] = Counter()
        self.total = 0
        #: What is known of how long they take, in all, and of those that ended in this run.
        self._work_s: float | None = 0.0
        self._done_s = self._kept_s = 0.0
        for task in tasks:
            if task.runtime_s is None:
                self._work_s = None
            elif self._work_s is not None:
                self._work_s += task.runtime_s
            self.labels.setdefault(task.label, LabelTally()).total += 1
            self.total += 1

    def ended(self, task: PlanTask, state: str) -> None:
        """A task has ended."""
        self.labels[task.label].ended[state] += 1
        self.states[state] += 1
        if state == KEPT:
            self._kept_s += task.runtime_s or 0.0
        else:
            self._done_s += task.runtime_s or 0.0

    def now_running(self, counts: Mapping[str, int]) -> None:
        """So many tasks of each label run now."""
        for label, tally in self.labels.items():
            tally.running = counts.get(label, 0)

    @property
    def done(self) -> int:
        """How many have ended."""
        return self.states.total()

    @property
    def bad(self) -> int:
        """How many ended badly."""
        return sum(count for state, count in self.states.items() if is_bad(state))

    def rate(self, took_s: float) -> float:
        """Tasks a second, of those that ended in this run."""
        return (self.done - self.states[KEPT]) / took_s if took_s > 0 else 0.0

    def left_s(self, took_s: float) -> float | None:
        """Seconds until the end, if it goes on like this; None while nothing has ended. Where it is
        known how long tasks take, by that; else by their number."""
        if self._work_s is not None and self._done_s > 0:
            return max(0.0, self._work_s - self._kept_s - self._done_s) * took_s / self._done_s
        rate = self.rate(took_s)
        return (self.total - self.done) / rate if rate else None

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {state}" for state, count in self.states.most_common())
