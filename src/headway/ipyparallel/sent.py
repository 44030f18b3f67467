"""What one engine was sent and has not answered yet, in the order in which it was sent.

An engine of IPython works off its requests one after the other, and answers in that order. So the
first that it has not answered is the one that it runs; and when it answers a later one, an earlier
one, or its answer, was lost on the way.

Each entry has a place, a number that grows; what it is of (a job, or nothing for a probe) is for
the owner to say. Everything here costs O(1) for each entry, however many there are: an engine
without a high water mark may have a hundred thousand. What this file must not know: sockets,
clocks, what follows from a loss.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

What = TypeVar("What")


class Sent(Generic[What]):
    """The entries of one engine, oldest first."""

    __slots__ = ("_count", "_entries")

    def __init__(self) -> None:
        self._count = 0
        self._entries: deque[tuple[int, What]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, what: What) -> int:
        """`what` was sent now. Returns its place."""
        self._count += 1
        self._entries.append((self._count, what))
        return self._count

    @property
    def first(self) -> What | None:
        """What the engine is at, None if it has answered everything."""
        return self._entries[0][1] if self._entries else None

    def answered(self, place: int) -> list[What]:
        """The entry of that place was answered. Returns those before it, which were not: they
        are no longer here. One that is no longer here itself was one of these once."""
        entries = self._entries
        passed: list[What] = []
        while entries and entries[0][0] <= place:
            at, what = entries.popleft()
            if at != place:
                passed.append(what)
        return passed

    def clear(self) -> None:
        """The engine is gone. Places go on from where they are, so that none comes twice."""
        self._entries.clear()
