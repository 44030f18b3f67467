"""Everything that depends on some tasks, directly or through others that have not ended.

A walk with a list, so that a chain of a million costs no recursion; each task is met once. The
edges of an upstream lead to those that still wait for it. Those that have what they needed of
it, and run or queue by now, are found by their own conditions: for that, all tasks are looked
at, once in a walk, and only if an upstream is met that has such dependents.

What this file must not know: what becomes of the tasks that are found. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headway.core.events import TaskId
from headway.core.records import Condition, Group, Task

Node = Task | Group


def find_downstream(roots: Iterable[Node], tasks: Iterable[Task]) -> Iterator[tuple[Task, TaskId]]:
    """The unfinished tasks downstream of `roots`, none of them a root, each with the id of a root
    that it depends on.

    A group is met through members that have not ended, or as a root. `tasks` are all there are.
    """
    met = {node.id for node in roots}
    open_ = [(node, node.id) for node in roots]
    by_upstream: dict[TaskId, list[Node]] | None = None
    while open_:
        node, root = open_.pop()
        below = list(_waiting_for(node))
        if by_upstream is None and sum(type(n) is Task for n in below) < node.holds:
            by_upstream = _by_upstream(tasks)
        if by_upstream is not None:
            below += by_upstream.get(node.id, ())
        for dependent in below:
            if dependent.id not in met:
                met.add(dependent.id)
                open_.append((dependent, root))
                if type(dependent) is Task:
                    yield dependent, root


def _waiting_for(node: Node) -> Iterator[Node]:
    """The unfinished tasks that wait for the end of `node`, one for each edge, and its groups."""
    for edge in _edges(node):
        if type(edge) is Group:
            yield edge
        elif edge.upstreams:  # type: ignore[union-attr]
            yield edge.task  # type: ignore[union-attr]


def _edges(node: Node) -> Iterator[Condition | Group]:
    if type(node) is Group:
        for by_threshold in node.waiting.values():
            for conditions in by_threshold.values():
                yield from conditions
    else:
        yield from node.dependents or ()  # type: ignore[union-attr]


def _by_upstream(tasks: Iterable[Task]) -> dict[TaskId, list[Node]]:
    """The unfinished tasks, by each node that they name."""
    found: dict[TaskId, list[Node]] = {}
    for task in tasks:
        for condition in task.conditions or ():
            for upstream in condition.upstreams:
                found.setdefault(upstream.id, []).append(task)
    return found
