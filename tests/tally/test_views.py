"""Promise: progress reads well wherever it is shown, and what it shows is escaped."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from headway.tally import html
from headway.tally.model import OPEN, READY, WAITING, Tally
from headway.tally.terminal import LINE_EVERY_S, LineView, Screen, TerminalView


def tally_of(**labels: int) -> Tally:
    tally = Tally(0.0)
    for label, count in labels.items():
        tally.add(label, count)
    return tally


def test_lines_come_now_and_then_and_at_the_end_with_each_label():
    stream = io.StringIO()
    view = LineView(stream)
    tally = tally_of(clean=2, load=1)
    tally.move("clean", OPEN, "succeeded", 1.0)
    view.show(tally.view(1.0))
    assert stream.getvalue() == ""
    view.show(tally.view(LINE_EVERY_S))
    view.show(tally.view(LINE_EVERY_S + 1))
    assert stream.getvalue() == "1 of 3 ended, 12.0/min, 10 s left\n"
    tally.move("clean", OPEN, "failed", 8.0)
    tally.move("load", OPEN, "succeeded", 8.0)
    view.close(tally.view(8.0))
    assert stream.getvalue().splitlines()[1:] == [
        "3 of 3 ended (1 failed), 22.5/min, in 8.0 s",
        "  clean: 1 failed, 1 succeeded",
        "  load: 1 succeeded",
    ]


def test_two_that_are_shown_at_once_share_the_terminal_and_leave_it_in_order():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    screen = Screen(console)
    first, second = TerminalView(screen), TerminalView(screen)
    one, two = tally_of(one=1), tally_of(two=2)
    first.show(one.view(1.0))
    second.show(two.view(1.0))
    one.move("one", OPEN, "succeeded", 2.0)
    first.close(one.view(2.0))
    two.move("two", OPEN, "failed", 3.0, 2)
    second.close(two.view(3.0))

    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    left = [line.split() for line in plain.splitlines() if "in" in line.split()]
    assert [(line[0], line[2]) for line in left] == [("one", "1/1"), ("two", "2/2")]
    assert "2 failed" in plain
    # The cursor is never left hidden: each time it is hidden, it is shown again
    assert stream.getvalue().rfind("\x1b[?25h") > stream.getvalue().rfind("\x1b[?25l")


def test_what_is_told_meanwhile_stands_above_and_what_is_cleared_leaves_nothing():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    view = TerminalView(Screen(console))
    tally = Tally(0.0)
    tally.add("mill", 3, READY)
    tally.add("sell", 2, WAITING)
    tally.now_running({"mill": 1})
    view.show(tally.view(1.0))
    assert "0/3  1 running, 2 ready" in stream.getvalue()
    assert "0/2  2 waiting" in stream.getvalue()
    view.tell("a line")
    view.clear()
    after = stream.getvalue().rpartition("a line")[2]
    view.tell("another")
    assert "another" in stream.getvalue()
    assert stream.getvalue().count("mill") == 1 + after.count("mill")


def test_after_the_last_the_program_prints_where_it_did_before(capsys: pytest.CaptureFixture[str]):
    screen = Screen(Console(file=io.StringIO(), force_terminal=True, width=100))
    view = TerminalView(screen)
    view.show(tally_of(a=1).view(1.0))
    print("to a pipe")  # stdout is no terminal here: it is left alone
    view.close(tally_of(a=1).view(1.0))
    assert capsys.readouterr().out == "to a pipe\n"


def test_html_has_what_the_lines_have_and_is_escaped():
    tally = tally_of(**{"<script>alert(1)</script>": 4, 'b" onload="x': 1})
    tally.move('b" onload="x', OPEN, "lost", 1.0)
    page = html.of_progress(tally.view(2.0), "<b>")
    assert "<script>" not in page
    assert '" onload="' not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "1 lost" in page
    assert "1 of 5" in page
    assert html.card("<i>", [("why", "a <b>"), ("nothing", "")]).count("<tr>") == 1
    assert "a &lt;b&gt;" in html.card("<i>", [("why", "a <b>")])


def test_html_sets_no_colour_of_text_or_page_so_that_it_reads_on_light_and_dark():
    tally = tally_of(a=2)
    tally.move("a", OPEN, "succeeded", 1.0)
    for page in (html.of_progress(tally.view(1.0)), html.card("a", [("b", "c")])):
        assert set(re.findall(r"(?<!-)\bcolor: ([^;\"]+)", page)) == {"inherit"}
        backgrounds = set(re.findall(r"background: ([^;\"]+)", page))
        assert backgrounds <= {"rgba(128, 128, 128, 0.3)", "#2a9152"}
