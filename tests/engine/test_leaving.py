"""Promise: a nanny waits for what runs as long as it was told to, and not beyond its end."""

from __future__ import annotations

from headway.engine.leaving import NEVER_S, Leaving


def test_one_that_was_not_told_to_leave_stays():
    leaving = Leaving(20.0)

    assert not leaving.look(1e9)
    assert (leaving.reason, leaving.is_over(1e9), leaving.due_s()) == ("", False, NEVER_S)


def test_it_waits_for_what_runs_and_no_longer():
    leaving = Leaving(20.0)
    leaving.order("told", 100.0)

    assert leaving.reason == "told"
    assert leaving.due_s() == 120.0
    assert not leaving.is_over(119.9)
    assert leaving.is_over(120.0)


def test_the_same_order_again_changes_nothing_unless_it_is_urgent():
    leaving = Leaving(20.0)
    leaving.order("told", 100.0)
    leaving.order("told again", 110.0)
    assert (leaving.reason, leaving.due_s()) == ("told", 120.0)

    leaving.order("Ctrl-C", 111.0, is_urgent=True)
    assert leaving.is_over(111.0)


def test_it_begins_to_leave_before_its_end():
    leaving = Leaving(20.0, ends_at_s=100.0)

    assert leaving.due_s() == 80.0
    assert not leaving.look(79.9)
    assert leaving.look(80.0)
    assert not leaving.look(81.0)  # once
    assert leaving.due_s() == 100.0


def test_an_order_near_the_end_gives_no_more_time():
    leaving = Leaving(20.0, ends_at_s=100.0)
    leaving.order("told", 79.0)
    assert leaving.due_s() == 99.0

    late = Leaving(20.0, ends_at_s=100.0)
    late.order("told", 95.0)
    assert late.due_s() == 100.0
