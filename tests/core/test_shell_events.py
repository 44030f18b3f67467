"""What only a shell can say: an engine resumes, a task is abandoned, remembered, or ended late;
one task is placed before its turn, or could not be sent; another hwm. No peer sends these, so no
wire is needed.
"""

from __future__ import annotations

from math import inf

import pytest

from headway.core import events as ev
from headway.core.commands import Deliver, Recall
from headway.core.events import ConditionSpec, EngineId, TaskId
from headway.core.explain import explain
from headway.core.fair import FairQueue
from headway.core.problems import (
    KIND_IMPOSSIBLE,
    KIND_INVALID,
    KIND_TIMEOUT,
    KIND_TOO_LARGE,
)
from headway.core.ready import Lane
from headway.core.states import TaskState
from tests.core.ends import assert_invalid
from tests.core.env import Env, delivered, placed

READY, WAITING, ASSIGNED = TaskState.READY, TaskState.WAITING, TaskState.ASSIGNED
SUCCEEDED, FAILED = TaskState.SUCCEEDED, TaskState.FAILED
IMPOSSIBLE, TIMED_OUT = TaskState.IMPOSSIBLE, TaskState.TIMED_OUT


@pytest.fixture
def env() -> Env:
    return Env()


def counts(env: Env) -> tuple[int, int]:
    """How many events were stale, and how many invalid."""
    return env.scheduler.counters.stale, env.scheduler.counters.invalid


# --- an engine resumes ---------------------------------------------------------------------------


def test_an_engine_that_resumes_is_given_tasks_again(env: Env):
    engine = env.engine()
    env.drain(engine)
    task = env.submit()
    assert env.state(task) is READY
    assert placed(env.resume(engine)) == [(task, engine)]
    assert not env.scheduler.engines[engine].draining
    env.quiet()


@pytest.mark.parametrize(("hwm", "limit"), [(3, 3), (0, inf), ("auto", 2)])
def test_an_engine_that_resumes_has_the_limit_of_its_hwm(hwm: int | str, limit: float):
    env = Env(hwm=hwm)
    engine = env.engine()
    env.drain(engine)
    assert env.scheduler.engines[engine].limit == 0
    env.resume(engine)
    assert env.scheduler.engines[engine].limit == limit


def test_an_engine_that_resumes_can_be_recalled_from_though_it_never_answered_the_drain():
    env = Env(hwm=4, recall_after_s=0.02)
    slow = env.engine()
    env.submit_many(4)
    assert isinstance(env.drain(slow)[0], Recall)
    env.resume(slow)
    env.engine()
    assert [type(command) for command in env.tick(1.0)] == [Recall]


def test_resuming_an_engine_that_is_not_here_is_stale_and_one_that_works_changes_nothing(env: Env):
    engine = env.engine()
    assert env.resume(engine) == []
    assert counts(env) == (0, 0)
    assert env.resume(EngineId(77)) == []
    assert counts(env) == (1, 0)
    env.quiet()


# --- a task is abandoned -------------------------------------------------------------------------

KINDS = [(KIND_IMPOSSIBLE, IMPOSSIBLE), (KIND_INVALID, IMPOSSIBLE), (KIND_TIMEOUT, TIMED_OUT)]


def abandon(env: Env, task: TaskId, kind: str = KIND_IMPOSSIBLE) -> dict[TaskId, TaskState]:
    return delivered(env.tell(ev.Abandoned(task, kind, "its target will never come")))


def waiting(env: Env) -> TaskId:
    return env.submit(after=[env.submit()], timeout_s=5.0)


def backing_off(env: Env) -> TaskId:
    engine = env.engine()
    task = env.submit(retries=1, backoff_s=1.0, timeout_s=5.0)
    env.fail(task)
    env.leave(engine)
    return task


def ready(env: Env) -> TaskId:
    return env.submit(timeout_s=5.0)


@pytest.mark.parametrize("make", [waiting, backing_off, ready])
@pytest.mark.parametrize(("kind", "state"), KINDS)
def test_an_abandoned_task_ends_and_its_client_hears_the_reason(env: Env, make, kind, state):
    task = make(env)
    assert abandon(env, task, kind) == {task: state}
    problem = env.delivered[task].problem
    assert (problem.kind, problem.text) == (kind, "its target will never come")
    assert "its target will never come" in explain(env.scheduler, task, env.now)
    assert not len(env.scheduler.timers)
    env.quiet()
    env.engine()
    assert env.task(task).state is state  # and it does not run any more


