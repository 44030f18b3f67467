"""Which tasks were submitted by which: parents that run, and their children that have not ended.

A task is the child of the attempt whose code submitted it. Rule 1: a parent stands here from its
first child until its attempt is over, in whatever way; a child until it has ended. Rule 2: when an
attempt is over and has not succeeded, nobody has use for what it asked for: its children are
`orphaned`, to be cancelled at the end of the event. The next attempt asks anew. After a success
they go on, on their own.

What this file must not know: how a task is cancelled, and where it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.core.events import Parent, TaskId
from headway.core.records import Nest, Task
from headway.core.states import ON_ENGINE_STATES


@dataclass(slots=True)
class _Family:
    """The children of one attempt that have not ended, and what they have in common."""

    nest: Nest
    children: dict[TaskId, Task] = field(default_factory=dict)


class Families:
    """Parents whose attempt is on an engine, and their children that have not ended."""

    def __init__(self, tasks: Mapping[TaskId, Task]) -> None:
        """`tasks` are all that are known."""
        self._tasks = tasks
        self._families: dict[TaskId, _Family] = {}
        #: Children of attempts that are over, in the order of their ids for each.
        self.orphaned: list[Task] = []

    def nest_of(self, parent: Parent) -> Nest | None:
        """What the children of this attempt have in common; None if it is not going on."""
        family = self._families.get(parent.task)
        if family is None:
            task = self._tasks.get(parent.task)
            if task is None or task.state not in ON_ENGINE_STATES:
                return None
            above = task.nest
            depth, owner = (1, task.client) if above is None else (above.depth + 1, above.owner)
            if task.attempt != parent.attempt:
                return None
            family = _Family(Nest(task.id, task.attempt, depth, owner))
            self._families[task.id] = family
        return family.nest if family.nest.attempt == parent.attempt else None

    def begin(self, child: Task) -> None:
        """`child`, which has not ended, has a parent whose attempt goes on: see `nest_of`."""
        assert child.nest is not None
        self._families[child.nest.parent].children[child.id] = child

    def begin_again(self, child: Task) -> None:
        """`child` had ended, and runs again: it counts if that attempt at its parent goes on."""
        nest = child.nest
        if nest is not None and self.nest_of(Parent(nest.parent, nest.attempt)) is not None:
            self.begin(child)

    #: The same after a snapshot was loaded: the child may have outlived its parent.
    put_back = begin_again

    def end(self, child: Task) -> None:
        """`child` has ended."""
        assert child.nest is not None
        family = self._families.get(child.nest.parent)
        if family is not None:  # else its parent's attempt is over
            family.children.pop(child.id, None)

    def succeeded(self, parent: Task) -> None:
        """The attempt at `parent` is over, with success: its children go on."""
        if self._families:
            self._families.pop(parent.id, None)

    def is_over(self, parent: Task) -> None:
        """The attempt at `parent` is over."""
        if self._families:
            family = self._families.pop(parent.id, None)
            if family is not None:
                self.orphaned += [child for _, child in sorted(family.children.items())]

    def children_of(self, parent: TaskId) -> list[Task]:
        """The children of the current attempt that have not ended, in the order of their ids."""
        family = self._families.get(parent)
        return [] if family is None else [child for _, child in sorted(family.children.items())]

    def ancestors_of(self, task: Task) -> set[TaskId]:
        """The task that submitted `task`, the one that submitted that, and so on: as far as they
        are still known."""
        found: set[TaskId] = set()
        nest = task.nest
        while nest is not None and nest.parent not in found:
            found.add(nest.parent)
            above = self._tasks.get(nest.parent)
            nest = above.nest if above is not None else None
        return found

    def open(self) -> dict[TaskId, list[TaskId]]:
        """By its parent, the children that have not ended: for tests and checks."""
        return {
            parent: sorted(family.children)
            for parent, family in sorted(self._families.items())
            if family.children
        }
