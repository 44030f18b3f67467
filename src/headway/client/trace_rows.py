"""A trace from what the controller told: the rows of wire/traced.py as tasks and their attempts.

Two clocks meet here. The scheduler's is the trace's; when a task ran, its engine said by its host's
wall clock. How far that is ahead follows from the attempts themselves (traces/clocks.py), for each
host. What this file must not know: sockets, and what a trace is for.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from headway.core.events import RAN, STOPPED, EngineId, TaskId, format_engine_id, format_task_id
from headway.core.states import TaskState
from headway.traces.clocks import Ahead, Bounds
from headway.traces.model import ENDS, Attempt, TraceData, TracedEngine, TracedTask
from headway.wire import traced
from headway.wire.traced import EngineSeen, TracePage, TraceRow

#: The state of a task whose attempts have ended, and which will be tried again.
UNFINISHED = "unfinished"

#: When a node ended, and which task that was.
_End = tuple[float, TaskId]


def build(pages: Sequence[TracePage]) -> TraceData:
    """The trace in `pages`: the times in it are the scheduler's."""
    rows = [row for page in pages for row in page.rows]
    last = pages[-1]
    ahead_s = last.wall_s - last.now_s
    clocks = _clocks(rows, last.engines, ahead_s)
    attempts = _attempts(rows, clocks, Ahead(ahead_s, 0.0))
    ends = _Ends(rows, {group: spans for page in pages for group, spans in page.groups.items()})
    by_task: dict[TaskId, list[TraceRow]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    return TraceData(
        ahead_s,
        [_task(node, its, attempts.get(node, []), ends) for node, its in by_task.items()],
        [_engine(engine, clocks, ahead_s) for engine in last.engines],
        _notes(pages[0].dropped, last, ahead_s),
    )


def _notes(dropped: int, last: TracePage, ahead_s: float) -> list[str]:
    notes = []
    if last.is_restarted:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.began_s + ahead_s))
        notes.append(
            f"the controller was started again at {began}: what had ended before is not known"
        )
    if dropped:
        notes.append(f"{dropped:,} older attempts were kept once, and are no more")
    if last.unfinished:
        notes.append(f"{last.unfinished:,} tasks of the cluster have not ended: they are not in it")
    return notes


def _ran(row: TraceRow) -> bool:
    """Whether it is of an attempt that began; as far as one knows, where its engine ended."""
    is_dropped = row.status == STOPPED and not row.started_at_s
    return row.status != traced.ENDED and not is_dropped


# --- clocks --------------------------------------------------------------------------------------


def _clocks(
    rows: Iterable[TraceRow], engines: Iterable[EngineSeen], ahead_s: float
) -> dict[EngineId, Ahead]:
    """How far each engine's wall clock is ahead of the scheduler's time."""
    hosts = {engine.id: engine.host for engine in engines}
    bounds: dict[str, Bounds] = {host: Bounds() for host in hosts.values()}
    for row in rows:
        if row.engine in hosts and row.started_at_s:
            ended_s = row.started_at_s + row.run_s
            bounds[hosts[row.engine]].note(row.assigned_s, row.started_at_s, ended_s, row.heard_s)
    by_host = {host: known.ahead(ahead_s) for host, known in bounds.items()}
    return {engine: by_host[host] for engine, host in hosts.items()}


def _engine(engine: EngineSeen, clocks: dict[EngineId, Ahead], ahead_s: float) -> TracedEngine:
    clock = clocks[engine.id]
    return TracedEngine(
        format_engine_id(engine.id),
        engine.host,
        engine.pid,
        engine.joined_s,
        engine.left_s,
        clock.by_s - ahead_s,
        clock.error_s,
    )


# --- attempts ------------------------------------------------------------------------------------


