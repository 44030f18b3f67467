"""The scheduler's promises, one by one: placement, recall, what is remembered, explain.

Failure has a file of its own (test_failure.py), and so have dependencies; a machine tries
everything against a naive model (test_machine.py).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from headway.core import events as ev
from headway.core.commands import Assign, Deliver, DropFunction, Recall, StopTask
from headway.core.events import EngineId, ErrorInfo, TaskId
from headway.core.explain import explain
from headway.core.problems import KIND_IMPOSSIBLE
from headway.core.states import TRANSITIONS, Cause, TaskState
from headway.errors import InvariantViolation
from tests.core.env import DIGEST, Env, delivered, placed

READY, WAITING, ASSIGNED = TaskState.READY, TaskState.WAITING, TaskState.ASSIGNED
RUNNING, SUCCEEDED, FAILED = TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.FAILED
CANCELLED, LOST = TaskState.CANCELLED, TaskState.LOST
IMPOSSIBLE, TIMED_OUT = TaskState.IMPOSSIBLE, TaskState.TIMED_OUT


@pytest.fixture
def env() -> Env:
    return Env()


def said_of(env: Env, task: TaskId) -> str:
    """What the scheduler explains of `task`."""
    return explain(env.scheduler, task, env.now)


# --- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(TaskState))
@pytest.mark.parametrize("cause", list(Cause))
def test_a_state_changes_by_the_table_or_not_at_all(env: Env, state: TaskState, cause: Cause):
    # Given a record put into the state
    env.engine()
    task = env.task(env.submit())
    task.state = state
    wanted = TRANSITIONS[state].get(cause)
    # When the one door is asked to move it, Then it follows the table, or refuses by name
    if wanted is None:
        with pytest.raises(InvariantViolation, match=cause.name):
            env.scheduler._life.move(task, cause)
        assert task.state is state
    else:
        env.scheduler._life.move(task, cause)
        assert task.state is wanted


# --- placement -----------------------------------------------------------------------------------


def test_tasks_submitted_before_any_engine_run_when_one_joins_in_order(env: Env):
    # Given tasks, and nobody to run them
    tasks = env.submit_many(3)
    assert env.states(tasks) == [READY] * 3
    # When an engine joins, Then they go there one by one, in order
    engine = env.engine()
    assert env.said == [env.assign(tasks[0], engine)]
    for n in (0, 1):
        assert placed(env.finish(tasks[n])) == [(tasks[n + 1], engine)]
    env.finish(tasks[2])
    env.quiet()


@pytest.mark.parametrize(("hwm", "outstanding"), [(1, 1), (3, 3), (0, 10)])
def test_an_engine_has_at_most_hwm_tasks_outstanding_and_0_is_no_limit(hwm: int, outstanding: int):
    env = Env(hwm=hwm)
    engine = env.engine()
    env.submit_many(10)
    assert env.scheduler.engines[engine].load == outstanding


def test_a_higher_priority_goes_first_and_equals_go_in_order(env: Env):
    # Given a busy engine, and tasks of several priorities behind it
    engine = env.engine()
    first = env.submit()
    low, normal_a = env.submit(priority=-1), env.submit()
    high, normal_b = env.submit(priority=5), env.submit()
    # When the engine is free again and again, Then they run by priority, then by age
    ran = []
    current = first
    for _ in range(4):
        ((current, where),) = placed(env.finish(current))
        assert where == engine
        ran.append(current)
    assert ran == [high, normal_a, normal_b, low]


def test_tasks_of_different_restrictions_run_in_the_order_of_becoming_ready(env: Env):
    # Given one engine, busy, and tasks that wait for it in three lanes
    e0 = env.engine(gpu=1)
    first = env.submit()
    tasks = [
        env.submit(targets=[e0]),
        env.submit(),
        env.submit(resources={"gpu": 1.0}),
        env.submit(targets=[e0]),
    ]
    # When it is free again and again, Then the lanes are not served one after the other
    ran = []
    current = first
    for _ in tasks:
        ((current, _),) = placed(env.finish(current))
        ran.append(current)
    assert ran == tasks


def test_a_hundred_thousand_tasks_for_a_busy_engine_do_not_delay_those_for_another(env: Env):
    # Given an engine that is busy, with 10^5 tasks that may run nowhere else
    e0 = env.engine()
    e1 = env.engine()
    env.submit(targets=[e0])
    specs = [env.spec(targets=[e0]) for _ in range(100_000)]
    event = ev.Submitted(env.me, [b"digest-of-a-func"], [], specs)
    out: list = []
    env.scheduler.handle(event, 0.0, out)
    env.scheduler.place(0.0, out)
    # When others come and go on the other engine, Then the scheduler looks at theirs alone
    looked = 0
    lane = env.scheduler.tasks[specs[0].id].lane
    assert lane is not None
    head = lane.head

    def counted():
        nonlocal looked
        looked += 1
        return head()

    for n in range(1_000):
        other = env.spec(targets=[e1]) if n % 2 else env.spec()
        out.clear()
        env.scheduler.handle(ev.Submitted(env.me, [b"digest-of-a-func"], [], [other]), 0.0, out)
        env.scheduler.place(0.0, out)
        assert placed(out) == [(other.id, e1)]
        report = ev.Finished(e1, [env.outcome(other.id, ev.RAN)])
        env.scheduler.handle(report, 0.0, out)
        env.scheduler.place(0.0, out)
    assert looked == 0
    assert lane.count == 100_000
    # And when the busy engine leaves, all of them end at once
    out.clear()
    env.scheduler.handle(ev.EngineLeft(e0, ev.EngineEnd("was killed")), 0.0, out)
    assert sum(isinstance(c, Deliver) and c.state is IMPOSSIBLE for c in out) == 100_001


def test_engines_that_join_leave_and_die_while_many_tasks_wait_lose_none(env: Env):
    # Given 10^5 tasks, and engines that come and go
    specs = [env.spec() for _ in range(100_000)]
    out: list = []
    env.scheduler.handle(ev.Submitted(env.me, [b"digest-of-a-func"], [], specs), 0.0, out)
    for number in range(300):
        engine = EngineId(1_000 + number)
        env.scheduler.handle(ev.EngineJoined(engine, {}), 0.0, out)
        env.scheduler.place(0.0, out)
        if number % 3:
            end = ev.EngineEnd("ended", wanted=number % 3 == 1)
            env.scheduler.handle(ev.EngineLeft(engine, end), 0.0, out)
    # Then no task has ended, and each is where it should be
    assert not any(isinstance(c, Deliver) for c in out)
    env.tell()
    assert len(env.scheduler.tasks) == 100_000
    assert env.scheduler.statistics().tasks["assigned"] == 100


def test_resources_are_taken_while_a_task_is_on_an_engine_and_given_back(env: Env):
    # Given one engine with two GPUs and room for more
    env = Env(hwm=0)
    env.engine(gpu=2)
    tasks = [env.submit(resources={"gpu": 1.0}) for _ in range(3)]
    assert env.states(tasks) == [ASSIGNED, ASSIGNED, READY]
    # Then a task without needs passes by, and the third has to wait for a GPU
    assert env.state(env.submit()) is ASSIGNED
    assert [t for t, _ in placed(env.fail(tasks[0]))] == [tasks[2]]


def test_a_task_whose_needs_no_engine_meets_waits_and_says_so(env: Env):
    env.engine(gpu=1)
    task = env.submit(resources={"gpu": 4.0})
    assert env.state(task) is READY
    assert "lacks gpu=4 (has 1)" in said_of(env, task)
    engine = env.engine(gpu=4)
    assert env.said == [env.assign(task, engine)]


def test_targets_that_have_all_left_make_a_task_impossible_at_once(env: Env):
    e0 = env.engine()
    env.engine()
    env.submit(targets=[e0])
    waiting = env.submit(targets=[e0])
    env.leave(e0)
    assert env.state(waiting) is IMPOSSIBLE
    assert env.state(env.submit(targets=[e0])) is IMPOSSIBLE
    assert "targets (e0)" in env.delivered[waiting].problem.text


def test_a_task_that_waits_for_engines_waits_for_its_target_and_says_so(env: Env):
    env.engine()
    task = env.submit(targets=[EngineId(7)], wait_for_engines=True)
    assert env.state(task) is READY
    assert "e0 is not among its targets" in said_of(env, task)
    env.tell(ev.EngineJoined(EngineId(7), {}))
    assert env.state(task) is ASSIGNED


def test_an_engine_that_refuses_a_task_is_excluded_and_the_last_refusal_ends_it(env: Env):
    env.engines(2)
    task = env.submit()
    first = env.task(task).engine
    (assign,) = (c for c in env.refuse(task) if isinstance(c, Assign))
    assert assign.engine != first
    env.refuse(task)
    assert env.state(task) is IMPOSSIBLE
    assert "refused it" in env.delivered[task].problem.text
    env.quiet()


def raising_scheme(loads):
    raise RuntimeError("no idea")


def beyond_scheme(loads):
    return len(loads)


@pytest.mark.parametrize("name", ["raising_scheme", "beyond_scheme"])
def test_a_users_scheme_that_fails_loses_no_task_and_is_told_of(name: str):
    env = Env(scheme=f"{__name__}:{name}")
    env.engines(2)
    assert env.states(env.submit_many(3)) == [ASSIGNED, ASSIGNED, READY]
    assert name in env.scheduler.scheme_failure
    assert "leastload chose in its place" in env.scheduler.scheme_failure


def test_a_lane_that_is_new_while_its_engine_gains_a_seat_and_loses_it_again_has_no_room():
    env = Env(hwm=1)
    engine = env.engine()
    running = env.submit()
    spec = env.spec(targets=[engine])
    env.tell(
        ev.Finished(engine, [env.outcome(running, ev.RAN)]),
        ev.Submitted(env.me, [DIGEST], [], [spec]),
        ev.EngineDraining(engine),
    )
    assert env.state(spec.id) is READY
    assert placed(env.resume(engine)) == [(spec.id, engine)]


def test_an_engine_that_stays_without_a_seat_costs_its_lanes_nothing():
    # Given an engine above its limit, and many lanes that wait for it
    env = Env(hwm=4)
    engine = env.engine(ram=1000.0)
    running = env.submit_many(4)
    waiting = [env.submit(resources={"ram": float(n)}) for n in range(1, 51)]
    env.scheduler.set_hwm(2)
    env.tell()
    lanes = env.scheduler.lanes
    told = lanes._told
    # When it ends what is too much, Then none of them is told; and when it has a seat, all are
    env.finish(running[0])
    env.finish(running[1])
    assert lanes._told == told
    env.finish(running[2])
    assert placed(env.said) == [(waiting[0], engine)]
    assert lanes._told > told


# --- recall --------------------------------------------------------------------------------------


def test_tasks_queued_behind_a_long_one_are_recalled_when_another_engine_idles():
    # Given two engines with four tasks each; one of them is done with its own
    env = Env(hwm=4, recall_after_s=0.02)
    e0, e1 = env.engines(2)
    tasks = env.submit_many(8)
    slow = [t for t in tasks if env.task(t).engine == e0]
    env.now += 0.01
    for t in tasks:
        if t not in slow:
            env.finish(t)
    # When the other shows no progress, Then half of what it queues is asked back, the last first
    assert env.scheduler.next_deadline_s() == pytest.approx(0.02)
    (recall,) = env.tick(0.011)
    assert recall == Recall(e0, slow[2:])
    assert env.tick(10.0) == []  # one at a time
    # And only what it gives back runs elsewhere
    assert placed(env.give_back(e0, slow[3])) == [(slow[3], e1)]
    assert env.state(slow[2]) is ASSIGNED


def test_tasks_given_back_keep_their_order_also_if_one_is_named_twice():
    # A story that the machine found, after 3,000 others.
    env = Env(hwm=4)
    engine = env.engine()
    tasks = env.submit_many(4)
    env.drain(engine)
    env.give_back(engine, *tasks, tasks[1])
    other = env.engine()
    assert placed(env.said) == [(task, other) for task in tasks]


def test_nothing_is_recalled_from_an_engine_that_makes_progress_or_while_none_idles():
    env = Env(hwm=4, recall_after_s=0.02)
    env.engines(2)
    tasks = env.submit_many(8)
    assert env.scheduler.next_deadline_s() is None
    env.now += 1.0
    assert env.tick() == []
    assert env.states(tasks) == [ASSIGNED] * 8


def test_tasks_that_may_run_only_there_are_not_recalled():
    env = Env(hwm=4, recall_after_s=0.02)
    e0 = env.engine()
    env.engine()
    env.submit_many(3, targets=[e0])
    assert env.tick(1.0) == []


def test_a_draining_engine_gets_nothing_and_gives_back_what_it_has_not_begun():
    env = Env(hwm=4)
    engine = env.engine()
    tasks = env.submit_many(3)
    assert env.drain(engine) == [Recall(engine, tasks)]
    env.give_back(engine, *tasks[1:])
    assert env.states(tasks) == [ASSIGNED, READY, READY]
    assert "draining" in said_of(env, tasks[1])


def test_hwm_auto_sends_short_tasks_in_depth_and_long_ones_two_by_two():
    env = Env(hwm="auto")
    engine = env.engine()
    record = env.scheduler.engines[engine]
    tasks = env.submit_many(2_000)
    assert record.load == 2
    env.tell(ev.Finished(engine, [env.outcome(tasks[0], ev.RAN, run_s=0.00002)]))
    assert record.load == 512
    for _ in range(30):
        first = next(iter(record.assigned))
        env.tell(ev.Finished(engine, [env.outcome(first, ev.RAN, run_s=1.0)]))
    assert record.limit == 2


# --- what is remembered --------------------------------------------------------------------------


def test_a_final_task_is_forgotten_once_released_and_needed_by_nobody(env: Env):
    env.engine()
    task = env.submit()
    user = env.submit(inputs=[task])
    env.finish(task)
    env.release(task)
    assert env.knows(task)
    env.finish(user)
    assert not env.knows(task)
    assert env.knows(user)
    env.release(user)
    assert not env.scheduler.tasks


def test_a_task_released_before_its_end_still_runs_and_is_forgotten_then(env: Env):
    env.engine()
    task = env.submit()
    env.release(task)
    env.finish(task)
    assert not env.scheduler.tasks
    assert not env.scheduler.clients[env.me].nodes


def test_nothing_grows_with_the_number_of_tasks_ever_run():
    env = Env(hwm=4)
    e0, _ = env.engines(2)
    for n in range(200):
        task = env.submit(timeout_s=1e6, targets=[e0, EngineId(10_000 + n)])
        env.finish(task)
        env.release(task)
    s = env.scheduler
    assert not s.tasks
    assert len(s.timers) == 0
    assert sum(1 for _ in s.lanes) < 70
    assert all(len(engine.lanes) < 70 for engine in s.engines.values())


def test_a_function_lives_as_long_as_a_client_declares_it_or_a_task_needs_it(env: Env):
    env.engine()
    task = env.submit()
    digest = b"digest-of-a-func"
    assert env.tell(ev.FunctionsDropped(env.me, [digest])) == []
    assert DropFunction(digest) in env.finish(task)
    assert not env.scheduler.functions


def test_a_client_that_leaves_takes_its_tasks_along_and_nobody_elses(env: Env):
    env.engine()
    other = env.client()
    mine, theirs = env.submit(), env.submit(client=other)
    waiting = env.submit(after=[theirs])
    assert env.tell(ev.ClientLeft(env.me)) == [StopTask(env.task(mine).engine, mine)]
    assert not env.knows(waiting)
    env.stopped(mine)
    assert not env.knows(mine)
    env.finish(theirs)
    assert delivered(env.said) == {theirs: SUCCEEDED}


@pytest.fixture
def rare_collections() -> Iterator[None]:
    """The garbage collector as the controller tunes it, which has a million tasks to look at."""
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, 50, 1_000)
    yield
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("rare_collections")
def test_a_chain_of_a_million_whose_head_fails_ends_without_recursion():
    # Given a million tasks, each after the one before
    env = Env()
    env.engine()
    count = 1_000_000
    first = env.submit()
    out: list = []
    for start in range(2, count + 1, 10_000):
        specs = [
            ev.TaskSpec(ev.task_id(env.me, n), 0, b"", [ev.task_id(env.me, n - 1)])
            for n in range(start, min(start + 10_000, count + 1))
        ]
        env.scheduler.handle(ev.Submitted(env.me, [b"digest-of-a-func"], [], specs), 0.0, out)
    # When the first fails
    out.clear()
    outcome = env.outcome(first, ev.RAISED, error=ErrorInfo(["builtins.ValueError"], "no"))
    env.scheduler.handle(ev.Finished(EngineId(0), [outcome]), 0.0, out)
    # Then all end, and the last one names the first
    assert len(out) == count
    last = out[-1]
    assert isinstance(last, Deliver)
    assert last.state is IMPOSSIBLE
    assert last.problem.kind == KIND_IMPOSSIBLE
    assert last.problem.root == first
    assert "ValueError: no" in last.problem.text
    assert last.problem.depth == count - 1


# --- explain -------------------------------------------------------------------------------------


def test_every_state_is_explained(env: Env):
    engine = env.engine()
    runs = env.submit(label="load")
    assert "first in line" in said_of(env, runs)
    env.start(runs)
    assert "task 1-1 (load) runs on e0" in said_of(env, runs)
    waits = env.submit(after=[runs])
    assert "waits for 1 more of 1 to succeed (open: 1-1 (load) running)" in said_of(env, waits)
    queued = env.submit()
    assert "number 1 in the queue for any engine" in said_of(env, queued)
    timed_out = env.submit(timeout_s=1.0)
    env.tick(1.0)
    assert "longer than its timeout of 1 s" in said_of(env, timed_out)
    env.cancel(queued)
    assert "was cancelled" in said_of(env, queued)
    downstream = env.submit(after=[waits])
    env.fail(runs)
    assert "raised ValueError: no" in said_of(env, runs)
    assert "raised ValueError: no" in said_of(env, waits)
    assert "because of 1-2" in said_of(env, downstream)
    assert "1 step further up: task 1-1 (load) raised ValueError: no" in said_of(env, downstream)
    done = env.submit()
    env.finish(done)
    assert "succeeded on e0" in said_of(env, done)
    lost = env.submit(crash_limit=1)
    env.kill(engine, started=lost)
    assert "killed by SIGKILL" in said_of(env, lost)
    orphan = env.submit()
    assert "no engine is here" in said_of(env, orphan)
    assert "no task 1-999 is known" in said_of(env, ev.task_id(env.me, 999))


def test_statistics_count_tasks_by_state_and_what_happened(env: Env):
    engine = env.engine()
    task = env.submit()
    env.kill(engine, started=task)
    statistics = env.scheduler.statistics()
    assert statistics.tasks["ready"] == 1
    assert statistics.crashed == 1
    assert statistics.submitted == 1
    assert statistics.engines == 0
