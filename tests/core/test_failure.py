"""What happens when something goes wrong: retries, deaths of engines, time limits, cancelling."""

from __future__ import annotations

import pytest

from headway.core import events as ev
from headway.core.commands import StopTask
from headway.core.events import EngineId, ErrorInfo
from headway.core.explain import explain
from headway.core.problems import KIND_IMPOSSIBLE, KIND_LOST, KIND_RAISED, KIND_TIMEOUT
from headway.core.states import TaskState
from tests.core.env import Env, delivered, placed

READY, WAITING, ASSIGNED = TaskState.READY, TaskState.WAITING, TaskState.ASSIGNED
SUCCEEDED, FAILED = TaskState.SUCCEEDED, TaskState.FAILED
IMPOSSIBLE = TaskState.IMPOSSIBLE
CANCELLED, LOST, TIMED_OUT = TaskState.CANCELLED, TaskState.LOST, TaskState.TIMED_OUT


@pytest.fixture
def env() -> Env:
    return Env()


# --- failure -------------------------------------------------------------------------------------


def test_a_function_that_raises_is_tried_again_as_often_as_allowed(env: Env):
    env.engine()
    task = env.submit(retries=2)
    for attempt in (1, 2):
        assert env.task(task).attempt == attempt
        assert len(placed(env.fail(task))) == 1
    env.fail(task)
    assert env.state(task) is FAILED
    assert env.delivered[task].problem.kind == KIND_RAISED
    assert env.delivered[task].payload == b"exception"


def test_only_the_exceptions_of_retry_on_are_tried_again_bases_included(env: Env):
    env.engine()
    task = env.submit(retries=5, retry_on=["builtins.OSError"])
    timeout = ErrorInfo(["builtins.TimeoutError", "builtins.OSError"], "slow")
    assert len(placed(env.fail(task, timeout))) == 1
    env.fail(task, ErrorInfo(["builtins.ValueError"], "wrong"))
    assert env.state(task) is FAILED


def test_a_retry_elsewhere_goes_to_an_engine_on_which_it_has_not_failed(env: Env):
    engines = env.engines(3)
    task = env.submit(retries=5, retry_elsewhere=True)
    tried = [env.task(task).engine]
    for _ in range(2):
        ((_, engine),) = placed(env.fail(task))
        tried.append(engine)
    assert sorted(tried) == engines
    env.fail(task)
    problem = env.delivered[task].problem
    assert env.state(task) is IMPOSSIBLE
    assert problem.kind == KIND_IMPOSSIBLE
    assert "e0, e1, e2 refused it, or ran it and it failed there" in problem.text
    env.quiet()


def test_without_retry_elsewhere_a_retry_may_go_to_the_same_engine(env: Env):
    engine = env.engine()
    task = env.submit(retries=1)
    assert placed(env.fail(task)) == [(task, engine)]


def test_the_last_failure_excludes_nothing_and_is_told_as_it_was(env: Env):
    env.engine()
    task = env.submit(retries=0, retry_elsewhere=True)
    env.fail(task)
    assert env.state(task) is FAILED
    assert env.delivered[task].payload == b"exception"
    assert env.task(task).excluded is None


def test_a_retry_elsewhere_after_a_backoff_waits_for_it_and_then_looks_for_an_engine(env: Env):
    e0 = env.engine()
    task = env.submit(retries=2, retry_elsewhere=True, backoff_s=1.0)
    assert env.fail(task) == []
    assert env.state(task) is WAITING
    e1 = env.engine()
    assert placed(env.tick(1.0)) == [(task, e1)]
    env.fail(task)
    env.tick(2.0)
    assert env.state(task) is IMPOSSIBLE
    assert e0 in env.task(task).excluded


def test_a_retry_elsewhere_that_waits_for_engines_gets_the_next_that_joins(env: Env):
    env.engine()
    task = env.submit(retries=1, retry_elsewhere=True, wait_for_engines=True)
    assert env.fail(task) == []
    assert env.state(task) is READY
    assert "e0 refused it, or ran it and it failed there" in explain(env.scheduler, task, env.now)
    newcomer = env.engine()
    assert placed(env.said) == [(task, newcomer)]