def _attempts(
    rows: Iterable[TraceRow], clocks: dict[EngineId, Ahead], usual: Ahead
) -> dict[TaskId, list[Attempt]]:
    """What ran, by task."""
    found: dict[TaskId, list[Attempt]] = {}
    #: By engine, until when it ran something.
    busy_s: dict[EngineId, float] = {}
    for row in rows:
        if row.engine is None or not _ran(row):
            continue
        if row.status == traced.CRASHED:
            # Its own times went with its engine. It was the last there, after all the others.
            started_s = min(max(row.assigned_s, busy_s.get(row.engine, 0.0)), row.heard_s)
            ended_s = row.heard_s
        else:
            started_s = row.started_at_s - clocks.get(row.engine, usual).by_s
            # Within what was seen, also by a clock that was set; and the controller hears what is
            # said within a turn of its loop as if it had been at that turn's beginning.
            started_s = max(min(started_s, row.heard_s - row.run_s), row.assigned_s)
            ended_s = max(started_s, min(started_s + row.run_s, row.heard_s))
            busy_s[row.engine] = max(busy_s.get(row.engine, 0.0), ended_s)
        attempt = Attempt(
            row.attempt,
            format_engine_id(row.engine),
            ENDS[row.status],
            row.assigned_s,
            started_s,
            ended_s,
            row.heard_s,
        )
        found.setdefault(row.task, []).append(attempt)
    return found


# --- tasks ---------------------------------------------------------------------------------------


class _Ends:
    """When tasks and groups ended, to find what a dependent waited for."""

    def __init__(
        self, rows: Iterable[TraceRow], groups: dict[TaskId, list[tuple[TaskId, int]]]
    ) -> None:
        #: The first end of each counts: if it was run again, its dependents had heard of that.
        self._ends: dict[TaskId, float] = {}
        for row in rows:
            if row.status in (RAN, traced.ENDED):
                self._ends.setdefault(row.task, row.heard_s)
        self._groups = groups
        #: Of a group, the ends of its members, in order: once, however many wait for it.
        self._members: dict[TaskId, list[_End]] = {}

    def last_before(self, node: TaskId, at_s: float) -> _End | None:
        """The last end of `node`, or of a member of it, until `at_s`."""
        if node not in self._groups:
            ended_s = self._ends.get(node)
            return None if ended_s is None or ended_s > at_s else (ended_s, node)
        members = self._members.get(node)
        if members is None:
            members = self._members[node] = sorted(
                (self._ends[TaskId(each)], TaskId(each))
                for first, count in self._groups[node]
                for each in range(first, first + count)
                if each in self._ends
            )
        number = bisect_right(members, at_s, key=lambda end: end[0])
        return members[number - 1] if number else None


def _task(
    node: TaskId, rows: Sequence[TraceRow], attempts: list[Attempt], ends: _Ends
) -> TracedTask:
    state, ended_s = UNFINISHED, rows[-1].heard_s
    for row in rows:
        if row.status == RAN:
            state, ended_s = TaskState.SUCCEEDED.name.lower(), row.heard_s
        elif row.status != traced.ENDED:
            state, ended_s = UNFINISHED, row.heard_s
        elif state == UNFINISHED:  # else it is told again, to a client that has returned
            state, ended_s = TaskState(row.state).name.lower(), row.heard_s
    submitted_s = rows[0].submitted_s
    first_s = attempts[0].assigned_s if attempts else ended_s
    upstreams: dict[TaskId, float] = {}
    for upstream in next((row.upstreams for row in rows if row.upstreams), ()):
        end = ends.last_before(upstream, first_s)
        if end is not None:
            upstreams[end[1]] = end[0]
    ready_s, after = (submitted_s, "") if attempts else (None, "")
    for upstream, at_s in upstreams.items():
        if attempts and (ready_s is None or at_s > ready_s):
            ready_s, after = at_s, format_task_id(upstream)
    return TracedTask(
        format_task_id(node),
        next((row.name for row in rows if row.name), ""),
        state,
        submitted_s,
        ready_s,
        ended_s,
        [format_task_id(upstream) for upstream in upstreams],
        after,
        attempts,
    )
