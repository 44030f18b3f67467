"""Promise: a task whose bound says that it would not end in time is not sent to an engine that
ends; everything else is; and who asks is told.
"""

from __future__ import annotations

from random import Random

import pytest

from headway.core.explain import explain
from headway.core.ready import bound_of
from headway.core.same import same_state
from headway.core.snapshot import dump, load
from headway.core.states import TaskState
from tests.core.env import Env

READY, ASSIGNED = TaskState.READY, TaskState.ASSIGNED


def test_a_bounded_task_goes_to_an_engine_that_stays_for_long_enough():
    env = Env()
    env.engine(ends_in_s=100.0)
    stays = env.engine()

    long = env.submit(run_timeout_s=150.0)
    short = env.submit(run_timeout_s=50.0)

    assert env.task(long).engine == stays
    assert env.state(short) is ASSIGNED


def test_one_that_fits_nowhere_waits_says_why_and_goes_to_the_next_engine():
    env = Env()
    env.engine(ends_in_s=100.0)
    task = env.submit(run_timeout_s=150.0)
    other = env.submit()

    assert env.state(task) is READY
    assert env.state(other) is ASSIGNED  # it blocks nobody
    assert "e0: 1 of 1" in explain(env.scheduler, task, env.now)
    env.finish(other)
    assert "ends in 100 s: too soon for a run of up to 152 s" in explain(
        env.scheduler, task, env.now
    )
    stays = env.engine()
    assert env.task(task).engine == stays


def test_what_fitted_once_does_not_later():
    env = Env()
    env.engine(ends_in_s=100.0)
    first = env.submit(run_timeout_s=30.0)
    env.finish(first)

    env.tick(after_s=80.0)
    task = env.submit(run_timeout_s=30.0)

    assert env.state(task) is READY
    assert env.state(env.submit()) is ASSIGNED


def test_one_that_waits_while_time_passes_is_not_sent_when_a_seat_becomes_free():
    env = Env()
    env.engine(ends_in_s=100.0)
    first = env.submit(run_timeout_s=90.0)
    second = env.submit(run_timeout_s=30.0)
    env.tick(after_s=85.0)

    env.finish(first)

    assert env.state(second) is READY


def test_tasks_ahead_count_as_long_as_the_longest_may_take():
    env = Env(hwm=10)
    env.engine(ends_in_s=100.0)

    tasks = [env.submit(run_timeout_s=32.0) for _ in range(4)]

    # 32 s each: the fourth could begin at 96 s.
    assert [env.state(task) for task in tasks] == [ASSIGNED, ASSIGNED, ASSIGNED, READY]
    env.finish(tasks[0])
    assert env.state(tasks[3]) is ASSIGNED


def test_behind_a_task_without_a_bound_no_bounded_one_is_sent():
    env = Env(hwm=10)
    env.engine(ends_in_s=100.0)
    free = env.submit()
    bounded = env.submit(run_timeout_s=1.0)

    assert env.state(bounded) is READY
    assert env.state(env.submit()) is ASSIGNED
    env.finish(free)
    assert env.state(bounded) is READY  # another is ahead still


def test_a_snapshot_has_the_ends_of_engines_and_what_that_leads_to():
    env = Env(hwm=10)
    env.engine(ends_in_s=100.0)
    env.submit(run_timeout_s=40.0)
    env.tick(after_s=50.0)
    env.submit(run_timeout_s=30.0)
    env.submit(run_timeout_s=70.0)

    again = load(dump(env.scheduler), env.scheduler.config, Random(0))

    assert same_state(env.scheduler, again) == ""


@pytest.mark.parametrize("seconds", [1e-6, 0.5, 1.0, 59.0, 60.0, 3_601.0, 1e9])
def test_bounds_are_rounded_up_by_at_most_a_sixteenth(seconds: float):
    bound = bound_of(seconds)

    assert bound is not None
    assert bound >= seconds
    assert bound <= max(seconds * (1 + 1 / 16), 2.0**-10)
    assert bound_of(None) is None


def test_a_thousand_bounds_make_few_lanes():
    env = Env()
    for n in range(1_000):
        env.submit(run_timeout_s=100.0 + n / 10)

    assert sum(1 for lane in env.scheduler.lanes if lane.count) <= 20
