"""Cancelling: what depends on a cancelled task, and a task that its engine had to be killed for."""

from __future__ import annotations

import pytest

from headway.core import events as ev
from headway.core.commands import StopTask
from headway.core.downstream import find_downstream
from headway.core.events import (
    NEED_ALL,
    ON_DONE,
    ON_FAILURE,
    ConditionSpec,
    EngineEnd,
    EngineId,
    TaskId,
)
from headway.core.explain import explain
from headway.core.problems import KIND_CANCELLED, KIND_IMPOSSIBLE
from headway.core.states import TaskState
from tests.core.env import Env, delivered

WAITING, READY, ASSIGNED = TaskState.WAITING, TaskState.READY, TaskState.ASSIGNED
SUCCEEDED, CANCELLED = TaskState.SUCCEEDED, TaskState.CANCELLED
IMPOSSIBLE, LOST, TIMED_OUT = TaskState.IMPOSSIBLE, TaskState.LOST, TaskState.TIMED_OUT


@pytest.fixture
def env() -> Env:
    return Env(hwm=0)


# --- downstream ----------------------------------------------------------------------------------


def test_without_downstream_what_depends_on_a_cancelled_task_is_impossible_and_says_why(env: Env):
    first = env.submit()
    second = env.submit(after=[first])
    third = env.submit(after=[second])
    env.cancel(first)
    assert env.states([first, second, third]) == [CANCELLED, IMPOSSIBLE, IMPOSSIBLE]
    problem = env.delivered[third].problem
    assert (problem.kind, problem.root) == (KIND_IMPOSSIBLE, first)
    assert "was cancelled" in problem.text
    env.quiet()


def test_downstream_cancels_all_that_depends_on_a_task_and_nothing_else(env: Env):
    first, other = env.submit(), env.submit()
    data = env.submit(inputs=[first])
    after = env.submit(after=[data])
    both = env.submit(after=[other, after])
    finalizer = env.submit(after=ConditionSpec([first], on=ON_DONE))
    rescue = env.submit(after=ConditionSpec([first], on=ON_FAILURE))
    apart = env.submit(after=[other])
    env.cancel(first, downstream=True)
    assert env.states([first, data, after, both, finalizer, rescue]) == [CANCELLED] * 6
    assert env.states([other, apart]) == [READY, WAITING]
    problem = env.delivered[both].problem
    assert problem.kind == KIND_CANCELLED
    assert problem.text == "task 1-5 was cancelled with 1-1, on which it depends"
    env.quiet()


def test_downstream_of_a_task_that_is_done_is_cancelled_and_the_task_stays_as_it_is(env: Env):
    # Given a task that is done, one that depends on it and runs, and one behind that
    engine = env.engine()
    done = env.submit()
    env.finish(done)
    runs = env.submit(inputs=[done])
    waits = env.submit(after=[runs])
    assert env.state(runs) is ASSIGNED
    # When what is downstream is cancelled
    said = env.cancel(done, downstream=True)
    # Then the one that runs is stopped, and the one behind it has ended
    assert StopTask(engine, runs) in said
    assert delivered(said) == {waits: CANCELLED}
    env.stopped(runs)
    assert env.states([done, runs]) == [SUCCEEDED, CANCELLED]
    env.quiet()


@pytest.mark.parametrize("needs", [NEED_ALL, 1])
@pytest.mark.parametrize("done", [0, 1, 2])
def test_downstream_goes_through_groups_also_where_members_are_done(env: Env, done: int, needs):
    env.engine()
    members = env.submit_many(2)
    group = env.group(members)
    behind = env.submit(after=ConditionSpec([group], need=needs))
    last = env.submit(after=[behind])
    for member in members[:done]:
        env.finish(member)
    env.cancel(*members, group, downstream=True)
    for task in (*members[done:], behind):
        if env.state(task) is ASSIGNED:
            env.stopped(task)
    assert env.states(members) == [SUCCEEDED] * done + [CANCELLED] * (2 - done)
    assert env.states([behind, last]) == [CANCELLED, CANCELLED]
    env.quiet()


def test_a_group_is_no_task_to_be_cancelled_by_itself(env: Env):
    members = env.submit_many(2)
    group = env.group(members)
    invalid = env.scheduler.statistics().invalid
    assert env.cancel(group) == []
    assert env.states(members) == [READY, READY]
    assert env.scheduler.statistics().invalid == invalid + 1


def test_what_started_because_enough_others_had_ended_is_downstream_as_well(env: Env):
    engine = env.engine()
    quick, slow = env.submit_many(2)
    any_of = env.submit(after=ConditionSpec([quick, slow], need=1))
    env.finish(quick)
    said = env.cancel(quick, downstream=True)
    assert said == [StopTask(engine, any_of)]
    assert env.state(slow) is ASSIGNED


def test_a_chain_however_long_is_cancelled_by_a_loop(env: Env):
    chain = [env.submit()]
    specs = [env.spec(after=[chain[0]])]
    for _ in range(5_000):
        specs.append(env.spec(after=[specs[-1].id]))
    env.submit_specs(*specs)
    assert len(delivered(env.cancel(chain[0], downstream=True))) == len(specs) + 1


