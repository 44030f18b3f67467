"""A flow: tasks, what each depends on, and, where it was recorded, how long each took.

Readers of files (wfformat.py) make the tasks, `make_flow` checks them as a whole, and whoever
runs or simulates a flow can rely on that: ids are unique, parents are there and stand before
their children, and nothing goes in a circle.

What this file must not know: files, formats, and how a flow is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headway.errors import FlowError
from headway.traces.longest import chains


@dataclass(frozen=True, slots=True)
class FlowTask:
    """One task of a flow.

    `runtime_s` is what one run took; None if that is not known. `place` is where the task stands
    in its file, for people.
    """

    id: str
    parents: tuple[str, ...] = ()
    runtime_s: float | None = None
    name: str = ""
    command: tuple[str, ...] = ()
    input_bytes: int = 0
    output_bytes: int = 0
    cores: float = 1
    place: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """Tasks, parents before their children; made by `make_flow`.

    `source` is the file that it was read from. `notes` say what in it a flow can't express.
    """

    name: str
    source: str
    tasks: tuple[FlowTask, ...]
    notes: tuple[str, ...] = ()

    @property
    def edges(self) -> int:
        """How many dependencies there are."""
        return sum(len(task.parents) for task in self.tasks)

    def runtimes_s(self) -> list[float]:
        """How long each task took, in their order.

        Raises:
            FlowError: of one it is not known.
        """
        found = [task.runtime_s for task in self.tasks if task.runtime_s is not None]
        if len(found) < len(self.tasks):
            task = next(task for task in self.tasks if task.runtime_s is None)
            unknown = len(self.tasks) - len(found)
            raise FlowError(
                f"{self.source}: {task.place}: nothing says how long task {task.id!r} ran "
                f"({unknown:,} of {len(self.tasks):,} tasks have no runtime)"
            )
        return found

    def parent_numbers(self) -> list[list[int]]:
        """For each task the numbers of its parents: their places in `tasks`, from 0."""
        number_of = {task.id: number for number, task in enumerate(self.tasks)}
        return [[number_of[parent] for parent in task.parents] for task in self.tasks]

    def critical_path_s(self) -> float:
        """The longest chain of dependencies, by the runtimes on it.

        Raises:
            FlowError: of a task it is not known how long it ran.
        """
        runtimes_s, parents = self.runtimes_s(), self.parent_numbers()
        found = chains(range(len(parents)), parents.__getitem__, runtimes_s.__getitem__)
        return max(found.cost.values(), default=0.0)

    def work_s(self) -> float:
        """All runtimes together.

        Raises:
            FlowError: of a task it is not known how long it ran.
        """
        return sum(self.runtimes_s())


def make_flow(name: str, source: str, tasks: Iterable[FlowTask], notes: Sequence[str] = ()) -> Flow:
    """A flow of `tasks`, in their order but for children that stand before their parents.

    Raises:
        FlowError: there are none, two have one id, a parent is not there, or tasks depend on each
            other in a circle. The message says where in `source`.
    """
    by_id: dict[str, FlowTask] = {}
    for task in tasks:
        first = by_id.setdefault(task.id, task)
        if first is not task:
            raise FlowError(
                f"{source}: {task.place}: there is another task {task.id!r}, at {first.place}"
            )
    if not by_id:
        raise FlowError(f"{source}: there are no tasks in it")
    for task in by_id.values():
        for parent in task.parents:
            if parent not in by_id:
                raise FlowError(
                    f"{source}: {task.place}: task {task.id!r} depends on {parent!r}, "
                    "which is no task of this flow"
                )
    return Flow(name, source, tuple(_in_order(by_id, source)), tuple(notes))


def _in_order(by_id: dict[str, FlowTask], source: str) -> list[FlowTask]:
    """The tasks, each after its parents: a walk in depth, without recursion."""
    ordered: list[FlowTask] = []
    done: set[str] = set()
    for root in by_id.values():
        if root.id in done:
            continue
        # The way down to here: each task with those of its parents that were not looked at.
        way = [(root, iter(root.parents))]
        on_way = {root.id: 0}
        while way:
            task, parents = way[-1]
            parent = next((p for p in parents if p not in done), None)
            if parent is None:
                way.pop()
                del on_way[task.id]
                done.add(task.id)
                ordered.append(task)
            elif parent in on_way:
                circle = [task.id for task, _ in way[on_way[parent] :]]
                raise FlowError(f"{source}: {by_id[parent].place}: {_told(circle)}")
            else:
                on_way[parent] = len(way)
                way.append((by_id[parent], iter(by_id[parent].parents)))
    return ordered


#: A circle is told with so many names at most.
_NAMES_MAX = 10


def _told(circle: list[str]) -> str:
    """`circle`, each of which depends on the next, in words."""
    if len(circle) == 1:
        return f"task {circle[0]!r} depends on itself"
    names = [repr(name) for name in circle[:_NAMES_MAX]]
    if len(circle) > _NAMES_MAX:
        names.append(f"({len(circle) - _NAMES_MAX:,} more)")
    return "tasks depend on each other in a circle: " + " → ".join([*names, repr(circle[0])])
