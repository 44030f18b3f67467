"""Simulated clusters under trouble: seeds that once failed, each with its story; and some more.

`make sim SEEDS=10000` runs many more.
"""

from __future__ import annotations

import pytest

from headway.sim.faults import Faults
from headway.sim.run import run

#: A seed that failed, and what was wrong.
STORIES = {
    42: "two messages that arrive at the same time changed places, by rounding (in the simulator)",
    61: "lanes heard late that an engine had more room",
    88: "an engine that was given up with its nanny, and whose connection held, was never told: "
    "it waited for tasks for ever",
    476: "a hello that came twice took back tasks that the engine was sent in between, so that "
    "they ran twice",
    903: "a run ended before the task of a client that had gone",
    2220: "an answer to a recall that came twice took back the next attempt too",
    2430: "a batch that lay unsent when a connection was cut came before the hello on the next "
    "one: the client was refused for the gap",
}


@pytest.mark.parametrize("seed", STORIES)
def test_a_seed_that_failed_once_does_not_again(seed: int):
    assert run(seed).violation == ""


@pytest.mark.parametrize("seed", range(10_000, 10_030))
def test_a_cluster_in_trouble_loses_nothing_and_drains_once_all_heals(seed: int):
    assert run(seed).violation == ""


def test_the_same_seed_is_the_same_run():
    first, second = run(7), run(7)
    assert first == second
    assert first.log


def test_a_world_without_trouble_has_one_controller_and_no_surprise():
    outcome = run(3, Faults(until_s=5.0))
    assert (outcome.violation, outcome.controllers, outcome.faults) == ("", 1, {"until_s": 5.0})
    assert outcome.runs > 0
