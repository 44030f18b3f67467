"""Progress in words: counts, rates and time spans, as people say them.

What this file must not know: who counts, and where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping

from headway.tally.model import ENDED, OPEN, READY, RUNNING, SUCCEEDED, WAITING, Progress, is_bad

#: What has not ended, in the order in which a task comes through it, the last first.
_ON_THE_WAY = (RUNNING, "assigned", READY, WAITING)


def in_words(progress: Progress) -> str:
    """One line: how many of how many, what went wrong, what is going on, how fast, how long yet."""
    bad = [
        f"{count:,} {state}" for state, count in sorted(progress.counts.items()) if is_bad(state)
    ]
    text = f"{progress.ended:,} of {progress.total:,} ended"
    if bad:
        text += f" ({', '.join(bad)})"
    going = [f"{progress.counts[s]:,} {s}" for s in _ON_THE_WAY if s in progress.counts]
    return ", ".join([text, *going, *pace(progress)])


def pace(progress: Progress) -> list[str]:
    """How fast it goes, and how long yet; or, at the end, how long it took."""
    parts = []
    if progress.rate is not None:
        parts.append(rate_text(progress.rate))
    if progress.is_over and progress.elapsed_s > 0:
        parts.append(f"in {span(progress.elapsed_s)}")
    elif progress.left_s:
        parts.append(f"{span(progress.left_s)} left")
    return parts


def states_of(counts: Mapping[str, int], also_succeeded: bool = False) -> list[tuple[str, int]]:
    """States to be told, and how many are in each: how tasks ended, and then where the others are.
    Without those that merely succeeded or have not ended; or with them."""
    quiet = frozenset() if also_succeeded else frozenset({SUCCEEDED, OPEN})
    order = {state: number for number, state in enumerate(_ON_THE_WAY)}
    told = sorted(counts, key=lambda s: (s not in ENDED, order.get(s, len(order)), s))
    return [(state, counts[state]) for state in told if state not in quiet]


def states_in_words(counts: Mapping[str, int], also_succeeded: bool = False) -> str:
    """The same as a text."""
    return ", ".join(f"{count:,} {state}" for state, count in states_of(counts, also_succeeded))


def ends_in_words(progress: Progress) -> str:
    """How those that have ended did, the most frequent way first."""
    ends = sorted(progress.ends.items(), key=lambda end: -end[1])
    return ", ".join(f"{count:,} {state}" for state, count in ends)


def rate_text(per_s: float) -> str:
    """A rate for people: slow ones by the minute or the hour."""
    for scale, unit in ((1.0, "s"), (60.0, "min")):
        if per_s * scale >= 1.0 or not per_s:
            return f"{_figures(per_s * scale)}/{unit}"
    return f"{_figures(per_s * 3600.0)}/h"


def _figures(number: float) -> str:
    """With two or three figures that matter."""
    return f"{number:,.0f}" if number >= 100 or not number else f"{number:.1f}"


def span(seconds: float | None) -> str:
    """A time span for people; "" for none."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours or days else f"{minutes}:{rest:02}"
    return f"{days} d {clock}" if days else clock


def printable(label: str) -> str:
    """`label` on one line, and without what would steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(label.split()))
