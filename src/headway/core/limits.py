"""Limits by tag: how many tasks with a tag are on engines at once, and how many are sent a second.

A task names its tags in `TaskOptions.tags`. It takes a permit of each in the step that seats it,
and gives them back in the step that unseats it: all or none, so that no two tasks can wait for
each other. A tag without a limit counts all the same, since a limit may be set while tasks run.

Tasks with the same tags wait in lanes of their own (ready.py); one whose limit is reached is
looked at again when a permit is given back, when the time comes at which the rate allows the next,
or when the limit is changed: no task that is held up is ever looked at to find one that is not.

A rate of n in s seconds is a token bucket of n tokens that fills in s seconds, kept as the one
time at which it will be full again (GCRA, ITU-T I.371), which only a placement changes. So it makes
no difference how often anybody looks. In any t seconds at most n + n * t / s tasks are sent.

What this file must not know: engines, lanes but for who waits, and why a task is seated.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from headway.errors import InvariantViolation

if TYPE_CHECKING:
    from headway.core.ready import Lane

#: The most tasks in a limit, and the shortest and longest times over which a rate counts: what
#: floats still tell apart.
COUNT_MAX = 1_000_000
#: Limits and tags: each limit stays until it is lifted, so that a client can't fill the memory.
LIMITS_MAX = 10_000
TAG_CHARS_MAX = 200
#: By this part of a token a bucket may be short: it is a sum of floats.
ROUNDING = 1e-9

_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}


class Limit(Struct, array_like=True, frozen=True):
    """At most `at_once` tasks on engines (None: any number), and of `rate` a `per_s` seconds
    (0: no such limit)."""

    at_once: int | None = None
    rate: int = 0
    per_s: float = 1.0

    @property
    def is_none(self) -> bool:
        """Whether it limits nothing."""
        return self.at_once is None and not self.rate

    def __str__(self) -> str:
        parts = [] if self.at_once is None else [str(self.at_once)]
        if self.rate:
            unit = next(name for name, s in _UNITS_S.items() if s == self.per_s)
            parts.append(f"{self.rate}/{unit}")
        return ", ".join(parts) or "none"


NO_LIMIT = Limit()


def parse_limit(text: str) -> Limit:
    """The limit that people write as "4" (at once), "10/s", "10/min", "10/h", both of them with a
    comma between, or "none".

    Raises:
        ValueError: it is none of these.
    """
    at_once, rate, per_s = None, 0, 1.0
    if text.strip() == "none":
        return NO_LIMIT
    for part in text.split(","):
        number, slash, unit = (piece.strip() for piece in part.partition("/"))
        is_number = number.isascii() and number.isdecimal() and len(number) <= 7
        if not is_number or not int(number) <= COUNT_MAX or (slash and unit not in _UNITS_S):
            raise ValueError(_malformed(text))
        if not slash and at_once is None:
            at_once = int(number)
        elif slash and not rate and int(number):
            rate, per_s = int(number), _UNITS_S[unit]
        else:
            raise ValueError(_malformed(text))
    return Limit(at_once, rate, per_s)


def check_tag(name: str) -> str:
    """`name`, if it can be that of a tag.

    Raises:
        ValueError: it can't.
    """
    if not 0 < len(name) <= TAG_CHARS_MAX or not name.isprintable() or "=" in name:
        raise ValueError(
            f"{name[:TAG_CHARS_MAX]!r} is no tag: expected 1 to {TAG_CHARS_MAX} characters "
            "that can be printed, none of them a ="
        )
    return name


def _malformed(text: str) -> str:
    return (
        f"{text!r} is no limit: expected how many at once (4), how many in a time (10/s, 10/min, "
        f'10/h; from 1), both ("4, 10/s"), or none; numbers up to {COUNT_MAX:,}'
    )


class Tag:
    """One tag: its limit, who has permits of it, and the lanes of those that want one."""

    __slots__ = ("due_s", "full_s", "held", "held_max", "lanes", "limit", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.limit = NO_LIMIT
        #: Tasks on engines that have the tag, and the most that there may rightly be: more than
        #: the limit after it was lowered.
        self.held = 0
        self.held_max = math.inf
        #: When its bucket is full again.
        self.full_s = 0.0
        #: When its lanes are looked at again; None if nobody waits for the rate.
        self.due_s: float | None = None
        self.lanes: dict[Lane, None] = {}

    @property
    def next_s(self) -> float:
        """The rate allows the next from this time on."""
        limit = self.limit
        if not limit.rate:
            return -math.inf
        return self.full_s - (limit.rate - 1 + ROUNDING) * (limit.per_s / limit.rate)

    @property
    def is_full(self) -> bool:
        """Whether no permit is left."""
        return self.limit.at_once is not None and self.held >= self.limit.at_once

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be forgotten with it."""
        return not self.held and not self.lanes and self.limit.is_none


