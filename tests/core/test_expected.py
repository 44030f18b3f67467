"""Promise: a task that may run only on engines that are being started waits for these, and for
no others, and not in vain."""

from __future__ import annotations

import pytest

from headway.core.events import ConditionSpec
from headway.core.explain import explain
from headway.core.states import TaskState
from tests.core.env import Env, delivered, placed

S = TaskState


def test_a_target_that_is_being_started_is_waited_for():
    # Given two engines to come
    env = Env()
    env.expect(0, 1)
    # When a task wants the second
    task = env.submit(targets=[1])
    # Then it waits, says for whom, and runs there
    assert env.state(task) is S.READY
    assert "waits for an engine that is being started: e1" in explain(env.scheduler, task, 0)
    env.engine()
    assert placed(env.said) == []
    e1 = env.engine()
    assert placed(env.said) == [(task, e1)]


@pytest.mark.parametrize("targets", [[2], [0, 2]])
def test_a_target_that_is_not_is_impossible(targets):
    env = Env()
    env.expect(1)
    task = env.submit(targets=targets)
    assert env.state(task) is S.IMPOSSIBLE


def test_once_it_has_joined_an_engine_is_expected_no_more():
    env = Env()
    env.expect(0, 1)
    e0, _ = env.engines(2)
    task = env.submit(targets=[e0])
    assert delivered(env.kill(e0)) == {task: S.IMPOSSIBLE}
    assert env.state(env.submit(targets=[e0])) is S.IMPOSSIBLE
    env.expect(1)  # which is here
    assert env.state(env.submit(targets=[0, 2])) is S.IMPOSSIBLE


def test_when_the_last_of_them_cant_run_it_it_is_impossible_at_once():
    env = Env()
    env.expect(0, 1)
    task = env.submit(targets=[0, 1], resources={"gpu": 1.0})
    env.engine()
    assert env.state(task) is S.READY
    env.engine()
    assert delivered(env.said) == {task: S.IMPOSSIBLE}
    env.quiet()


def test_a_target_that_leaves_does_not_end_who_may_wait_for_another():
    env = Env()
    env.expect(0, 1)
    env.engine()
    first, second = env.submit_many(2, targets=[0, 1])
    assert delivered(env.leave(env.task(first).engine)) == {}
    assert env.states([first, second]) == [S.READY, S.READY]


def test_a_task_that_every_engine_has_refused_waits_for_those_that_are_being_started():
    env = Env()
    env.expect(0, 1)
    env.engine()
    task = env.submit()
    env.refuse(task)
    assert env.state(task) is S.READY
    e1 = env.engine()
    assert placed(env.said) == [(task, e1)]
    env.refuse(task)
    assert env.state(task) is S.IMPOSSIBLE


def test_an_engine_to_come_meets_no_follow_condition():
    env = Env(hwm=1)
    env.expect(0, 1)
    e0 = env.engine()
    upstream = env.submit()
    env.finish(upstream)
    blocker = env.submit()
    task = env.submit(follow=ConditionSpec([upstream]))
    env.leave(e0, started=blocker)
    assert env.state(task) is S.IMPOSSIBLE
