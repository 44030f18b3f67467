"""Promise: what is listed can be read at any width: ids and states are whole, texts are cut."""

from __future__ import annotations

import io

from rich.console import Console

from headway.cli import show

ROWS = [("12345-12345", "succeeded", "l" * 50, "w" * 200), ("1-1", "lost", "short", "")]


def shown(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(show.table(["id", "state", "label", "why"], ROWS, width))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_ids_and_states_are_whole_at_any_width_and_texts_are_cut():
    for width in (80, 100, 200):
        head, first, second = (line.rstrip() for line in shown(width))
        assert head.split() == ["id", "state", "label", "why"]
        assert first.startswith("12345-12345  succeeded  lll")
        assert first.endswith("…")
        assert second.split() == ["1-1", "lost", "short"]
        assert len(first) <= width


def test_where_there_is_room_nothing_is_cut():
    assert "…" not in "".join(shown(400))


def test_of_a_failure_the_first_line_is_listed():
    text = "task 1-1 failed: the command sh exited with code 3; it said last:\n  no data"
    assert show.first_line(text) == "task 1-1 failed: the command sh exited with code 3"