def test_the_dependents_of_an_abandoned_task_hear_of_it_as_of_any_failure(env: Env):
    task = env.submit()
    then = env.submit(after=[task])
    otherwise = env.submit(after=ConditionSpec([task], on=ev.ON_FAILURE))
    assert abandon(env, task) == {task: IMPOSSIBLE, then: IMPOSSIBLE}
    assert "its target will never come" in env.delivered[then].problem.text
    assert env.state(otherwise) is READY


def test_abandoning_a_task_on_an_engine_or_one_that_ended_or_is_unknown_is_stale(env: Env):
    env.engine()
    task = env.submit()
    assert abandon(env, task) == {}
    assert env.state(task) is ASSIGNED
    env.finish(task)
    assert abandon(env, task) == {}
    assert env.state(task) is SUCCEEDED
    env.release(task)
    assert abandon(env, task) == {}
    assert counts(env) == (3, 0)


def test_an_assignment_that_could_not_be_sent_ends_and_gives_its_seat_back():
    env = Env(hwm=1)
    engine = env.engine(gpu=1.0)
    task, behind = env.submit_many(2, resources={"gpu": 1.0}, retries=3)
    unsent = ev.Abandoned(task, KIND_TOO_LARGE, "it is as large as a house", attempt=1)
    out = env.tell(unsent)
    assert delivered(out) == {task: IMPOSSIBLE}
    assert (env.delivered[task].problem.kind, env.delivered[task].engine) == (KIND_TOO_LARGE, None)
    assert placed(out) == [(behind, engine)]
    env.quiet()


def test_that_an_assignment_could_not_be_sent_says_nothing_of_a_later_attempt(env: Env):
    env.engine()
    task = env.submit(retries=1)
    env.fail(task)
    assert env.tell(ev.Abandoned(task, KIND_TOO_LARGE, "too large", attempt=1)) == []
    assert env.state(task) is ASSIGNED
    assert counts(env) == (1, 0)


# --- how forgotten tasks ended -------------------------------------------------------------------


def test_a_remembered_success_meets_what_comes_after_it_and_a_failure_makes_it_impossible(env: Env):
    good, bad = env.remember(), env.remember(succeeded=False)
    assert env.said == []  # nobody is told: their clients heard long ago
    env.engine()
    assert env.state(env.submit(after=[good])) is ASSIGNED
    spoilt = env.submit(after=[bad])
    assert env.state(spoilt) is IMPOSSIBLE
    assert "1-2 failed" in env.delivered[spoilt].problem.text
    assert env.state(env.submit(after=ConditionSpec([bad], on=ev.ON_FAILURE))) is READY
    env.quiet()


def test_a_remembered_failure_is_told_by_its_name(env: Env):
    past = ev.PastTask(env.next_id(), succeeded=False, name="fit-3")
    env.tell(ev.Remembered(env.me, [past]))
    task = env.submit(after=[past.id])
    assert "task 1-1 (fit-3) failed" in env.delivered[task].problem.text


def test_a_remembered_task_is_followed_to_its_engine_while_that_is_here():
    env = Env(hwm=0)
    engines = env.engines(3)
    past = env.remember(engine=engines[1])
    task = env.submit(follow=[past])
    assert placed(env.said) == [(task, engines[1])]
    env.leave(engines[1])
    assert env.state(env.submit(follow=[past])) is IMPOSSIBLE
    assert env.state(env.submit(follow=[env.remember()])) is IMPOSSIBLE  # it ended on none
    env.quiet()


def test_remembered_and_living_tasks_count_together():
    env = Env(hwm=0)
    e0, e1 = env.engines(2)
    past = env.remember(engine=e1)
    living = env.submit(targets=[e1])
    task = env.submit(follow=[past, living], after=[past, living])
    assert env.state(task) is WAITING
    assert placed(env.finish(living)) == [(task, e1)]
    assert env.scheduler.engines[e0].load == 0


def test_a_remembered_task_is_forgotten_when_it_is_released_and_nothing_needs_it(env: Env):
    past = env.remember()
    waits = env.submit(after=[past, env.submit()])
    env.release(past)
    assert env.knows(past)
    env.cancel(waits)
    assert not env.knows(past)
    other = env.remember()
    env.release(other)
    assert not env.knows(other)
    third = env.remember()
    env.tell(ev.ClientLeft(env.me))
    assert not env.knows(third)


def test_remembered_tasks_are_counted_in_their_state_and_not_as_submitted(env: Env):
    env.remember()
    env.remember(succeeded=False)
    statistics = env.scheduler.statistics()
    assert (statistics.tasks["succeeded"], statistics.tasks["failed"]) == (1, 1)
    assert statistics.submitted == 0
    assert "succeeded" in explain(env.scheduler, ev.task_id(env.me, 1), env.now)
    assert "failed" in explain(env.scheduler, ev.task_id(env.me, 2), env.now)


