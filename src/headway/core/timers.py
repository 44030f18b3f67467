"""What must happen at a time: queue timeouts and the ends of backoffs.

A heap with lazy deletion. An entry holds an id, never a task, so a disarmed timer keeps nothing
alive; when most entries are stale the heap is rebuilt, so it is never much larger than what is
armed. Time is whatever the caller counts in, here seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from enum import IntEnum
from typing import Generic, TypeVar


class Timer(IntEnum):
    """What a timer is for. A task has at most one of each."""

    QUEUE_TIMEOUT = 0
    BACKOFF = 1


Kind = TypeVar("Kind", bound=IntEnum)


class Timers(Generic[Kind]):
    """Times at which something wants attention, of which each has a number and a kind."""

    def __init__(self) -> None:
        self._armed: dict[tuple[int, Kind], float] = {}
        self._heap: list[tuple[float, int, Kind]] = []

    def __len__(self) -> int:
        return len(self._armed)

    def arm(self, task: int, timer: Kind, at_s: float) -> None:
        """Set the timer, in place of one that was set before."""
        self._armed[task, timer] = at_s
        heapq.heappush(self._heap, (at_s, task, timer))
        if len(self._heap) > 2 * len(self._armed) + 64:
            self._heap = [(at, task, kind) for (task, kind), at in self._armed.items()]
            heapq.heapify(self._heap)

    def disarm(self, task: int, timer: Kind) -> None:
        """Forget the timer, if it is set."""
        self._armed.pop((task, timer), None)

    def is_armed(self, task: int, timer: Kind) -> bool:
        """Whether the timer is set."""
        return (task, timer) in self._armed

    def at_s(self, task: int, timer: Kind) -> float | None:
        """For when the timer is set; None if it is not."""
        return self._armed.get((task, timer))

    def next_s(self) -> float | None:
        """When the next timer is due, None if none is set."""
        heap, armed = self._heap, self._armed
        while heap:
            at_s, task, timer = heap[0]
            if armed.get((task, timer)) == at_s:
                return at_s
            heapq.heappop(heap)
        return None

    def take_due(self, now: float) -> Iterator[tuple[int, Kind]]:
        """Take out the timers that are due, the earliest first."""
        while (at_s := self.next_s()) is not None and at_s <= now:
            _, task, timer = heapq.heappop(self._heap)
            del self._armed[task, timer]
            yield task, timer

    def armed(self) -> dict[tuple[int, Kind], float]:
        """What is set, for the invariants."""
        return dict(self._armed)
