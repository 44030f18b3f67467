"""How far the clock of another host is ahead, from times that both hosts noted.

An attempt was assigned (our clock) before it started (theirs), and ended (theirs) before we heard
of that (ours). So each attempt bounds the difference from both sides, as an exchange of NTP does,
and all of them together bound it best. What this file must not know: tasks, and where times come
from.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

#: What the bounds must contradict by, to be believed: the controller takes in many messages at one
#: time by its clock, some of which were said a little later.
_SLACK_S = 0.01


class Ahead(NamedTuple):
    """A clock is `by_s` ahead of ours, give or take `error_s`."""

    by_s: float
    error_s: float


class Bounds:
    """What is known of one clock."""

    __slots__ = ("least_s", "most_s")

    def __init__(self) -> None:
        self.least_s, self.most_s = -inf, inf

    def note(self, assigned_s: float, started_s: float, ended_s: float, heard_s: float) -> None:
        """One attempt: `started_s` and `ended_s` are by that clock, the others by ours."""
        self.least_s = max(self.least_s, ended_s - heard_s)
        self.most_s = min(self.most_s, started_s - assigned_s)

    def ahead(self, likely_s: float) -> Ahead:
        """How far it is ahead.

        `likely_s` is taken where nothing contradicts it: that of our own host's wall clock, which
        hosts with synchronised clocks share. Bounds that contradict each other are those of a
        clock that was set meanwhile, or drifts: then the middle is taken, and the error is theirs.
        """
        if self.least_s - _SLACK_S <= likely_s <= self.most_s + _SLACK_S:
            return Ahead(likely_s, 0.0)
        middle_s = (self.least_s + self.most_s) / 2
        if abs(middle_s) == inf or middle_s != middle_s:  # of nothing nothing is known
            return Ahead(likely_s, 0.0)
        return Ahead(middle_s, abs(self.most_s - self.least_s) / 2)
