"""What a cluster ran: tasks, their attempts on engines, and when each of their steps was.

All times are seconds since the trace's beginning, by one clock. Plain data, so that it can be
written as JSON and read again.

What this file must not know: where it comes from, and what is made of it.
"""

from __future__ import annotations

from msgspec import Struct

#: How an attempt ended: in the order of the statuses of core.events.Outcome, and one that has no
#: outcome since its engine ended under it.
ENDS = ("succeeded", "raised", "refused", "stopped", "overran", "input_lost", "crashed")
CRASHED = len(ENDS) - 1


class Attempt(Struct, frozen=True):
    """One attempt at a task, on one engine.

    The scheduler chose the engine at `assigned_s`; it ran from `started_s` to `ended_s`, and the
    scheduler heard so at `heard_s`. `end` is one of ENDS.
    """

    number: int
    engine: str
    end: str
    assigned_s: float
    started_s: float
    ended_s: float
    heard_s: float

    @property
    def run_s(self) -> float:
        """How long it ran."""
        return self.ended_s - self.started_s


class TracedTask(Struct, frozen=True):
    """One task that has ended.

    `name` is its label, or else the name of its function. `submitted_s` is None where that was
    forgotten. `ready_s` is when the last of its upstreams had ended, or it was submitted.
    `upstreams` are tasks; those of a group are the one that ended last. `after` is the upstream
    that made it ready; "" if none did. It ended at `ended_s`, in `state`; without attempts it
    never ran.
    """

    id: str
    name: str
    state: str
    submitted_s: float | None
    ready_s: float | None
    ended_s: float
    upstreams: list[str] = []
    after: str = ""
    attempts: list[Attempt] = []

    @property
    def run_s(self) -> float:
        """How long all of its attempts ran."""
        return sum(attempt.run_s for attempt in self.attempts)


class TracedEngine(Struct, frozen=True):
    """One engine. None: it was there before the trace begins; it was there at its end.

    `clock_s` is by how much its host's clock was ahead of the controller's, as it was corrected,
    give or take `clock_error_s`; both 0 where the clocks could not be told apart.
    """

    id: str
    host: str
    pid: int
    joined_s: float | None = None
    left_s: float | None = None
    clock_s: float = 0.0
    clock_error_s: float = 0.0


class TraceData(Struct, frozen=True):
    """What a cluster ran. `began_at_s` is the wall clock at its beginning, by the controller's
    host; `notes` say what is missing, for people."""

    began_at_s: float
    tasks: list[TracedTask]
    engines: list[TracedEngine]
    notes: list[str] = []

    @property
    def span_s(self) -> float:
        """From the beginning to the end of what ended last."""
        return max((task.ended_s for task in self.tasks), default=0.0)