def test_remembered_tasks_need_new_ids_of_a_client_that_is_here(env: Env):
    task = env.submit()
    env.tell(ev.Remembered(env.me, [ev.PastTask(task, succeeded=True)]))
    assert env.state(task) is READY
    assert env.scheduler.counters.duplicates == 1
    other = env.client()
    foreign = env.next_id(other)
    env.tell(ev.Remembered(env.me, [ev.PastTask(foreign, succeeded=True)]))
    env.tell(ev.Remembered(ev.ClientId(99), [ev.PastTask(foreign, succeeded=True)]))
    assert not env.knows(foreign)
    assert counts(env) == (0, 2)
    env.quiet()


def test_a_remembered_task_can_not_be_cancelled_abandoned_or_be_an_argument(env: Env):
    past = env.remember()
    env.cancel(past)
    assert abandon(env, past) == {}
    assert env.state(past) is SUCCEEDED
    task = env.submit(inputs=[past])
    assert_invalid(env, task)
    assert "its value is gone" in env.delivered[task].problem.text


# --- an outcome that comes late ------------------------------------------------------------------


def lose_engine(env: Env, **options: object) -> TaskId:
    """A task whose engine was given up, and which is queued again."""
    engine = env.engine()
    task = env.submit(**options)
    env.kill(engine, started=task)
    return task


def test_a_late_result_ends_a_task_that_no_other_engine_has(env: Env):
    task = lose_engine(env, timeout_s=9.0)
    then = env.submit(after=[task])
    late = env.late(task)
    assert late == [Deliver(env.me, task, SUCCEEDED, b"late result", None, None)]
    assert env.task(task).result == b"late result"
    assert env.state(then) is READY
    assert explain(env.scheduler, task, env.now) == "task 1-1 succeeded"
    assert not len(env.scheduler.timers)
    env.engine()
    assert placed(env.said) == [(then, EngineId(1))]
    env.quiet()


def test_a_late_result_ends_a_task_that_waits_again_for_what_it_follows():
    env = Env(hwm=1)
    e0, e1 = env.engines(2)
    first, second = env.submit(targets=[e0]), env.submit(targets=[e1])
    task = env.submit(follow=ConditionSpec([first, second], need=1))
    env.finish(first)
    assert env.task(task).engine == e0
    env.kill(e0, started=task)
    assert env.state(task) is WAITING
    env.late(task)
    assert env.state(task) is SUCCEEDED
    assert env.finish(second)
    env.quiet()


def test_a_late_exception_changes_nothing_since_the_task_is_queued_for_another_try(env: Env):
    task = lose_engine(env)
    assert env.late(task, ev.RAISED) == []
    assert env.state(task) is READY
    assert counts(env) == (0, 0)
    engine = env.engine()
    assert placed(env.said) == [(task, engine)]


def test_a_late_outcome_is_stale_once_another_engine_has_the_task_or_it_has_ended(env: Env):
    task = lose_engine(env)
    env.engine()
    assert env.late(task, attempt=1) == []
    assert env.state(task) is ASSIGNED
    assert env.late(task, attempt=2) == []  # of the attempt that it is at: not late at all
    assert env.state(task) is ASSIGNED
    env.finish(task)
    assert env.late(task) == []
    env.release(task)
    env.tell(ev.LateOutcome(ev.Outcome(task, 2, ev.RAN, b"")))
    assert counts(env) == (4, 0)


def test_a_late_outcome_of_an_older_attempt_or_of_none_is_stale(env: Env):
    task = lose_engine(env)
    second = env.engine()
    env.kill(second, started=task)
    assert env.late(task, attempt=1) == []
    assert env.state(task) is READY
    fresh = env.submit()
    assert env.late(fresh, attempt=0) == []
    assert env.state(fresh) is READY
    assert counts(env) == (2, 0)
    env.late(task, attempt=2)
    assert env.state(task) is SUCCEEDED


# --- one task before its turn --------------------------------------------------------------------


def place_task(env: Env, task: TaskId, among: list[EngineId] | None = None) -> EngineId | None:
    """Where the scheduler placed this one task."""
    out: list = []
    was_placed = env.scheduler.place_task(task, env.now, out, among)
    assert [(c.task.id, c.engine) for c in out] == placed(out)
    assert was_placed == bool(out)
    return out[0].engine if out else None


def crowd(env: Env, engines: int) -> list[TaskId]:
    """Ten tasks that are ready, and engines that have joined and were given nothing yet."""
    tasks = env.submit_many(10)
    out: list = []
    for n in range(engines):
        env.scheduler.handle(ev.EngineJoined(EngineId(n), {}), env.now, out)
    return tasks


