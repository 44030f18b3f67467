"""Whether two schedulers are in the same state, and if not, where they differ first, in words.

For tests and checkers: that a replay leads to where the living scheduler is, that a snapshot
leaves nothing out. So it looks at the records themselves, field by field, and does not ask
snapshot.py what there is: a field that is added to a record is compared from then on.

Not compared is what nobody can make use of: lanes that are empty, the dead in queues and among
edges, whether an empty list is there, how an index is built. Nor what is not written down:
chance, and how a user's scheme failed last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from headway.core.events import TaskId, format_engine_id, format_task_id
from headway.core.graph import living_edges
from headway.core.ready import Lane
from headway.core.records import Client, Condition, Engine, Function, Group, Task
from headway.core.restriction import Restriction
from headway.core.scheduler import Scheduler

#: How much of a value is shown.
_SHOWN_MAX = 300

#: What a field of a record is compared by.
View = Callable[[Any], Any]


def same_state(a: Scheduler, b: Scheduler) -> str:
    """Whether `a` and `b` will do the same from now on: "" if so, or else what differs first."""
    for kind, name_of, mine, others in (
        ("client", str, a.clients, b.clients),
        ("function", bytes.hex, _functions(a), _functions(b)),
        ("engine", format_engine_id, a.engines, b.engines),
        ("group", format_task_id, a.groups, b.groups),
        ("task", format_task_id, a.tasks, b.tasks),
    ):
        difference = _among(kind, name_of, mine, others)
        if difference:
            return difference
    for (what, mine), (_, others) in zip(_of_the_whole(a), _of_the_whole(b), strict=False):
        if mine != others:
            return f"{what}: {_shown(mine)} against {_shown(others)}"
    return ""


def _functions(s: Scheduler) -> dict[bytes, Any]:
    return {function.digest: function for function in s.functions}


def _among(
    kind: str, name_of: Callable[[Any], str], mine: Mapping[Any, Any], others: Mapping[Any, Any]
) -> str:
    """What differs first among the records of one kind."""
    for which, there, here in (("first", mine, others), ("second", others, mine)):
        for key in there:
            if key not in here:
                return f"{kind} {name_of(key)} is in the {which} alone"
    if list(mine) != list(others):
        return f"the {kind}s came in another order"
    for key, record in mine.items():
        other = others[key]
        for field, view in _FIELDS[type(record)]:
            one, two = view(record), view(other)
            if one != two:
                return f"{kind} {name_of(key)}: {field} is {_shown(one)} against {_shown(two)}"
    return ""


def _of_the_whole(s: Scheduler) -> Iterator[tuple[str, Any]]:
    """What is no record. Where a fact differs, those after it may be others altogether."""
    yield "config", s.config
    yield "counters", s.counters
    yield "unfinished bytes", s.unfinished_bytes
    yield "stored values", (len(s.stored), s.stored.bytes)
    yield "bytes kept of what may run again", s.lineages.bytes
    yield "stamps", s.stamps
    yield "tickets", (s.lanes.front, s.lanes.back)
    yield "timers", s.timers.armed()
    yield "recalls", s.recalls.standing()
    yield "kept", list(s.kept)
    yield "engines expected", s.lanes.expected
    yield "the most that an engine may have had", s.load_max
    lanes = sorted((lane for lane in s.lanes if lane.count), key=Lane.order_key)
    yield "the queues", [lane.restriction for lane in lanes]
    for lane in lanes:
        yield f"the queue of {lane.restriction}", [task.id for task in lane.waiting()]
        yield f"the engines of {lane.restriction}", sorted(lane.engines)
    for lane in [s.lanes.common, *lanes]:
        yield f"the room of {lane.restriction}", sorted(engine.id for engine in lane.room)
    yield "limits", _limits(s)
    yield "children that have not ended", s.families.open()
    # Not of what has a limit: whether that holds it up now is seen when it is placed.
    placeable = (x for x in s.lanes.placeable if x.count and x.room and not x.tags)
    yield "what can be placed", {x.restriction for x in placeable}


def _limits(s: Scheduler) -> dict[str, tuple[object, ...]]:
    """Of each tag that has a limit or is held."""
    return {
        tag.name: (tag.limit, tag.held, tag.held_max, tag.full_s, tag.due_s)
        for tag in s.limits
        if tag.held or not tag.limit.is_none
    }


def _condition(condition: Condition) -> list[tuple[str, Any]]:
    return [(field, view(condition)) for field, view in _FIELDS[Condition]]


def _ids(nodes: Iterable[Task | Group] | None) -> list[TaskId]:
    return [node.id for node in nodes or ()]


def _edges(edges: Iterable[Condition | Group] | None) -> list[tuple[TaskId, int | None]]:
    """Each as its task and its place among the conditions of it, or as its group."""
    return [
        (edge.id, None) if isinstance(edge, Group) else (edge.task.id, _place(edge, edge.task))
        for edge in living_edges(edges or ())
    ]


def _place(condition: Condition, task: Task) -> int:
    """Which of the conditions of `task` it is; -1 if it is none, which would be a bug."""
    conditions = task.conditions or ()
    return conditions.index(condition) if condition in conditions else -1


def _waiting(group: Group) -> dict[tuple[int, int], list[tuple[TaskId, int | None]]]:
    found = {
        (on, threshold): _edges(edges)
        for on, by_threshold in group.waiting.items()
        for threshold, edges in by_threshold.items()
    }
    return {key: edges for key, edges in found.items() if edges}


def _lanes_in_use(engine: Engine) -> set[Restriction]:
    return {lane.restriction for lane in engine.lanes if lane.count}


#: References are compared by the ids of what they lead to, all other fields as they are.
_VIEWS: dict[type, dict[str, View]] = {
    Client: {},
    Function: {},
    Task: {
        "function": lambda task: task.function and task.function.digest,
        "dependents": lambda task: _edges(task.dependents),
        "conditions": lambda task: [_condition(each) for each in task.conditions or ()],
        "follow": lambda task: task.follow and _place(task.follow, task),
        "inputs": lambda task: _ids(task.inputs),
        "lane": lambda task: task.lane and task.lane.restriction,
    },
    Condition: {
        "task": lambda condition: condition.task.id,
        "upstreams": lambda condition: _ids(condition.upstreams),
    },
    Group: {"waiting": _waiting},
    Engine: {
        "assigned": lambda engine: list(engine.assigned),
        "lanes": _lanes_in_use,
        "followers": lambda engine: sorted(each.task.id for each in engine.followers),
    },
}
#: Every field of every record, and what it is compared by.
_FIELDS: dict[type, list[tuple[str, View]]] = {
    kind: [(each.name, views.get(each.name) or attrgetter(each.name)) for each in fields(kind)]
    for kind, views in _VIEWS.items()
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
