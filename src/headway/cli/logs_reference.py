"""docs/logs.md, from the table of events: `python -m headway.cli.logs_reference`.

What this file must not know: when an event happens.
"""

from __future__ import annotations

import logging

from headway.logbook import JSON, TEXT, Event, format_line

_HEAD = """\
# The log

Generated from `headway/logbook.py` by `make docs`; do not edit.
[monitoring.md](monitoring.md#the-log) says who writes it, and where.

A line an event, as text:

    {text}

or, with `--log-format json`, as JSON:

    {json}

`time` is UTC, by RFC 3339. What is long is cut; what comes too often (1,000 lines of one event at
once, then 20 a second), or finds no room where it is written, is dropped, and the next line has a
field `dropped` that says how many were. Events and fields may be added; those that are there stay.

| event | level | process | what happened | fields |
|---|---|---|---|---|
"""
_EXAMPLE = {
    "engine": "e3",
    "host": "node7",
    "reason": "signal",
    "why": "killed by SIGSEGV, peak RSS 210 MB",
    "tasks": 2,
}
_EXAMPLE_AT_S = 1_790_000_000.25


def reference() -> str:
    """The page."""
    text, as_json = (
        format_line(form, _EXAMPLE_AT_S, "warning", "engine_died", _EXAMPLE)
        for form in (TEXT, JSON)
    )
    rows = [
        f"| `{event.name.lower()}` | {logging.getLevelName(event.level).lower()} | {event.process} "
        f"| {event.meaning} | {', '.join(f'`{name}`' for name in event.fields)} |\n"
        for event in Event
    ]
    return _HEAD.format(text=text, json=as_json) + "".join(rows)


if __name__ == "__main__":
    import sys

    sys.stdout.write(reference())