def test_a_task_is_placed_before_its_turn_and_the_others_keep_theirs(env: Env):
    tasks = crowd(env, 3)
    where = place_task(env, tasks[7])
    assert where is not None
    assert env.state(tasks[7]) is ASSIGNED
    env.tell()
    assert [task for task, _ in placed(env.said)] == tasks[:2]
    assert place_task(env, tasks[5]) is None  # no room is left
    env.finish(tasks[7])
    assert placed(env.said) == [(tasks[2], where)]
    env.quiet()


def test_among_engines_the_least_loaded_takes_it_and_of_these_the_longest_idle():
    env = Env(hwm=9)
    e0, e1, e2 = env.engines(3)
    for engine in (e0, e0, e1, e2):
        env.submit(targets=[engine])
    task, another = env.submit_many(2)  # these go to e1 and e2, and come back
    longest_idle = env.task(task).engine
    out: list = []
    for back in (task, another):
        engine = env.task(back).engine
        env.scheduler.handle(ev.GaveBack(engine, [back]), env.now, out)
    assert place_task(env, task, [e0]) == e0
    assert longest_idle in (e1, e2)
    assert place_task(env, another, [e0, e2, e1]) == longest_idle
    env.tell()
    env.quiet()


def test_a_task_is_placed_only_where_it_may_run_and_there_is_room():
    env = Env(hwm=1)
    small, big = env.engine(gpu=1), env.engine(gpu=2)
    gone = EngineId(50)
    running = env.submit(resources={"gpu": 2})
    task = env.submit(resources={"gpu": 2})
    assert place_task(env, task) is None
    out: list = []
    env.scheduler.handle(ev.Finished(big, [env.outcome(running, ev.RAN)]), env.now, out)
    assert place_task(env, task, []) is None
    assert place_task(env, task, [small, gone]) is None
    assert place_task(env, task, [small, big, big, gone]) == big
    env.tell()
    env.quiet()


def test_a_task_that_is_not_ready_is_not_placed(env: Env):
    env.engines(2)
    running = env.submit()
    waits = env.submit(after=[running])
    ended = env.submit()
    env.finish(ended)
    for task in (running, waits, ended, TaskId(12345)):
        assert place_task(env, task) is None
    env.quiet()


def test_the_last_task_of_its_lane_leaves_nothing_to_place():
    env = Env(hwm=1)
    engine = env.engine()
    first, second = env.submit(targets=[engine]), env.submit(targets=[engine])
    out: list = []
    env.scheduler.handle(ev.Finished(engine, [env.outcome(first, ev.RAN)]), env.now, out)
    assert place_task(env, second) == engine
    assert env.tell() == []
    env.quiet()


@pytest.mark.parametrize("fair", [False, True])
def test_a_task_placed_before_its_turn_that_comes_back_is_placed_once(fair: bool):
    env = Env(hwm=1)
    tasks = [env.submit(fair=fair, retries=1) for _ in range(5)]
    engine = EngineId(0)
    env.scheduler.handle(ev.EngineJoined(engine, {}), env.now, [])
    assert place_task(env, tasks[3]) == engine
    order = [task for task, _ in placed(env.fail(tasks[3]))]
    while env.scheduler.engines[engine].assigned:
        order += [task for task, _ in placed(env.finish(order[-1]))]
    assert order == [tasks[3], tasks[0], tasks[1], tasks[2], tasks[4]]
    env.quiet()


@pytest.mark.parametrize("fair", [False, True])
def test_a_task_placed_before_its_turn_that_waits_out_a_backoff_queues_at_the_back(fair: bool):
    env = Env(hwm=1)
    tasks = [env.submit(fair=fair, retries=1, backoff_s=1.0) for _ in range(4)]
    engine = EngineId(0)
    env.scheduler.handle(ev.EngineJoined(engine, {}), env.now, [])
    assert place_task(env, tasks[1]) == engine
    order = [task for task, _ in placed(env.fail(tasks[1]))]
    env.tick(1.0)  # what it left in the queue behind its first place must not come to life
    while env.scheduler.engines[engine].assigned:
        order += [task for task, _ in placed(env.finish(order[-1]))]
    assert order == [tasks[0], tasks[2], tasks[3], tasks[1]]
    env.quiet()


