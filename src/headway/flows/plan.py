"""A plan: the tasks of a flow with all that it takes to run them, checked as a whole.

Readers of files make *entries*: a task, or an array of them, which others name as one. So that
"after all 10,000 of an array" is one name for each of its dependents, here as in the scheduler,
nothing in this file expands an array for each who names it.

What this file must not know: files, formats, clients, and how work is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headway.flows.flow import FlowTask, make_flow
from headway.traces.longest import chains

#: How an upstream may have to end: the words of `headway.Dependency`.
ONS = ("success", "failure", "done")


@dataclass(frozen=True, slots=True)
class Shell:
    """A command. `{index}` and `{id}` in its texts stand for the task's own."""

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function: "module:function", found from the flow's folder, or the function
    itself. Among its arguments, at any depth of lists, tuples and dicts, a `Value` stands for the
    value of another task."""

    function: str | Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pause:
    """A sleep, in place of work that was recorded."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Value:
    """Among the arguments of a `Call`: the value of the task of this name; of an array, a list."""

    name: str


@dataclass(frozen=True, slots=True)
class Condition:
    """How many of the tasks in `names` must have ended, and how. A name is that of a task, an
    array, or one task of an array: `sizes[3]`."""

    names: tuple[str, ...]
    on: str = "success"
    need: str | int = "all"


@dataclass(frozen=True, slots=True, eq=False)
class PlanTask:
    """One task, ready to be run. `options` are those of `Client.options`, but for conditions and
    label. `inputs` are files that it reads, `place` where it stands in its file."""

    id: str
    label: str
    work: Shell | Call | Pause
    index: int | str | None = None
    after: Condition | None = None
    follow: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    runtime_s: float | None = None
    place: str = ""

    @property
    def values(self) -> list[str]:
        """The names whose values it takes, each once."""
        return list(dict.fromkeys(values_in(self.work)))

    @property
    def needs(self) -> list[str]:
        """The names of all that it waits for, each once."""
        after = self.after.names if self.after is not None else ()
        return list(dict.fromkeys([*after, *self.follow, *self.values]))


@dataclass(frozen=True, slots=True)
class Entry:
    """A task, or an array of them, under one name. `parents` are names of entries."""

    name: str
    tasks: tuple[PlanTask, ...]
    parents: tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Tasks in an order in which they can be submitted; made by `make_plan`.

    `members` has, for each name of an array, the ids of its tasks; a task by itself has its own.
    """

    name: str
    source: str
    tasks: tuple[PlanTask, ...]
    members: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()

    def ids(self, name: str) -> Sequence[str]:
        """The ids of the tasks that `name` stands for."""
        return self.members.get(name) or (name,)

    @property
    def edges(self) -> int:
        """How many dependencies between tasks there are."""
        return sum(len(self.ids(name)) for task in self.tasks for name in task.needs)

    def _chains(self, cost_of: Callable[[PlanTask], float]) -> dict[str, float]:
        """By task: the largest sum of costs along a chain that ends with it. An array is a node of
        its own, however many name it."""
        arrays = {ids[-1]: name for name, ids in self.members.items() if ids and name not in ids}
        by_id = {task.id: task for task in self.tasks}

        def nodes() -> Iterator[str]:
            for task in self.tasks:
                yield task.id
                if task.id in arrays:  # its last: the others came before
                    yield arrays[task.id]

        return chains(
            nodes(),
            lambda name: by_id[name].needs if name in by_id else self.ids(name),
            lambda name: cost_of(by_id[name]) if name in by_id else 0.0,
        ).cost

    def levels(self) -> list[list[PlanTask]]:
        """Tasks that could run together: first those that wait for nothing, and so on."""
        depths = self._chains(lambda _: 1.0)
        levels: list[list[PlanTask]] = [[] for _ in range(round(max(depths.values())))]
        for task in self.tasks:
            levels[round(depths[task.id]) - 1].append(task)
        return levels

    def critical_path_s(self) -> float | None:
        """The longest chain, by the times that are known beforehand; None if one is not."""
        if any(task.runtime_s is None for task in self.tasks):
            return None
        return max(self._chains(lambda task: task.runtime_s or 0.0).values())


def make_plan(name: str, source: str, entries: Iterable[Entry], notes: Sequence[str] = ()) -> Plan:
    """The plan of these entries.

    Raises:
        FlowError: there are none, two have one name, one needs what is not there, or they need each
            other in a circle. The message says where in `source`.
    """
    listed = list(entries)
    flow = make_flow(
        name,
        source,
        (FlowTask(entry.name, entry.parents, place=entry.place) for entry in listed),
        notes,
    )
    by_name = {entry.name: entry for entry in listed}
    ordered = [by_name[task.id] for task in flow.tasks]
    return Plan(
        name,
        source,
        tuple(task for entry in ordered for task in entry.tasks),
        {entry.name: [task.id for task in entry.tasks] for entry in ordered},
        tuple(notes),
    )


def values_in(work: Shell | Call | Pause) -> Iterator[str]:
    """The names whose values `work` takes, in order."""
    if not isinstance(work, Call):
        return
    stack: list[Any] = [work.kwargs, work.args]
    while stack:
        part = stack.pop()
        if isinstance(part, Value):
            yield part.name
        elif isinstance(part, dict):
            stack.extend(reversed(part.values()))
        elif isinstance(part, list | tuple):
            stack.extend(reversed(part))


def with_values(part: Any, value_of: Callable[[str], Any]) -> Any:
    """`part` of the arguments of a call, with what stands for values replaced."""
    if isinstance(part, Value):
        return value_of(part.name)
    if type(part) is list:
        return [with_values(entry, value_of) for entry in part]
    if type(part) is tuple:
        return tuple(with_values(entry, value_of) for entry in part)
    if type(part) is dict:
        return {key: with_values(entry, value_of) for key, entry in part.items()}
    return part