def test_a_task_that_waits_for_engines_ends_when_all_its_targets_are_excluded(
    env: Env,
):
    e0, e1 = env.engines(2)
    options = {"retry_elsewhere": True, "wait_for_engines": True, "retries": 5}
    task = env.submit(targets=[e0, e1], **options)
    hopeful = env.submit(targets=[e0, EngineId(7)], **options)
    env.refuse(task)
    env.fail(hopeful)
    assert env.states([task, hopeful]) == [ASSIGNED, READY]
    env.fail(task)
    assert env.state(task) is IMPOSSIBLE
    assert env.state(hopeful) is READY  # one of its targets may yet join
    env.quiet()


def test_a_refusal_is_not_told_as_a_failure_of_the_function(env: Env):
    engine = env.engine()
    task = env.submit(retries=1, retry_elsewhere=True)
    env.refuse(task)
    assert env.state(task) is IMPOSSIBLE
    assert env.delivered[task].problem.text.endswith(f"e{engine} refused it")


def test_a_failure_on_an_engine_that_drains_leaves_the_task_to_whoever_joins(env: Env):
    engine = env.engine()
    task = env.submit(retries=1, retry_elsewhere=True)
    env.drain(engine)
    assert env.fail(task) == []
    assert env.state(task) is READY
    newcomer = env.engine()
    assert placed(env.said) == [(task, newcomer)]


def test_a_backoff_doubles_and_the_task_waits_it_out(env: Env):
    env.engine()
    task = env.submit(retries=3, backoff_s=1.0)
    for wait_s in (1.0, 2.0, 4.0):
        env.fail(task)
        assert env.state(task) is WAITING
        assert "tries again" in explain(env.scheduler, task, env.now)
        assert placed(env.tick(wait_s * 0.99)) == []
        assert env.scheduler.next_deadline_s() == pytest.approx(env.now + wait_s * 0.01)
        assert len(placed(env.tick(wait_s * 0.011))) == 1
    env.fail(task)
    assert env.state(task) is FAILED


def test_a_task_whose_engine_died_runs_elsewhere_and_the_old_result_is_stale(env: Env):
    # Given a task running on one of two engines
    env.engines(2)
    task = env.submit()
    e_old = env.task(task).engine
    old = env.outcome(task, ev.RAN, payload=b"old")
    # When its engine dies, Then it is placed on the other, as attempt 2
    (again,) = placed(env.kill(e_old, started=task))
    assert again[1] != e_old
    assert env.task(task).attempt == 2
    # And the answer of the first attempt, arriving late, changes nothing but a count
    stale = env.scheduler.statistics().stale
    assert env.tell(ev.Finished(e_old, [old])) == []
    assert env.tell(ev.Finished(again[1], [old])) == []
    assert env.scheduler.statistics().stale == stale + 2
    env.finish(task, b"new")
    assert env.delivered[task].payload == b"new"
    env.quiet()


def test_a_task_that_kills_its_engines_is_lost_at_its_crash_limit_and_says_how(env: Env):
    task = env.submit(crash_limit=2)
    for _ in range(2):
        engine = env.engine()
        env.kill(engine, started=task)
    assert env.state(task) is LOST
    problem = env.delivered[task].problem
    assert problem.kind == KIND_LOST
    assert "e0 was killed by SIGKILL; engine e1 was killed by SIGKILL" in problem.text


def test_only_the_task_that_ran_is_charged_for_a_death_and_the_others_keep_their_order():
    # Given an engine with a task that has run, one that runs, and two behind
    env = Env(hwm=0)
    engine = env.engine()
    ran, culprit, next_a, next_b = env.submit_many(4, crash_limit=1)
    # When it dies, and the nanny knows what it had begun
    env.kill(engine, started=culprit)
    # Then the culprit alone is lost; the rest run again, in their order
    assert env.states([ran, culprit, next_a, next_b]) == [READY, LOST, READY, READY]
    engine = env.engine()
    assert [t for t, _ in placed(env.said)] == [ran, next_a, next_b]


def test_a_task_whose_engines_die_before_its_outcome_is_heard_is_not_repeated_for_ever(env: Env):
    # Given a task that ends, and takes its engine along a moment later
    task = env.submit(crash_limit=2)
    for _ in range(2):
        assert env.state(task) is READY
        env.kill(env.engine(), started=task, busy=False)
    # Then it is charged as if it had still been running
    assert env.state(task) is LOST


