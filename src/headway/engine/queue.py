"""The tasks assigned to this engine and not begun yet, and the one that was begun last.

The main thread begins tasks; the receiver thread adds and removes them, also while a task
runs. Rule 1: whoever takes a task out of the queue owns it: the main thread to run it, the
receiver to give it back or drop it. Rule 2: everything that looks and takes does so under the
one lock here, so a task that was given back never runs on this engine.

What this file must not know: sockets, signals, how a task is run, and how anybody waits.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from headway.core.events import TaskId
from headway.engine.runner import Function
from headway.wire.messages import Assignment, Held


class Assigned(NamedTuple):
    """One attempt at a task, with its function found. Compared by identity alone."""

    assignment: Assignment
    function: Function


class TaskQueue:
    """Assigned tasks in order; removing one from anywhere costs O(1)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[TaskId, Assigned] = OrderedDict()
        self._begun: Assigned | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, tasks: Iterable[Assigned]) -> None:
        """Add `tasks` at the end. An attempt that is here already, or an older one, is ignored."""
        with self._lock:
            for item in tasks:
                task, attempt = item.assignment.task, item.assignment.attempt
                known = self._waiting.get(task)
                if known is not None:
                    if attempt <= known.assignment.attempt:
                        continue
                    del self._waiting[task]
                begun = self._begun
                if (
                    begun is not None
                    and begun.assignment.task == task
                    and attempt <= begun.assignment.attempt
                ):
                    continue
                self._waiting[task] = item

    def begin(self) -> Assigned | None:
        """Take the next task, which now counts as begun; None if there is none."""
        with self._lock:
            if not self._waiting:
                return None
            item = self._begun = self._waiting.popitem(last=False)[1]
            return item

    def end(self) -> None:
        """Let go of the task that was begun last, and its payloads: nothing follows at once."""
        with self._lock:
            self._begun = None

    def held(self) -> list[Held]:
        """The attempts that wait, and the one that was begun last, which may have ended since."""
        with self._lock:
            items = [*self._waiting.values()]
            if self._begun is not None:
                items.append(self._begun)
        return [Held(item.assignment.task, item.assignment.attempt) for item in items]

    def give_back(self, tasks: Sequence[TaskId]) -> tuple[list[Held], list[TaskId]]:
        """Take out those of `tasks` that have not begun: they will not run here. And the rest."""
        given: list[Held] = []
        begun: list[TaskId] = []
        with self._lock:
            for task in tasks:
                item = self._waiting.pop(task, None)
                if item is None:
                    begun.append(task)
                else:
                    given.append(Held(task, item.assignment.attempt))
        return given, begun

    def stop(self, tasks: Sequence[TaskId]) -> tuple[list[Assigned], Assigned | None]:
        """Take out those of `tasks` that have not begun; and say which is the one begun last.

        The latter may have ended since: only an interrupt meant for it alone may follow.
        """
        with self._lock:
            dropped = [
                item for task in tasks if (item := self._waiting.pop(task, None)) is not None
            ]
            begun = self._begun
            if begun is not None and begun.assignment.task in tasks:
                return dropped, begun
            return dropped, None
