"""Promise: the log is what its table says: each event with its fields, and no other."""

from __future__ import annotations

import ast

import pytest

from headway.cli import logs_reference, metrics_reference
from headway.dashboard.metrics import COUNTER, METRICS
from headway.logbook import Event
from tests.house import source

DOCS = source.ROOT / "docs"
PAGES = {"logs.md": logs_reference.reference, "metrics.md": metrics_reference.reference}


def notes():
    """Each call of `note`: where, the event's name, its fields."""
    for path in source.source_files():
        for node in ast.walk(source.tree(path)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "note"
            ):
                [event] = node.args
                assert isinstance(event, ast.Attribute), "name the event: note(Event.SOME, ...)"
                fields = tuple(keyword.arg for keyword in node.keywords)
                yield f"{source.relative(path)}:{node.lineno}", event.attr, fields


def test_each_event_is_logged_with_the_fields_of_the_table_in_their_order():
    found = [
        f"{where}: {name} has {fields}, and in the table {Event[name].fields}"
        for where, name, fields in notes()
        if fields != Event[name].fields
    ]
    assert not found, "\n".join([*found, "Remedy: change the call, or the table in logbook.py"])


def test_each_event_of_the_table_happens_somewhere():
    never = {event.name for event in Event} - {name for _, name, _ in notes()}

    assert not never, f"strike {sorted(never)} out of the table in logbook.py"


def test_no_field_of_an_event_has_the_name_of_what_all_lines_have():
    reserved = {"time", "level", "event", "dropped"}

    assert not [event.name for event in Event if reserved & set(event.fields)]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_page_is_what_its_table_says(page):
    path = DOCS / page

    assert path.exists(), f"docs/{page} is missing: run `make docs`"
    assert path.read_text(encoding="utf-8") == PAGES[page](), f"docs/{page}: run `make docs`"


def test_names_of_metrics_follow_the_conventions_of_prometheus():
    names = [each.name for each in METRICS]

    assert len(set(names)) == len(names)
    for each in METRICS:
        assert each.name.startswith("headway_"), each
        assert each.name.endswith("_total") == (each.kind == COUNTER), each
        assert not set(each.labels) & {"task", "client", "engine", "host"}, (
            f"{each.name}: a label without an end to its values"
        )
