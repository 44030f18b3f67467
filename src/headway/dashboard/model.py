"""What the dashboard knows: a fold of what an observer is told, bounded.

Rule 1: pure. The same answers lead to the same model; it reads no clock and sends nothing.
Rule 2: bounded. The tasks that changed last are kept, the runs that ended last, the lines printed
last, some minutes of throughput and memory, and the engines that left last: a cluster that runs
for a year fills no memory.

Everything that changes carries the number of the fold that changed it, so that each viewer is
given what is newer than what it has, however slow it is, and nothing is kept for any of them.

What this file must not know: sockets, pages, and who looks.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from headway.core.events import RAN, EngineId, TaskId, format_engine_id, format_task_id
from headway.core.states import FINAL_STATES, TaskState
from headway.core.watched import TaskRow
from headway.dashboard.paths import STATE_NAMES, Graph, label_of
from headway.wire.observed import EngineRow, Line, Observed, Run

#: The newest tasks, runs and lines that are kept, and points of throughput, one for each fold: at
#: four a second that is five minutes.
TASKS_MAX = 10_000
RUNS_MAX = 10_000
LINES_MAX = 5_000
HISTORY_MAX = 1_200
#: Points of the memory of one engine, so many seconds apart at least; engines that have left.
MEMORY_MAX = 150
_MEMORY_EVERY_S = 2.0
_GONE_MAX = 100
#: Runs and lines on the page of one engine or task.
_PAGE_RUNS = 100
_PAGE_LINES = 100

_LIVE = [state for state in TaskState if state not in FINAL_STATES]

Row = dict[str, Any]


@dataclass(slots=True)
class _Known:
    """What is known of an engine beside its row."""

    row: EngineRow
    #: The memory that it took: when, and bytes.
    memory: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=MEMORY_MAX))
    #: When it was seen to be here no more.
    gone_s: float | None = None


class Model:
    """The cluster, as it was last seen, and what led there.

    Parameters:
        tasks_max, runs_max: how many are kept.
    """

    def __init__(self, tasks_max: int = TASKS_MAX, runs_max: int = RUNS_MAX) -> None:
        self._tasks_max = tasks_max
        #: The number of the last fold; each of what follows carries that in which it changed.
        self.version = 0
        self._tasks: OrderedDict[TaskId, tuple[int, TaskRow]] = OrderedDict()
        #: How long the tasks that are kept ran, the last time.
        self._took_s: dict[TaskId, float] = {}
        self._runs: deque[tuple[int, Run]] = deque(maxlen=runs_max)
        self._lines: deque[Line] = deque(maxlen=LINES_MAX)
        self._history: deque[tuple[int, Row]] = deque(maxlen=HISTORY_MAX)
        self._engines: dict[EngineId, _Known] = {}
        self._last: Observed | None = None
        #: The fold that took away tasks: who is older than that is given everything.
        self._whole_version = 0
        #: The round in which all tasks are told, and the fold with which it began.
        self._round = 0
        self._round_version = 0
        #: What was seen to end, by state, by observers that were given up since.
        self._ended_before = [0] * len(TaskState)
        #: What was left out of all answers so far.
        self._tasks_more = self._runs_more = self._lines_more = 0
        self._graph: tuple[int, Row] = (-1, {})

    def fold(self, seen: Observed) -> None:
        """Take in one answer."""
        self.version += 1
        last = self._last
        if seen.is_first or seen.round != self._round:
            self._round, self._round_version = seen.round, self.version
        if seen.is_first and last is not None:
            self._ended_before = self._ended(last)
        self._fold_tasks(seen)
        self._fold_engines(seen)
        self._lines.extend(seen.lines)
        self._tasks_more += seen.tasks_more
        self._runs_more += seen.runs_more
        self._lines_more += seen.lines_more
        if last is not None and not seen.is_first and seen.now_s > last.now_s:
            ended = sum(seen.ended) - sum(last.ended)
            rate = max(0.0, ended / (seen.now_s - last.now_s))
            point = {"wall_s": seen.wall_s, "rate": round(rate, 2), "live": _live(seen)}
            self._history.append((self.version, point))
        self._last = seen

    def _fold_tasks(self, seen: Observed) -> None:
        for row in seen.tasks:
            before = self._tasks.get(row.id)
            if before is not None:
                row = _with_what_was_known(row, before[1])
            self._tasks[row.id] = (self.version, row)
            self._tasks.move_to_end(row.id)
        while len(self._tasks) > self._tasks_max:
            task, _ = self._tasks.popitem(last=False)
            self._took_s.pop(task, None)
        if seen.is_all and not seen.tasks_more:
            self._drop_ended_unseen()
        for run in seen.runs:
            self._runs.append((self.version, run))
            if run.task in self._tasks:
                self._took_s[run.task] = run.run_s

    def _drop_ended_unseen(self) -> None:
        """All have been told: forget those that we take for unfinished, and that were not."""
        stale = [
            task
            for task, (version, row) in self._tasks.items()
            if version < self._round_version and row.state not in FINAL_STATES
        ]
        for task in stale:
            del self._tasks[task]
            self._took_s.pop(task, None)
        if stale:
            self._whole_version = self.version

    def _fold_engines(self, seen: Observed) -> None:
        known = self._engines
        for row in seen.engines:
            engine = known.get(row.id)
            if engine is None:
                engine = known[row.id] = _Known(row)
            engine.row, engine.gone_s = row, None
            memory = engine.memory
            if not memory or seen.wall_s - memory[-1][0] >= _MEMORY_EVERY_S:
                memory.append((round(seen.wall_s, 2), row.rss_bytes))
        if not seen.engines_more:  # else who is not told may be here
            here = {row.id for row in seen.engines}
            for number, engine in known.items():
                if number not in here and engine.gone_s is None:
                    engine.gone_s = seen.wall_s
        gone = [number for number, engine in known.items() if engine.gone_s is not None]
        for number in gone[: max(0, len(gone) - _GONE_MAX)]:
            del known[number]

    def _ended(self, seen: Observed) -> list[int]:
        return [sum(pair) for pair in zip(self._ended_before, seen.ended, strict=True)]

    # --- what viewers are given ------------------------------------------------------------------

    def since(self, version: int) -> Row:
        """All that is newer than `version`, as plain data for JSON; 0 for everything. Where it
        says `is_whole`, what the viewer has is to be forgotten."""
        seen = self._last
        is_whole = version < self._whole_version or version == 0
        if is_whole:
            version = 0
        news: Row = {"version": self.version, "is_whole": is_whole}
        news |= {"tasks": [], "runs": [], "history": []}
        if seen is None:
            return news
        offset_s = seen.wall_s - seen.now_s
        for changed_in, row in reversed(self._tasks.values()):
            if changed_in <= version:
                break
            news["tasks"].append(_task(row, offset_s))
        news["tasks"].reverse()
        news["runs"] = [_run(run) for run in _newer(self._runs, version)]
        news["history"] = _newer(self._history, version)
        news["overview"] = self._overview(seen)
        news["engines"] = [_engine(row, offset_s) for row in seen.engines]
        return news

    def _overview(self, seen: Observed) -> Row:
        return {
            "wall_s": seen.wall_s,
            "states": dict(zip(STATE_NAMES, seen.states, strict=True)),
            "ended": dict(zip(STATE_NAMES, self._ended(seen), strict=True)),
            "submitted": seen.submitted,
            "retried": seen.retried,
            "crashed": seen.crashed,
            "clients": seen.clients,
            "engines": seen.engines_all,
            "engines_more": seen.engines_more,
            "rss_bytes": sum(row.rss_bytes for row in seen.engines),
            "tasks_more": self._tasks_more,
            "runs_more": self._runs_more,
            "gone": [
                format_engine_id(number)
                for number, engine in self._engines.items()
                if engine.gone_s is not None
            ],
        }

    def task(self, task: TaskId) -> Row | None:
        """One task, its runs and what it printed, for its page; None if it is not among those
        kept."""
        found = self._tasks.get(task)
        if found is None or self._last is None:
            return None
        row = _task(found[1], self._last.wall_s - self._last.now_s)
        row["runs"] = [_run(run) for _, run in self._runs if run.task == task]
        row["lines"] = self._printed(lambda line: line.task == task)
        row["lines_more"] = self._lines_more
        return row

    def engine(self, engine: EngineId) -> Row | None:
        """One engine, here or gone: what it has, ran and printed, and its memory; None if it was
        not seen, or left long ago."""
        known = self._engines.get(engine)
        if known is None or self._last is None:
            return None
        row = _engine(known.row, self._last.wall_s - self._last.now_s)
        labels = {task: label_of(each) for task, (_, each) in self._tasks.items()}
        newest = (run for _, run in reversed(self._runs) if run.engine == engine)
        has = [known.row.task] if known.row.task is not None else []
        row |= {
            "wall_s": self._last.wall_s,
            "gone_s": known.gone_s,
            "prefetched": [format_task_id(each) for each in known.row.prefetched],
            "resources": known.row.resources,
            "labels": {
                format_task_id(each): labels.get(each, "") for each in [*has, *known.row.prefetched]
            },
            "memory": list(known.memory),
            "runs": [[*_run(run), labels.get(run.task, "")] for run in islice(newest, _PAGE_RUNS)],
            "lines": self._printed(lambda line: line.engine == engine),
            "lines_more": self._lines_more,
        }
        return row

    def _printed(self, is_wanted: Callable[[Line], bool]) -> list[list[str]]:
        """The last lines that are wanted, in order: task, stream, text."""
        found = islice((line for line in reversed(self._lines) if is_wanted(line)), _PAGE_LINES)
        lines = [
            [format_task_id(line.task) if line.task else "", line.stream, line.text]
            for line in found
        ]
        lines.reverse()
        return lines

    def graph(self) -> Row:
        """The graph by label: see paths.Graph.shown. It is computed once for each fold."""
        if self._graph[0] != self.version:
            tasks = {task: row for task, (_, row) in self._tasks.items()}
            now_s = self._last.now_s if self._last is not None else 0.0
            self._graph = (self.version, Graph(tasks, self._took_s, now_s).shown())
        return self._graph[1]


def _with_what_was_known(row: TaskRow, before: TaskRow) -> TaskRow:
    """A task that has ended has let go of what it needed: its edges and function stay known."""
    return TaskRow(
        row.id, row.state, row.label, row.function or before.function, row.engine, row.attempt,
        row.client, row.since_s, row.upstreams or before.upstreams, row.groups or before.groups,
    )  # fmt: skip


def _newer(kept: deque[tuple[int, Any]], version: int) -> list[Any]:
    """What of `kept`, which is in the order of the folds, came after `version`."""
    found = []
    for changed_in, each in reversed(kept):
        if changed_in <= version:
            break
        found.append(each)
    found.reverse()
    return found


def _live(seen: Observed) -> int:
    return sum(seen.states[state] for state in _LIVE)


def _task(row: TaskRow, offset_s: float) -> Row:
    return {
        "id": format_task_id(row.id),
        "label": label_of(row),
        "state": STATE_NAMES[row.state],
        "engine": format_engine_id(row.engine) if row.engine is not None else "",
        "attempt": row.attempt,
        "client": row.client,
        "since_s": round(row.since_s + offset_s, 3),
        "upstreams": [format_task_id(node) for node in row.upstreams],
    }


def _run(run: Run) -> list[Any]:
    return [
        format_engine_id(run.engine),
        format_task_id(run.task),
        round(run.started_at_s, 4),
        round(run.run_s, 5),
        run.status == RAN,
    ]


def _engine(row: EngineRow, offset_s: float) -> Row:
    return {
        "id": format_engine_id(row.id),
        "host": row.host,
        "pid": row.pid,
        "state": row.state,
        "load": row.load,
        "limit": row.limit,
        "done": row.done,
        "rss_bytes": row.rss_bytes,
        "task": format_task_id(row.task) if row.task is not None else "",
        "since_s": round(row.since_s + offset_s, 3) if row.since_s is not None else None,
    }
