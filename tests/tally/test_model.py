"""Promise: counts by label and state are true at every moment, a rate and a time left are told
only where they can be, and what is shown stays small whatever is counted."""

from __future__ import annotations

import pytest

from headway.tally.model import (
    KEPT,
    LABELS_MAX,
    OPEN,
    OTHERS,
    READY,
    RUNNING,
    SKIPPED,
    WAITING,
    Tally,
    is_bad,
)


def test_tasks_are_counted_by_label_and_state():
    tally = Tally(0.0)
    tally.add("clean", 3)
    tally.add("", 2)
    tally.move("clean", OPEN, "running", 1.0)
    tally.move("clean", OPEN, "failed", 1.0)
    tally.move("", OPEN, "succeeded", 1.0, 2)

    seen = tally.view(2.0)
    assert [(row.label, row.total, row.ended) for row in seen.rows] == [
        ("clean", 3, 1),
        ("tasks", 2, 2),
    ]
    assert seen.rows[0].counts == {OPEN: 1, "running": 1, "failed": 1}
    assert seen.counts == {OPEN: 1, "running": 1, "failed": 1, "succeeded": 2}
    assert (seen.ended, seen.total, seen.is_over) == (3, 5, False)


def test_the_time_left_is_what_the_rest_takes_at_the_rate_of_the_window():
    tally = Tally(0.0)
    tally.add("a", 100)
    for second in range(1, 41):  # one a second for 10 s, then two a second
        tally.move("a", OPEN, "succeeded", float(second), 1 if second <= 10 else 2)

    seen = tally.view(40.0)
    assert seen.rate == pytest.approx(2.0, rel=0.05)
    assert seen.left_s == pytest.approx(30 / 2.0, rel=0.05)
    # With nothing more for another 30 s, the rate of the window falls
    assert tally.view(70.0).rate == pytest.approx(0.0, abs=0.1)


def test_no_rate_is_told_before_there_is_one():
    tally = Tally(5.0, total=10)
    tally.add("a", 2)
    assert (tally.view(5.0).rate, tally.view(5.0).left_s) == (None, None)
    tally.move("a", OPEN, "succeeded", 5.1)
    assert tally.view(5.2).rate is None
    # A second without an end: a rate of none, which leaves no time to tell
    idle = Tally(0.0, total=1)
    idle.add("a")
    assert (idle.view(9.0).rate, idle.view(9.0).left_s) == (0.0, None)


def test_at_the_end_the_whole_is_told_and_time_stands_still():
    tally = Tally(0.0)
    tally.add("a", 4)
    tally.move("a", OPEN, "succeeded", 1.0, 3)
    tally.move("a", OPEN, "lost", 2.0)

    seen = tally.view(60.0)
    assert seen.is_over
    assert (seen.elapsed_s, seen.rate, seen.left_s) == (2.0, 2.0, 0.0)


def test_what_is_expected_counts_until_all_were_added():
    tally = Tally(0.0, total=100)
    tally.add("a", 2)
    tally.move("a", OPEN, "succeeded", 1.0, 2)
    assert (tally.view(1.0).total, tally.view(1.0).is_over) == (100, False)
    tally.all_added()  # fewer came than were expected
    assert (tally.view(1.0).total, tally.view(1.0).is_over) == (2, True)


def test_a_task_that_ended_and_runs_again_is_open_again():
    tally = Tally(0.0)
    tally.add("a")
    tally.move("a", OPEN, "succeeded", 1.0)
    tally.move("a", "succeeded", "waiting", 2.0)
    seen = tally.view(3.0)
    assert (seen.ended, seen.is_over, seen.counts) == (0, False, {"waiting": 1})
    assert seen.rate == 0.0


def test_a_move_of_tasks_that_are_not_there_is_refused():
    tally = Tally(0.0)
    tally.add("a")
    with pytest.raises(ValueError, match="0 tasks of 'a' are running, not 1"):
        tally.move("a", "running", "failed", 1.0)
    assert tally.view(1.0).counts == {OPEN: 1}


def test_however_many_labels_few_are_shown_and_not_all_are_told_apart():
    tally = Tally(0.0)
    for number in range(LABELS_MAX + 50):
        tally.add(f"label {number}", number % 3 + 1)
    tally.move("label 5000", OPEN, "failed", 1.0)

    seen = tally.view(1.0, rows_max=4)
    assert len(seen.rows) == 4
    assert seen.labels_more == LABELS_MAX + 1 - 4
    assert OTHERS in [row.label for row in seen.rows]  # it has the most that are open
    assert [row.total for row in seen.rows if row.label != OTHERS] == [3, 3, 3]
    assert seen.total == sum(number % 3 + 1 for number in range(LABELS_MAX + 50))


def test_what_is_kept_or_was_not_needed_has_no_rate():
    tally = Tally(0.0)
    tally.add("a", 4, READY)
    tally.move("a", READY, KEPT, 1.0)
    tally.move("a", READY, SKIPPED, 1.0)
    assert tally.view(2.0).rate == 0.0
    tally.move("a", READY, "failed", 4.0)

    seen = tally.view(4.0)
    assert (seen.ended, seen.bad, seen.rate, seen.left_s) == (3, 1, 0.25, 4.0)
    assert seen.ends == {KEPT: 1, SKIPPED: 1, "failed": 1}
    tally.move("a", READY, "succeeded", 8.0)
    assert (tally.view(9.0).rate, tally.view(9.0).rows[0].bad) == (0.25, 1)


def test_the_time_left_goes_by_work_where_it_is_known_of_all():
    tally = Tally(0.0)
    for label, work_s in (("a", 8.0), ("b", 1.0), ("a", 1.0), ("b", 6.0)):
        tally.add(label, 1, WAITING, work_s)
    tally.end("a", "succeeded", 4.0, 8.0)
    tally.end("b", KEPT, 4.0, 1.0)
    assert tally.view(4.0).left_s == pytest.approx(3.5)
    # What can't run has done none of it, and leaves none
    tally.end("b", "impossible", 4.0, 6.0)
    assert tally.view(4.0).left_s == pytest.approx(0.5)
    # A value that was lost is made again
    tally.move("a", "succeeded", READY, 4.0, 1, 8.0)
    tally.end("a", "succeeded", 8.0, 1.0)
    assert tally.view(8.0).left_s == pytest.approx(64.0)
    # Of one more it is not known: by number, then
    tally.add("c")
    assert tally.view(8.0).left_s == pytest.approx(2 / tally.view(8.0).rate)


def test_what_runs_is_seen_now_and_then_and_what_ended_since_is_not_brought_back():
    tally = Tally(0.0)
    tally.add("a", 3, READY)
    tally.add("a", 2, WAITING)
    tally.add("b", 1, READY)
    tally.now_running({"a": 2, "b": 9, "unheard of": 1})
    assert tally.view(1.0).counts == {RUNNING: 3, READY: 1, WAITING: 2}
    # The ends of what runs come first
    for _ in range(4):
        tally.end("a", "succeeded", 1.0)
    assert tally.view(1.0).rows[0].counts == {"succeeded": 4, WAITING: 1}
    tally.now_running({"a": 2})
    assert tally.view(1.0).counts == {"succeeded": 4, READY: 1, WAITING: 1}
    tally.end("a", "failed", 2.0)
    with pytest.raises(ValueError, match="0 tasks of 'a' are open"):
        tally.end("a", "failed", 2.0)


@pytest.mark.parametrize(
    ("state", "bad"), [(KEPT, False), (SKIPPED, False), ("lost", True), (OPEN, False)]
)
def test_some_ends_are_bad(state: str, bad: bool):
    assert is_bad(state) is bad
