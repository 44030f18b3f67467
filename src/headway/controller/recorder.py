"""Keeps what ran of late, for traces: bounded, and all the time.

For each attempt that ends a tuple, made while its task is still whole: so nothing is kept of a task
before, its edges are there yet, and one that waits or runs costs nothing. That is one look and one
tuple a task, less than half a microsecond. A batch that is submitted leaves one entry, whatever is
in it. The same rows are packed as they are when somebody asks. Nothing of it is in the journal, and
nothing of it changes the scheduler: a controller that takes over begins anew, and says so.

What this file must not know: sockets, and what is made of a trace.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from headway.core.commands import Deliver
from headway.core.events import ClientId, EngineId, EngineLeft, Outcome, TaskId, client_of
from headway.core.records import Condition, Task
from headway.core.scheduler import Scheduler
from headway.core.states import TaskState
from headway.wire import messages as m
from headway.wire.traced import CRASHED, ENDED, PAGE_NAMES_MAX, PAGE_ROWS_MAX

#: The ids of upstreams in all rows together, and the spans of all groups: beyond, the oldest go.
_NAMES_MAX = 1_000_000
_GROUPS_MAX = 10_000
#: Batches whose time is known, of all clients together; and engines, also such as have left.
_BATCHES_MAX = 100_000
_ENGINES_MAX = 10_000
#: More of a name is not kept.
_NAME_CHARS_MAX = 120

#: As wire/traced.TraceRow, without the last field.
Row = tuple[Any, ...]


class _Batches:
    """When one client's batches came: of each its first id, which grow, and the time."""

    __slots__ = ("at_s", "firsts")

    def __init__(self) -> None:
        self.firsts: list[TaskId] = []
        self.at_s: list[float] = []