class Limits:
    """All tags that have a limit or a task."""

    def __init__(self) -> None:
        self._tags: dict[str, Tag] = {}
        #: When lanes are to be looked at again, with the tag; and entries that are stale.
        self._due: list[tuple[float, str]] = []

    def __iter__(self) -> Iterator[Tag]:
        return iter(self._tags.values())

    def get(self, name: str) -> Tag | None:
        """The tag of that name, if it is known."""
        return self._tags.get(name)

    def tag(self, name: str) -> Tag:
        """The tag of that name."""
        tag = self._tags.get(name)
        if tag is None:
            tag = self._tags[name] = Tag(name)
        return tag

    def rows(self, now: float) -> dict[str, Any]:
        """By its name, each tag that has a limit or a task: for people who look."""
        found: dict[str, Any] = {}
        for name, tag in self._tags.items():
            waiting = sum(lane.count for lane in tag.lanes)
            if tag.held or waiting or not tag.limit.is_none:
                next_in_s = max(0.0, tag.next_s - now)
                found[name] = {
                    "limit": str(tag.limit), "held": tag.held, "waiting": waiting,
                    "next_in_s": next_in_s,
                }  # fmt: skip
        return found

    def forget_if_idle(self, tag: Tag) -> None:
        """Forget `tag` if nobody needs it."""
        if tag.is_idle:
            self._tags.pop(tag.name, None)

    def knows_or_has_room(self, name: str) -> bool:
        """Whether the limit of the tag of that name may be set."""
        return name in self._tags or len(self._tags) < LIMITS_MAX

    # --- permits ---------------------------------------------------------------------------------

    def take(self, names: Iterable[str], now: float) -> None:
        """A task with these tags was placed."""
        for name in names:
            tag = self.tag(name)
            if tag.is_full or tag.next_s > now:
                raise InvariantViolation(f"limit {name}={tag.limit} was passed at {now}")
            tag.held += 1
            if tag.limit.rate:
                tag.full_s = max(tag.full_s, now) + tag.limit.per_s / tag.limit.rate

    def take_again(self, names: Iterable[str]) -> None:
        """A task with these tags is on an engine, according to a snapshot."""
        for name in names:
            self.tag(name).held += 1

    def take_anyway(self, names: Iterable[str]) -> None:
        """A task that had given its permits back while it waited goes on: it has them again, also
        where others have been given them meanwhile. It does not count for a rate again."""
        for name in names:
            tag = self.tag(name)
            tag.held += 1
            tag.held_max = max(tag.held_max, tag.held)

    def give_back(self, names: Iterable[str]) -> list[Tag]:
        """A task with these tags is on no engine any more. Returns those of which there was no
        permit left, and now is one: their lanes are to be looked at again."""
        freed = []
        for name in names:
            tag = self._tags[name]
            was_full = tag.is_full
            tag.held -= 1
            if tag.limit.at_once is not None:
                tag.held_max = max(tag.held, tag.limit.at_once)
            if was_full and not tag.is_full:
                freed.append(tag)
            self.forget_if_idle(tag)
        return freed

    def uncount(self, names: Iterable[str]) -> list[Tag]:
        """A task with these tags was sent, and not begun: the rates have a token more. Returns the
        tags whose lanes are to be looked at again."""
        rated = [tag for tag in map(self._tags.get, names) if tag is not None and tag.limit.rate]
        for tag in rated:
            tag.full_s -= tag.limit.per_s / tag.limit.rate
        return rated

    def blocking(self, tags: Iterable[Tag], now: float) -> Tag | None:
        """The first of `tags` that allows no further task at `now`; None if all do."""
        for tag in tags:
            if tag.is_full or tag.next_s > now:
                return tag
        return None

    def wait_for(self, tag: Tag) -> None:
        """A lane that has both a task and room waits for `tag`: it is looked at again when a
        permit is given back, or when the rate allows it."""
        if tag.is_full:
            return
        at_s = tag.next_s
        if tag.due_s != at_s:
            tag.due_s = at_s
            heapq.heappush(self._due, (at_s, tag.name))
            if len(self._due) > 2 * len(self._tags) + 64:
                self._due = [(t.due_s, t.name) for t in self if t.due_s is not None]
                heapq.heapify(self._due)

    def change(self, tag: Tag, limit: Limit, now: float) -> None:
        """Another limit from now on. What was sent counts on: a rate that stays the same keeps
        its bucket, another one begins with what is left in proportion, and at most full."""
        old = tag.limit
        if (old.rate, old.per_s) != (limit.rate, limit.per_s):
            missing = max(0.0, tag.full_s - now) / old.per_s if old.rate else 0.0
            tag.full_s = now + missing * limit.per_s if limit.rate else 0.0
            tag.due_s = None
        tag.limit = limit
        tag.held_max = math.inf if limit.at_once is None else max(tag.held, limit.at_once)

    # --- time ------------------------------------------------------------------------------------

    def next_s(self) -> float | None:
        """When the lanes of a tag are to be looked at again, because of its rate."""
        due = self._due
        while due:
            at_s, name = due[0]
            tag = self._tags.get(name)
            if tag is not None and tag.due_s == at_s:
                return at_s
            heapq.heappop(due)
        return None

    def take_due(self, now: float) -> Iterator[Tag]:
        """The tags whose rate may allow another task by `now`."""
        while (at_s := self.next_s()) is not None and at_s <= now:
            _, name = heapq.heappop(self._due)
            tag = self._tags[name]
            tag.due_s = None
            yield tag

    def put_back(
        self, name: str, limit: Limit, held_max: float, full_s: float, due_s: float | None
    ) -> None:
        """A tag as it was when a snapshot was made; who holds it is told by `take_again`."""
        tag = self.tag(name)
        tag.limit, tag.held_max, tag.full_s, tag.due_s = limit, held_max, full_s, due_s
        if due_s is not None:
            heapq.heappush(self._due, (due_s, name))
