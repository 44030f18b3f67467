"""Promise: what progress says is short, ordered, and as people say it."""

from __future__ import annotations

import pytest

from headway.tally.model import KEPT, OPEN, READY, RUNNING, WAITING, Tally
from headway.tally.words import ends_in_words, in_words, printable, rate_text, span, states_in_words


def test_a_line_says_what_went_wrong_what_goes_on_how_fast_and_how_long_yet():
    tally = Tally(0.0)
    tally.add("a", 8, READY)
    tally.add("b", 2, WAITING)
    tally.move("a", READY, "lost", 1.0)
    tally.move("a", READY, "succeeded", 2.0, 2)
    tally.move("a", READY, KEPT, 2.0)
    tally.now_running({"a": 1})

    seen = tally.view(3.0)
    told = "4 of 10 ended (1 lost), 1 running, 3 ready, 2 waiting, 1.0/s, 6.0 s left"
    assert in_words(seen) == told
    assert ends_in_words(seen) == "2 succeeded, 1 lost, 1 kept"
    told = "1 kept, 1 lost, 1 running, 3 ready"
    assert states_in_words(seen.rows[0].counts) == told
    assert states_in_words({OPEN: 1, "succeeded": 2}, also_succeeded=True) == "2 succeeded, 1 open"


def test_at_the_end_a_line_says_how_long_it_took():
    tally = Tally(0.0)
    tally.add("a", 4)
    tally.move("a", OPEN, "succeeded", 1.0, 3)
    tally.move("a", OPEN, "lost", 2.0)
    assert in_words(tally.view(60.0)) == "4 of 4 ended (1 lost), 2.0/s, in 2.0 s"


def test_what_runs_is_told_before_what_could():
    assert states_in_words({WAITING: 1, READY: 2, RUNNING: 3}) == "3 running, 2 ready, 1 waiting"


@pytest.mark.parametrize(
    ("per_s", "told"),
    [
        (0.0, "0/s"), (1_234.5, "1,234/s"), (12.34, "12.3/s"), (1.0, "1.0/s"), (0.5, "30.0/min"),
        (0.03, "1.8/min"), (0.01, "36.0/h"),
    ],
)  # fmt: skip
def test_a_slow_rate_is_told_by_the_minute_or_the_hour(per_s: float, told: str):
    assert rate_text(per_s) == told


def test_a_label_can_steer_no_terminal():
    assert printable("a\x1b[2Jb\n c") == "a?[2Jb c"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, ""), (0.04, "0.0 s"), (9.96, "10.0 s"), (12.4, "12 s"), (75, "1:15"),
        (3_661, "1:01:01"), (86_400 * 2 + 61, "2 d 0:01:01"),
    ],
)  # fmt: skip
def test_a_span_is_told_as_people_do(seconds: float | None, told: str):
    assert span(seconds) == told
