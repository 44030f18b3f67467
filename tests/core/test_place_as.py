"""A journal's placements are placed again, and the scheme is not asked; where they do not fit, the
journal is refused in words."""

from __future__ import annotations

import pytest

from headway.core import events as ev
from headway.core.commands import Command
from headway.core.events import EngineId, TaskId
from headway.core.states import TaskState
from headway.errors import ReplayError
from tests.core.env import Env, placed


def place_as(env: Env, *seats: tuple[TaskId, EngineId]) -> list[Command]:
    out: list[Command] = []
    env.scheduler.place_as(seats, env.now, out)
    return out


@pytest.fixture
def env() -> Env:
    """Two engines that have just joined, and three tasks, the last of which has no room."""
    env = Env(hwm=1)
    env.tasks = env.submit_many(3)  # type: ignore[attr-defined]
    for n in range(2):
        env.scheduler.handle(ev.EngineJoined(EngineId(n), {}), env.now, [])
    return env


def test_tasks_are_seated_where_they_were_and_the_scheme_is_not_asked(env: Env):
    first, second, third = env.tasks  # type: ignore[attr-defined]
    e0, e1 = EngineId(0), EngineId(1)
    out = place_as(env, (first, e0), (second, e1))  # leastload would take e1, the latest, first
    assert placed(out) == [(first, e0), (second, e1)]
    assert [env.task(t).attempt for t in (first, second)] == [1, 1]
    assert env.state(third) is TaskState.READY
    env.quiet()


@pytest.mark.parametrize(
    ("seats", "why"),
    [
        ([(9, 0)], "no such task is known"),
        ([(1, 9)], "no such engine is here"),
        ([(2, 0)], "it is the turn of <Task 1-1 READY attempt=0>"),
        ([(1, 0), (1, 1)], "it is ASSIGNED"),
        ([(1, 0), (2, 0)], "that engine has no room for it (1 of 1)"),
        ([(1, 0)], "<Task 1-2 READY attempt=0> waits, and e1 has room for it"),
        ([], "<Task 1-1 READY attempt=0> waits"),
    ],
)
def test_a_journal_that_does_not_fit_is_told_in_words(env: Env, seats, why: str):
    pairs = [(ev.task_id(env.me, n), EngineId(engine)) for n, engine in seats]
    with pytest.raises(ReplayError) as caught:
        place_as(env, *pairs)
    assert why in str(caught.value)