def test_downstream_of_many_costs_one_look_at_all_tasks(env: Env):
    # Given many tasks that are done, each with one that depends on it, and has not ended
    env.engine()
    count = 100
    done = env.submit_many(count)
    for task in done:
        env.finish(task)
    env.submit_specs(*(env.spec(after=[task]) for task in done))
    walks = []

    class Counted(list):
        def __iter__(self):
            walks.append(1)
            return super().__iter__()

    tasks = Counted(env.scheduler.tasks.values())
    found = list(find_downstream([env.task(task) for task in done], tasks))
    assert len(found) == count
    assert len(walks) == 1


# --- a run that had to be ended with its engine --------------------------------------------------


def kill_for(env: Env, engine: EngineId, task: TaskId) -> None:
    """The nanny killed the engine for a cancelled task that ran on."""
    end = EngineEnd("was killed, since task 1-1 ran on for 2 s", wanted=True)
    env.tell(ev.EngineLeft(engine, end, task, busy=True))


def test_a_cancelled_task_that_took_a_kill_is_cancelled_and_says_so_and_the_others_run_again(
    env: Env,
):
    engine = env.engine()
    hog, behind, once = (
        env.submit(crash_limit=1),
        env.submit(crash_limit=1),
        env.submit(at_most_once=True),
    )
    env.cancel(hog)
    kill_for(env, engine, hog)
    assert env.states([hog, behind, once]) == [CANCELLED, READY, READY]
    problem = env.delivered[hog].problem
    assert problem.kind == KIND_CANCELLED
    assert problem.text == (
        "task 1-1 was cancelled; engine e0 was killed, since task 1-1 ran on for 2 s"
    )
    assert explain(env.scheduler, hog, env.now) == problem.text
    # And it is nobody's crash
    assert env.scheduler.statistics().crashed == 0
    env.quiet()


def test_a_cancelled_task_that_had_not_begun_says_nothing_of_its_engines_end(env: Env):
    engine = env.engine()
    runs, cancelled = env.submit_many(2)
    env.cancel(cancelled)
    env.kill(engine, started=runs)
    assert env.delivered[cancelled].problem.text == "task 1-2 was cancelled"


def test_an_engine_that_crashes_under_a_cancelled_task_is_told_and_the_task_is_cancelled(env: Env):
    engine = env.engine()
    task = env.submit(crash_limit=1)
    env.cancel(task)
    env.kill(engine, started=task)
    assert env.state(task) is CANCELLED
    assert "killed by SIGKILL" in env.delivered[task].problem.text


def test_a_task_that_overran_and_took_a_kill_names_its_engine(env: Env):
    engine = env.engine()
    task = env.submit(run_timeout_s=0.5)
    env.kill(engine, started=task, overran=True)
    assert env.state(task) is TIMED_OUT
    assert env.delivered[task].problem.text == (
        "task 1-1 ran longer than its run_timeout of 0.5 s: engine e0 was killed by SIGKILL"
    )


# --- quarantine ----------------------------------------------------------------------------------


def test_only_the_task_that_was_begun_last_is_charged_though_another_was_said_to_run(env: Env):
    # Given a heartbeat, a second old, that named the first
    engine = env.engine()
    first, second, third = env.submit_many(3, crash_limit=1)
    env.start(first)
    # When the engine dies in the second, with the outcome of the first never heard
    env.kill(engine, started=second)
    assert env.states([first, second, third]) == [READY, LOST, READY]


def test_tasks_that_share_an_engine_with_a_killer_are_never_charged_however_often_it_kills(
    env: Env,
):
    killer, *others = env.submit_many(4, crash_limit=5)
    for _ in range(5):
        env.kill(env.engine(), started=killer)
    assert env.states([killer, *others]) == [LOST, READY, READY, READY]
    assert all(env.task(task).crashes is None for task in others)
    text = env.delivered[killer].problem.text
    assert [f"engine e{n} was killed by SIGKILL" in text for n in range(5)] == [True] * 5


def test_a_death_that_is_told_in_many_lines_leaves_the_next_a_line_of_its_own(env: Env):
    task = env.submit(crash_limit=2)
    for _ in range(2):
        engine = env.engine()
        end = EngineEnd("was killed; its last output:\n    a\n    b")
        env.tell(ev.EngineLeft(engine, end, task, busy=True))
    assert env.delivered[task].problem.text == (
        "task 1-1 is lost: engine e0 was killed; its last output:\n    a\n    b;\n"
        "engine e1 was killed; its last output:\n    a\n    b;\n"
        "its engines died 2 times, which is its crash_limit"
    )


def test_explain_tells_of_earlier_deaths_while_a_task_waits_for_its_next_engine(env: Env):
    task = env.submit()
    env.kill(env.engine(), started=task)
    assert "before that: engine e0 was killed by SIGKILL" in explain(env.scheduler, task, env.now)
    env.engine()
    assert env.state(task) is ASSIGNED
    assert "before that: engine e0 was killed by SIGKILL" in explain(env.scheduler, task, env.now)
