"""What a client is told of what ran: the body of the Answer to an Ask of "trace".

The controller keeps the last attempts that ended, and tells them in pages, so that no answer holds
up a turn: each names where the next begins. Times are the scheduler's, but for those that an engine
said, by the clock of its host's wall.

What this file must not know: who keeps it, and what is made of it.
"""

from __future__ import annotations

from msgspec import Struct

from headway.core.events import EngineId, TaskId

#: A page has at most so many rows, and so many ids of upstreams and spans of groups, or one row.
PAGE_ROWS_MAX = 2_000
PAGE_NAMES_MAX = 100_000

#: The `status` of a row beyond those of core.events.Outcome: the attempt has none, since its engine
#: ended under it; and no attempt, but the end of a task that did not succeed.
CRASHED = 6
ENDED = 7


class TraceRow(Struct, array_like=True, frozen=True):
    """One attempt that ended on an engine; or (ENDED) how a task ended that did not succeed.

    `assigned_s` and `heard_s` are when the scheduler chose the engine, and heard of the end.
    `started_at_s` and `run_s` are the engine's: see core.events.Outcome. `name` is the task's
    label, or else its function's name. `upstreams` are tasks and groups. `state`, of ENDED, is the
    task's. `submitted_s` is None where that was forgotten.
    """

    task: TaskId
    attempt: int
    engine: EngineId | None
    status: int
    started_at_s: float
    run_s: float
    assigned_s: float
    heard_s: float
    name: str
    upstreams: list[TaskId] | None
    state: int
    submitted_s: float | None


class EngineSeen(Struct, array_like=True, frozen=True):
    """An engine, also of one that has left. `joined_s` is None where it was there before the
    controller."""

    id: EngineId
    host: str
    pid: int
    joined_s: float | None
    left_s: float | None


class TracePage(Struct, frozen=True):
    """Some of what is kept, the oldest first.

    `next` is what to ask with for what follows; None if nothing does. `groups` are those that the
    rows name, as runs of ids: (first, how many). `engines` are told with the last page alone.
    `dropped` attempts were kept once, and are no more. With `is_restarted` another controller was
    here before, until about `began_s`, and what it knew is gone. `now_s` and `wall_s` are the same
    moment by the scheduler's clock and by the wall. `unfinished` tasks have not ended.
    """

    rows: list[TraceRow]
    next: int | None
    groups: dict[TaskId, list[tuple[TaskId, int]]]
    engines: list[EngineSeen]
    dropped: int
    began_s: float
    is_restarted: bool
    now_s: float
    wall_s: float
    unfinished: int
