"""How many engines are wanted, between a least and a most: a policy that is told numbers.

    policy = Adaptive(least=0, most=8)
    start, give_back = policy.decide(Look(...), now)

It goes by how long the work that waits will take, not by how many tasks it is: ten thousand tasks
of 20 µs are no reason to start an engine, three of an hour are. Engines are asked for until the
work that waits would be done within `patience_s`, but never more than there are tasks; and given
back when they have idled for `idle_s` and would not be asked for again. One that runs something is
never given back. When a start fails, the next is tried after a while, then after twice as long.

What this file must not know: what engines are, who starts them, and where the numbers come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headway.core.events import EngineId

#: After so long an engine without tasks is given back, if nobody says otherwise.
IDLE_S = 30.0
#: After a start that failed, and at most after one that failed again.
_BACKOFF_S = 1.0
_BACKOFF_MAX_S = 300.0


class Look(NamedTuple):
    """What is seen of a cluster.

    `waiting` tasks are ready, and could run on an engine more; one after the other they would take
    `waiting_s`. Of the `engines`, without those that drain, `idle` have nothing to do, each since a
    time, the longest first. Of `starting` more it is expected that they join.
    """

    waiting: int
    waiting_s: float
    engines: int
    idle: Sequence[tuple[float, EngineId]] = ()
    starting: int = 0


class Decision(NamedTuple):
    """So many engines are to be started; these are to be given back."""

    start: int
    give_back: list[EngineId]


@dataclass(slots=True)
class Adaptive:
    """How many engines are wanted.

    Parameters:
        least, most: the bounds.
        patience_s: work that waits may take so long until the last of it begins. Some times what
            it takes to start an engine, so that an engine is not there only when all is done.
        idle_s: an engine that has idled for so long is given back. Many times what a start takes.
    """

    least: int
    most: int
    patience_s: float = 2.0
    idle_s: float = IDLE_S
    #: Starts that failed one after the other, and when the next may be tried.
    failures: int = 0
    next_start_s: float = -math.inf

    def wanted(self, look: Look) -> int:
        """How many engines there should be."""
        busy = look.engines - len(look.idle)
        # So many that what waits has begun in time.
        for_work = math.ceil(look.waiting_s / self.patience_s)
        if look.waiting and not look.engines:
            for_work = max(for_work, 1)
        return max(self.least, min(self.most, max(busy, min(for_work, busy + look.waiting))))

    def decide(self, look: Look, now: float) -> Decision:
        """What is to be done now."""
        wanted = self.wanted(look)
        there = look.engines + look.starting
        if wanted > there:
            return Decision(wanted - there if now >= self.next_start_s else 0, [])
        spare = look.engines - wanted
        old = [engine for since_s, engine in look.idle if now - since_s >= self.idle_s]
        return Decision(0, old[: max(spare, 0)])

    def start_failed(self, now: float) -> float:
        """Engines did not start. Returns after how many seconds it is tried again."""
        pause_s = min(_BACKOFF_S * 2.0 ** min(self.failures, 16), _BACKOFF_MAX_S)
        self.failures += 1
        self.next_start_s = now + pause_s
        return pause_s

    def started(self) -> None:
        """An engine joined: starts succeed."""
        self.failures = 0
        self.next_start_s = -math.inf
