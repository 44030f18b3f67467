"""Which tasks are there, and how is the whole cluster? Rows and counts for people who look.

Rule 1: bounded. A cluster may have a million tasks, and whoever looks must not stop it: at most
LOOKED_AT_MAX of them are looked at for one answer, the newest first, and the answer says so where
there are more. Where an index leads to what is asked for (a group's members, the tasks on
engines), it is used. Rule 2: nothing is changed.

What this file must not know: who asks, and how a row is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from headway.core.events import TaskId, format_engine_id, format_task_id
from headway.core.records import Group, Task
from headway.core.states import FINAL_STATES, ON_ENGINE_STATES, TaskState

if TYPE_CHECKING:
    from headway.core.scheduler import Scheduler

#: So many tasks are looked at for one answer: some milliseconds.
LOOKED_AT_MAX = 20_000
#: Rows in one answer: some MB at most.
ROWS_MAX = 10_000

#: What rows may be sorted by; of these, newest, longest and last first with `reverse`.
_SORT_KEYS: dict[str, Callable[[Task], Any]] = {
    "id": lambda task: task.id,
    "label": lambda task: task.options.label,
    "state": lambda task: task.state,
    "engine": lambda task: -1 if task.engine is None else task.engine,
    "age": lambda task: -task.since_s,
    "attempt": lambda task: task.attempt,
}
SORTS = tuple(_SORT_KEYS)


class TaskQuery(Struct, array_like=True, frozen=True):
    """Which tasks are wanted: of these states (none is any), with `label` somewhere in theirs, of
    the group `group`; sorted by one of SORTS, at most `limit`."""

    states: list[TaskState] = []
    label: str = ""
    group: TaskId | None = None
    sort: str = "id"
    reverse: bool = False
    limit: int = 100


class Listing(Struct):
    """The answer. `found` of the `looked_at` tasks are as wanted, and there are `total`.

    With `is_cut` more were not looked at, so that there are at least `found`.
    """

    tasks: list[Task]
    found: int
    looked_at: int
    total: int
    is_cut: bool


def list_tasks(scheduler: Scheduler, query: TaskQuery) -> Listing:
    """The tasks that `query` wants, as far as one answer looks.

    Raises:
        ValueError: it is sorted by what is no key, or names no group.
    """
    key = _SORT_KEYS.get(query.sort)
    if key is None:
        raise ValueError(f"tasks can't be sorted by {query.sort!r}: one of {', '.join(SORTS)}")
    states = frozenset(query.states)
    found: list[Task] = []
    looked_at = 0
    candidates, total = _candidates(scheduler, query, states)
    for task in islice(candidates, LOOKED_AT_MAX):
        looked_at += 1
        if (not states or task.state in states) and query.label in task.options.label:
            found.append(task)
    is_cut = next(iter(candidates), None) is not None
    found.sort(key=key, reverse=query.reverse)
    limit = max(0, min(query.limit, ROWS_MAX))
    return Listing(found[:limit], len(found), looked_at, total, is_cut)


def _candidates(
    s: Scheduler, query: TaskQuery, states: frozenset[TaskState]
) -> tuple[Iterator[Task], int]:
    """The tasks to look at, each once, and about how many there are."""
    if query.group is not None:
        group = s.groups.get(query.group)
        if group is None:
            raise ValueError(f"no group {format_task_id(query.group)} is known")
        return _known(s, group.members()), group.size
    if states and states <= ON_ENGINE_STATES:
        seated = (task for engine in s.engines.values() for task in engine.assigned.values())
        return seated, sum(engine.load for engine in s.engines.values())
    newest = reversed(s.tasks.values())
    if states and states <= FINAL_STATES and s.kept:
        # What was left behind is a few, and may lie behind a million that wait.
        kept = _known(s, reversed(s.kept))
        others = (task for task in newest if task.id not in s.kept)
        return _chain(kept, others), len(s.tasks)
    return newest, len(s.tasks)


def _chain(*parts: Iterable[Task]) -> Iterator[Task]:
    for part in parts:
        yield from part


def _known(s: Scheduler, nodes: Iterable[TaskId]) -> Iterator[Task]:
    for node in nodes:
        task = s.tasks.get(node)
        if task is not None:
            yield task


def task_row(task: Task, now: float) -> dict[str, Any]:
    """`task` as plain data. `age_s`: since when it waits or runs; None once it has ended."""
    return {
        "id": format_task_id(task.id),
        "label": task.options.label,
        "state": task.state.name.lower(),
        "engine": format_engine_id(task.engine) if task.engine is not None else None,
        "attempt": task.attempt,
        "age_s": None if task.state in FINAL_STATES else round(max(now - task.since_s, 0.0), 3),
        "why": task.problem.text if task.problem is not None else "",
    }


def group_row(group: Group) -> dict[str, Any]:
    """`group` as plain data; its members as runs of numbers."""
    return {
        "id": format_task_id(group.id),
        "size": group.size,
        "open": group.open,
        "succeeded": group.succeeded,
        "failed": group.failed,
        "spans": [list(span) for span in group.spans],
    }
