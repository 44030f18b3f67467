"""What the size of a cluster goes by, and what is done about it: with a scheduler, and a fleet that
the test plays."""

from __future__ import annotations

import pytest

from headway.controller.scaling import Scaling
from headway.core import events as ev
from headway.core.events import EngineId
from headway.core.limits import Limit
from tests.core.env import Env


class PlayedFleet:
    """Notes what is asked for. `failure` is why it starts nothing."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.asked: list[int] = []
        self.given_back: list[EngineId] = []
        self.failure = ""

    def start_engines(self, count: int) -> str:
        if self.failure:
            raise LookupError(self.failure)
        self.asked.append(count)
        return ""

    def give_back(self, engine: EngineId, now: float) -> None:
        assert not self.env.scheduler.engines[engine].assigned
        self.given_back.append(engine)
        self.env.drain(engine)


@pytest.fixture
def env() -> Env:
    env = Env(hwm=1)
    env.engine()
    return env


@pytest.fixture
def fleet(env: Env) -> PlayedFleet:
    return PlayedFleet(env)


@pytest.fixture
def scaling(env: Env, fleet: PlayedFleet) -> Scaling:
    made = Scaling(env.scheduler, fleet)
    made.set_bounds(1, 4)
    return made


def look(scaling: Scaling, env: Env, after_s: float = 0.0) -> str:
    env.now += after_s
    return scaling.look(env.now)


def learn(scaling: Scaling, env: Env, run_s: float) -> None:
    task = env.submit()
    outcome = env.outcome(task, ev.RAN)
    outcome.run_s = run_s
    scaling.ran([outcome])
    env.finish(task)


def test_by_learned_durations_and_not_by_counts(scaling: Scaling, env: Env, fleet: PlayedFleet):
    learn(scaling, env, 0.0001)
    env.submit_many(1_000)
    look(scaling, env)
    assert fleet.asked == []
    for _ in range(60):  # the function takes longer now
        scaling.ran([_slow(env)])
    look(scaling, env)
    assert fleet.asked == [3]
    look(scaling, env, 1.0)  # they are on their way
    assert fleet.asked == [3]


def _slow(env: Env) -> ev.Outcome:
    (task,) = env.scheduler.engines[EngineId(0)].assigned
    outcome = env.outcome(task, ev.RAN)
    outcome.run_s = 5.0
    return outcome


def test_of_what_has_never_ended_it_is_known_how_long_it_has_run(
    scaling: Scaling, env: Env, fleet: PlayedFleet
):
    env.submit_many(4)
    look(scaling, env)
    assert fleet.asked == []
    look(scaling, env, 1.0)  # three wait, of a second and more: two engines are enough for that
    assert fleet.asked == [1]


def test_what_a_limit_holds_up_is_no_reason_for_an_engine(
    scaling: Scaling, env: Env, fleet: PlayedFleet
):
    learn(scaling, env, 100.0)
    env.tell(ev.LimitSet("db", Limit(at_once=1)))
    env.submit_many(9, tags=["db"])
    look(scaling, env)
    assert fleet.asked == []


def test_engines_are_given_back_that_idle_and_no_other(
    scaling: Scaling, env: Env, fleet: PlayedFleet
):
    idle = [env.engine(), env.engine()]
    busy = env.submit()
    assert env.task(busy).engine is not None
    look(scaling, env, 100.0)
    look(scaling, env, 31.0)
    running = env.task(busy).engine
    assert running not in fleet.given_back
    assert set(fleet.given_back) == {EngineId(0), *idle} - {running}


def test_starts_that_fail_are_said_once_and_tried_again_later(
    scaling: Scaling, env: Env, fleet: PlayedFleet
):
    learn(scaling, env, 100.0)
    env.submit_many(9)
    fleet.failure = "no nanny is here"
    assert look(scaling, env) == (
        "no nanny is here; it is tried again in 1 s, and then less and less often"
    )
    assert look(scaling, env, 1.0) == ""  # it failed again, and in 2 s there is another try
    fleet.failure = ""
    look(scaling, env, 1.0)
    assert fleet.asked == []
    look(scaling, env, 1.0)
    assert fleet.asked == [3]
    said = look(scaling, env, 61.0)
    assert said.startswith("3 of the engines that were asked for did not join")


def test_without_bounds_nothing_is_done(env: Env, fleet: PlayedFleet):
    scaling = Scaling(env.scheduler, fleet)
    env.submit_many(99)
    assert scaling.look(999.0) == ""
    assert not scaling.is_on
    with pytest.raises(ValueError, match="can't have 3 to 2 engines"):
        scaling.set_bounds(3, 2)
    with pytest.raises(ValueError, match="can't have 0 to 0 engines"):
        scaling.set_bounds(0, 0)
    assert fleet.asked == []


def test_with_none_at_least_all_are_given_back_and_one_comes_when_a_task_waits():
    env = Env(hwm=1)
    fleet = PlayedFleet(env)
    scaling = Scaling(env.scheduler, fleet)
    scaling.set_bounds(0, 4)
    look(scaling, env)
    assert fleet.asked == []
    task = env.submit()
    look(scaling, env)
    assert fleet.asked == [1]
    engine = env.engine()
    look(scaling, env)
    env.finish(task)
    look(scaling, env, 1.0)
    look(scaling, env, 60.0)
    assert fleet.given_back == [engine]


def test_those_that_stand_in_for_others_are_no_part_of_it(
    scaling: Scaling, env: Env, fleet: PlayedFleet
):
    env.tell(ev.EngineJoined(EngineId(9), {}, stands_in=True))
    look(scaling, env)
    look(scaling, env, 100.0)
    assert fleet.given_back == []
