"""Promise: a cancel of what is queued never touches a task that has begun, and forgets none.

Whether a task on an engine has begun, the engine alone knows: it is asked to give the task back.
"""

from __future__ import annotations

from headway.core import events as ev
from headway.core.commands import Recall, StopTask
from headway.core.explain import explain
from headway.core.states import TaskState
from tests.core.env import Env, delivered

S = TaskState


def queued_on_an_engine(**options):
    """Two tasks on one engine, and one that waits for it."""
    env = Env(hwm=2)
    engine = env.engine()
    first, second, third = env.submit_many(3, **options)
    return env, engine, first, second, third


def test_what_is_on_no_engine_is_cancelled_at_once_and_what_is_on_one_is_asked_back():
    env, engine, first, second, third = queued_on_an_engine()
    said = env.cancel(first, second, third, queued_only=True)
    assert delivered(said) == {third: S.CANCELLED}
    assert [c for c in said if isinstance(c, Recall)] == [
        Recall(engine, [first]),
        Recall(engine, [second]),
    ]
    assert "unless it has begun" in explain(env.scheduler, first, env.now)
    # When the engine says that it has begun the first
    said = env.give_back(engine, second, begun=[first])
    # Then the second is cancelled, and the first goes on
    assert delivered(said) == {second: S.CANCELLED}
    assert "unless" not in explain(env.scheduler, first, env.now)
    assert delivered(env.finish(first)) == {first: S.SUCCEEDED}
    env.quiet()


def test_a_task_that_is_known_to_run_is_not_even_asked_for():
    env, _, first, _, _ = queued_on_an_engine()
    env.start(first)
    assert env.cancel(first, queued_only=True) == []
    assert env.state(first) is S.RUNNING
    # And a cancel that means it interrupts it
    assert [type(c) for c in env.cancel(first)] == [StopTask]
    assert env.cancel(first, queued_only=True) == []


def test_asking_twice_is_asking_once():
    env, engine, first, _, _ = queued_on_an_engine()
    assert env.cancel(first, queued_only=True) == [Recall(engine, [first])]
    assert env.cancel(first, queued_only=True) == []


def test_a_task_that_had_begun_keeps_its_retries():
    env, engine, first, _, _ = queued_on_an_engine(retries=1)
    env.cancel(first, queued_only=True)
    # When it raises, before or after the engine has said that it had begun
    env.fail(first)
    env.give_back(engine, begun=[first])
    # Then it is tried again, and it is no longer in question
    assert env.state(first) is S.ASSIGNED
    assert "unless" not in explain(env.scheduler, first, env.now)
    assert delivered(env.give_back(engine, first)) == {}


def test_when_the_engine_dies_what_had_begun_is_repeated_and_the_rest_is_cancelled():
    env, engine, first, second, _ = queued_on_an_engine()
    env.cancel(first, second, queued_only=True)
    assert delivered(env.kill(engine, started=first)) == {second: S.CANCELLED}
    assert env.state(first) is S.READY


def test_when_nobody_knows_what_had_begun_nothing_is_cancelled():
    env, engine, first, second, _ = queued_on_an_engine()
    env.cancel(first, second, queued_only=True)
    assert delivered(env.kill(engine, known=False)) == {}
    assert env.states([first, second]) == [S.READY, S.READY]


def test_what_is_recalled_for_another_reason_meanwhile_is_cancelled_too():
    env, engine, first, second, _ = queued_on_an_engine()
    env.drain(engine)
    env.cancel(second, queued_only=True)
    assert delivered(env.give_back(engine, second, begun=[first])) == {second: S.CANCELLED}
    assert env.give_back(engine, begun=[second]) == []


def test_a_client_that_leaves_drops_what_it_had_asked_back():
    env, _, first, _, _ = queued_on_an_engine()
    env.cancel(first, queued_only=True)
    said = env.tell(ev.ClientLeft(env.me))
    assert StopTask(env.task(first).engine, first) in said
