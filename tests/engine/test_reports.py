"""Promise: what a nanny has to tell is told when the controller is there, and kept within bounds
when it is not."""

from __future__ import annotations

import pytest

from headway.core.events import EngineEnd
from headway.engine import reports as r
from headway.wire import messages as m


@pytest.fixture
def said():
    return []


@pytest.fixture
def reports(said):
    """Those of a nanny whose controller is there."""
    reports = r.Reports(said.append)
    reports.resume()
    return reports


def died(token, text="killed"):
    return m.EngineDied(token, EngineEnd(text), None, False)


def output(text):
    return m.Output([m.Printed(None, "stdout", text)], "token")


def test_everything_is_told_at_once_while_the_controller_is_there(reports, said):
    told = [died("one"), output("text"), m.Heartbeat([]), m.EnginesFailed("no")]
    for message in told:
        reports.say(message)
    assert said == told


def test_text_is_kept_and_signs_of_life_are_not(reports, said):
    reports.leave()
    for message in (output("a"), m.Heartbeat([]), output("b")):
        reports.say(message)
    assert said == []
    reports.resume()
    assert said == [output("a"), output("b")]
    reports.leave()
    reports.resume()
    assert len(said) == 2


def test_the_oldest_text_is_dropped_and_how_much_that_was_is_told(reports, said, monkeypatch):
    monkeypatch.setattr(r, "_OUTPUT_CHARS_MAX", 10)
    reports.leave()
    for text in ("12345", "67890", "abc"):
        reports.say(output(text))
    reports.resume()
    note, *kept = said
    assert note.lines[0].text == (
        "[5 characters printed while the controller was away were dropped]\n"
    )
    assert kept == [output("67890"), output("abc")]


def test_pieces_of_text_are_bounded_too(reports, said, monkeypatch):
    monkeypatch.setattr(r, "_OUTPUT_PIECES_MAX", 2)
    reports.leave()
    for text in "abc":
        reports.say(output(text))
    reports.resume()
    assert said[1:] == [output("b"), output("c")]


def test_deaths_are_in_each_hello_and_told_alone_only_if_no_hello_told_them(reports, said):
    reports.say(died("told"))
    reports.leave()
    reports.say(died("before"))
    assert reports.died() == [died("told"), died("before")]
    reports.say(died("after"))
    reports.resume()
    assert said == [died("told"), died("after")]
    assert reports.died() == [died("told"), died("before"), died("after")]


def test_deaths_are_bounded_in_number_and_in_words(reports, monkeypatch):
    monkeypatch.setattr(r, "_DIED_MAX", 3)
    monkeypatch.setattr(r, "_DIED_CHARS_MAX", 20)
    for token in "abcd":
        reports.say(died(token))
    assert [d.token for d in reports.died()] == ["b", "c", "d"]
    reports.say(died("e", "x" * 15))
    assert [d.token for d in reports.died()] == ["e"]


def test_that_engines_do_not_start_is_told_to_each_controller(reports, said):
    reports.say(m.EnginesFailed("no"))
    reports.leave()
    reports.resume()
    assert said == [m.EnginesFailed("no")] * 2
