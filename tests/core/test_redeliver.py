"""A client that lost its connection and returns is told again how its tasks ended."""

from __future__ import annotations

import pytest

from headway.core import events as ev
from headway.core.commands import Command, Deliver
from headway.core.events import ClientId, TaskId
from headway.core.problems import KIND_LOST
from headway.core.states import TaskState
from tests.core.ends import ALL_ENDS, End, Upstreams
from tests.core.env import Env

FAILED, LOST, SUCCEEDED = TaskState.FAILED, TaskState.LOST, TaskState.SUCCEEDED


def redeliver(env: Env, *tasks: TaskId, client: ClientId | None = None) -> list[Command]:
    out: list[Command] = []
    env.scheduler.redeliver(client or env.me, tasks, out)
    env.quiet()
    return out


@pytest.mark.parametrize("end", ALL_ENDS)
def test_an_end_is_told_again_word_for_word(end: End):
    upstreams = Upstreams()
    task = end.submit(upstreams)
    end.happen(upstreams, task)
    env = upstreams.env
    assert redeliver(env, task) == redeliver(env, task) == [env.delivered[task]]


def test_a_result_and_an_exception_are_kept_until_their_future_is_gone():
    env = Env()
    env.engines(2)
    good, bad = env.submit_many(2)
    env.finish(good, b"result")
    env.fail(bad)
    assert [c.payload for c in redeliver(env, good, bad) if isinstance(c, Deliver)] == [
        b"result",
        b"exception",
    ]
    env.release(good, bad)
    assert [c.state for c in redeliver(env, good, bad) if isinstance(c, Deliver)] == [LOST, LOST]


def test_an_exception_that_is_kept_is_no_value_for_an_argument():
    env = Env(hwm=0)
    env.engine()
    bad = env.submit()
    waits = env.submit(inputs=[bad])
    env.fail(bad)
    late = env.submit(inputs=[bad])
    assert env.states([waits, late]) == [TaskState.IMPOSSIBLE] * 2
    assert env.state(env.submit(after=ev.ConditionSpec([bad], on=ev.ON_FAILURE))) is (
        TaskState.ASSIGNED
    )


def test_a_task_that_has_not_ended_is_told_when_it_ends():
    env = Env()
    env.engine()
    running, ready = env.submit_many(2)
    waits = env.submit(after=[running])
    assert redeliver(env, running, ready, waits) == []
    env.finish(running)
    assert env.delivered[running].state is SUCCEEDED


def test_a_task_that_is_not_known_is_lost_and_the_client_is_told_why():
    env = Env()
    never = ev.task_id(env.me, 77)
    (said,) = redeliver(env, never)
    assert isinstance(said, Deliver)
    assert (said.client, said.task, said.state, said.payload) == (env.me, never, LOST, None)
    assert said.problem is not None
    assert said.problem.kind == KIND_LOST
    assert "1-77 is not known to the scheduler" in said.problem.text


def test_a_client_hears_nothing_of_the_tasks_of_others():
    env = Env()
    env.engine()
    other = env.client()
    theirs = env.submit(client=other)
    env.finish(theirs, b"secret")
    (said,) = redeliver(env, theirs)
    assert isinstance(said, Deliver)
    assert (said.client, said.state, said.payload) == (env.me, LOST, None)
    assert redeliver(env, theirs, client=other) == [env.delivered[theirs]]
