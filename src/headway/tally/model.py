"""How far a number of tasks is: counts by label and state, how fast they end, what time is left.

Pure: whoever counts passes `now`, in seconds of whatever clock, and the same calls give the same
view. Bounded: so many labels are told apart, and so many points of time remembered, however many
tasks there are; `add`, `expect` and `move` cost the same for each, a view as much as there are
labels.

What this file must not know: who counts (futures, a run of a flow), and how it is shown.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.core.states import FINAL_STATES, TaskState

#: The state of a task of which it is only known that it has not ended.
OPEN = "open"
#: States in which a task has ended; and of these, the ones that are no success.
ENDED = frozenset(state.name.lower() for state in FINAL_STATES)
SUCCEEDED = TaskState.SUCCEEDED.name.lower()

#: Labels that are told apart; the tasks of any more count under this name.
LABELS_MAX = 1_000
OTHERS = "(others)"
#: What a task without a label is called.
NO_LABEL = "tasks"

#: The rate is that of so many seconds before now: long enough to be calm, short enough to be new.
WINDOW_S = 30.0
#: Points of time remembered: the window, four times a second.
_POINTS_MAX = 120
_POINT_EVERY_S = WINDOW_S / _POINTS_MAX
#: No rate is told of a shorter time than that: it would be chance.
_RATE_AFTER_S = 0.5


@dataclass(frozen=True, slots=True)
class Row:
    """The tasks of one label: how many in each state (none with 0), and how many in all."""

    label: str
    total: int
    counts: Mapping[str, int]

    @property
    def ended(self) -> int:
        """How many have ended, in whatever way."""
        return _ended(self.counts)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is at one moment.

    `rate` is in tasks a second, None while it can't be told; `left_s` the seconds until the rest
    has ended if it goes on like this, None if that can't be told, 0 at the end. `labels_more`
    labels are not among the `rows`: those with the fewest tasks that have not ended.
    """

    rows: tuple[Row, ...]
    labels_more: int
    total: int
    counts: Mapping[str, int]
    elapsed_s: float
    rate: float | None
    left_s: float | None

    @property
    def ended(self) -> int:
        """How many have ended, in whatever way."""
        return _ended(self.counts)

    @property
    def is_over(self) -> bool:
        """Whether all that is expected has ended."""
        return self.ended >= self.total


@dataclass(slots=True)
class _Label:
    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)


class Tally:
    """Counts tasks. `total` is how many are expected in all, if that is known before they are
    added."""

    def __init__(self, now: float, total: int = 0) -> None:
        self._began_at = self._ended_at = now
        self._labels: dict[str, _Label] = {}
        self._expected = total
        self._total = 0
        self._ended = 0
        #: (time, how many had ended): the oldest begins the window.
        self._points: deque[tuple[float, int]] = deque([(now, 0)], maxlen=_POINTS_MAX)

    def add(self, label: str, count: int = 1, state: str = OPEN) -> None:
        """`count` more tasks are there, in `state`: OPEN, or a TaskState in lower case."""
        row = self._row(label)
        row.total += count
        self._total += count
        self._put(row, state, count)

    def move(self, label: str, before: str, after: str, now: float, count: int = 1) -> None:
        """`count` tasks of `label` went from one state to another.

        Raises:
            ValueError: there are not so many in that state.
        """
        row = self._row(label)
        there = row.counts.get(before, 0)
        if there < count:
            raise ValueError(f"{there} tasks of {label!r} are {before}, not {count} or more")
        self._put(row, before, -count)
        self._put(row, after, count)
        if after in ENDED:
            self._ended_at = max(self._ended_at, now)
        if now - self._points[-1][0] >= _POINT_EVERY_S:
            self._points.append((now, self._ended))

    def all_added(self) -> None:
        """No more tasks come: what is expected is what is there."""
        self._expected = 0

    def _row(self, label: str) -> _Label:
        label = label or NO_LABEL
        row = self._labels.get(label)
        if row is None:
            if len(self._labels) >= LABELS_MAX:
                label = OTHERS
            row = self._labels.setdefault(label, _Label())
        return row

    def _put(self, row: _Label, state: str, count: int) -> None:
        left = row.counts.get(state, 0) + count
        if left:
            row.counts[state] = left
        else:
            row.counts.pop(state, None)
        if state in ENDED:
            self._ended += count

    def view(self, now: float, rows_max: int = 12) -> Progress:
        """How far it is now. Of many labels, those with the most that has not ended; in the order
        in which they came."""
        total = max(self._total, self._expected)
        numbered = list(enumerate(self._labels.items()))
        if len(numbered) > rows_max:
            numbered = sorted(heapq.nlargest(rows_max, numbered, key=_open_of))
        counts: dict[str, int] = {}
        for row in self._labels.values():
            for state, count in row.counts.items():
                counts[state] = counts.get(state, 0) + count
        is_over = self._ended >= total
        elapsed_s = (self._ended_at if is_over else now) - self._began_at
        rate = self._rate(now, is_over)
        return Progress(
            tuple(Row(label, row.total, dict(row.counts)) for _, (label, row) in numbered),
            len(self._labels) - len(numbered),
            total,
            counts,
            elapsed_s,
            rate,
            0.0 if is_over else (total - self._ended) / rate if rate else None,
        )

    def _rate(self, now: float, is_over: bool) -> float | None:
        """Of the window; at the end, of the whole."""
        if is_over:
            took_s = self._ended_at - self._began_at
            return self._ended / took_s if took_s > 0 else None
        points = self._points
        while len(points) > 1 and now - points[1][0] >= WINDOW_S:
            points.popleft()
        at, ended = points[0]
        if now - at < _RATE_AFTER_S:
            return None
        # Fewer than before: values that were lost are made again.
        return max(self._ended - ended, 0) / (now - at)


def _open_of(numbered: tuple[int, tuple[str, _Label]]) -> int:
    row = numbered[1][1]
    return row.total - _ended(row.counts)


def _ended(counts: Mapping[str, int]) -> int:
    return sum(count for state, count in counts.items() if state in ENDED)


# --- words ----------------------------------------------------------------------------------------


def in_words(progress: Progress) -> str:
    """One line: how many of how many, what went wrong, how fast, how long yet."""
    bad = [
        f"{count:,} {state}"
        for state, count in sorted(progress.counts.items())
        if state in ENDED and state != SUCCEEDED
    ]
    text = f"{progress.ended:,} of {progress.total:,} ended"
    if bad:
        text += f" ({', '.join(bad)})"
    return ", ".join([text, *pace(progress)])


def pace(progress: Progress) -> list[str]:
    """How fast it goes, and how long yet; or, at the end, how long it took."""
    parts = []
    if progress.rate is not None:
        parts.append(f"{rate_text(progress.rate)}/s")
    if progress.is_over and progress.elapsed_s > 0:
        parts.append(f"in {span(progress.elapsed_s)}")
    elif progress.left_s:
        parts.append(f"{span(progress.left_s)} left")
    return parts


def states_in_words(counts: Mapping[str, int], also_succeeded: bool = False) -> str:
    """Counts by state, without those that merely succeeded or have not ended; or with them."""
    quiet = frozenset() if also_succeeded else frozenset({SUCCEEDED, OPEN})
    return ", ".join(f"{counts[s]:,} {s}" for s in sorted(counts) if s not in quiet)


def rate_text(rate: float) -> str:
    """A rate with two or three figures that matter."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def span(seconds: float) -> str:
    """A time span for people."""
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
