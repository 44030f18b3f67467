"""Simulated clusters under trouble: seeds that once failed, each with its story; and some more.

`make sim SEEDS=10000` runs many more.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from headway.sim.faults import Faults, draw
from headway.sim.run import LARGE_FROM, LEFT_FROM, LIMITS_FROM, NESTED_FROM, run

#: A seed that failed, and what was wrong.
STORIES = {
    289: "a hello that came twice took back tasks that the engine was sent in between, so that "
    "they ran twice",
    988: "a client that had been given up was told so once: that was lost, and it waited for ever",
    2018: "the same, as another client's loss",
    2381: "the same, with another cut",
    11803: "the copy of a hello that came after its client had been given up made a new client of "
    "it, whose tasks were then refused; that answer was lost, and it waited for ever",
}


@pytest.mark.parametrize("seed", STORIES)
def test_a_seed_that_failed_once_does_not_again(seed: int):
    # Without the kinds of trouble that were unknown at the time: they would make another story.
    trouble = draw(Random(f"faults {seed}"))
    old = replace(trouble, drop=0.0, reorder=0.0, torn=0.0, clock_jump=0.0, run_timeout=0.0)
    assert run(seed, old).violation == ""


@pytest.mark.parametrize("seed", range(10_000, 10_030))
def test_a_cluster_in_trouble_loses_nothing_and_drains_once_all_heals(seed: int):
    assert run(seed).violation == ""


@pytest.mark.parametrize("seed", [1_000_118, *range(LARGE_FROM, LARGE_FROM + 25)])
def test_large_values_that_get_lost_are_made_again_and_none_is_left(seed: int):
    """1,000,118: a value of an engine whose death the controller heard of after its nanny had taken
    stock stayed for good."""
    assert run(seed).violation == ""


@pytest.mark.parametrize("seed", range(LIMITS_FROM, LIMITS_FROM + 12))
def test_limits_are_never_passed_and_hold_nobody_up_for_ever(seed: int):
    assert run(seed).violation == ""


@pytest.mark.parametrize("seed", range(LEFT_FROM, LEFT_FROM + 12))
def test_what_clients_left_behind_ends_though_they_are_gone(seed: int):
    assert run(seed).violation == ""


@pytest.mark.parametrize("seed", range(NESTED_FROM, NESTED_FROM + 15))
def test_tasks_that_wait_for_tasks_of_their_own_end_and_none_is_left(seed: int):
    assert run(seed).violation == ""


def test_the_same_seed_is_the_same_run():
    first, second = run(7), run(7)
    assert first == second
    assert first.log


def test_a_world_without_trouble_has_one_controller_and_no_surprise():
    outcome = run(3, Faults(until_s=5.0))
    assert (outcome.violation, outcome.controllers, outcome.faults) == ("", 1, {"until_s": 5.0})
    assert outcome.runs > 0
