"""Fair turns: what the option `fair` promises, and the queue that keeps the promise.

The queue is compared with a naive one, which looks at all tasks for each turn; the option is
tried through the scheduler, where tasks are cancelled, come back, and have priorities.
"""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.core.events import ClientId, TaskId, TaskOptions, client_of, task_id
from headway.core.fair import Entry, FairQueue
from headway.core.records import Task
from headway.core.same import same_state
from headway.core.snapshot import dump, load, pack, unpack
from headway.core.states import TaskState
from tests.core.env import Env, placed

UNFAIR = 0


def make_task(client: int, number: int, fair: bool = True) -> Task:
    owner = ClientId(client)
    return Task(task_id(owner, number), owner, None, b"", TaskOptions(fair=fair))


def entry_of(task: Task) -> Entry:
    """`task` queues anew."""
    task.ticket += 1
    return task.ticket, task


class Naive:
    """One list of tasks, and the order of the parties' turns; each answer is found anew."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.turns: list[int] = []

    @staticmethod
    def party(task: Task) -> int:
        return task.client if task.options.fair else UNFAIR

    def add(self, task: Task, front: bool) -> None:
        self.tasks.insert(0, task) if front else self.tasks.append(task)
        if self.party(task) not in self.turns:
            self.turns.append(self.party(task))

    def first(self) -> Task:
        return next(task for task in self.tasks if self.party(task) == self.turns[0])

    def pop(self) -> Task:
        task = self.first()
        self.turns.append(self.turns.pop(0))
        self.leave(task)
        return task

    def leave(self, task: Task) -> None:
        self.tasks.remove(task)
        self.forget_the_absent()

    def forget_the_absent(self) -> None:
        here = {self.party(task) for task in self.tasks}
        self.turns = [party for party in self.turns if party in here]

    def in_order(self) -> list[Task]:
        copy = Naive()
        copy.tasks, copy.turns = list(self.tasks), list(self.turns)
        return [copy.pop() for _ in self.tasks]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("appendleft"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("popleft"), st.just(0), st.just(False)),
        st.tuples(st.just("leave"), st.integers(0, 9), st.just(False)),
        st.tuples(st.just("come back"), st.integers(0, 9), st.booleans()),
    ),
    max_size=60,
)


def tasks_of(queue: FairQueue) -> list[Task]:
    return [task for _, task in queue]


@settings(deadline=None, derandomize=True, database=None)
@given(OPERATIONS)
def test_the_queue_does_as_a_naive_one_does(operations):
    queue, naive = FairQueue(), Naive()
    for number, (operation, argument, fair) in enumerate(operations, start=1):
        if operation.startswith("append"):
            task = make_task(argument, number, fair)
            getattr(queue, operation)(entry_of(task))
            naive.add(task, front=operation == "appendleft")
        elif naive.tasks and operation == "popleft":
            assert queue.popleft()[1] is naive.pop()
        elif naive.tasks:
            task = naive.tasks[argument % len(naive.tasks)]
            task.ticket += 1
            queue.leave(task)
            naive.leave(task)
            if operation == "come back":
                put = queue.appendleft if fair else queue.append
                put(entry_of(task))
                naive.add(task, front=fair)
        assert tasks_of(queue) == naive.in_order()
        assert tasks_of(FairQueue(queue.by_party())) == naive.in_order()
        assert len(queue) == len(naive.tasks)
        assert bool(queue) == bool(naive.tasks)
        if naive.tasks:
            assert queue[0][1] is naive.first()


def test_a_queue_of_one_party_is_a_deque():
    tasks = [make_task(1, n, fair=False) for n in range(1, 6)]
    queue = FairQueue(map(entry_of, tasks[1:4]))
    queue.appendleft(entry_of(tasks[0]))
    queue.append(entry_of(tasks[4]))
    assert [queue.popleft()[1] for _ in tasks] == list(deque(tasks))


def test_a_party_without_tasks_is_not_remembered():
    queue = FairQueue()
    for client in range(1, 1_001):
        queue.append(entry_of(make_task(client, 1)))
        queue.popleft()
    assert not queue._parties
    assert len(queue) == 0
    task = make_task(1, 1)
    queue.append(entry_of(task))
    task.ticket = 0
    queue.leave(task)
    assert not queue._parties
    assert len(queue) == queue._entries == 0


def test_tasks_that_leave_before_their_turn_leave_no_trail():
    queue = FairQueue()
    tasks = [make_task(1, n) for n in range(1, 1_001)]
    for task in tasks:
        queue.append(entry_of(task))
    for task in tasks[1:-1]:
        task.ticket = 0
        queue.leave(task)
    assert queue._entries <= 2 * len(queue) + 64
    assert tasks_of(queue) == [tasks[0], tasks[-1]]


def test_only_the_first_task_can_be_looked_at():
    queue = FairQueue([entry_of(make_task(1, 1))])
    with pytest.raises(IndexError, match="not number 1"):
        queue[1]


# --- through the scheduler -----------------------------------------------------------------------


def run_all(env: Env) -> list[TaskId]:
    """Let one task after the other run, on the one engine; returns them in this order."""
    order = []
    while running := list(env.scheduler.engines[env.the_engine].assigned):  # type: ignore[attr-defined]
        order += running
        for task in running:
            env.finish(task)
    return order


@pytest.fixture
def env() -> Env:
    """One engine, which runs a task that keeps it busy until `run_all`."""
    env = Env(hwm=1)
    env.the_engine = env.engine()  # type: ignore[attr-defined]
    env.submit()
    return env


def clients_in(order: list[TaskId]) -> list[int]:
    return [client_of(task) for task in order[1:]]  # the first kept the engine busy


def test_ten_tasks_behind_a_hundred_of_another_client_are_served_in_turn(env: Env):
    other = env.client()
    many = env.submit_many(100, fair=True)
    few = env.submit_many(10, client=other, fair=True)
    order = run_all(env)
    assert clients_in(order) == [env.me, other] * 10 + [env.me] * 90
    assert [t for t in order if t in few] == few  # and each client's in its own order
    assert [t for t in order if t in many] == many


def test_without_the_option_first_come_is_first_served(env: Env):
    other = env.client()
    env.submit_many(20)
    env.submit_many(5, client=other)
    assert clients_in(run_all(env)) == [env.me] * 20 + [other] * 5


def test_all_tasks_without_the_option_are_one_party_together(env: Env):
    second, third = env.client(), env.client()
    ordinary = [*env.submit_many(3), *env.submit_many(3, client=second)]
    fair = env.submit_many(2, client=third, fair=True)
    order = run_all(env)[1:]
    assert order == [
        ordinary[0],
        fair[0],
        ordinary[1],
        fair[1],
        *ordinary[2:],
    ]


def test_priority_goes_before_fairness(env: Env):
    other = env.client()
    low = env.submit_many(2, fair=True)
    high = env.submit_many(3, client=other, fair=True, priority=1)
    assert run_all(env)[1:] == high + low


def test_a_task_that_comes_back_is_the_next_of_its_own_client(env: Env):
    other = env.client()
    mine = env.submit_many(3, fair=True, retries=1)
    theirs = env.submit_many(3, client=other, fair=True)
    (first,) = env.scheduler.engines[env.the_engine].assigned  # type: ignore[attr-defined]
    env.finish(first)
    assert env.state(mine[0]) is TaskState.ASSIGNED
    assert placed(env.fail(mine[0])) == [(theirs[0], env.the_engine)]  # type: ignore[attr-defined]
    order = run_all(env)
    assert order == [theirs[0], mine[0], theirs[1], mine[1], theirs[2], mine[2]]


def test_cancelled_tasks_cost_their_client_no_turn(env: Env):
    other = env.client()
    mine = env.submit_many(50, fair=True)
    theirs = env.submit_many(51, client=other, fair=True)
    env.cancel(*theirs[:50], client=other)
    assert run_all(env)[1:4] == [mine[0], theirs[50], mine[1]]


def test_a_client_that_has_no_task_left_loses_its_turn(env: Env):
    second, third = env.client(), env.client()
    mine = env.submit(fair=True)
    theirs = env.submit(client=second, fair=True)
    env.cancel(mine)
    others = env.submit(client=third, fair=True)
    again = env.submit(fair=True)
    assert run_all(env)[1:] == [theirs, others, again]


def test_turns_hold_while_many_tasks_leave_and_the_queue_is_swept(env: Env):
    other = env.client()
    mine = env.submit_many(200, fair=True)
    theirs = env.submit_many(200, client=other, fair=True)
    env.cancel(*mine[:190], *theirs[:190])
    late = env.submit_many(5, fair=True)  # a queue that is mostly dead is swept as one is added
    order = run_all(env)
    assert clients_in(order) == [env.me, other] * 10 + [env.me] * 5
    assert order[-5:] == late
    env.quiet()


def test_a_task_queued_before_the_first_fair_one_keeps_its_place(env: Env):
    other = env.client()
    before = env.submit_many(3)
    theirs = env.submit(client=other, fair=True)
    assert run_all(env)[1:] == [before[0], theirs, *before[1:]]


# --- weights and shares --------------------------------------------------------------------------


def test_a_client_of_twice_the_weight_has_twice_the_turns(env: Env):
    other = env.client()
    env.submit_many(12, fair=True, weight=2)
    env.submit_many(12, client=other, fair=True)
    assert clients_in(run_all(env)) == [env.me, env.me, other] * 6 + [other] * 6


def test_a_share_is_one_party_whoever_submits_to_it(env: Env):
    second, third = env.client(), env.client()
    night = [
        *env.submit_many(2, fair=True, share="night"),
        *env.submit_many(2, client=second, fair=True, share="night"),
    ]
    day = env.submit_many(4, client=third, fair=True, share="day", weight=3)
    order = run_all(env)[1:]
    assert order == [night[0], *day[:3], night[1], day[3], *night[2:]]


def test_a_turn_that_has_begun_goes_on_after_a_snapshot(env: Env):
    other = env.client()
    mine = env.submit_many(6, fair=True, weight=3)
    theirs = env.submit_many(6, client=other, fair=True, weight=2)
    running = list(env.scheduler.engines[env.the_engine].assigned)  # type: ignore[attr-defined]
    env.finish(running[0])  # the first of three of the turn is placed
    again = load(map(unpack, map(pack, dump(env.scheduler))), env.scheduler.config, Random(0))
    assert same_state(env.scheduler, again) == ""
    env.scheduler = again
    assert run_all(env) == [*mine[:3], *theirs[:2], *mine[3:], *theirs[2:]]


def test_what_is_shown_is_the_order_of_the_turns():
    tasks = [weighed(1, n, 2) for n in range(1, 6)] + [weighed(2, n, 3) for n in range(1, 6)]
    queue = FairQueue(map(entry_of, tasks))
    queue.popleft()
    shown = tasks_of(queue)
    copy = FairQueue(queue.by_party(), queue.taken)
    assert tasks_of(copy) == shown
    assert [queue.popleft()[1] for _ in shown] == shown


def weighed(client: int, number: int, weight: int) -> Task:
    owner = ClientId(client)
    options = TaskOptions(fair=True, weight=weight)
    return Task(task_id(owner, number), owner, None, b"", options)
