"""Time, chance, and what happens next: the world in which the parts of a cluster live.

    world = World(seed)
    world.after(0.5, callback)
    world.run(until_s=60.0)

Nothing here waits: time jumps from one event to the next. Two events at the same time happen in
the order in which they were asked for, so that a run is the same each time.

What this file must not know: clusters.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random


class World:
    """A clock, a source of chance, and the events to come.

    Parameters:
        seed: of all chance in this world.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(seed)
        #: Seconds since the beginning, from 1: a time of 0 means "never" in places.
        self.now = 1.0
        #: What the wall clock says more than `now`.
        self.wall_ahead_s = 1.0e9
        self.events = 0
        self.log: list[str] = []
        self._numbers = count()
        self._coming: list[tuple[float, int, Callable[[], None]]] = []

    def wall_s(self) -> float:
        """The time on the wall, which may jump."""
        return self.now + self.wall_ahead_s

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` in `delay_s` seconds."""
        heapq.heappush(self._coming, (self.now + delay_s, next(self._numbers), callback))

    def at(self, at_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` at that time: exactly then, whereas a delay is rounded."""
        heapq.heappush(self._coming, (at_s, next(self._numbers), callback))

    def chance(self, probability: float) -> bool:
        """True so often."""
        return probability > 0 and self.rng.random() < probability

    def say(self, text: str) -> None:
        """Note what happened, for whoever looks into a run that failed."""
        self.log.append(f"{self.now:10.4f}  {text}")

    def run(self, until_s: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Let events happen until `until_s`, or `done()`; whether it is done."""
        while self._coming and self._coming[0][0] <= until_s:
            at_s, _, callback = heapq.heappop(self._coming)
            self.now = max(self.now, at_s)
            self.events += 1
            callback()
            if done():
                return True
        self.now = max(self.now, until_s)
        return done()
