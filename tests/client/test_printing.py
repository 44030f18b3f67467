"""What tasks print is shown whole, by line, with who wrote it; nothing is kept that ended."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from headway.client import printing
from headway.client.printing import Printer
from headway.core.events import EngineId, TaskId, task_id
from headway.wire.messages import Printed

ONE, TWO = task_id(1, 1), task_id(1, 2)


@pytest.fixture
def labels() -> dict[TaskId, str]:
    return {ONE: "", TWO: "load"}


@pytest.fixture
def printer(labels) -> Printer:
    return Printer(labels.get)


def out(task: TaskId | None, text: str, stream: str = "stdout", engine: int | None = 0) -> Printed:
    return Printed(task, stream, text, None if engine is None else EngineId(engine))


def test_lines_are_shown_with_who_wrote_them(printer, capsys):
    printer.show([out(ONE, "a\nb\n"), out(TWO, "c\n", engine=1), out(None, "d\n", "stderr")])
    shown = capsys.readouterr()
    assert shown.out == "[e0 1-1] a\n[e0 1-1] b\n[e1 1-2 load] c\n"
    assert shown.err == "[e0] d\n"
    assert not printer.holds_any


def test_an_unfinished_line_is_held_until_its_rest_comes(printer, capsys):
    printer.show([out(ONE, "a"), out(TWO, "b"), out(ONE, "c", "stderr")])
    assert printer.holds_any
    assert capsys.readouterr() == ("", "")
    printer.show([out(ONE, "\n"), out(TWO, "b\nd"), out(ONE, "\n", "stderr")])
    assert capsys.readouterr() == ("[e0 1-1] a\n[e0 1-2 load] bb\n", "[e0 1-1] c\n")
    printer.flush()
    assert capsys.readouterr().out == "[e0 1-2 load] d\n"
    assert not printer.holds_any


def test_the_end_of_a_task_shows_its_unfinished_lines_and_no_others(printer, capsys):
    printer.show([out(ONE, "a"), out(ONE, "b", "stderr"), out(TWO, "c"), out(None, "d")])
    printer.task_ended(ONE)
    printer.task_ended(ONE)
    assert capsys.readouterr() == ("[e0 1-1] a\n", "[e0 1-1] b\n")
    assert printer.holds_any


def test_what_comes_after_a_tasks_end_is_shown_at_once_and_not_kept(printer, labels, capsys):
    del labels[ONE]
    printer.show([out(ONE, "late"), out(ONE, "r\nstill")])
    assert capsys.readouterr().out == "[e0 1-1] late\n[e0 1-1] r\n[e0 1-1] still\n"
    assert not printer.holds_any


def test_the_end_of_a_task_costs_the_same_however_many_have_unfinished_lines(capsys):
    class Watched(dict[Any, Any]):
        def __iter__(self):
            raise AssertionError("all of it was looked at")

        values = items = keys = __iter__

    labels = {task_id(1, n): "" for n in range(1, 1_001)}
    printer = Printer(labels.get)
    printer._unfinished = Watched()
    printer.show([out(task, "x") for task in labels])
    for task in labels:
        printer.task_ended(task)
    assert not printer.holds_any
    assert len(capsys.readouterr().out.splitlines()) == 1_000


def test_a_line_without_end_is_shown_in_pieces(printer, capsys, monkeypatch):
    monkeypatch.setattr(printing, "_LINE_CHARS_MAX", 4)
    printer.show([out(ONE, "abc"), out(ONE, "def")])
    assert capsys.readouterr().out == "[e0 1-1] abcdef\n"
    assert not printer.holds_any


def test_a_stream_that_cant_show_it_or_is_gone_does_no_harm(printer, monkeypatch, capsys):
    class Closed:
        encoding = "ascii"

        def write(self, text: str) -> None:
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(sys, "stdout", None)
    printer.show([out(ONE, "nobody sees this\n")])
    monkeypatch.setattr(sys, "stdout", Closed())
    printer.show([out(ONE, "nor this\n"), out(ONE, "but this\n", "stderr")])
    assert capsys.readouterr().err == "[e0 1-1] but this\n"
