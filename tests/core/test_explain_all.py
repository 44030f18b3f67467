"""Promise: why nothing runs is told in one sentence, whatever the reason; and if something runs,
nothing of the kind is said."""

from __future__ import annotations

from headway.core.explain import explain, explain_all
from tests.core.env import Env


def headline(env: Env) -> str:
    return explain_all(env.scheduler, env.now).splitlines()[0]


def test_an_idle_cluster_has_nothing_to_run():
    env = Env()
    env.engine()
    assert headline(env) == "nothing runs: there is no task that has not ended"
    task = env.submit()
    env.finish(task)
    assert headline(env) == "nothing runs: there is no task that has not ended"


def test_without_engines_nothing_runs_and_once_one_is_here_it_does():
    env = Env()
    env.submit()
    assert headline(env) == "nothing runs: no engine is here"
    env.engine()
    assert "nothing runs" not in explain_all(env.scheduler, env.now)


def test_no_engine_that_can_run_what_is_ready():
    env = Env()
    env.engines(2)
    env.submit_many(2, resources={"gpu": 1.0})
    assert headline(env) == "nothing runs: no engine that is here can run what is ready (2 tasks)"


def test_engines_that_drain_take_nothing():
    env = Env()
    engine = env.engine()
    env.drain(engine)
    env.submit()
    assert headline(env) == "nothing runs: all engines are draining: they are given no more tasks"


def test_a_pause_between_two_tries_is_a_reason():
    env = Env()
    env.engine()
    task = env.submit(retries=1, backoff_s=60.0)
    heir = env.submit(after=[task])
    env.fail(task)
    assert headline(env) == (
        "nothing runs: none of 2 open tasks is ready: 1 of them between two tries, until the "
        "backoff is over; the others wait for tasks to end"
    )
    assert explain(env.scheduler, task, env.now) in explain_all(env.scheduler, env.now)
    env.tick(61.0)
    env.finish(task)
    env.finish(heir)
    env.quiet()


def test_clients_that_are_held_are_told_of():
    env = Env()
    env.engine()
    env.submit()
    told = explain_all(env.scheduler, env.now, held=2)
    assert "2 clients held: submitting waits there until tasks have ended" in told
    assert "held" not in explain_all(env.scheduler, env.now)


def test_a_group_tells_of_the_first_that_failed_and_the_first_that_has_not_ended():
    env = Env()
    members = env.submit_many(4)
    group = env.group(members)
    env.engine()
    env.finish(members[0])
    env.fail(members[1])
    told = explain(env.scheduler, group, env.now).splitlines()
    assert told[0].endswith("1 of its 4 tasks succeeded, 1 failed, 2 have not ended")
    assert told[1] == f"the first that failed: {explain(env.scheduler, members[1], env.now)}"
    assert told[2] == f"the first that has not ended: {explain(env.scheduler, members[2], env.now)}"
    env.finish(members[2])
    env.finish(members[3])
    assert len(explain(env.scheduler, group, env.now).splitlines()) == 2