@pytest.mark.parametrize("fair", [False, True])
def test_a_task_that_is_placed_before_its_turn_and_comes_back_without_end_leaves_no_trail(
    fair: bool,
):
    env = Env(hwm=1)
    tasks = [env.submit(fair=fair) for _ in range(2)]
    engine = EngineId(0)
    env.scheduler.handle(ev.EngineJoined(engine, {}), env.now, [])
    lane = env.scheduler.lanes.common

    def entries(lane: Lane) -> int:
        (queue,) = lane._queues.values()
        return queue._entries if isinstance(queue, FairQueue) else len(queue)

    for _ in range(500):
        assert place_task(env, tasks[1]) == engine
        env.scheduler.handle(ev.GaveBack(engine, [tasks[1]]), env.now, [])
        assert entries(lane) <= 2 * lane.count + 64
    assert [task.id for task in lane.waiting()] == [tasks[1], tasks[0]]
    env.tell()
    env.quiet()


# --- a task that could not be sent ---------------------------------------------------------------


def undelivered(engine: EngineId, *tasks: TaskId, queued_at_s: float = 0.0) -> list[ev.Undelivered]:
    """The shell could not send these, told in its order: the last of them first."""
    return [ev.Undelivered(engine, task, queued_at_s) for task in reversed(tasks)]


def test_tasks_that_could_not_be_sent_keep_their_order():
    env = Env(hwm=3)
    engine = env.engine()
    tasks = env.submit_many(5)
    env.tell(ev.EngineDraining(engine), *undelivered(engine, *tasks[:3]))
    assert env.states(tasks) == [READY] * 5
    assert [task for task, _ in placed(env.resume(engine))] == tasks[:3]
    env.quiet()


def test_a_task_that_could_not_be_sent_keeps_its_deadline(env: Env):
    engine = env.engine()
    task = env.submit(timeout_s=10.0)
    for _ in range(4):
        env.tick(after_s=2.4)
        env.tell(ev.EngineDraining(engine), *undelivered(engine, task))
        env.resume(engine)
    env.tell(ev.EngineDraining(engine), *undelivered(engine, task))
    assert delivered(env.tick(after_s=0.5)) == {task: TIMED_OUT}
    env.quiet()


def test_a_task_that_comes_back_from_a_run_has_a_deadline_of_its_own(env: Env):
    engine = env.engine()
    task = env.submit(timeout_s=10.0, retries=1)
    env.tick(after_s=9.0)
    env.drain(engine)
    env.fail(task)
    assert delivered(env.tick(after_s=9.0)) == {}
    assert delivered(env.tick(after_s=1.0)) == {task: TIMED_OUT}


def test_what_is_not_on_the_engine_can_not_have_failed_to_reach_it(env: Env):
    engine = env.engine()
    task = env.submit()
    env.tell(ev.Undelivered(EngineId(77), task, 0.0), ev.Undelivered(engine, TaskId(5), 0.0))
    assert counts(env) == (2, 0)
    assert env.state(task) is ASSIGNED
    env.quiet()


def test_an_engine_that_left_may_join_again_under_its_number(env: Env):
    engine = env.engine()
    waits = env.submit(targets=[engine], wait_for_engines=True)
    env.finish(waits)
    env.leave(engine)
    again = env.submit(targets=[engine], wait_for_engines=True)
    assert placed(env.tell(ev.EngineJoined(engine, {}))) == [(again, engine)]
    env.quiet()


# --- settings that change, and one that means never ----------------------------------------------


def test_a_higher_hwm_gives_engines_more_at_once_and_a_lower_one_takes_nothing_away(env: Env):
    engines = env.engines(2)
    tasks = env.submit_many(8)
    assert env.states(tasks).count(ASSIGNED) == 2
    env.scheduler.set_hwm(3)
    assert len(placed(env.tell())) == 4
    env.scheduler.set_hwm(1)
    assert env.tell() == []
    assert [env.scheduler.engines[e].load for e in engines] == [3, 3]
    env.drain(engines[0])
    env.scheduler.set_hwm(0)
    assert {e for _, e in placed(env.tell())} == {engines[1]}
    env.quiet()


def test_an_infinite_recall_after_s_means_that_nothing_is_recalled_and_no_time_is_due():
    env = Env(hwm=4, recall_after_s=inf)
    silent, _ = env.engines(2)
    tasks = env.submit_many(8)
    for task in tasks:
        if env.task(task).engine != silent:
            env.finish(task)
    assert env.scheduler.next_deadline_s() is None
    assert env.tick(1e9) == []
    # A drain asks all the same: it is no matter of time.
    assert [type(command) for command in env.drain(silent)] == [Recall]
    # Nor does it hide what is due for another reason.
    env.submit(timeout_s=7.0, targets=[silent])
    assert env.scheduler.next_deadline_s() == env.now + 7.0
