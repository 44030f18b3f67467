"""Tasks behind a long one are recalled wherever an idle engine may run them, however many others
are in the way: idle engines that may not, tasks that may not, engines without any."""

from __future__ import annotations

import pytest

from headway.core import events as ev
from headway.core.commands import Command, Recall
from headway.core.events import EngineId, TaskId
from tests.core.env import Env, placed


def recalled(env: Env, ticks: int, after_s: float = 0.02) -> dict[EngineId, list[TaskId]]:
    """What is asked back in so many ticks."""
    asked: dict[EngineId, list[TaskId]] = {}
    for _ in range(ticks):
        for command in env.tick(after_s):
            assert isinstance(command, Recall)
            asked.setdefault(command.engine, []).extend(command.tasks)
    return asked


def test_a_task_is_recalled_for_the_one_idle_engine_that_may_run_it():
    # Given T behind a long task L on e0; S, which kept it from e2, has ended
    env = Env(hwm=2, recall_after_s=0.02)
    e0, _, e2 = env.engines(3)
    env.submit(targets=[e0])
    short = env.submit_many(2, targets=[e2])
    task = env.submit(targets=[e0, e2])
    assert env.task(task).engine == e0
    for other in short:
        env.finish(other)
    # When another, which may not run it, idles as well as e2, Then it is recalled all the same
    assert recalled(env, ticks=1) == {e0: [task]}
    assert placed(env.give_back(e0, task)) == [(task, e2)]


def test_one_silent_engine_is_asked_at_once_for_what_several_idle_ones_may_run():
    env = Env(hwm=4, recall_after_s=0.02)
    slow, a, b = env.engines(3)
    blockers = [task for engine in (a, b) for task in env.submit_many(4, targets=[engine])]
    env.submit(targets=[slow])
    env.submit(targets=[slow, a])
    for_a, for_b = env.submit(targets=[slow, a]), env.submit(targets=[slow, b])
    assert env.scheduler.engines[slow].load == 4
    for blocker in blockers:
        env.finish(blocker)
    # Half of what it has, the last first
    assert recalled(env, ticks=1) == {slow: [for_a, for_b]}
    assert placed(env.give_back(slow, for_a, for_b)) == [(for_a, a), (for_b, b)]


def test_one_after_the_other_is_asked_when_one_idle_engine_may_run_the_tasks_of_both():
    env = Env(hwm=4, recall_after_s=0.02)
    e0, e1, _, e3 = env.engines(4)
    blockers = env.submit_many(4, targets=[e3])
    env.submit_specs(*[env.spec(targets=[e]) for e in (e0, e1) for _ in range(2)])
    tasks = env.submit_specs(*[env.spec(targets=[e, e3]) for e in (e0, e1)])
    both = [command.task.id for command in tasks]
    for blocker in blockers:
        env.finish(blocker)
    assert recalled(env, ticks=1) == {e0: [both[0]]}
    assert recalled(env, ticks=1) == {e1: [both[1]]}


def test_no_more_is_asked_back_than_the_idle_engine_may_have():
    env = Env(hwm="auto", recall_after_s=0.02)
    slow = env.engine()
    tasks = env.submit_many(513)
    env.tell(ev.Finished(slow, [env.outcome(tasks[0], ev.RAN, run_s=0.00002)]))
    assert env.scheduler.engines[slow].load == 512
    idle = env.engine()
    assert env.scheduler.engines[idle].limit == 2
    assert recalled(env, ticks=1) == {slow: tasks[-2:]}


@pytest.mark.parametrize("position", [1, 700, 1_400, 2_999])
def test_a_task_deep_in_a_long_queue_is_recalled_in_a_few_looks(position: int):
    env = Env(hwm=0, recall_after_s=0.02)
    e0, e1 = env.engines(2)
    blockers = env.submit_many(4_000, targets=[e1])
    specs = [env.spec(targets=[e0]) for _ in range(3_000)]
    specs[position].options = env.spec(targets=[e0, e1]).options
    env.submit_specs(*specs)
    env.tell(ev.Finished(e1, [env.outcome(task, ev.RAN) for task in blockers]))
    assert recalled(env, ticks=5) == {e0: [specs[position].id]}


def test_looking_in_vain_costs_a_bounded_part_of_the_queue_each_time():
    env = Env(hwm=0, recall_after_s=0.02)
    e0, _ = env.engines(2)
    env.submit_many(50_000, targets=[e0])
    lanes = env.scheduler.lanes
    looked = 0
    lane_of = lanes.lane_of

    def counting(task):
        nonlocal looked
        looked += 1
        return lane_of(task)

    lanes.lane_of = counting  # type: ignore[method-assign]
    out: list[Command] = []
    env.scheduler.tick(10.0, out)
    assert out == []
    assert 0 < looked <= 2_048
