"""Promise: a clock that is ahead is found out by what it did not know, within what it says."""

from __future__ import annotations

from random import Random

import pytest

from headway.traces.clocks import Ahead, Bounds


def test_a_clock_of_another_host_is_found_within_the_error_that_is_said():
    rng = Random(3)
    for ahead_s in (-7200.0, -0.25, 0.0, 3.0, 1e6):
        bounds, at_s = Bounds(), 100.0
        for _ in range(50):
            sent_s, run_s, told_s = rng.random() / 100, rng.random(), rng.random() / 100
            started_s = at_s + sent_s
            ended_s = started_s + run_s
            bounds.note(at_s, started_s + ahead_s, ended_s + ahead_s, ended_s + told_s)
            at_s += 1.0

        found = bounds.ahead(likely_s=12.5)

        assert abs(found.by_s - ahead_s) <= found.error_s + 1e-9
        assert found.error_s < 0.005


def test_what_is_likely_is_taken_where_nothing_contradicts_it():
    bounds = Bounds()
    assert bounds.ahead(4.0) == Ahead(4.0, 0.0)
    bounds.note(10.0, 14.1, 15.0, 11.2)
    assert bounds.ahead(4.0) == Ahead(4.0, 0.0)
    assert bounds.ahead(0.0).by_s == pytest.approx(3.95)


def test_a_clock_that_was_set_meanwhile_has_the_error_of_that():
    bounds = Bounds()
    bounds.note(10.0, 10.1, 10.2, 10.3)
    bounds.note(20.0, 25.1, 25.2, 20.3)
    found = bounds.ahead(0.0)
    assert 0.0 < found.by_s < 5.1
    assert found.error_s > 2.3
