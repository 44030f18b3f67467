"""Progress, and other facts, as HTML for notebooks.

Everything from outside is escaped. Colours are those of the page, for text, and of middling
lightness for bars, so that it reads on light and on dark without asking which it is. There is no
script, and no style sheet: notebooks clean both away, or mix them up.

What this file must not know: IPython, clients, futures.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from headway.tally.model import ENDED, OPEN, RUNNING, SUCCEEDED, Progress, Row
from headway.tally.words import pace, states_in_words

_FRAME = "font-family: sans-serif; font-size: 0.9em; color: inherit; line-height: 1.5"
_TRACK = "background: rgba(128, 128, 128, 0.3); border-radius: 3px; overflow: hidden; height: 0.7em"
_CELL = "padding: 0 1em 0 0; text-align: left; vertical-align: middle; color: inherit"
# Without a doctype, browsers give tables a colour and a size of their own.
_TABLE = "border-collapse: collapse; color: inherit; font-size: inherit"
_TEXT = "white-space: pre-wrap; overflow-wrap: anywhere; text-align: left"

#: Mid-tones: at least 3:1 on white and on the black of dark themes. What is in none of these: red.
_COLOURS = {
    SUCCEEDED: "#2a9152",
    RUNNING: "#3a7fc1",
    "assigned": "#6b8fb5",
    "cancelled": "#a87b0f",
    "impossible": "#a87b0f",
}
_BAD_COLOUR = "#d04545"


def of_progress(progress: Progress, title: str = "") -> str:
    """A bar for each label and one for all, how fast it goes, how long yet."""
    rows = list(progress.rows) if len(progress.rows) > 1 else []
    name = progress.rows[0].label if len(progress.rows) == 1 else "all"
    lines = [_row(row) for row in rows]
    if progress.labels_more:
        more = f"and {progress.labels_more:,} more labels"
        lines.append(f'<tr><td style="{_CELL}" colspan="4">{more}</td></tr>')
    lines.append(_row(Row(name, progress.total, progress.counts)))
    told = ", ".join(pace(progress))
    head = f"<div><b>{escape(title)}</b></div>" if title else ""
    return (
        f'<div style="{_FRAME}">{head}<table style="{_TABLE}">'
        f"<tbody>{''.join(lines)}</tbody></table><div>{escape(told)}</div></div>"
    )


def _row(row: Row) -> str:
    said = f"{row.ended:,} of {row.total:,}"
    return (
        f'<tr><th scope="row" style="{_CELL}">{escape(row.label)}</th>'
        f'<td style="{_CELL}; width: 16em">{_bar(row)}</td>'
        f'<td style="{_CELL}; text-align: right; white-space: nowrap">{said}</td>'
        f'<td style="{_CELL}">{escape(states_in_words(row.counts))}</td></tr>'
    )


def _bar(row: Row) -> str:
    """One piece for each state but those that have not begun; what succeeded first."""
    shown = [state for state in sorted(row.counts) if state in ENDED or state in _COLOURS]
    shown.sort(key=lambda state: (state != SUCCEEDED, state == OPEN, state))
    pieces = "".join(
        f'<div style="height: 100%; width: {100 * row.counts[state] / max(row.total, 1):.2f}%; '
        f'background: {_COLOURS.get(state, _BAD_COLOUR)}"></div>'
        for state in shown
    )
    label = escape(f"{row.label}: {row.ended:,} of {row.total:,} ended", quote=True)
    return f'<div role="img" aria-label="{label}" style="{_TRACK}; display: flex">{pieces}</div>'


def card(title: str, facts: Iterable[tuple[str, str]]) -> str:
    """A title, and facts by name; those without a value are left out."""
    rows = "".join(
        f'<tr><th scope="row" style="{_CELL}; vertical-align: top; font-weight: normal; '
        f'opacity: 0.75">{escape(name)}</th>'
        f'<td style="{_CELL}; {_TEXT}">{escape(value)}</td></tr>'
        for name, value in facts
        if value
    )
    return (
        f'<div style="{_FRAME}"><div><b>{escape(title)}</b></div>'
        f'<table style="{_TABLE}"><tbody>{rows}</tbody></table></div>'
    )
