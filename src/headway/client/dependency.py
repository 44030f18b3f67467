"""What a user may write after `after=` and `follow=`, as conditions of the wire.

A task is named by its Future, its id ("1-42", or the number), or as a member of a Group. What
names no task at all (a malformed id) is no error here: it is noted, and the task that depends
on it ends with InvalidDependency, as it would for an unknown id.

What this file must not know: sockets, threads, and how a future ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal

from headway.client.futures import Future, Group
from headway.core.events import (
    NEED_ALL,
    ON_DONE,
    ON_FAILURE,
    ON_SUCCESS,
    ConditionSpec,
    TaskId,
    format_task_id,
    parse_task_id,
)

_ON = {"success": ON_SUCCESS, "failure": ON_FAILURE, "done": ON_DONE}

#: So many more must end: enough have.
_MET = -1

#: Ids are 63 bits: a client's number and its own count.
_TASK_ID_MAX = (1 << 63) - 1


class Dependency:
    """A condition on tasks: how many of them must have ended, and how.

    Parameters:
        tasks: a Future, a Group, a task's id, or a list, tuple or set of those.
        need: "all", "any", or how many of them (from 1).
        on: "success", "failure", or "done": any end, failure and cancellation included.

    Raises:
        TypeError, ValueError: an argument is not of these; it says which.
    """

    __slots__ = ("need", "on", "tasks")

    def __init__(
        self,
        tasks: Any,
        need: Literal["all", "any"] | int = "all",
        on: Literal["success", "failure", "done"] = "success",
    ) -> None:
        self.tasks: tuple[Any, ...] = tuple(_flatten(tasks, "Dependency(tasks)"))
        if on not in _ON:
            raise ValueError(f"on={on!r} is none of 'success', 'failure', 'done'")
        if need not in ("all", "any"):
            if isinstance(need, bool) or not hasattr(need, "__index__"):
                raise TypeError(f"need={need!r} is none of 'all', 'any', or a number of tasks")
            need = int(need)  # of numpy, of a class of the user's: only a plain one travels
        count = sum(len(task) if isinstance(task, Group) else 1 for task in self.tasks)
        if isinstance(need, int) and not 1 <= need <= count:
            raise ValueError(f"need={need} of {count} task{'' if count == 1 else 's'}")
        if need == "any" and count == 0:
            raise ValueError("need='any' of no tasks can never be met")
        self.need = need
        self.on = on

    def __repr__(self) -> str:
        return f"Dependency({list(self.tasks)!r}, need={self.need!r}, on={self.on!r})"


@dataclass(frozen=True, slots=True)
class Condition:
    """One checked condition. `groups` are given their node when it is first needed.

    `upstreams` are ids in the user's order; a Group stands for its node. `holders` are the
    futures and groups among them, which must live until the controller has heard of it.
    """

    upstreams: tuple[TaskId | Group, ...]
    need: int
    on: int
    holders: tuple[Future[Any] | Group, ...]
    malformed: str = ""
    #: The spec, where no group is in it: it serves many tasks.
    spec: ConditionSpec | None = field(default=None, compare=False)


def conditions_of(value: Any, option: str) -> Dependency:
    """What the user gave, as one Dependency of futures and ids: for memo.py to note.

    Raises:
        TypeError, ValueError: as `check`.
    """
    found = _as_dependency(value, option)
    members = [
        each for task in found.tasks for each in (task if isinstance(task, Group) else [task])
    ]
    return Dependency(members, found.need, found.on)


def check(value: Any, option: str) -> Condition | None:
    """The condition in what the user gave for `option`; None where it is met from the start.

    Raises:
        TypeError, ValueError: it is nothing that names tasks, or mixes what can't be mixed.
    """
    dependency = _as_dependency(value, option)
    if not dependency.tasks:
        return None
    split_groups = option == "follow" or (len(dependency.tasks) > 1 and dependency.need != "all")
    upstreams: dict[TaskId | int, TaskId | Group] = {}
    holders: list[Future[Any] | Group] = []
    malformed = ""
    tasks, hits = _without_hits(dependency, option)
    for task in tasks:
        if isinstance(task, Group):
            holders.append(task)
            if split_groups:
                upstreams.update((member.node, member.node) for member in task)
            elif task:
                upstreams[-id(task)] = task
        elif isinstance(task, Future):
            holders.append(task)
            upstreams[task.node] = task.node
        else:
            node = _parse(task)
            if isinstance(node, str):
                malformed = malformed or f"{option}: {node}"
            else:
                upstreams[node] = node
    if not upstreams and not malformed:
        return None
    need = _need(dependency, upstreams, option, hits)
    if need == _MET and not malformed:
        return None
    on = _ON[dependency.on]
    plain = tuple(upstreams.values())
    spec = None
    if not malformed and not any(isinstance(upstream, Group) for upstream in plain):
        spec = ConditionSpec(list(plain), need, on)  # type: ignore[arg-type]
    return Condition(plain, need, on, tuple(holders), malformed, spec)


def _without_hits(dependency: Dependency, option: str) -> tuple[list[Any], int]:
    """The tasks without those that memo had kept, where nothing need wait for such: they have
    succeeded. And how many those are."""
    if option != "after" or dependency.on == "failure":
        return list(dependency.tasks), 0
    tasks: list[Any] = []
    hits: set[int] = set()
    for task in dependency.tasks:
        if isinstance(task, Group):
            rest = task.without_hits()
            if rest is not task:
                hits.update(id(each) for each in task if each.is_hit)
            tasks.append(rest)
        elif isinstance(task, Future) and task.is_hit:
            hits.add(id(task))
        else:
            tasks.append(task)
    return tasks, len(hits)


def _need(dependency: Dependency, upstreams: dict[Any, Any], option: str, hits: int) -> int:
    """How many of `upstreams` must end as wanted, beside so many hits that have."""
    if dependency.need == "all":
        return NEED_ALL
    if dependency.need == "any":
        return _MET if hits else 1
    if not isinstance(dependency.need, int):
        raise TypeError(f"need={dependency.need!r}")
    count = hits + sum(len(set(u)) if isinstance(u, Group) else 1 for u in upstreams.values())
    if dependency.need > count:
        raise ValueError(f"{option}: need={dependency.need} of {count} different tasks")
    return dependency.need - hits if dependency.need > hits else _MET


def _as_dependency(value: Any, option: str) -> Dependency:
    if isinstance(value, Dependency):
        return value
    entries = list(_flatten(value, option))
    conditions = [entry for entry in entries if isinstance(entry, Dependency)]
    if not conditions:
        return Dependency(entries)
    if len(entries) == 1:
        return conditions[0]
    ons = {entry.on if isinstance(entry, Dependency) else "success" for entry in entries}
    if len(ons) > 1 or any(entry.need != "all" for entry in conditions):
        raise ValueError(
            f"{option} takes one Dependency, or several that need='all' on the same end; "
            f"put the tasks of one need= and on= into one Dependency"
        )
    tasks: list[Any] = []
    for entry in entries:
        tasks.extend(entry.tasks if isinstance(entry, Dependency) else [entry])
    return Dependency(tasks, on=ons.pop())


def _flatten(value: Any, option: str) -> Iterable[Any]:
    """The tasks in `value`: a single one, or a list, tuple or set of them, not deeper."""
    if value is None:
        return
    if isinstance(value, Group | Future | Dependency | str | int):
        yield _entry(value, option)
        return
    if not isinstance(value, Sequence | AbstractSet) or isinstance(value, bytes | bytearray):
        raise TypeError(
            f"{option}={value!r} names no task: expected a Future, a Group, a task's id, "
            f"a Dependency, or a list of those"
        )
    for entry in value:
        yield _entry(entry, option)


def _entry(value: Any, option: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, Group | Future | Dependency | str | int):
        raise TypeError(
            f"{option}: {value!r} names no task: expected a Future, a Group, a task's id, "
            f"or a Dependency"
        )
    if isinstance(value, Dependency) and option == "Dependency(tasks)":
        raise TypeError("a Dependency can't hold another Dependency")
    return value


def _parse(name: str | int) -> TaskId | str:
    """The id that `name` writes, or, in words, why it is none."""
    if isinstance(name, int):
        return TaskId(int(name)) if 0 < name <= _TASK_ID_MAX else f"{name} is not a task id"
    try:
        node = parse_task_id(name)
    except ValueError as error:
        return str(error)
    if not 0 < node <= _TASK_ID_MAX or format_task_id(node) != name:
        return f"{name!r} is not a task id: expected CLIENT-NUMBER, such as 1-42"
    return node


def as_node(task: Any) -> TaskId:
    """The id of a task that is named by its Future, its id as text, or its number.

    Raises:
        TypeError, ValueError: it names no task.
    """
    if isinstance(task, Future):
        return task.node
    if isinstance(task, bool) or not isinstance(task, str | int):
        raise TypeError(f"{task!r} is neither a Future nor a task's id")
    node = _parse(task)
    if isinstance(node, str):
        raise ValueError(node)
    return node
