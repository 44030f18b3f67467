"""Promise: a task that failed runs again when somebody asks, whole and under its id; and what had
heard of its first end is not disturbed."""

from __future__ import annotations

import pytest

from headway.core import events as ev
from headway.core.again import why_no_retry
from headway.core.explain import explain
from headway.core.states import TaskState
from tests.core.env import Env

FAILED, SUCCEEDED = TaskState.FAILED, TaskState.SUCCEEDED


@pytest.fixture
def env():
    env = Env()
    env.engine()
    return env


def retry(env: Env, task: int) -> None:
    env.tell(ev.RetryAsked(task))


def invalid(env: Env) -> int:
    return env.scheduler.counters.invalid


def test_a_failed_task_runs_again_with_fresh_retries_and_is_told_again(env):
    task = env.submit(retries=1)
    env.fail(task)
    env.fail(task)
    assert env.state(task) is FAILED

    retry(env, task)
    assert (env.state(task), env.task(task).attempt) == (TaskState.ASSIGNED, 3)
    assert "had failed, and somebody asked" in explain(env.scheduler, task, env.now)
    env.fail(task)
    assert env.state(task) is TaskState.ASSIGNED  # the budget is whole again
    env.finish(task)
    assert env.delivered[task].state is SUCCEEDED
    env.quiet()


def test_an_outcome_of_an_attempt_before_the_retry_is_stale(env):
    task = env.submit()
    env.fail(task)
    retry(env, task)
    env.tell(ev.Finished(0, [ev.Outcome(task, 1, ev.RAN, b"old")]))
    assert env.state(task) is TaskState.ASSIGNED
    env.finish(task, b"new")
    assert env.delivered[task].payload == b"new"


def test_a_task_keeps_the_inputs_that_another_try_needs_also_when_they_are_released(env):
    source = env.submit()
    env.finish(source, b"value")
    task = env.submit(inputs=[source])
    env.fail(task)
    env.release(source)
    retry(env, task)
    assert env.scheduler.tasks[source].result == b"value"
    env.finish(task)
    assert not env.knows(source)


def test_a_large_input_that_was_dropped_is_made_again_first(env):
    source = env.submit()
    env.store(source)
    task = env.submit(inputs=[source])
    env.fail(task)
    env.release(source)
    assert env.task(source).result is None
    retry(env, task)
    assert (env.state(source), env.state(task)) == (TaskState.ASSIGNED, TaskState.WAITING)
    env.store(source)
    env.finish(task)
    assert env.state(task) is SUCCEEDED


def test_what_depended_on_it_stays_as_it_ended_and_what_comes_later_waits_for_the_new_end(env):
    task = env.submit()
    early = env.submit(after=[task])
    env.fail(task)
    assert env.state(early) is TaskState.IMPOSSIBLE
    retry(env, task)
    late = env.submit(after=[task])
    assert env.state(late) is TaskState.WAITING
    env.finish(task)
    assert env.state(late) is TaskState.ASSIGNED
    assert env.state(early) is TaskState.IMPOSSIBLE


def test_one_that_overran_or_lost_its_engines_is_tried_again(env):
    overran = env.submit()
    env.overran(overran)
    retry(env, overran)
    env.finish(overran)
    lost = env.submit(crash_limit=1)
    env.start(lost)
    env.kill(0, started=lost, busy=True)
    env.engine()
    assert env.state(lost) is TaskState.LOST
    retry(env, lost)
    assert env.task(lost).crashes is None
    env.finish(lost)
    assert env.states([overran, lost]) == [SUCCEEDED, SUCCEEDED]


def test_what_can_not_be_tried_again_is_counted_and_says_why(env):
    once = env.submit(at_most_once=True)
    env.fail(once)
    fine, leader = env.submit(), env.submit()
    env.finish(fine)
    env.finish(leader)
    follows = env.submit(follow=[leader])
    env.fail(follows)
    runs = env.submit()
    before = invalid(env)
    for task, why in (
        (once, "once at most"), (fine, "only what failed"), (follows, "follows other tasks"),
        (runs, "has not ended"),
    ):  # fmt: skip
        state = env.state(task)
        retry(env, task)
        assert env.state(task) is state
        assert why in why_no_retry(env.task(task))
    retry(env, 999_999)
    assert invalid(env) == before + 5


def test_failures_keep_no_more_than_their_share_and_nothing_once_they_are_released(env):
    task = env.submit()
    env.fail(task)
    assert env.task(task).payload
    env.release(task)
    assert not env.knows(task)
    assert env.scheduler.lineages.bytes == 0
    small = Env(lineage_bytes_max=2_000)
    small.engine()
    task = small.submit()
    small.fail(task)
    assert not small.task(task).payload
    assert "lineage_bytes_max" in why_no_retry(small.task(task))
