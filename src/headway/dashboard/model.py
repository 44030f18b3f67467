"""What the dashboard knows: a fold of what an observer is told, bounded.

Rule 1: pure. The same answers lead to the same model; it reads no clock and sends nothing.
Rule 2: bounded. The tasks that changed last are kept, the runs that ended last, some minutes of
throughput: a cluster that runs for a year fills no memory.

Everything that changes carries the number of the fold that changed it, so that each viewer is
given what is newer than what it has, however slow it is, and nothing is kept for any of them.

What this file must not know: sockets, pages, and who looks.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

from headway.core.events import RAN, TaskId, format_engine_id, format_task_id
from headway.core.states import FINAL_STATES, TaskState
from headway.core.watched import TaskRow
from headway.wire.observed import EngineRow, Observed, Run

#: The newest tasks and runs that are kept, and points of throughput, one for each fold: at four
#: a second that is five minutes.
TASKS_MAX = 10_000
RUNS_MAX = 10_000
HISTORY_MAX = 1_200
#: Edges that the graph shows; and what stands for tasks without a label.
EDGES_MAX = 500
GROUPS_MAX = 200
_NO_LABEL = "(no label)"

STATE_NAMES = [state.name.lower() for state in TaskState]
_LIVE = [state for state in TaskState if state not in FINAL_STATES]

Row = dict[str, Any]


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
        self._runs: deque[tuple[int, Run]] = deque(maxlen=runs_max)
        self._history: deque[tuple[int, Row]] = deque(maxlen=HISTORY_MAX)
        self._last: Observed | None = None
        #: The fold that took away tasks: who is older than that is given everything.
        self._whole_version = 0
        #: What was seen to end, by state, by observers that were given up since.
        self._ended_before = [0] * len(TaskState)
        #: What was left out of all answers so far.
        self._tasks_more = self._runs_more = 0

    def fold(self, seen: Observed) -> None:
        """Take in one answer."""
        self.version += 1
        last = self._last
        if seen.is_all and not seen.tasks_more:
            self._drop_ended_unseen({row.id for row in seen.tasks})
        if seen.is_first and last is not None:
            self._ended_before = self._ended(last)
        for row in seen.tasks:
            before = self._tasks.get(row.id)
            if before is not None:
                row = _with_what_was_known(row, before[1])
            self._tasks[row.id] = (self.version, row)
            self._tasks.move_to_end(row.id)
        while len(self._tasks) > self._tasks_max:
            self._tasks.popitem(last=False)
        self._runs.extend((self.version, run) for run in seen.runs)
        self._tasks_more += seen.tasks_more
        self._runs_more += seen.runs_more
        if last is not None and not seen.is_first and seen.now_s > last.now_s:
            ended = sum(seen.ended) - sum(last.ended)
            rate = max(0.0, ended / (seen.now_s - last.now_s))
            point = {"wall_s": seen.wall_s, "rate": round(rate, 2), "live": _live(seen)}
            self._history.append((self.version, point))
        self._last = seen

    def _drop_ended_unseen(self, there: set[TaskId]) -> None:
        """Forget tasks that we take for unfinished, and that are not there any more."""
        stale = [
            task
            for task, (_, row) in self._tasks.items()
            if row.state not in FINAL_STATES and task not in there
        ]
        for task in stale:
            del self._tasks[task]
        if stale:
            self._whole_version = self.version

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
        }

    def task(self, task: TaskId) -> Row | None:
        """One task and its runs, for its page; None if it is not among those kept."""
        found = self._tasks.get(task)
        if found is None or self._last is None:
            return None
        row = _task(found[1], self._last.wall_s - self._last.now_s)
        row["runs"] = [_run(run) for _, run in self._runs if run.task == task]
        return row

    def graph(self) -> Row:
        """The graph by label: how many tasks of each are in which state, and how many edges lead
        from one label to another."""
        label_of = {task: _label(row) for task, (_, row) in self._tasks.items()}
        members: dict[TaskId, dict[str, int]] = {}
        counts: dict[str, list[int]] = {}
        for _, row in self._tasks.values():
            label = label_of[row.id]
            counts.setdefault(label, [0] * len(TaskState))[row.state] += 1
            for group in row.groups:
                labels = members.setdefault(group, {})
                labels[label] = labels.get(label, 0) + 1
        edges: dict[tuple[str, str], int] = {}
        for _, row in self._tasks.values():
            target = label_of[row.id]
            for upstream in row.upstreams:
                if upstream in label_of:
                    sources = {label_of[upstream]: 1}
                else:
                    sources = members.get(upstream, {})
                for source, count in sources.items():
                    edges[source, target] = edges.get((source, target), 0) + count
        shown = sorted(counts, key=lambda label: (-sum(counts[label]), label))[:GROUPS_MAX]
        kept = set(shown)
        listed = sorted(
            (source, target, count)
            for (source, target), count in edges.items()
            if source in kept and target in kept and source != target
        )
        return {
            "nodes": [
                {"label": label, "states": dict(zip(STATE_NAMES, counts[label], strict=True))}
                for label in sorted(shown)
            ],
            "edges": [list(edge) for edge in listed[:EDGES_MAX]],
            "nodes_more": len(counts) - len(shown),
            "edges_more": max(0, len(listed) - EDGES_MAX),
        }


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


def _label(row: TaskRow) -> str:
    return row.label or (f"function {row.function}" if row.function else _NO_LABEL)


def _task(row: TaskRow, offset_s: float) -> Row:
    return {
        "id": format_task_id(row.id),
        "label": _label(row),
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
