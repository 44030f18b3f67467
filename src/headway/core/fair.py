"""Fair turns: the tasks of one priority, taken in turn from the clients that share it.

A `FairQueue` stands where a lane keeps a deque of tasks, once a task with the option `fair` has
come, and has those of a deque's operations that a lane uses. Each client with fair tasks is a
party, and so are all tasks without the option together; the parties take turns, one task each,
and each is first in, first out. A party without tasks is dropped, so that nothing grows with
the number of clients ever seen.

What this file must not know: lanes, engines, why a task left.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator

from headway.core.records import Task

#: The party of the tasks that did not ask for turns.
_UNFAIR = -1


class FairQueue:
    """Tasks in the order in which their turns come."""

    __slots__ = ("_count", "_parties")

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        #: In the order of their turns; none is empty.
        self._parties: OrderedDict[int, deque[Task]] = OrderedDict()
        self._count = 0
        for task in tasks:
            self.append(task)

    def append(self, task: Task) -> None:
        """Queue `task` behind the others of its party."""
        self._party_of(task).append(task)
        self._count += 1

    def appendleft(self, task: Task) -> None:
        """Queue `task` before the others of its party, whose turn stays where it was."""
        self._party_of(task).appendleft(task)
        self._count += 1

    def popleft(self) -> Task:
        """Take out the task whose turn it is; then it is the next party's."""
        party, queue = next(iter(self._parties.items()))
        task = queue.popleft()
        self._count -= 1
        if queue:
            self._parties.move_to_end(party)
        else:
            del self._parties[party]
        return task

    def drop_first(self) -> None:
        """Take the first task out because it is none any more: the turn stays its party's.

        With `popleft` in its place, a client that cancels a hundred tasks would wait a hundred
        turns for its next.
        """
        party, queue = next(iter(self._parties.items()))
        queue.popleft()
        self._count -= 1
        if not queue:
            del self._parties[party]

    def keep(self, is_wanted: Callable[[Task], bool]) -> None:
        """Drop every task that is not wanted, and of one that is here twice the later place.

        The parties keep the order of their turns.
        """
        for party, queue in list(self._parties.items()):
            wanted = deque(dict.fromkeys(filter(is_wanted, queue)))
            self._count -= len(queue) - len(wanted)
            if wanted:
                self._parties[party] = wanted
            else:
                del self._parties[party]

    def __getitem__(self, index: int) -> Task:
        """The task whose turn it is, at index 0: no other can be looked at."""
        if index != 0:
            raise IndexError(f"a FairQueue shows its first task alone, not number {index}")
        return next(iter(self._parties.values()))[0]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Task]:
        """All tasks, in the order of their turns as they stand. O(1) each, however uneven the
        parties are."""
        rest = deque(iter(queue) for queue in self._parties.values())
        while rest:
            party = rest.popleft()
            for task in party:
                yield task
                rest.append(party)
                break

    def _party_of(self, task: Task) -> deque[Task]:
        party = task.client if task.options.fair else _UNFAIR
        queue = self._parties.get(party)
        if queue is None:
            queue = self._parties[party] = deque()
        return queue
