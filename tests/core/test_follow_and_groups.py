"""Where a task may run because of others (follow), and many tasks as one node (groups).

The tables of need x `on` for single upstreams are in test_dependencies.py.
"""

from __future__ import annotations

from itertools import product

import pytest

from headway.core.events import (
    NEED_ALL,
    ON_DONE,
    ON_FAILURE,
    ON_SUCCESS,
    ClientId,
    ConditionSpec,
    task_id,
)
from headway.core.states import TaskState
from tests.core.ends import (
    ENDS_IN_ORDER,
    RAISED,
    RAN,
    Upstreams,
    assert_invalid,
    expected,
    is_hit,
)
from tests.core.env import Env, placed

S = TaskState
ONS = [ON_SUCCESS, ON_FAILURE, ON_DONE]
WAITS, RUNS, IMPOSSIBLE = S.WAITING, S.ASSIGNED, S.IMPOSSIBLE


# --- location ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("need", "on"), list(product([NEED_ALL, 1, 2, 3], ONS)))
def test_follow_counts_each_engine_for_itself(need: int, on: int) -> None:
    size = 3
    for places in product([0, 1], repeat=size):
        for ends in product([RAN, RAISED], repeat=size):
            # Given upstreams on two engines
            env = Env(hwm=0)
            engines = env.engines(3)
            upstreams = [env.submit(targets=[engines[place]]) for place in places]
            task = env.submit(follow=ConditionSpec(upstreams, need, on))
            u = Upstreams()
            u.env = env
            counts = [0, 0, 0]
            allowed: list[int] = []
            for n, (upstream, place, end) in enumerate(zip(upstreams, places, ends, strict=True)):
                # When they end
                end.happen(u, upstream)
                counts[place] += is_hit(end, on, follow=True)
                wanted = need or size
                allowed = allowed or [e for e, count in enumerate(counts) if count >= wanted]
                # Then the task runs on the first on which enough have ended, or nowhere
                if allowed:
                    assert env.task(task).engine == engines[allowed[0]]
                elif max(counts) + size - n - 1 < wanted:
                    assert env.state(task) is IMPOSSIBLE
                else:
                    assert env.state(task) is WAITS
            env.quiet()


def test_follow_is_impossible_where_the_upstream_s_engine_has_left() -> None:
    # Given a task that succeeded on an engine that is gone
    env = Env()
    e0, _ = env.engines(2)
    first = env.submit(targets=[e0])
    env.finish(first)
    env.leave(e0)
    # When another wants to run there
    task = env.submit(follow=[first])
    # Then it is impossible at once, even if it would wait for engines
    assert env.state(task) is IMPOSSIBLE
    assert env.state(env.submit(follow=[first], wait_for_engines=True)) is IMPOSSIBLE
    env.quiet()


def test_a_follower_in_the_queue_is_impossible_once_its_engine_leaves() -> None:
    # Given a task that waits for a seat on the only engine where it may run
    env = Env(hwm=1)
    e0, _ = env.engines(2)
    first, second = (env.submit(targets=[e0]) for _ in range(2))
    env.finish(first)
    task = env.submit(follow=[first])
    assert env.state(task) is S.READY
    # When that engine leaves
    env.leave(e0)
    # Then it is impossible, and so is the one that was bound to the engine
    assert env.states([task, second]) == [IMPOSSIBLE, IMPOSSIBLE]
    env.quiet()


def test_a_follower_waits_again_if_another_upstream_may_yet_end_elsewhere() -> None:
    # Given a task that may follow either of two, of which one has ended, on a busy engine
    env = Env(hwm=1)
    e0, e1 = env.engines(2)
    first = env.submit(targets=[e0])
    second = env.submit(targets=[e1])
    env.finish(first)
    env.submit(targets=[e0])
    task = env.submit(follow=ConditionSpec([first, second], need=1))
    assert env.state(task) is S.READY
    # When that engine leaves
    env.leave(e0)
    # Then the task waits for the other one
    assert env.state(task) is WAITS
    assert placed(env.finish(second)) == [(task, e1)]
    env.quiet()


def test_a_follower_may_run_on_each_engine_on_which_its_condition_is_met() -> None:
    # Given a task that may follow either of two, and waits for a seat where the first ended
    env = Env(hwm=1)
    e0, e1 = env.engines(2)
    first = env.submit(targets=[e0])
    second = env.submit(targets=[e1])
    env.finish(first)
    env.submit(targets=[e0])
    task = env.submit(follow=ConditionSpec([first, second], need=1))
    assert env.state(task) is S.READY
    # When the second ends on an engine that has room
    said = env.finish(second)
    # Then it runs there
    assert placed(said) == [(task, e1)]
    env.quiet()


def test_a_follower_refused_where_its_upstream_ended_is_impossible() -> None:
    # Given a task that may run on one engine alone, since what it follows ended there
    env = Env()
    e0, _ = env.engines(2)
    first = env.submit(targets=[e0])
    env.finish(first)
    task = env.submit(follow=[first], wait_for_engines=True)
    # When that engine refuses it
    env.refuse(task)
    # Then it is impossible, although it would wait: no engine that joins would help
    assert env.state(task) is IMPOSSIBLE
    env.quiet()


