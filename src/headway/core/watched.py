"""What changes in the records while somebody watches, and no more of it than is taken.

`Life` tells each of its watchers of every task that changes its state. Nobody watches as a rule,
and then that costs one look at an empty list. A watcher is bounded: until it is taken from, it
keeps so many tasks, and of others counts the changes, which costs next to nothing when there are
very many. It changes nothing in the scheduler, so whether somebody watches makes no difference to
what is decided.

What this file must not know: who watches, and how they are told.
"""

from __future__ import annotations

from itertools import islice
from typing import Protocol

from msgspec import Struct

from headway.core.events import ClientId, EngineId, TaskId
from headway.core.records import Group, Task
from headway.core.states import FINAL_STATES, TaskState

#: Of one task no more upstreams and groups are told, nor more of its label.
UPSTREAMS_MAX = 8
LABEL_CHARS_MAX = 80


class TaskRow(Struct, array_like=True, frozen=True):
    """One task as it was at one moment, for people: no payload, no result.

    `function` is its function's name, or the beginning of its digest where its client told none; ""
    once the task has ended and let go of it. `upstreams`
    are tasks and groups that it waits or waited for, `groups` those that it is a member of: some
    of them, where there are many. `since_s` is when this stretch began, by the scheduler's clock.
    """

    id: TaskId
    state: int
    label: str
    function: str
    engine: EngineId | None
    attempt: int
    client: ClientId
    since_s: float
    upstreams: list[TaskId]
    groups: list[TaskId]


def row_of(task: Task) -> TaskRow:
    """`task` as it is now."""
    upstreams: list[TaskId] = []
    for condition in task.conditions or ():
        room = UPSTREAMS_MAX - len(upstreams)
        upstreams += [node.id for node in islice(condition.upstreams, room)]
    edges = islice(task.dependents or (), UPSTREAMS_MAX)
    return TaskRow(
        id=task.id,
        state=task.state,
        label=task.options.label[:LABEL_CHARS_MAX],
        function=_function_name(task),
        engine=task.engine,
        attempt=task.attempt,
        client=task.client,
        since_s=task.since_s,
        upstreams=upstreams,
        groups=[edge.id for edge in edges if isinstance(edge, Group)],
    )


def _function_name(task: Task) -> str:
    function = task.function
    if function is None:
        return ""
    return function.name or f"function {function.digest.hex()[:8]}"


#: By a state's number, whether it is final: looked up for each change, so no set of enums.
_IS_FINAL = [state in FINAL_STATES for state in TaskState]


class Watching(Protocol):
    """Whoever is told of each task that is new or changes its state."""

    def note(self, task: Task) -> None:
        """`task` is new, or has changed its state."""
        ...


class Watcher:
    """The tasks that changed since somebody last took them.

    Parameters:
        tasks_max: so many are kept.
    """

    def __init__(self, tasks_max: int) -> None:
        #: May be changed: how much there is room for until it is taken from.
        self.tasks_max = tasks_max
        # By task, so that the last change counts. One that has ended is kept as a row: its record
        # may be forgotten, and would keep its result in memory.
        self._changed: dict[TaskId, Task | TaskRow] = {}
        self._passed_over = 0
        #: How many tasks came to each final state while this watched, by the state's number.
        self.ended = [0] * len(TaskState)

    def note(self, task: Task) -> None:
        """`task` is new, or has changed its state."""
        state = task.state
        is_final = _IS_FINAL[state]
        if is_final:
            self.ended[state] += 1
        changed = self._changed
        if len(changed) >= self.tasks_max and task.id not in changed:
            self._passed_over += 1
        else:
            changed[task.id] = row_of(task) if is_final else task

    def take(self) -> tuple[list[TaskRow], int]:
        """What changed since the last time, and how many more changes there were."""
        changed, self._changed = self._changed, {}
        passed_over, self._passed_over = self._passed_over, 0
        rows = [each if isinstance(each, TaskRow) else row_of(each) for each in changed.values()]
        return rows, passed_over
