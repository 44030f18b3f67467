"""Promise: a task whose bound says that it would not end in time is not sent to an engine that
ends, nor one whose function ran for too long of late, as long as another engine is here for it;
everything else is; and who asks is told.
"""

from __future__ import annotations

from random import Random

import pytest

from headway.core import events as ev
from headway.core.explain import explain
from headway.core.lifetimes import LIKELY_MIN_S, bound_of, note_run
from headway.core.records import Function
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


# --- what was learned ---------------------------------------------------------------------------


def learned(run_s: float, **settings: object) -> Env:
    """The kit's function has run for so long; then its engine left."""
    env = Env(**settings)  # type: ignore[arg-type]
    engine = env.engine()
    env.finish(env.submit(), run_s=run_s)
    env.leave(engine)
    return env


def other_function(env: Env) -> bytes:
    env.tell(ev.FunctionsDeclared(env.me, {b"other": b"function"}))
    return b"other"


def test_a_task_that_will_likely_not_end_in_time_waits_for_an_engine_on_which_it_will():
    env = learned(60.0)
    ends = env.engine(ends_in_s=50.0)
    stays = env.engine()
    first, second = env.submit_many(2)

    assert env.task(first).engine == stays
    assert env.state(second) is READY
    text = explain(env.scheduler, second, env.now)
    assert "e1: 0 of 1, and ends in 50 s: too soon for the task whose turn it is" in text
    assert "will run for 60 s" in text
    env.finish(first, run_s=60.0)
    assert env.task(second).engine == stays
    assert env.scheduler.engines[ends].done == 0


def test_a_burst_that_was_queued_before_anything_was_learned_is_kept_from_engines_that_end():
    env = Env()
    ends = env.engine(ends_in_s=100.0)
    stays = env.engine()
    tasks = env.submit_many(4)
    env.tick(after_s=60.0)

    for engine in (ends, stays):
        task = next(t for t in tasks if env.task(t).engine == engine)
        env.finish(task, run_s=60.0)

    assert [env.state(task) for task in tasks].count(ASSIGNED) == 1
    assert not env.scheduler.engines[ends].assigned


def test_where_no_engine_stays_for_long_enough_it_runs_anyway():
    env = learned(60.0)
    env.engine(ends_in_s=50.0)
    task = env.submit()
    assert env.state(task) is ASSIGNED


def test_when_the_last_engine_that_it_waited_for_can_not_take_it_any_more_it_runs_anyway():
    env = learned(60.0)
    env.engine(ends_in_s=50.0)
    longer = env.engine(ends_in_s=200.0)
    first, second = env.submit_many(2)
    assert env.task(first).engine == longer
    assert env.state(second) is READY

    due_s = env.scheduler.next_deadline_s()
    assert due_s is not None
    env.tick(after_s=due_s - env.now)
    assert env.state(second) is ASSIGNED
    assert env.scheduler.next_deadline_s() is None


@pytest.mark.parametrize("how", ["drain", "leave"])
def test_an_engine_that_takes_no_more_tasks_is_not_waited_for(how: str):
    env = learned(60.0)
    env.engine(ends_in_s=50.0)
    stays = env.engine()
    first, second = env.submit_many(2)
    assert env.state(second) is READY

    getattr(env, how)(stays)
    assert env.state(second) is ASSIGNED or env.state(first) is ASSIGNED
    assert env.scheduler.engines[ev.EngineId(1)].assigned


def test_a_short_task_behind_it_goes_there_when_its_turn_comes():
    env = learned(60.0)
    ends = env.engine(ends_in_s=50.0)
    stays = env.engine()
    first, second = env.submit_many(2)
    short = env.spec()
    env.submit_specs(short, function=other_function(env))
    assert env.state(short.id) is READY

    env.finish(first, run_s=60.0)

    assert env.task(second).engine == stays
    assert env.task(short.id).engine == ends


def test_of_tasks_of_less_than_a_second_nothing_is_guessed():
    env = learned(LIKELY_MIN_S * 0.99)
    env.engine(ends_in_s=0.5)
    env.engine()
    first, second = env.submit_many(2)
    assert [env.state(first), env.state(second)] == [ASSIGNED] * 2


def test_what_is_ahead_of_it_is_taken_to_last_as_long():
    env = learned(60.0, hwm=2)
    ends = env.engine(ends_in_s=100.0)
    stays = env.engine()
    tasks = env.submit_many(4)
    assert sum(env.task(task).engine == ends for task in tasks) == 1
    assert sum(env.task(task).engine == stays for task in tasks) == 2


def test_the_longest_of_late_counts():
    function = Function(b"", b"", set())
    for run_s in (2.0, 9.0, 5.0):
        note_run(function, run_s)
    assert function.usual_s == 9.0 - 4.0 / 16
    for _ in range(200):
        note_run(function, 5.0)
    assert function.usual_s == pytest.approx(5.0, rel=1e-3)
    for wrong in (float("nan"), float("inf"), -1.0):
        note_run(function, wrong)
    assert function.usual_s == pytest.approx(5.0, rel=1e-3)


def test_a_snapshot_has_what_was_learned():
    env = learned(60.0)
    env.engine(ends_in_s=50.0)
    env.engine()
    env.submit_many(3)

    again = load(dump(env.scheduler), env.scheduler.config, Random(0))

    assert same_state(env.scheduler, again) == ""
    assert again.next_deadline_s() == env.scheduler.next_deadline_s()


def test_a_guess_holds_for_what_needs_resources_too():
    env = Env()
    small = env.engine(gpu=1.0)
    env.finish(env.submit(resources={"gpu": 1.0}), run_s=60.0)
    env.leave(small)
    env.engine(ends_in_s=50.0, gpu=1.0)
    env.engine()  # it stays, and has no gpu
    assert env.state(env.submit(resources={"gpu": 1.0})) is ASSIGNED
    stays = env.engine(gpu=1.0)
    first, second = env.submit_many(2, resources={"gpu": 1.0})
    assert env.task(first).engine == stays
    assert env.state(second) is READY
