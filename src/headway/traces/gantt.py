"""A Gantt chart as SVG: a line for each engine, a bar for each run, a colour for each kind of task.

A kind is a task's name without the number at its end. Bars too thin to be seen are drawn
together, so that a million runs still make a file that opens. Pure: text in, text out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

#: Pixels.
_LEFT, _TOP, _WIDTH, _BOTTOM = 64, 62, 1100, 34
_HEIGHT_MAX = 2_000
_LINE_MAX, _LABELLED_LINE_MIN = 22.0, 9.0
#: Bars that begin within this of each other are drawn as one.
_THIN = 0.4
_TICKS = 8
#: Okabe and Ito's colours, which colour-blind people can tell apart.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_OTHER_COLOUR, _FAILED_COLOUR = "#999999", "#000000"
_OTHER, _FAILED = "others", "failed"
#: The number of a task, with what joins it to the name.
_NUMBER = re.compile(r"[\W_]*(ID|id)?\d+$")


class Bar(NamedTuple):
    """One run: on which line, when, of what, and whether it failed."""

    line: int
    began_s: float
    ended_s: float
    name: str
    has_failed: bool = False


def kind_of(name: str) -> str:
    """`name` without the number at its end; itself if nothing else is left."""
    return _NUMBER.sub("", name) or name


def gantt_svg(title: str, lines: int, length_s: float, bars: Sequence[Bar]) -> str:
    """The chart of `bars` on lines 0 to `lines - 1`, from 0 to `length_s`."""
    colours = _colours(bars)
    line_height = min(_LINE_MAX, _HEIGHT_MAX / lines)
    bottom = _TOP + line_height * lines
    width, height = _LEFT + _WIDTH + 24, bottom + _BOTTOM
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" '
        f'width="{width}" height="{height:.0f}" font-family="sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *_legend(colours),
        *_axis(length_s, bottom),
    ]
    if line_height >= _LABELLED_LINE_MIN:
        for line in range(lines):
            y = _TOP + line_height * (line + 0.5) + 4
            out.append(f'<text x="{_LEFT - 6}" y="{y:.1f}" text-anchor="end">e{line}</text>')
    out += _drawn(bars, length_s, line_height, colours)
    out.append("</svg>")
    return "\n".join(out) + "\n"


def _colours(bars: Iterable[Bar]) -> dict[str, str]:
    """A colour for each kind: those that took the most time have their own."""
    spent_s: dict[str, float] = defaultdict(float)
    has_failed = False
    for bar in bars:
        spent_s[kind_of(bar.name)] += bar.ended_s - bar.began_s
        has_failed = has_failed or bar.has_failed
    ranked = sorted(spent_s, key=lambda kind: (-spent_s[kind], kind))
    colours = dict(zip(ranked, _COLOURS, strict=False))
    if len(ranked) > len(_COLOURS):
        colours[_OTHER] = _OTHER_COLOUR
    if has_failed:
        colours[_FAILED] = _FAILED_COLOUR
    return colours


def _legend(colours: dict[str, str]) -> list[str]:
    out = []
    step = _WIDTH / max(1, len(colours))
    letters = int(step / 6.5) - 3
    for number, (kind, colour) in enumerate(colours.items()):
        x = _LEFT + number * step
        text = kind if len(kind) <= letters else kind[: letters - 1] + "…"
        out.append(f'<rect x="{x:.0f}" y="32" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{x + 14:.0f}" y="41">{escape(text)}</text>')
    return out


def _axis(length_s: float, bottom: float) -> list[str]:
    out = []
    for tick in range(_TICKS + 1):
        x = _LEFT + _WIDTH * tick / _TICKS
        out.append(
            f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="#dddddd"/>'
        )
        text = f"{length_s * tick / _TICKS:,.4g} s"
        out.append(f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{text}</text>')
    return out


def _drawn(
    bars: Sequence[Bar], length_s: float, line_height: float, colours: dict[str, str]
) -> list[str]:
    """The bars; what begins too close to the one before is part of it."""
    per_s = _WIDTH / length_s if length_s else 0.0
    gap = 1.0 if line_height >= _LABELLED_LINE_MIN else 0.0
    out: list[str] = []
    together: list[Bar] = []

    def draw() -> None:
        if not together:
            return
        first, count = together[0], len(together)
        x, end = _LEFT + first.began_s * per_s, _LEFT + together[-1].ended_s * per_s
        y = _TOP + first.line * line_height
        kind = _FAILED if first.has_failed else kind_of(first.name)
        colour = colours.get(kind, _OTHER_COLOUR)
        what = first.name if count == 1 else f"{count:,} tasks from {first.name}"
        times = f"{first.began_s:,.6g} to {together[-1].ended_s:,.6g} s"
        out.append(
            f'<rect x="{x:.2f}" y="{y + gap / 2:.1f}" width="{max(end - x, 0.1):.2f}" '
            f'height="{line_height - gap:.2f}" fill="{colour}">'
            f"<title>{escape(what)}: {times}</title></rect>"
        )
        together.clear()

    for bar in sorted(bars):
        if together:
            first = together[0]
            is_close = (bar.ended_s - first.began_s) * per_s < _THIN
            if bar.line != first.line or not is_close:
                draw()
        together.append(bar)
    draw()
    return out
