"""What a task may depend on, in whole tables: every need × every `on` × after or follow × every
way in which one, two or three upstreams can end; then chains, and what is invalid.

What is expected is worked out in ends.py, from the words of the specification.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import pytest

from headway.core.events import (
    NEED_ALL,
    ON_DONE,
    ON_FAILURE,
    ON_SUCCESS,
    ClientId,
    ConditionSpec,
    TaskId,
    TaskSpec,
    task_id,
)
from headway.core.states import TaskState
from tests.core.ends import (
    ALL_ENDS,
    CANCELLED,
    CRASHED,
    ENDS_IN_ORDER,
    ONE_END_FOR_EACH_STATE,
    RAISED,
    RAN,
    REFUSED,
    TIMED_OUT,
    End,
    Upstreams,
    assert_invalid,
    expected,
    is_hit,
)
from tests.core.env import Env, delivered, placed

S = TaskState
ONS = [ON_SUCCESS, ON_FAILURE, ON_DONE]
WAITS, RUNS, IMPOSSIBLE = S.WAITING, S.ASSIGNED, S.IMPOSSIBLE


def submit_later(env: Env, condition: ConditionSpec, follow: bool) -> TaskSpec:
    return env.spec(follow=condition) if follow else env.spec(after=condition)


def submit_dependent(env: Env, condition: ConditionSpec, follow: bool) -> TaskId:
    spec = submit_later(env, condition, follow)
    env.submit_specs(spec)
    return spec.id


def conditions(size: int) -> list[tuple[int, int, bool]]:
    """(need, on, follow): every kind of condition on so many upstreams."""
    return list(product(range(size + 1), ONS, [False, True]))


@pytest.mark.parametrize("first", ALL_ENDS, ids=repr)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_condition_on_tasks_that_have_ended_is_decided_at_submission(
    size: int, first: End
) -> None:
    others = ALL_ENDS if size == 2 else ONE_END_FOR_EACH_STATE
    for rest in product(others, repeat=size - 1):
        # Given upstreams that have all ended
        ends = [first, *rest]
        u = Upstreams()
        upstreams = u.submit(ends)
        for task, end in zip(upstreams, ends, strict=True):
            if end is not TIMED_OUT:
                end.happen(u, task)
        u.env.tick(after_s=1.0)
        assert u.env.states(upstreams) == [end.state for end in ends]
        # When tasks name them, one for each kind of condition
        specs = [
            submit_later(u.env, ConditionSpec(upstreams, need, on), follow)
            for need, on, follow in conditions(size)
        ]
        u.env.submit_specs(*specs)
        # Then each is decided at once
        for spec, (need, on, follow) in zip(specs, conditions(size), strict=True):
            hits = [is_hit(end, on, follow) for end in ends]
            state = expected(hits, 0, need, size)
            assert u.env.state(spec.id) is state, (ends, need, on, follow)
            if follow and state is RUNS:
                assert u.env.task(spec.id).engine == u.home
        u.env.quiet()


@pytest.mark.parametrize("first", ALL_ENDS, ids=repr)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_condition_is_decided_by_the_first_end_that_settles_it_and_not_before(
    size: int, first: End
) -> None:
    for rest in product(ENDS_IN_ORDER, repeat=size - 1):
        # Given tasks that wait for upstreams, one for each kind of condition
        ends = [first, *rest]
        u = Upstreams()
        upstreams = u.submit(ends)
        specs = [
            submit_later(u.env, ConditionSpec(upstreams, need, on), follow)
            for need, on, follow in conditions(size)
        ]
        u.env.submit_specs(*specs)
        waiting = {spec.id: c for spec, c in zip(specs, conditions(size), strict=True)}
        assert set(u.env.states(waiting)) == {WAITS}
        for ended in range(1, size + 1):
            # When the upstreams end one by one
            ends[ended - 1].happen(u, upstreams[ended - 1])
            for task, (need, on, follow) in list(waiting.items()):
                # Then each task waits exactly as long as both outcomes are possible
                hits = [is_hit(end, on, follow) for end in ends[:ended]]
                state = expected(hits, size - ended, need, size)
                assert u.env.state(task) is state, (ends, hits, need, on, follow)
                if state is not WAITS:
                    del waiting[task]
        assert not waiting
        u.env.quiet()


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(("need", "on"), list(product([NEED_ALL, 1, 2], ONS)))
def test_the_order_in_which_upstreams_end_does_not_matter(need: int, on: int, follow: bool) -> None:
    for ends in [(RAN, RAISED, REFUSED), (RAN, RAN, RAISED), (CRASHED, RAN, CANCELLED)]:
        states = set()
        for order in permutations(range(3)):
            u = Upstreams()
            upstreams = u.submit(ends)
            task = submit_dependent(u.env, ConditionSpec(upstreams, need, on), follow)
            for n in order:
                ends[n].happen(u, upstreams[n])
            states.add(u.env.state(task))
        assert len(states) == 1, (ends, states)


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("need", [NEED_ALL, 1])
def test_an_empty_condition_is_met(need: int, follow: bool) -> None:
    # Given an engine
    env = Env()
    engine = env.engine()
    # When a task waits for nothing
    task = submit_dependent(env, ConditionSpec([], need), follow)
    # Then it runs
    assert env.said == [env.assign(task, engine)]


def test_an_upstream_named_twice_counts_once() -> None:
    # Given a task that wants two of three names, two of which are the same
    u = Upstreams()
    a, b = u.submit([RAN, RAN])
    task = u.env.submit(after=ConditionSpec([a, a, b], need=2))
    # When the one named twice ends
    u.env.finish(a)
    # Then the task still waits for the other
    assert u.env.state(task) is WAITS
    u.env.finish(b)
    assert u.env.state(task) is RUNS


@pytest.mark.parametrize(
    "condition",
    [
        ConditionSpec([], need=2),
        ConditionSpec([], need=-1),
        ConditionSpec([], on=0),
        ConditionSpec([], on=4),
    ],
)
@pytest.mark.parametrize("follow", [False, True])
def test_a_condition_that_makes_no_sense_is_invalid(condition: ConditionSpec, follow: bool) -> None:
    env = Env()
    task = submit_dependent(env, condition, follow)
    assert_invalid(env, task)


@pytest.mark.parametrize("follow", [False, True])
def test_a_need_greater_than_the_number_of_upstreams_is_invalid(follow: bool) -> None:
    # Given an upstream, named twice
    env = Env()
    a = env.submit()
    # When a task wants two of it
    task = submit_dependent(env, ConditionSpec([a, a], need=2), follow)
    # Then that is invalid, and the upstream is not held by it
    assert_invalid(env, task)
    env.release(a)
    env.cancel(a)
    assert not env.knows(a)


@pytest.mark.parametrize("role", ["inputs", "after", "follow"])
@pytest.mark.parametrize("what", ["unknown", "forgotten", "itself", "later in the batch"])
def test_a_dependency_on_no_known_task_is_invalid_at_once(what: str, role: str) -> None:
    # Given a task that names something that isn't there
    env = Env(hwm=0)
    env.engine()
    gone = env.submit()
    env.finish(gone)
    env.release(gone)
    assert not env.knows(gone)
    last = env.next_id() & (1 << 40) - 1
    upstream = {
        "unknown": task_id(ClientId(77), 5),
        "forgotten": gone,
        "itself": task_id(env.me, last + 1),
        "later in the batch": task_id(env.me, last + 2),
    }[what]
    # When it is submitted, with another task behind it
    names: dict[str, Any] = {role: [upstream]}
    specs = [env.spec(**names), env.spec()]
    env.submit_specs(*specs)
    # Then it is invalid, and the other one runs
    assert_invalid(env, specs[0].id)
    assert env.state(specs[1].id) is RUNS


@pytest.mark.parametrize("role", ["inputs", "follow"])
def test_a_group_has_no_value_and_no_place(role: str) -> None:
    # Given a group
    env = Env()
    group = env.group([env.submit()])
    # When a task wants its value, or to run where it ended
    task = env.submit(**{role: [group]})
    # Then that is invalid
    assert_invalid(env, task)


def test_a_task_waits_for_all_of_its_conditions() -> None:
    # Given a task with data, time and place to wait for
    u = Upstreams()
    data, time, place = u.submit([RAN, RAISED, RAN])
    task = u.env.submit(inputs=[data], after=ConditionSpec([time], on=ON_DONE), follow=[place])
    for upstream, end in [(time, RAISED), (data, RAN)]:
        # When all but the last have been met
        end.happen(u, upstream)
        assert u.env.state(task) is WAITS
    # Then the last one lets it go
    assert placed(u.env.finish(place)) == [(task, u.home)]
    u.env.quiet()


@pytest.mark.parametrize("end", [end for end in ALL_ENDS if end is not RAN])
def test_a_data_edge_needs_success(end: End) -> None:
    # Given a task that needs the values of two
    u = Upstreams()
    other, bad = u.submit([RAN, end])
    task = u.env.submit(inputs=[other, bad])
    # When one of them ends in any other way
    end.happen(u, bad)
    # Then the task is impossible
    assert u.env.state(task) is IMPOSSIBLE
    u.env.quiet()


# --- chains --------------------------------------------------------------------------------------


def test_the_end_of_a_chain_knows_what_went_wrong_first() -> None:
    # Given a chain of five
    env = Env()
    env.engine()
    chain = [env.submit()]
    for _ in range(4):
        chain.append(env.submit(after=[chain[-1]]))
    # When the first fails
    ends = delivered(env.fail(chain[0]))
    # Then each of the others is impossible, and says because of whom
    assert ends == {chain[0]: S.FAILED, **dict.fromkeys(chain[1:], IMPOSSIBLE)}
    for depth, task in enumerate(chain[1:], start=1):
        problem = env.delivered[task].problem
        assert problem is not None
        assert (problem.upstream, problem.root, problem.depth) == (
            chain[depth - 1],
            chain[0],
            depth,
        )
        assert "ValueError" in problem.root_text
    env.quiet()


def test_a_chain_longer_than_any_recursion_ends() -> None:
    # Given a chain of 5,000, whose first task waits for a seat
    env = Env()
    first = env.submit()
    specs = [env.spec(after=[first])]
    for _ in range(5_000):
        specs.append(env.spec(after=[specs[-1].id]))
    env.submit_specs(*specs)
    # When the first is cancelled
    ends = delivered(env.cancel(first))
    # Then all have ended
    assert len(ends) == 5_002
    env.quiet()


def test_a_finalizer_runs_after_whatever_end() -> None:
    # Given a chain that is doomed, and a task that wants to clean up behind all of it
    env = Env()
    engine = env.engine()
    first = env.submit()
    second = env.submit(after=[first])
    third = env.submit(inputs=[second])
    cleanup = env.submit(after=ConditionSpec([first, second, third], on=ON_DONE))
    # When the chain breaks
    said = env.fail(first)
    # Then it runs
    assert placed(said) == [(cleanup, engine)]
    env.quiet()


def test_dependents_of_one_task_run_in_the_order_of_their_submission() -> None:
    # Given ten tasks behind one
    env = Env(hwm=0)
    engine = env.engine()
    first = env.submit()
    dependents = env.submit_many(10, after=[first])
    # When it ends
    said = env.finish(first)
    # Then they are placed in order
    assert placed(said) == [(task, engine) for task in dependents]


def test_a_released_upstream_is_remembered_until_its_last_dependent_ends() -> None:
    # Given an upstream of which nobody holds a future, and a dependent that its end will end
    env = Env()
    env.engine()
    first = env.submit()
    second = env.submit(after=[first])
    env.release(first)
    assert env.knows(first)
    # When it fails
    ends = delivered(env.fail(first))
    # Then both are told, and the upstream is forgotten
    assert ends == {first: S.FAILED, second: IMPOSSIBLE}
    assert not env.knows(first)
    assert env.knows(second)
    env.quiet()


def test_a_released_group_is_forgotten_with_the_dependent_that_its_end_ends() -> None:
    # Given a group that nobody holds, and a task that waits for it
    env = Env()
    env.engine()
    member = env.submit()
    group = env.group([member])
    task = env.submit(after=[group])
    env.release(group)
    assert env.knows(group)
    # When its member fails
    env.fail(member)
    # Then the task is impossible, and the group is forgotten
    assert env.state(task) is IMPOSSIBLE
    assert not env.knows(group)
    env.quiet()