def test_a_follower_bound_to_targets_elsewhere_is_impossible() -> None:
    # Given a task that succeeded on one engine
    env = Env()
    e0, e1 = env.engines(2)
    first = env.submit(targets=[e0])
    env.finish(first)
    # When another wants to run there, but may only run on the other engine
    tasks = [env.submit(follow=[first], targets=[e1], wait_for_engines=w) for w in (False, True)]
    # Then it is impossible: no engine that joins would help
    assert env.states(tasks) == [IMPOSSIBLE, IMPOSSIBLE]
    env.quiet()


def test_an_upstream_that_ends_where_the_follower_may_not_run_does_not_decide_for_it() -> None:
    # Given a task that may follow either of two, but runs on one engine alone
    env = Env(hwm=0)
    e0, e1 = env.engines(2)
    first = env.submit(targets=[e0])
    second = env.submit(targets=[e1])
    condition = ConditionSpec([first, second], need=1)
    # And that also waits for the one that may end there
    task = env.submit(after=[second], follow=condition, targets=[e1])
    other = env.submit(follow=condition, targets=[e1])
    # When the first ends elsewhere
    env.finish(first)
    # Then both wait for the second
    assert env.states([task, other]) == [WAITS, WAITS]
    assert placed(env.finish(second)) == [(task, e1), (other, e1)]
    env.quiet()


# --- groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "on"), list(product([0, 1, 2, 3], ONS)))
def test_a_group_stands_for_all_any_or_some_of_its_members(size: int, on: int) -> None:
    for ends in product(ENDS_IN_ORDER, repeat=size):
        # Given a group, and tasks that want all, one, two of its members ...
        u = Upstreams()
        members = u.submit(ends)
        group = u.env.group(members)
        needs = range(max(size, 1) + 1)
        tasks = [u.env.submit(after=ConditionSpec([group], need, on)) for need in needs]
        hits: list[bool] = []
        settled: dict[int, TaskState] = {}
        for n in range(size + 1):
            # Then each waits exactly as long as both outcomes are possible
            for need, task in zip(needs, tasks, strict=True):
                state = expected(hits, size - n, need, size)
                if need not in settled and state is not WAITS:
                    settled[need] = state
                assert u.env.state(task) is settled.get(need, WAITS), (ends, hits, need)
            if n < size:
                # When the members end one by one
                ends[n].happen(u, members[n])
                hits.append(is_hit(ends[n], on, follow=False))
        # And tasks that come later find the same
        for need, task in zip(needs, tasks, strict=True):
            late = u.env.submit(after=ConditionSpec([group], need, on))
            assert u.env.state(late) is u.env.state(task)
        u.env.quiet()


def test_more_than_all_members_of_a_group_is_invalid() -> None:
    env = Env()
    group = env.group([env.submit()])
    assert_invalid(env, env.submit(after=ConditionSpec([group], need=2)))


@pytest.mark.parametrize(("need", "on"), list(product([NEED_ALL, 1, 2], ONS)))
def test_a_group_among_others_counts_as_one(need: int, on: int) -> None:
    for ends in product([RAN, RAISED], repeat=3):
        # Given a condition on a group of two, and on a task
        u = Upstreams()
        *members, other = u.submit(ends)
        group = u.env.group(members)
        task = u.env.submit(after=ConditionSpec([group, other], need, on))
        # When all have ended
        for upstream, end in zip([*members, other], ends, strict=True):
            end.happen(u, upstream)
        # Then the group is a hit if all of it is (under all) or any of it (under a count)
        *in_group, alone = (is_hit(end, on, follow=False) for end in ends)
        of_group = all(in_group) if need == NEED_ALL else any(in_group)
        assert u.env.state(task) is expected([of_group, alone], 0, need, 2), ends
        u.env.quiet()


def test_an_unknown_member_of_a_group_counts_as_failed() -> None:
    # Given a group with a member that was never submitted
    env = Env(hwm=0)
    env.engine()
    known = env.submit()
    group = env.group([known, task_id(ClientId(77), 5)])
    tasks = [
        env.submit(after=ConditionSpec([group], need, on))
        for need, on in [(NEED_ALL, ON_SUCCESS), (1, ON_SUCCESS), (1, ON_FAILURE), (0, ON_DONE)]
    ]
    # When the other one succeeds
    assert env.states(tasks) == [IMPOSSIBLE, WAITS, RUNS, WAITS]
    env.finish(known)
    # Then the group has one success and one failure
    assert env.states(tasks) == [IMPOSSIBLE, RUNS, RUNS, RUNS]
    env.quiet()


def test_a_group_outlives_its_forgotten_members() -> None:
    # Given a group whose members have ended and are forgotten
    env = Env(hwm=0)
    env.engine()
    members = env.submit_many(2)
    group = env.group(members)
    env.finish(members[0])
    env.fail(members[1])
    env.release(*members)
    assert not any(env.knows(member) for member in members)
    # When tasks name it
    some = env.submit(after=ConditionSpec([group], need=1))
    every = env.submit(after=[group])
    # Then it still knows how they ended
    assert env.states([some, every]) == [RUNS, IMPOSSIBLE]
    # And it goes when it is let go of
    env.release(group)
    assert env.knows(group)
    env.finish(some)
    assert not env.knows(group)
    env.quiet()
