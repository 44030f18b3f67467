"""How answers are shown: tables for people, JSON for programs.

What this file must not know: clusters.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headway.tally.words import span

_WIDTH_MAX = 10_000
#: Between two columns.
_GAP = 2
#: Columns that may be cut, the last one first; and what is left of one.
_FREE_WIDTH_MIN = 20
_FREE_TEXTS = frozenset({"label", "why", "resources"})

#: The colour of a state.
_STYLES = {
    "running": "cyan",
    "assigned": "cyan",
    "succeeded": "green",
    "failed": "red",
    "lost": "red",
    "timed_out": "red",
    "impossible": "yellow",
    "cancelled": "yellow",
}


def say_json(value: Any) -> None:
    """`value` on stdout, as one JSON document."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def say(text: str) -> None:
    """`text` on stdout, as a line; seen at once, also by who reads a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def console() -> Console:
    """Where people read; what is written there is never taken for markup. Whoever is no terminal
    reads lines of any length."""
    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _WIDTH_MAX
    return made


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], width: int = 0) -> Table:
    """A plain table; a column whose name begins with ">" is set to the right.

    Parameters:
        width: that of the terminal; 0 is that of ours. Where it is too narrow, free texts alone
            are cut.
    """
    names = [column.removeprefix(">") for column in columns]
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max([len(name), *(row[number].cell_len for row in cells)])
        for number, name in enumerate(names)
    ]
    left = (width or console().width) - sum(widths) - _GAP * (len(names) - 1)
    for number, name in reversed(list(enumerate(names))):
        if left < 0 and name in _FREE_TEXTS:
            cut = max(min(widths[number], _FREE_WIDTH_MIN), widths[number] + left)
            left += widths[number] - cut
            widths[number] = cut
    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name, column, size in zip(names, columns, widths, strict=True):
        right = name != column
        made.add_column(
            name, justify="right" if right else "left", overflow="ellipsis", no_wrap=True,
            width=size,
        )  # fmt: skip
    for row in cells:
        made.add_row(*row)
    return made


def first_line(text: str) -> str:
    """The first line of an explanation, as a table has room for."""
    return text.split("\n", 1)[0].removesuffix("; it said last:")


def task_table(rows: Iterable[dict[str, Any]]) -> Table:
    """Tasks, as core/listing.py has them."""
    return table(
        ["id", "state", "engine", ">age", "label", "why"],
        [
            (r["id"], r["state"], r["engine"], span(r["age_s"]), r["label"], first_line(r["why"]))
            for r in rows
        ],
    )


def engine_table(rows: Iterable[Any]) -> Table:
    """Engines, as `Client.engines` has them."""
    return table(
        ["id", "state", "host", ">pid", ">load", ">limit", ">done", ">memory", "resources"],
        [
            (
                e.id,
                e.state,
                e.host,
                e.pid,
                e.load,
                "none" if e.limit is None else e.limit,
                f"{e.done:,}",
                f"{e.rss_bytes / 1e6:,.0f} MB",
                ", ".join(f"{name}={amount:g}" for name, amount in e.resources.items()),
            )
            for e in rows
        ],
    )


def limit_table(rows: dict[str, dict[str, Any]]) -> Table:
    """Limits, as `Client.limits` has them."""
    return table(
        ["tag", "limit", ">on engines", ">waiting", ">next in"],
        [
            (tag, r["limit"], f"{r['held']:,}", f"{r['waiting']:,}", span(r["next_in_s"] or None))
            for tag, r in sorted(rows.items())
        ],
    )


def seconds(value_s: float) -> str:
    """A short time for people, with its unit."""
    if value_s >= 100 or not value_s:
        return f"{value_s:,.0f} s"
    if value_s >= 1:
        return f"{value_s:.2f} s"
    return f"{value_s * 1e3:.3g} ms"


def _cell(value: object) -> Text:
    text = "" if value is None else str(value)
    return Text(text, style=_STYLES.get(text, ""))
