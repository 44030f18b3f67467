"""A kind of trouble is logged once, then counted; no flood, and no byte of a peer's as it came."""

from __future__ import annotations

import logging

import pytest

from headway.ipyparallel.complaints import Complaints


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.levels.append(record.levelno)
        self.lines.append(record.getMessage())


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def log(kept: Kept) -> logging.Logger:
    log = logging.Logger("complaints")
    log.addHandler(kept)
    return log


def test_the_first_of_each_kind_is_logged_at_once_and_at_its_level(
    log: logging.Logger, kept: Kept
) -> None:
    # given
    complaints = Complaints(log)
    # when
    complaints.say("unsigned", "from a", 0.0)
    complaints.say("wrong signature", "from b", 0.0, logging.ERROR)
    # then
    assert kept.lines == ["unsigned: from a", "wrong signature: from b"]
    assert kept.levels == [logging.WARNING, logging.ERROR]


def test_its_like_is_counted_and_told_with_the_next_that_is_logged(
    log: logging.Logger, kept: Kept
) -> None:
    # given
    complaints = Complaints(log, again_after_s=60.0)
    complaints.say("unsigned", "first", 1000.0)
    # when
    for n in range(7):
        complaints.say("unsigned", f"like it {n}", 1001.0 + n)
    complaints.say("unsigned", "just before", 1059.9)
    # then
    assert kept.lines == ["unsigned: first"]
    # when
    complaints.say("unsigned", "later", 1065.0)
    complaints.say("unsigned", "soon after that", 1124.9)
    complaints.say("unsigned", "much later", 1200.0)
    complaints.say("unsigned", "later still", 1300.0)
    # then
    assert kept.lines[1:] == [
        "unsigned: later (and 8 more like it in the last 65 s)",
        "unsigned: much later (and 1 more like it in the last 135 s)",
        "unsigned: later still",
    ]
    assert complaints.counts == {"unsigned": 13}


def test_kinds_do_not_silence_each_other(log: logging.Logger, kept: Kept) -> None:
    # given
    complaints = Complaints(log)
    complaints.say("one", "a", 0.0)
    # when
    complaints.say("other", "b", 1.0)
    complaints.say("one", "c", 2.0)
    # then
    assert kept.lines == ["one: a", "other: b"]
    assert complaints.counts == {"one": 2, "other": 1}


def test_kinds_beyond_the_bound_are_one(log: logging.Logger, kept: Kept) -> None:
    # given
    complaints = Complaints(log, kinds_max=10)
    # when
    for n in range(1000):
        complaints.say(f"kind {n}", "text", float(n) / 1000)
    complaints.say("kind 3", "known before", 2.0)
    # then
    assert len(kept.lines) == 11
    assert kept.lines[-1] == "other trouble: text"
    assert complaints.counts["kind 3"] == 2
    assert complaints.counts["other trouble"] == 990
    assert len(complaints.counts) == 11


def test_kinds_that_a_peer_made_up_take_no_room(log: logging.Logger, kept: Kept) -> None:
    # given
    complaints = Complaints(log)
    # when
    complaints.say("x" * 1_000_000, "text", 0.0)
    # then
    assert max(map(len, complaints.counts)) < 250
    assert len(kept.lines[0]) < 250


@pytest.mark.parametrize(
    "hostile",
    ["a\nCRITICAL root: all is lost", "\r\x1b[2J", "\x00", "\u2028", "\u202e", "\udce9", "%s %d"],
)
def test_nothing_raw_of_a_peer_reaches_the_log(
    log: logging.Logger, kept: Kept, hostile: str
) -> None:
    # given
    complaints = Complaints(log)
    # when
    complaints.say(f"kind {hostile}", hostile, 0.0)
    # then
    assert len(kept.lines) == 1
    assert kept.lines[0].isprintable()
    kept.lines[0].encode()


def test_what_can_be_printed_stays_as_it_is(log: logging.Logger, kept: Kept) -> None:
    # when
    Complaints(log).say("kind", "naïve ✓ 'quoted' \\ %s", 0.0)
    # then
    assert kept.lines == ["kind: naïve ✓ 'quoted' \\ %s"]


@pytest.mark.parametrize("letter", ["x", "\x00", "\U000e0001"], ids=["letter", "nul", "tag"])
def test_a_long_text_is_cut(log: logging.Logger, kept: Kept, letter: str) -> None:
    # when
    Complaints(log).say("kind", letter * 10_000_000, 0.0)
    # then
    assert kept.lines[0].endswith(" ...")
    assert len(kept.lines[0]) < 520
