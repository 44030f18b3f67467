"""What an observer is told: the body of the Answer to an Ask of "observe".

A question is answered when a quarter of a second has passed since the observer's last answer, so
who asks again at once is told four times a second, and who does not read is told nothing. When an
answer had to leave something out, the next comes a second later.

The first answers have the tasks that there are, a slice each, and later ones those that changed.
Each is bounded, and so is what all of them have in a second: see the figures below. When more had
changed than they take, and it has become quieter since, the tasks that there are come again, in
another round, so that nobody believes for ever what was true before.

What this file must not know: who observes, and what for.
"""

from __future__ import annotations

from msgspec import Struct

from headway.core.events import EngineId, TaskId
from headway.core.watched import TaskRow

#: An observer is answered no more often; and after an answer that was not whole.
INTERVAL_S = 0.25
BUSY_INTERVAL_S = 1.0
#: After a round in which all tasks were told, the next begins no earlier.
AGAIN_S = 2.0
#: A round has at most so many tasks, and an answer so many of them.
ALL_TASKS_MAX = 10_000
SLICE_MAX = 1_000
#: Of tasks that changed, of runs, engines and lines an answer has at most so many.
TASKS_MAX = 2_000
RUNS_MAX = 2_000
ENGINES_MAX = 1_000
LINES_MAX = 200
#: So many rows may be told at once after a time of quiet, and so many a second for ever: each costs
#: the controller, the observer and the page a little, and all three are taken from the tasks.
TASKS_AT_ONCE = 5_000
TASKS_A_SECOND = 400.0
RUNS_AT_ONCE = 5_000
RUNS_A_SECOND = 400.0
#: Of a line no more is told; and of what an engine has beside what it runs.
LINE_CHARS_MAX = 500
PREFETCHED_MAX = 10


class EngineRow(Struct, array_like=True, frozen=True):
    """One engine at one moment. `limit` is None where it has none. `task` is what it runs, or has
    next; `since_s` is when that began, by the scheduler's clock. `prefetched` are the first of
    those that it has beside."""

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
    prefetched: list[TaskId] = []
    resources: dict[str, float] = {}


class Run(Struct, array_like=True, frozen=True):
    """One attempt that ended on an engine. `started_at_s` is the wall clock of the engine's host,
    `status` that of core.events.Outcome."""

    engine: EngineId
    task: TaskId
    started_at_s: float
    run_s: float
    status: int


class Line(Struct, array_like=True, frozen=True):
    """Text that a task printed, or its engine outside of any; `stream` is stdout or stderr."""

    engine: EngineId | None
    task: TaskId | None
    stream: str
    text: str


class Observed(Struct, frozen=True):
    """The cluster at one moment, and what happened since the answer before.

    With `is_first` this observer is new here. `round` counts the rounds in which all tasks are
    told, and `is_all` says that the current one ends with this answer. `now_s` and `wall_s` are the
    same moment by the scheduler's clock and by that of the wall. `states` are the tasks in memory
    by state, `ended` those that came to each final state since this observer began. `tasks_more`,
    `runs_more`, `lines_more` and `engines_more` are how many were left out, for there were too
    many; `engines_all` is how many engines there are.
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
    round: int = 0
    lines: list[Line] = []
    lines_more: int = 0
