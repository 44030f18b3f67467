"""How many engines are wanted: by the time that work takes, never below what runs."""

from __future__ import annotations

import pytest

from headway.core.adaptive import Adaptive, Decision, Look
from headway.core.events import EngineId

E = [EngineId(number) for number in range(8)]


def idle(*since_s: float) -> list[tuple[float, EngineId]]:
    return [(each, E[n]) for n, each in enumerate(since_s)]


@pytest.mark.parametrize(
    ("look", "wanted"),
    [
        pytest.param(Look(0, 0.0, 1, idle(0.0)), 1, id="nothing waits"),
        pytest.param(Look(10_000, 0.2, 1), 1, id="many tasks, little work"),
        pytest.param(Look(3, 10_800.0, 1), 4, id="three of an hour: one each beside what runs"),
        pytest.param(Look(100, 1_000.0, 2), 8, id="more than the most"),
        pytest.param(Look(40, 9.0, 2), 5, id="what begins all in two seconds"),
        pytest.param(Look(1, 0.0, 0), 1, id="no engine, and nothing learned"),
        pytest.param(Look(0, 0.0, 6), 6, id="all that are there run something"),
        pytest.param(Look(0, 0.0, 6, idle(0.0, 0.0)), 4, id="as many as run something"),
    ],
)
def test_so_many_engines_are_wanted(look: Look, wanted: int):
    assert Adaptive(1, 8).wanted(look) == wanted


def test_what_is_being_started_is_not_asked_for_again():
    policy = Adaptive(1, 8)
    assert policy.decide(Look(3, 300.0, 1), 0.0) == Decision(3, [])
    assert policy.decide(Look(3, 300.0, 1, starting=3), 1.0) == Decision(0, [])


def test_an_engine_is_given_back_when_it_has_idled_for_long_and_never_below_the_least():
    policy = Adaptive(2, 8)
    engines = idle(0.0, 10.0, 25.0, 29.0)
    assert policy.decide(Look(0, 0.0, 5, engines), 29.9) == Decision(0, [])
    assert policy.decide(Look(0, 0.0, 5, engines), 45.0) == Decision(0, [E[0], E[1]])
    assert policy.decide(Look(0, 0.0, 5, engines), 99.0) == Decision(0, [E[0], E[1], E[2]])
    assert policy.decide(Look(0, 0.0, 2, idle(0.0, 0.0)), 99.0) == Decision(0, [])


def test_below_the_least_engines_are_started_though_nothing_waits():
    assert Adaptive(3, 8).decide(Look(0, 0.0, 1), 0.0) == Decision(2, [])


def test_above_the_most_the_idle_are_given_back_and_no_other():
    assert Adaptive(1, 2).decide(Look(0, 0.0, 4, idle(0.0)), 99.0) == Decision(0, [E[0]])


def test_starts_that_fail_are_tried_again_later_and_later_until_one_succeeds():
    policy, look = Adaptive(1, 8), Look(3, 300.0, 1)
    pauses = [policy.start_failed(0.0) for _ in range(12)]
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == 300.0
    assert policy.decide(look, 299.0) == Decision(0, [])
    assert policy.decide(look, 300.0) == Decision(3, [])
    policy.start_failed(0.0)
    policy.started()
    assert policy.decide(look, 0.0) == Decision(3, [])
    assert policy.start_failed(0.0) == 1.0
