"""Counts of what happened, and a frozen snapshot of them for whoever looks from outside."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from headway.core.states import FINAL_STATES, TaskState

if TYPE_CHECKING:
    from headway.core.scheduler import Scheduler


_UNFINISHED = [state for state in TaskState if state not in FINAL_STATES]


@dataclass(frozen=True, slots=True)
class Statistics:
    """The scheduler at one moment. Counts of events are since its start."""

    #: Tasks in memory, by state name in lower case.
    tasks: dict[str, int]
    groups: int
    engines: int
    clients: int
    functions: int
    submitted: int
    #: Submissions that came again, and reports that came late or again: ignored.
    duplicates: int
    stale: int
    #: Events that named something unknown, or another client's: ignored.
    invalid: int
    retried: int
    crashed: int
    recalled: int
    refused: int
    #: The arguments of tasks that have not ended.
    unfinished_bytes: int
    #: Tasks run again since their value was lost.
    recomputed: int
    #: Results that are kept in stores, and their bytes.
    stored_values: int
    stored_bytes: int


@dataclass(slots=True)
class Counters:
    """What the scheduler counts as it goes. Written by the scheduler alone."""

    by_state: list[int] = field(default_factory=lambda: [0] * len(TaskState))
    submitted: int = 0
    duplicates: int = 0
    stale: int = 0
    invalid: int = 0
    retried: int = 0
    crashed: int = 0
    recalled: int = 0
    refused: int = 0
    recomputed: int = 0

    def put_back(self, counted: Counters) -> None:
        """Go on from what was counted before."""
        for each in fields(self):
            setattr(self, each.name, getattr(counted, each.name))
        self.by_state = list(counted.by_state)

    @property
    def unfinished(self) -> int:
        """How many tasks have not ended."""
        return sum(self.by_state[state] for state in _UNFINISHED)

    def snapshot(self, scheduler: Scheduler) -> Statistics:
        """These counts, and the sizes of what `scheduler` remembers."""
        return Statistics(
            tasks={state.name.lower(): self.by_state[state] for state in TaskState},
            groups=len(scheduler.groups),
            engines=len(scheduler.engines),
            clients=len(scheduler.clients),
            functions=len(scheduler.functions),
            submitted=self.submitted,
            duplicates=self.duplicates,
            stale=self.stale,
            invalid=self.invalid,
            retried=self.retried,
            crashed=self.crashed,
            recalled=self.recalled,
            refused=self.refused,
            unfinished_bytes=scheduler.unfinished_bytes,
            recomputed=self.recomputed,
            stored_values=len(scheduler.stored),
            stored_bytes=scheduler.stored.bytes,
        )
