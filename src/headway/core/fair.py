"""Fair turns: the tasks of one priority, taken in turn from the parties that share it.

A `FairQueue` stands where a lane keeps a deque of entries, once a task with the option `fair` has
come, and has those of a deque's operations that a lane uses, and `leave`. Each client with fair
tasks is a party, and so is each share that such tasks name, whoever submitted them, and so are all
tasks without the option together. The parties take turns, and each is first in, first out. A turn
is as many tasks as the weight that they state: deficit round robin (Shreedhar and Varghese, 1995)
in which a task costs one, so that a turn never ends with something left over. A party without
tasks is dropped, so that nothing grows with the number of clients ever seen.

An entry is a task with its ticket, and lives while the task has that ticket: one that leaves
before its turn stays in its deque, dead, and does not come to life again when it comes back.
The dead make no difference to the order of the living: a party of the dead alone has no turn.

What this file must not know: lanes, engines, why a task left.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from headway.core.records import Task

Entry: TypeAlias = tuple[int, Task]

#: A client, or a share by its name.
Key: TypeAlias = int | str

#: The party of the tasks that did not ask for turns.
_UNFAIR = -1
#: The dead are swept out when they are more than the living, and so many: few are not worth it.
_DEAD_SPARE = 64


def is_living(entry: Entry) -> bool:
    """Whether the task of `entry` still waits there."""
    return entry[1].ticket == entry[0]


class _Party:
    """The entries of one party, and how many of them live: at least one."""

    __slots__ = ("entries", "living")

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.living = 0


class FairQueue:
    """Tasks in the order in which their turns come. It shows and counts the living alone."""

    __slots__ = ("_entries", "_living", "_parties", "taken")

    def __init__(self, entries: Iterable[Entry] = (), taken: int = 0) -> None:
        #: In the order of their turns.
        self._parties: OrderedDict[Key, _Party] = OrderedDict()
        #: How many of its turn the first party has had.
        self.taken = taken
        self._living = 0
        #: All, the dead among them.
        self._entries = 0
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """Queue `entry`, which lives, behind the others of its party."""
        self._party_for(entry[1]).entries.append(entry)

    def appendleft(self, entry: Entry) -> None:
        """Queue `entry`, which lives, before the others of its party: the turn stays where it
        was."""
        self._party_for(entry[1]).entries.appendleft(entry)

    def popleft(self) -> Entry:
        """Take out the entry whose turn it is; then it is the next party's, once this one has had
        as many as the weight of the entry."""
        first = self[0]
        key, party = next(iter(self._parties.items()))
        party.entries.popleft()
        self._entries -= 1
        self._living -= 1
        party.living -= 1
        self.taken += 1
        if not party.living:
            self._drop(key)
        elif self.taken >= _weight_of(first[1]):
            self.taken = 0
            self._parties.move_to_end(key)
        return first

    def leave(self, task: Task) -> None:
        """`task` has left before its turn: its entry is dead. The turn stays its party's, if
        others of it wait.

        Were it the next party's, a client that cancels a hundred tasks would wait a hundred turns
        for its next.
        """
        key = _party_of(task)
        party = self._parties[key]
        party.living -= 1
        self._living -= 1
        if not party.living:
            self._drop(key)
        elif self._entries > 2 * self._living + _DEAD_SPARE:
            self._sweep()

    def waiting_by_party(self) -> Iterator[tuple[Key, int]]:
        """How many wait of each party: of a client by its number, of a share by its name."""
        for key, party in self._parties.items():
            yield key, party.living

    def by_party(self) -> Iterator[Entry]:
        """One party after the other, in the order of their turns: appended in this order to an
        empty queue with the same `taken`, the entries make one that is equal."""
        for party in self._parties.values():
            yield from filter(is_living, party.entries)

    def __getitem__(self, index: int) -> Entry:
        """The entry whose turn it is, at index 0: no other can be looked at."""
        if index != 0:
            raise IndexError(f"a FairQueue shows its first entry alone, not number {index}")
        entries = next(iter(self._parties.values())).entries
        while not is_living(entries[0]):
            entries.popleft()
            self._entries -= 1
        return entries[0]

    def __len__(self) -> int:
        return self._living

    def __iter__(self) -> Iterator[Entry]:
        """All, in the order of their turns as they stand. O(1) each, however uneven the parties
        are."""
        rest = deque(filter(is_living, party.entries) for party in self._parties.values())
        taken = self.taken
        while rest:
            party = rest.popleft()
            for entry in party:
                yield entry
                taken += 1
                if taken >= _weight_of(entry[1]):
                    rest.append(party)
                    break
            taken = 0

    def _party_for(self, task: Task) -> _Party:
        """The party to which an entry of `task` is added."""
        key = _party_of(task)
        party = self._parties.get(key)
        if party is None:
            party = self._parties[key] = _Party()
        party.living += 1
        self._living += 1
        self._entries += 1
        return party

    def _drop(self, key: Key) -> None:
        if key == next(iter(self._parties)):
            self.taken = 0
        self._entries -= len(self._parties.pop(key).entries)

    def _sweep(self) -> None:
        for party in self._parties.values():
            party.entries = deque(filter(is_living, party.entries))
        self._entries = self._living


def _party_of(task: Task) -> Key:
    options = task.options
    if not options.fair:
        return _UNFAIR
    if options.share:
        return options.share
    # A flood of nested tasks is its owner's, not that of the engine whose client submitted it.
    return task.client if task.nest is None else task.nest.owner


def _weight_of(task: Task) -> int:
    return task.options.weight if task.options.fair else 1
