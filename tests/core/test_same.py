"""`same_state` sees every difference that could matter, and says where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from random import Random
from typing import Any

import msgspec
import pytest

from headway.core import events as ev
from headway.core import records
from headway.core.events import ConditionSpec, EngineId
from headway.core.problems import Problem
from headway.core.recall import Standing
from headway.core.records import Client, Condition, Engine, Function, Group, Task
from headway.core.same import same_state
from headway.core.scheduler import Scheduler
from headway.core.snapshot import dump, load
from headway.core.states import TaskState
from headway.core.timers import Timer
from tests.core.env import Env


def scene() -> Scheduler:
    """Two busy engines; tasks that wait for them, for each other, and for a group; one that was
    retried, one that failed."""
    env = Env(hwm=2, recall_after_s=1.0)
    env.engines(2, gpu=1.0)
    failed, member = env.submit_many(2)
    env.fail(failed)
    env.submit_many(6)
    group = env.group([failed, member])
    env.submit(after=ConditionSpec([group, failed], on=ev.ON_DONE), follow=[member])
    env.submit(inputs=[member], timeout_s=9.0)
    env.submit(resources={"gpu": 1.0}, fair=True, client=env.client())
    return env.scheduler


def copy_of(scheduler: Scheduler) -> Scheduler:
    return load(dump(scheduler), scheduler.config, Random(0))


def a_task(s: Scheduler, state: TaskState) -> Task:
    return next(task for task in s.tasks.values() if task.state is state)


def another(value: Any) -> Any:
    """A value of the same kind, and not the same."""
    if isinstance(value, TaskState):
        return TaskState((value + 1) % len(TaskState))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, bytes | str):
        return value + value[:1] + type(value)(b"!" if isinstance(value, bytes) else "!")
    if isinstance(value, set):
        return {*value, 99}
    if isinstance(value, dict):
        return {**value, "other": 1.0}
    if isinstance(value, msgspec.Struct):
        return Problem("other", "words")
    assert value is None, f"say what is other than {value!r}"
    return 7


#: What a field that holds references is changed to.
OTHERS: dict[tuple[type, str], Callable[[Scheduler, Any], Any]] = {
    (Task, "function"): lambda s, task: Function(b"another", b"", set()),
    (Task, "dependents"): lambda s, task: [*s.groups.values()],
    (Task, "conditions"): lambda s, task: [],
    (Task, "follow"): lambda s, task: task.conditions[0],
    (Task, "inputs"): lambda s, task: list(s.tasks.values())[:1],
    (Task, "lane"): lambda s, task: next(x for x in s.lanes if x is not task.lane),
    (Condition, "task"): lambda s, condition: next(iter(s.tasks.values())),
    (Condition, "upstreams"): lambda s, condition: condition.upstreams[1:],
    (Group, "waiting"): lambda s, group: {},
    (Group, "spans"): lambda s, group: [],
    (Engine, "assigned"): lambda s, engine: dict(reversed(engine.assigned.items())),
    (Engine, "lanes"): lambda s, engine: {},
    (Engine, "followers"): lambda s, engine: {a_task(s, TaskState.WAITING).conditions[0]: None},  # type: ignore[index]
}

#: A record of each kind with something in the fields that hold references.
FIND: dict[type, Callable[[Scheduler], Any]] = {
    Task: lambda s: a_task(s, TaskState.WAITING),
    Condition: lambda s: (a_task(s, TaskState.WAITING).conditions or [])[1],
    Group: lambda s: next(iter(s.groups.values())),
    Engine: lambda s: s.engines[EngineId(1)],
    Client: lambda s: next(iter(s.clients.values())),
    Function: lambda s: next(iter(s.functions)),
}


def test_every_kind_of_record_is_known():
    kinds = {kind for kind in vars(records).values() if isinstance(kind, type)}
    ours = {kind for kind in kinds if is_dataclass(kind) and kind.__module__ == records.__name__}
    # Compared as a whole, inside what has them.
    by_value = {records.Stamps, records.Lineage, records.Nest}
    assert ours - by_value == set(FIND)


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, each.name) for kind in FIND for each in fields(kind)]
)
def test_a_difference_in_any_field_of_any_record_is_seen(kind: type, field: str):
    scheduler = scene()
    copy = copy_of(scheduler)
    assert not same_state(scheduler, copy)
    record = FIND[kind](copy)
    if field == "lane":
        record = a_task(copy, TaskState.READY)
    other = OTHERS.get((kind, field))
    value = other(copy, record) if other else another(getattr(record, field))
    setattr(record, field, value)
    assert same_state(scheduler, copy)
    assert same_state(copy, scheduler)


WHOLE: list[tuple[str, Callable[[Scheduler], object]]] = [
    ("counters", lambda s: setattr(s.counters, "stale", 5)),
    ("stamps", lambda s: setattr(s.stamps, "first", -9)),
    ("tickets", lambda s: setattr(s.lanes, "front", -9)),
    ("timers", lambda s: s.timers.arm(1, Timer.BACKOFF, 2.0)),
    ("recalls", lambda s: s.recalls.put_back(Standing([EngineId(1)], [], []), s.engines)),
    ("recalls", lambda s: s.recalls.put_back(Standing([], [(EngineId(1), 5.0)], []), s.engines)),
    ("recalls", lambda s: s.recalls.put_back(Standing([], [], [(EngineId(1), 5)]), s.engines)),
    ("engines expected", lambda s: s.lanes.engines_expected([EngineId(9)])),
    ("the most that an engine may have had", lambda s: setattr(s, "load_max", 9.0)),
    ("config", lambda s: setattr(s._life, "config", replace(s.config, seed=5))),
    ("task 1-99 is in the second alone", lambda s: s.tasks.setdefault(ev.task_id(1, 99))),
    ("task 1-1 is in the first alone", lambda s: s.tasks.pop(ev.task_id(1, 1))),
    (
        "the tasks came in another order",
        lambda s: s.tasks.update({k: s.tasks.pop(k) for k in list(s.tasks)[:1]}),
    ),
    ("the queue of ", lambda s: s.lanes.common._queues[0].rotate()),
    ("the room of ", lambda s: s.lanes.common.room.add(s.engines[EngineId(0)])),
]


def test_a_difference_is_told_with_its_place_and_both_values():
    scheduler = scene()
    copy = copy_of(scheduler)
    a_task(copy, TaskState.FAILED).result = b"other"
    assert same_state(scheduler, copy) == "task 1-1: result is b'exception' against b'other'"


@pytest.mark.parametrize(("words", "change"), WHOLE)
def test_a_difference_outside_of_records_is_seen(words: str, change: Callable[[Scheduler], object]):
    scheduler = scene()
    copy = copy_of(scheduler)
    change(copy)
    assert words in same_state(scheduler, copy)