class Recorder:
    """The last attempts that ended.

    Parameters:
        rows_max: so many are kept.
        now: the scheduler's time, from which on it records.
        is_restarted: another controller was here before.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        rows_max: int,
        now: float,
        wall_s: Callable[[], float],
        *,
        is_restarted: bool = False,
    ) -> None:
        self._scheduler = scheduler
        self._rows_max = rows_max
        self._began_s = now
        self._wall_s = wall_s
        self._is_restarted = is_restarted
        self._rows: deque[Row] = deque()
        self._names = 0
        self._dropped = 0
        self._groups: dict[TaskId, Sequence[tuple[TaskId, int]]] = {}
        self._group_spans = 0
        self._batches: dict[ClientId, _Batches] = {}
        self._batch_count = 0
        self._engines: dict[EngineId, list[Any]] = {
            engine.id: [engine.host, engine.pid, None, None]
            for engine in scheduler.engines.values()
        }
        #: Of tasks that were seen to run: when they were assigned, which their records then forget.
        self._assigned_s: dict[TaskId, float] = {}

    def __len__(self) -> int:
        return len(self._rows)

    # --- what happens: before the scheduler hears of it ------------------------------------------

    def submitted(self, client: ClientId, batch: m.Submit, now: float) -> None:
        """A batch of nodes came."""
        if not batch.tasks:
            return
        known = self._batches.get(client)
        if known is None:
            known = self._batches[client] = _Batches()
        first = batch.tasks[0].id
        if known.firsts and first <= known.firsts[-1]:
            return  # it came before, or its sender is confused: its ids would not grow
        known.firsts.append(first)
        known.at_s.append(now)
        self._batch_count += 1
        if self._batch_count > _BATCHES_MAX:
            self._drop_batches()

    def _drop_batches(self) -> None:
        """The older half of the client's that came first; or all of its, if others came since."""
        client, known = next(iter(self._batches.items()))
        count = len(known.firsts)
        if len(self._batches) > 1:
            del self._batches[client]
        else:
            count = max(1, count // 2)
            del known.firsts[:count], known.at_s[:count]
        self._batch_count -= count

    def engine_came(self, number: EngineId, host: str, pid: int, now: float) -> None:
        """An engine joined."""
        self._engines[number] = [host, pid, now, None]
        if len(self._engines) > _ENGINES_MAX:
            del self._engines[next(iter(self._engines))]

    def engine_leaves(self, event: EngineLeft, now: float) -> None:
        """An engine has ended: what it was running ended with it."""
        known = self._engines.get(event.engine)
        if known is not None:
            known[3] = now
        engine = self._scheduler.engines.get(event.engine)
        if engine is None:
            return
        running = event.started if event.busy else None
        if not event.known:  # nobody could tell: if anything ran, it was the first
            running = next(iter(engine.assigned), None)
        for task in engine.assigned.values():
            assigned_s = self._assigned_s.pop(task.id, task.since_s)
            if task.id == running:
                row = (
                    task.id, task.attempt, event.engine, CRASHED, 0.0, 0.0, assigned_s, now,
                    _name_of(task), None, 0,
                )  # fmt: skip
                self._put(row, task.conditions or ())
        self._trim()

    def begins(self, engine: EngineId, task: TaskId) -> None:
        """A task is about to be known to run: its record forgets when it was assigned."""
        there = self._scheduler.engines.get(engine)
        record = there.assigned.get(task) if there is not None else None
        if record is not None and record.state is TaskState.ASSIGNED:
            self._assigned_s[task] = record.since_s

    def ran(self, number: EngineId, outcomes: Iterable[Outcome], now: float) -> None:
        """Attempts ended on an engine."""
        # The hot path: once for each task, and so without a call that it does not need.
        engine = self._scheduler.engines.get(number)
        if engine is None:
            return
        assigned, seen, rows = engine.assigned, self._assigned_s, self._rows
        for outcome in outcomes:
            node, attempt = outcome.task, outcome.attempt
            task = assigned.get(node)
            if task is None or task.attempt != attempt:
                continue
            since_s = seen.pop(node, task.since_s) if seen else task.since_s
            name = task.options.label
            if not name and task.function is not None:
                name = task.function.name
            if len(name) > _NAME_CHARS_MAX:
                name = name[:_NAME_CHARS_MAX]
            row = (
                node, attempt, number, outcome.status, outcome.started_at_s, outcome.run_s,
                since_s, now, name, None, 0,
            )  # fmt: skip
            if task.conditions:
                self._put(row, task.conditions)
            else:
                rows.append(row)
        if len(rows) > self._rows_max or self._names > _NAMES_MAX:
            self._trim()

    def told(self, ends: Iterable[Deliver], now: float) -> None:
        """Tasks ended in this turn, otherwise than well."""
        tasks = self._scheduler.tasks
        for told in ends:
            task = tasks.get(told.task)
            name = _name_of(task) if task is not None else ""
            state = int(told.state)
            self._put((told.task, 0, None, ENDED, 0.0, 0.0, now, now, name, None, state))
        self._trim()

    def _put(self, row: Row, conditions: Sequence[Condition] = ()) -> None:
        if not conditions:
            self._rows.append(row)
            return
        nodes = {node.id: node for condition in conditions for node in condition.upstreams}
        for node in nodes.values():
            if not isinstance(node, Task) and node.id not in self._groups:
                self._groups[node.id] = node.spans
                self._group_spans += len(node.spans)
        self._names += len(nodes)
        self._rows.append((*row[:-2], tuple(nodes), row[-1]))

    def _trim(self) -> None:
        rows = self._rows
        while len(rows) > self._rows_max or (self._names > _NAMES_MAX and len(rows) > 1):
            self._names -= len(rows.popleft()[9] or ())
            self._dropped += 1
        groups = self._groups
        while len(groups) > _GROUPS_MAX or (self._group_spans > _NAMES_MAX and len(groups) > 1):
            self._group_spans -= len(groups.pop(next(iter(groups))))

    # --- what is asked ---------------------------------------------------------------------------

    def page(self, cursor: int, now: float) -> dict[str, Any]:
        """What is kept from row `cursor` on, as a TracePage: rows are counted from 0, also such as
        were dropped."""
        first = max(0, cursor - self._dropped)
        rows: list[Row] = []
        groups: dict[TaskId, Sequence[tuple[TaskId, int]]] = {}
        names = 0
        for row in islice(self._rows, first, first + PAGE_ROWS_MAX):
            new = {
                node: self._groups[node]
                for node in row[9] or ()
                if node in self._groups and node not in groups
            }
            names += len(row[9] or ()) + sum(map(len, new.values()))
            if rows and names > PAGE_NAMES_MAX:
                break
            groups.update(new)
            rows.append((*row, self._submitted_s(row[0])))
        end = first + len(rows)
        is_last = end >= len(self._rows)
        return {
            "rows": rows,
            "next": None if is_last else end + self._dropped,
            "groups": groups,
            "engines": [(number, *facts) for number, facts in self._engines.items()]
            if is_last
            else [],
            "dropped": self._dropped,
            "began_s": self._began_s,
            "is_restarted": self._is_restarted,
            "now_s": now,
            "wall_s": self._wall_s(),
            "unfinished": self._scheduler.counters.unfinished,
        }

    def _submitted_s(self, task: TaskId) -> float | None:
        known = self._batches.get(client_of(task))
        if known is None:
            return None
        number = bisect_right(known.firsts, task) - 1
        return known.at_s[number] if number >= 0 else None


def _name_of(task: Task) -> str:
    name = task.options.label
    if not name and task.function is not None:
        name = task.function.name
    return name if len(name) <= _NAME_CHARS_MAX else name[:_NAME_CHARS_MAX]
