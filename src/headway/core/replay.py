"""Placing what was placed before: how a journal is read again.

A journal keeps the placements beside the events, since a scheme of chance or of the user's might
choose another engine the second time, and the outcomes that follow in the journal would be of
attempts that never were. Everything else about a placement follows from the records.

What this file must not know: where the placements were kept, and what seating a task means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from headway.core.events import EngineId, TaskId, format_engine_id, format_task_id
from headway.core.records import Engine, Task
from headway.errors import ReplayError

if TYPE_CHECKING:
    from headway.core.scheduler import Scheduler


def choices_made(
    scheduler: Scheduler, seats: Iterable[tuple[TaskId, EngineId]], now: float
) -> Iterator[tuple[Task, Engine]]:
    """What `Lanes.choices` gave, told by the pairs that came of it. O(1) each.

    The caller seats each task before it asks for the next.

    Raises:
        ReplayError: there can't have been such a choice, or one more must have been made.
    """
    lanes = scheduler.lanes
    for task_id, engine_id in seats:
        task, engine = scheduler.tasks.get(task_id), scheduler.engines.get(engine_id)
        misfit = _misfit(scheduler, task, engine, now)
        if misfit:
            raise ReplayError(
                f"task {format_task_id(task_id)} was placed on engine "
                f"{format_engine_id(engine_id)} according to the journal, but {misfit}: "
                f"the journal does not belong to this state, or was written with other settings"
            )
        assert task is not None
        assert engine is not None
        assert task.lane is not None
        yield lanes.take(task.lane), engine
    for lane in lanes.placeable:
        if lane.count and lane.room and not lanes.limits.blocking(lane.tags, now):
            engine = next(iter(lane.room))
            raise ReplayError(
                f"{lane.head()!r} waits, and {format_engine_id(engine.id)} has room for it, but "
                f"the journal has no placement of it: it is cut, or does not belong to this state"
            )
    lanes.all_placed(now)


def _misfit(s: Scheduler, task: Task | None, engine: Engine | None, now: float) -> str:
    """Why `task` can't have been placed on `engine` just now; "" if it can."""
    if task is None:
        return "no such task is known"
    lane = task.lane
    if lane is None:
        return f"it is {task.state.name}"
    if engine is None:
        return "no such engine is here"
    if lane.head() is not task:
        return f"it is the turn of {lane.head()!r}"
    if engine not in lane.room:
        return f"that engine has no room for it ({engine.load} of {engine.limit:g})"
    tag = s.limits.blocking(lane.tags, now)
    if tag is not None:
        return f"the limit {tag.name}={tag.limit} allows none more ({tag.held} hold it)"
    return ""
