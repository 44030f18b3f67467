"""What an observer is told: the body of the Answer to an Ask of "observe".

A question is answered when a quarter of a second has passed since the observer's last answer, so
who asks again at once is told four times a second, and who does not read is told nothing. The
first answer has the tasks that there are, each later one those that changed. Each is bounded.
When more had changed than one answer takes, and it has become quieter since, the tasks that there
are come again, so that nobody believes for ever what was true before.

What this file must not know: who observes, and what for.
"""

from __future__ import annotations

from msgspec import Struct

from headway.core.events import EngineId, TaskId
from headway.core.watched import TaskRow

#: An observer is answered no more often.
INTERVAL_S = 0.25
#: After that all tasks are told again no more often.
AGAIN_S = 2.0
#: At most so many tasks are in an answer with all, and in any other; so many runs and engines.
ALL_TASKS_MAX = 10_000
TASKS_MAX = 2_000
RUNS_MAX = 2_000
ENGINES_MAX = 1_000


class EngineRow(Struct, array_like=True, frozen=True):
    """One engine at one moment. `limit` is None where it has none. `task` is what it runs, or has
    next; `since_s` is when that began, by the scheduler's clock."""

    id: EngineId
    host: str
    pid: int
    state: str
    load: int
    limit: int | None
    done: int
    rss_bytes: int
    task: TaskId | None
    since_s: float | None


class Run(Struct, array_like=True, frozen=True):
    """One attempt that ended on an engine. `started_at_s` is the wall clock of the engine's host,
    `status` that of core.events.Outcome."""

    engine: EngineId
    task: TaskId
    started_at_s: float
    run_s: float
    status: int


class Observed(Struct, frozen=True):
    """The cluster at one moment, and what happened since the answer before.

    With `is_first` this observer is new here. With `is_all`, which is also so then, `tasks` are the
    tasks that there are, and not only those that changed. `now_s` and `wall_s` are the same moment
    by the scheduler's clock and by that of the wall. `states` are the tasks in memory by state,
    `ended` those that came to each final state since this observer began. `tasks_more`,
    `runs_more` and `engines_more` are how many were left out, for there were too many;
    `engines_all` is how many engines there are.
    """

    is_first: bool
    is_all: bool
    now_s: float
    wall_s: float
    states: list[int]
    ended: list[int]
    submitted: int
    retried: int
    crashed: int
    clients: int
    engines_all: int
    engines: list[EngineRow]
    engines_more: int
    tasks: list[TaskRow]
    tasks_more: int
    runs: list[Run]
    runs_more: int
