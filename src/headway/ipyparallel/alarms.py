"""What must happen at a time, beside the core's own timers: who is told, and of what.

Each alarm has a kind and a number, which names an engine or a task. What this file must not know:
the clock, what is done when one is due.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from headway.core.timers import Timers


class Alarm(IntEnum):
    """What a timer is for. Of an engine, a task, or of the scheduler as a whole (number 0)."""

    #: An engine left: its tasks are given up. It could not be reached: it is tried again.
    STRANDED = 0
    RESUME = 1
    #: A task names an engine that did not register in time.
    EXPECTED = 2
    #: A task runs too long; it was interrupted, and goes on. An interrupt was not confirmed.
    RUN_TIMEOUT = 3
    OVERRAN = 4
    INTERRUPTED = 5
    #: Connections broke: do the engines still know what they were sent? A task that one does not.
    PROBE = 6
    LOST = 7
    #: The Hub is asked again; it has not answered.
    HUB_ASK = 8
    HUB_SILENT = 9


Handler = Callable[[int, float], None]


class Alarms:
    """Timers, and who is told when they are due."""

    def __init__(self) -> None:
        self._timers: Timers[Alarm] = Timers()
        self._handlers: dict[Alarm, Handler] = {}

    def on(self, alarm: Alarm, handler: Handler) -> None:
        """`handler` is called with the number and the time when such an alarm is due."""
        self._handlers[alarm] = handler

    def arm(self, number: int, alarm: Alarm, at_s: float) -> None:
        """Set an alarm, in place of one that was set before."""
        self._timers.arm(number, alarm, at_s)

    def disarm(self, number: int, alarm: Alarm) -> None:
        """Forget an alarm, if it is set."""
        self._timers.disarm(number, alarm)

    def is_armed(self, number: int, alarm: Alarm) -> bool:
        """Whether it is set."""
        return self._timers.is_armed(number, alarm)

    def next_s(self) -> float | None:
        """When the next is due, None if none is set."""
        return self._timers.next_s()

    def ring(self, now: float, guarded: Callable[..., object]) -> None:
        """Tell of all that are due. What a handler raises is for `guarded` to deal with."""
        for number, alarm in self._timers.take_due(now):
            guarded(f"the alarm {alarm.name}", self._handlers[alarm], number, now)
