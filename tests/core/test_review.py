"""Corners that a hostile reading of the core found: each would stop, starve or mislead somebody."""

from __future__ import annotations

import math

import pytest

from headway.core import events as ev
from headway.core.events import ON_DONE, ON_FAILURE, ConditionSpec, EngineEnd, EngineId
from headway.core.explain import explain
from headway.core.restriction import Restriction
from headway.core.states import TaskState
from tests.core.env import DIGEST, Env, delivered, placed

READY, ASSIGNED = TaskState.READY, TaskState.ASSIGNED
SUCCEEDED, IMPOSSIBLE = TaskState.SUCCEEDED, TaskState.IMPOSSIBLE


# --- resources -----------------------------------------------------------------------------------


def test_a_task_that_needs_none_of_a_resource_runs_where_there_is_no_such_resource():
    env = Env()
    engine = env.engine()
    task = env.submit(resources={"gpu": 0.0})
    assert env.task(task).engine == engine
    env.finish(task)
    assert env.state(task) is SUCCEEDED


def test_rounding_does_not_keep_a_task_from_an_engine_whose_resource_is_all_free():
    env = Env(hwm=0)
    engine = env.engine(gpu=1.0)
    parts = [env.submit(resources={"gpu": amount}) for amount in (0.1, 0.2, 0.1)]
    plain = env.submit()
    for part in parts:
        env.finish(part)
    whole = env.submit(resources={"gpu": 1.0})  # while `plain` keeps the engine busy
    assert env.task(whole).engine == engine
    env.finish(whole)
    env.finish(plain)
    assert env.scheduler.engines[engine].free == {"gpu": 1.0}


def test_a_resource_is_used_to_the_last_part_in_spite_of_rounding():
    env = Env(hwm=0)
    env.engine(gpu=1.2)
    tasks = env.submit_many(3, resources={"gpu": 0.4})
    assert env.states(tasks) == [ASSIGNED] * 3


# --- reports that make no sense ------------------------------------------------------------------


@pytest.mark.parametrize("run_s", [math.nan, math.inf, -math.inf, -5.0])
def test_a_run_time_that_is_no_time_teaches_nothing(run_s: float):
    env = Env(hwm="auto")
    engine = env.engine()
    for _ in range(3):
        task = env.submit()
        env.tell(ev.Finished(engine, [env.outcome(task, ev.RAN, run_s=run_s)]))
        assert env.state(task) is SUCCEEDED
    assert env.scheduler.engines[engine].run_mean_s is None


def test_stale_outcomes_do_not_count_as_runs():
    env = Env(hwm="auto")
    engine = env.engine()
    task = env.submit()
    outcome = env.outcome(task, ev.RAN, run_s=1.0)
    env.tell(ev.Finished(engine, [outcome] * 100))
    assert env.scheduler.engines[engine].done == 1
    assert env.scheduler.engines[engine].run_mean_s == pytest.approx(1.0)


# --- lanes ---------------------------------------------------------------------------------------


def test_a_task_that_came_back_to_a_lane_it_had_left_ends_once_with_its_last_engine():
    env = Env()
    e0, e1, e2 = env.engines(3)
    a, b, c = (env.submit(targets=[e]) for e in (e0, e1, e2))
    env.finish(a)
    env.finish(c)
    busy = env.submit(targets=[e0])
    task = env.submit(follow=ConditionSpec([a, b, c], need=1), targets=[e0, e1], retries=1)
    urgent = env.submit(targets=[e1], priority=1)
    env.finish(b)  # now it may run on both, and leaves the lane of e0 alone
    assert env.task(urgent).engine == e1
    env.finish(busy)
    assert env.task(task).engine == e0
    env.kill(e1)
    raised = env.outcome(task, ev.RAISED, payload=b"exception")
    ends = env.tell(
        ev.Finished(e0, [raised]), ev.EngineLeft(e0, EngineEnd("was stopped", wanted=True))
    )
    assert delivered(ends)[task] is IMPOSSIBLE


def test_cancelled_tasks_of_many_priorities_leave_nothing_behind():
    env = Env()
    for priority in range(500):
        env.cancel(env.submit(priority=-priority))
    assert len(env.scheduler.lanes.common._queues) < 200
    assert len(env.scheduler.lanes.common._priorities) < 200


def test_priorities_are_kept_in_order_whatever_comes_and_goes():
    env = Env()
    tasks = {priority: env.submit(priority=priority) for priority in (3, -1, 7, 0, 5, 7000)}
    env.cancel(tasks[5])
    engine = env.engine()
    order = []
    while env.scheduler.engines[engine].assigned:
        (running,) = env.scheduler.engines[engine].assigned
        order.append(running)
        env.finish(running)
    assert order == [tasks[p] for p in (7000, 7, 3, 0, -1)]


def test_lanes_that_are_empty_again_do_not_burden_every_later_task():
    env = Env(hwm=0)
    engine = env.engine(memory=1.0)
    hold = env.submit(resources={"memory": 1.0})
    tasks = [env.submit(resources={"memory": n / 1000}) for n in range(1, 301)]
    env.finish(hold)
    while not all(env.state(task) is SUCCEEDED for task in tasks):
        for running in list(env.scheduler.engines[engine].assigned):
            env.finish(running)
    for _ in range(10):
        env.finish(env.submit())
    assert len(list(env.scheduler.lanes)) <= 65


def test_a_dropped_lane_is_made_again_when_its_like_comes():
    env = Env()
    e0, _ = env.engines(2)
    lanes = env.scheduler.lanes
    for n in range(200):
        lanes.lane_of(env.task(env.submit(targets=[e0, EngineId(1000 + n)])))
    env.cancel(*list(env.scheduler.tasks))
    env.stopped(next(iter(env.scheduler.engines[e0].assigned)))
    task = env.submit(targets=[e0])
    assert env.task(task).engine == e0
    assert Restriction.of(env.task(task)).allowed == {e0}


# --- words ---------------------------------------------------------------------------------------


def test_explain_counts_a_follow_condition_by_its_fullest_engine():
    env = Env()
    e0, e1 = env.engines(2)
    a, b = env.submit(targets=[e0]), env.submit(targets=[e1])
    c = env.submit(targets=[e0], after=ConditionSpec([a, b], on=ON_DONE))
    task = env.submit(follow=ConditionSpec([a, b, c], need=2))
    env.tell(ev.Finished(e0, [env.outcome(a, ev.RAN)]), ev.Finished(e1, [env.outcome(b, ev.RAN)]))
    assert "waits for 1 more of 3" in explain(env.scheduler, task, env.now)


def test_a_group_whose_failed_member_is_forgotten_is_named_by_it():
    env = Env()
    env.engine()
    group_id = env.next_id()
    missing = ev.task_id(env.me, 999)
    env.tell(ev.Submitted(env.me, [DIGEST], [ev.GroupSpec(group_id, [missing])], []))
    task = env.submit(after=[group_id])
    assert env.state(task) is IMPOSSIBLE
    text = env.delivered[task].problem.text
    assert "different engines" not in text
    assert "1-999, which is forgotten" in text


def test_a_group_that_was_wanted_to_fail_is_not_blamed_on_a_member_that_did():
    env = Env()
    env.engines(2)
    a, b = env.submit_many(2)
    group = env.group([a, b])
    task = env.submit(after=ConditionSpec([group], on=ON_FAILURE))
    env.fail(a)
    env.finish(b)
    assert env.state(task) is IMPOSSIBLE
    assert f"group {ev.format_task_id(group)} did not" in env.delivered[task].problem.text
    assert placed(env.said) == []