def test_when_nobody_knows_what_ran_every_task_of_the_engine_is_charged():
    env = Env(hwm=0)
    engine = env.engine()
    tasks = env.submit_many(3, crash_limit=1)
    env.kill(engine, known=False)
    assert env.states(tasks) == [LOST] * 3


def test_an_engine_stopped_on_purpose_charges_nobody():
    env = Env(hwm=0)
    engine = env.engine()
    tasks = env.submit_many(3, crash_limit=1)
    env.leave(engine, started=tasks[0])
    assert env.states(tasks) == [READY] * 3


def test_a_task_that_is_at_most_once_never_repeats_what_may_have_begun():
    env = Env(hwm=0)
    engine = env.engine()
    begun, runs, waits = env.submit_many(3, at_most_once=True, retries=3)
    env.leave(engine, started=runs)
    assert env.states([begun, runs, waits]) == [LOST, LOST, READY]
    env.engine()
    env.fail(waits)
    assert env.state(waits) is FAILED


def test_an_engine_reports_one_outcome_an_attempt_and_repeats_change_nothing(env: Env):
    engine = env.engine()
    task = env.submit()
    outcome = env.outcome(task, ev.RAN, payload=b"once")
    env.tell(ev.Finished(engine, [outcome, outcome]))
    env.tell(ev.Finished(engine, [outcome]))
    assert env.scheduler.statistics().stale == 2
    assert env.state(task) is SUCCEEDED


def test_a_submission_sent_again_is_recognised(env: Env):
    engine = env.engine()
    spec = env.spec()
    env.submit_specs(spec)
    assert env.submit_specs(spec) == []
    assert env.scheduler.statistics().duplicates == 1
    assert list(env.scheduler.engines[engine].assigned) == [spec.id]


# --- time limits ---------------------------------------------------------------------------------


def test_a_timeout_bounds_the_queue_and_not_the_run(env: Env):
    env.engine()
    runs, waits = env.submit_many(2, timeout_s=10.0)
    env.tick(10.0)
    assert env.states([runs, waits]) == [ASSIGNED, TIMED_OUT]
    assert env.delivered[waits].problem.kind == KIND_TIMEOUT
    env.quiet()


def test_a_timeout_is_armed_anew_when_a_task_comes_back_to_the_queue(env: Env):
    engine = env.engine()
    task = env.submit(timeout_s=10.0)
    env.tick(9.0)
    env.kill(engine, started=task)
    env.tick(9.0)
    assert env.state(task) is READY
    env.tick(1.0)
    assert env.state(task) is TIMED_OUT


def test_timers_of_tasks_that_ended_leave_nothing_behind(env: Env):
    env.engine()
    for _ in range(500):
        task = env.submit(timeout_s=1_000.0)
        env.finish(task)
        env.release(task)
    assert len(env.scheduler.timers) == 0
    assert len(env.scheduler.timers._heap) < 100


# --- cancelling ----------------------------------------------------------------------------------


def test_waiting_and_ready_tasks_are_cancelled_at_once(env: Env):
    env.engine()
    runs = env.submit()
    ready, waiting = env.submit(), env.submit(after=[runs])
    assert delivered(env.cancel(ready, waiting)) == {ready: CANCELLED, waiting: CANCELLED}
    env.quiet()


def test_a_task_on_an_engine_ends_as_the_engine_says(env: Env):
    engine = env.engine()
    dropped = env.submit()
    assert env.cancel(dropped) == [StopTask(engine, dropped)]
    assert env.cancel(dropped) == []
    env.stopped(dropped)
    assert env.state(dropped) is CANCELLED
    ran = env.submit()
    env.cancel(ran)
    env.finish(ran)
    assert env.state(ran) is SUCCEEDED


@pytest.mark.parametrize("how", ["kill", "give_back", "fail"])
def test_a_cancelled_task_does_not_run_again_whatever_happens_to_it(env: Env, how: str):
    engine = env.engine()
    task = env.submit(retries=3)
    env.cancel(task)
    if how == "kill":
        env.kill(engine, started=task)
    elif how == "give_back":
        env.give_back(engine, task)
    else:
        env.fail(task)
    assert env.state(task) is (FAILED if how == "fail" else CANCELLED)
    env.quiet()


def test_cancelling_what_has_ended_or_is_unknown_changes_nothing(env: Env):
    env.engine()
    task = env.submit()
    env.finish(task)
    assert env.cancel(task, env.next_id()) == []
    assert env.state(task) is SUCCEEDED
