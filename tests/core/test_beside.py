"""Promise: a task with large inputs runs beside them if an engine there is free, and else wherever
there is room; the scheme decides all the rest."""

from __future__ import annotations

from tests.core.env import Env


def two_hosts(hwm=1, engines_each=2):
    """Engines 0, 1 beside the store "a", and 2, 3 beside "b"."""
    env = Env(hwm=hwm)
    for store in "ab":
        for _ in range(engines_each):
            env.engine(store=store)
    return env


def made(env, store, size=1 << 20):
    """A task whose value is in that store, wherever it ran."""
    task = env.submit()
    env.store(task, size, store)
    return task


def where(env, task):
    return env.task(task).engine


def test_a_task_goes_to_a_free_engine_beside_its_large_input():
    env = two_hosts()
    for store, engines in (("a", {0, 1}), ("b", {2, 3})) * 3:
        user = env.submit(inputs=[made(env, store)])
        assert where(env, user) in engines
        env.finish(user)


def test_the_most_bytes_count():
    env = two_hosts()
    inputs = [made(env, "a", 100), made(env, "b", 60), made(env, "b", 60)]
    assert where(env, env.submit(inputs=inputs)) in {2, 3}


def test_it_does_not_wait_for_an_engine_that_is_busy():
    env = two_hosts(engines_each=1)
    source = made(env, "a")
    users = [env.submit(inputs=[source]) for _ in range(2)]
    assert [where(env, user) for user in users] == [0, 1]


def test_an_engine_with_less_to_do_is_better_than_one_beside_the_input():
    env = two_hosts(hwm=2, engines_each=1)
    source = made(env, "a")
    first = env.submit(inputs=[source])
    second = env.submit(inputs=[source])
    assert (where(env, first), where(env, second)) == (0, 1)
    assert where(env, env.submit(inputs=[source])) == 0


def test_where_it_may_not_run_it_does_not_go():
    env = two_hosts()
    user = env.submit(inputs=[made(env, "a")], targets=[3])
    assert where(env, user) == 3


def test_the_engines_of_a_host_share_the_tasks_beside_their_inputs():
    env = two_hosts()
    source = made(env, "b")
    users = [env.submit(inputs=[source]) for _ in range(2)]
    assert {where(env, user) for user in users} == {2, 3}


def test_an_engine_that_left_is_not_thought_of():
    env = two_hosts()
    source = made(env, "a")
    env.leave(0)
    env.leave(1)
    assert where(env, env.submit(inputs=[source])) in {2, 3}


def test_one_among_a_hundred_is_found():
    env = Env(hwm=1)
    for _ in range(100):
        env.engine(store="a")
    env.engine(store="b")
    assert where(env, env.submit(inputs=[made(env, "b")])) == 100
