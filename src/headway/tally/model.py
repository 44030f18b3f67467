"""How far a number of tasks is: counts by label and state, how fast they end, what time is left.

Pure: whoever counts passes `now`, in seconds of whatever clock, and the same calls give the same
view. Bounded: so many labels are told apart, and so many points of time remembered, however many
tasks there are; `add`, `move` and `end` cost the same for each, a view and `now_running` as much as
there are labels.

What this file must not know: who counts (futures, a run of a flow), and how it is shown.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.core.states import FINAL_STATES, TaskState

WAITING, READY, RUNNING, SUCCEEDED, _IMPOSSIBLE = (
    state.name.lower()
    for state in (
        TaskState.WAITING, TaskState.READY, TaskState.RUNNING, TaskState.SUCCEEDED,
        TaskState.IMPOSSIBLE,
    )
)  # fmt: skip
#: The state of a task of which it is only known that it has not ended.
OPEN = "open"
#: Not run again: it is as an earlier run left it. And: what it wanted to fail has succeeded.
KEPT, SKIPPED = "kept", "skipped"

#: States in which a task has ended; those of them that are as they should be, and those in which
#: nothing was done for it.
ENDED = frozenset({*(state.name.lower() for state in FINAL_STATES), KEPT, SKIPPED})
_GOOD = frozenset({SUCCEEDED, KEPT, SKIPPED})
_NOT_RUN = frozenset({KEPT, SKIPPED, _IMPOSSIBLE})
#: Where a task that ends was, if nobody has seen it: the likeliest first.
_BEFORE_ITS_END = (RUNNING, READY, WAITING, OPEN)

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


def is_bad(state: str) -> bool:
    """Whether a task in that state has ended in another way than it should."""
    return state in ENDED and state not in _GOOD


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

    @property
    def bad(self) -> int:
        """How many of them should have ended in another way."""
        return _bad(self.counts)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is at one moment.

    `rate` is of those that were run, in tasks a second, None while it can't be told; `left_s` the
    seconds until the rest has ended if it goes on like this, None if that can't be told, 0 at the
    end. `labels_more` labels are not among the `rows`: those with the fewest tasks that have not
    ended.
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
    def bad(self) -> int:
        """How many of them should have ended in another way."""
        return _bad(self.counts)

    @property
    def ends(self) -> dict[str, int]:
        """How many have ended, by how they did."""
        return {state: count for state, count in self.counts.items() if state in ENDED}

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
        #: Of those that have ended, how many were run.
        self._ran = 0
        #: Seconds of work: left and done. None is left where it is not known of every task.
        self._work_left_s: float | None = 0.0
        self._work_done_s = 0.0
        #: (time, how many had been run): the oldest begins the window.
        self._points: deque[tuple[float, int]] = deque([(now, 0)], maxlen=_POINTS_MAX)

    def add(
        self, label: str, count: int = 1, state: str = OPEN, work_s: float | None = None
    ) -> None:
        """`count` more tasks are there.

        Parameters:
            state: OPEN, KEPT, SKIPPED, or a TaskState in lower case.
            work_s: seconds that they take in all, if that is known beforehand. Known of every
                task, it is what the time left goes by.
        """
        row = self._row(label)
        row.total += count
        self._total += count
        if work_s is None:
            self._work_left_s = None
        elif self._work_left_s is not None:
            self._work_left_s += work_s
        self._put(row, state, count)

    def move(
        self, label: str, before: str, after: str, now: float, count: int = 1, work_s: float = 0.0
    ) -> None:
        """`count` tasks of `label` went from one state to another; `work_s` is what they were
        added with.

        Raises:
            ValueError: there are not so many in that state.
        """
        row = self._row(label)
        there = row.counts.get(before, 0)
        if there < count:
            raise ValueError(f"{there} tasks of {label!r} are {before}, not {count} or more")
        self._put(row, before, -count)
        self._put(row, after, count)
        self._work(before, after, work_s)
        if after in ENDED:
            self._ended_at = max(self._ended_at, now)
        if now - self._points[-1][0] >= _POINT_EVERY_S:
            self._points.append((now, self._ran))

    def end(self, label: str, after: str, now: float, work_s: float = 0.0) -> None:
        """A task of `label` has ended, and it is not known where it was before.

        Raises:
            ValueError: all of them have ended.
        """
        counts = self._row(label).counts
        before = next((state for state in _BEFORE_ITS_END if counts.get(state)), OPEN)
        self.move(label, before, after, now, work_s=work_s)

    def now_running(self, found: Mapping[str, int]) -> None:
        """So many tasks of each label have been seen to run; what is ready does not. What has ended
        since is not brought back."""
        wanted: dict[str, int] = {}
        for label, count in found.items():
            name = self._name(label)
            wanted[name] = wanted.get(name, 0) + count
        for name, row in self._labels.items():
            able = row.counts.get(READY, 0) + row.counts.get(RUNNING, 0)
            running = min(wanted.get(name, 0), able)
            self._put(row, RUNNING, running - row.counts.get(RUNNING, 0))
            self._put(row, READY, able - running - row.counts.get(READY, 0))

    def all_added(self) -> None:
        """No more tasks come: what is expected is what is there."""
        self._expected = 0

    def _row(self, label: str) -> _Label:
        return self._labels.setdefault(self._name(label), _Label())

    def _name(self, label: str) -> str:
        """Under which `label` is counted."""
        label = label or NO_LABEL
        is_one_more = label not in self._labels and len(self._labels) >= LABELS_MAX
        return OTHERS if is_one_more else label

    def _put(self, row: _Label, state: str, count: int) -> None:
        left = row.counts.get(state, 0) + count
        if left:
            row.counts[state] = left
        else:
            row.counts.pop(state, None)
        if state in ENDED:
            self._ended += count
            self._ran += count if state not in _NOT_RUN else 0

    def _work(self, before: str, after: str, work_s: float) -> None:
        """`work_s` are done; or to be done again, where a value was lost."""
        ended = (after in ENDED) - (before in ENDED)
        if self._work_left_s is not None:
            self._work_left_s = max(0.0, self._work_left_s - ended * work_s)
        ran = (after in ENDED and after not in _NOT_RUN) - (
            before in ENDED and before not in _NOT_RUN
        )
        self._work_done_s += ran * work_s

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
            0.0 if is_over else self._left_s(total, elapsed_s, rate),
        )

    def _left_s(self, total: int, elapsed_s: float, rate: float | None) -> float | None:
        """By work, if that is known of all; by number else."""
        work_s = self._work_left_s if total == self._total else None
        if work_s is not None and self._work_done_s > 0:
            return work_s * elapsed_s / self._work_done_s
        return (total - self._ended) / rate if rate else None

    def _rate(self, now: float, is_over: bool) -> float | None:
        """Of the window; at the end, of the whole."""
        if is_over:
            took_s = self._ended_at - self._began_at
            return self._ran / took_s if took_s > 0 else None
        points = self._points
        while len(points) > 1 and now - points[1][0] >= WINDOW_S:
            points.popleft()
        at, ran = points[0]
        if now - at < _RATE_AFTER_S:
            return None
        # Fewer than before: values that were lost are made again.
        return max(self._ran - ran, 0) / (now - at)


def _open_of(numbered: tuple[int, tuple[str, _Label]]) -> int:
    row = numbered[1][1]
    return row.total - _ended(row.counts)


def _ended(counts: Mapping[str, int]) -> int:
    return sum(count for state, count in counts.items() if state in ENDED)


def _bad(counts: Mapping[str, int]) -> int:
    return sum(count for state, count in counts.items() if is_bad(state))
