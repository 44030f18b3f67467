"""Puts the rows of a snapshot back as the records of a scheduler. Used by `snapshot.load`.

Each row is put back when it comes, which is after all that it names. A name of something that did
not come is an error in words: the parts are not those of one snapshot. See snapshot.py for the
rules. What this file must not know: events, and what any record means.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, NoReturn

from headway.core import rows
from headway.core.events import StoredValue, TaskId, TaskOptions, client_of
from headway.core.recall import Standing
from headway.core.records import (
    Client,
    Condition,
    Engine,
    Function,
    Group,
    Lineage,
    Nest,
    Task,
)
from headway.core.restriction import Restriction
from headway.core.rows import Part, require_version
from headway.core.scheduler import Scheduler
from headway.core.states import FINAL_STATES
from headway.errors import ReplayError


class Restorer:
    """Fills a new scheduler.

    Parameters:
        scheduler: one that has not been told anything. It is not to be used if this fails.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._s = scheduler
        self._functions: list[Function] = []
        self._options: dict[int, TaskOptions] = {}
        self._header: rows.HeaderRow | None = None
        self._mark = 0
        self._parts = 0
        self._has_ended = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            rows.HeaderRow: self._on_header,
            rows.ClientRow: self._on_client,
            rows.FunctionRow: self._on_function,
            rows.EngineRow: self._on_engine,
            rows.GroupRow: self._on_group,
            rows.OptionsRow: self._on_options,
            rows.TaskRow: self._on_task,
            rows.EdgesRow: self._on_edges,
            rows.WaitersRow: self._on_waiters,
            rows.SeatedRow: self._on_seated,
            rows.QueueRow: self._on_queue,
            rows.TimersRow: self._on_timers,
            rows.RecallsRow: self._on_recalls,
            rows.KeptRow: self._on_kept,
            rows.TagRow: self._on_tag,
            rows.EndRow: self._on_end,
        }

    def put_back(self, part: Part) -> None:
        """Put the rows of the next part back.

        Raises:
            ReplayError: it is not the next part of this snapshot.
        """
        require_version(part.version)
        if part.nth != self._parts:
            self._fail(f"part {self._parts} was expected, and part {part.nth} came")
        if self._has_ended:
            self._fail("a part came after the last")
        if self._header is None:
            if not part.rows or type(part.rows[0]) is not rows.HeaderRow:
                self._fail("it does not begin with a header")
            self._mark = part.header
        elif part.header != self._mark:
            self._fail(f"part {part.nth} is of another snapshot")
        self._parts += 1
        handlers = self._handlers
        try:
            for row in part.rows:
                handlers[type(row)](row)
        except (LookupError, ValueError) as error:
            self._fail(
                f"a {type(row).__name__} of part {part.nth} names {error}, which is not there"
            )

    def finished(self) -> Scheduler:
        """The scheduler, when all parts were put back.

        Raises:
            ReplayError: some did not come.
        """
        if not self._has_ended:
            self._fail(f"it ends after {self._parts} parts, without its last")
        self._s.lanes.look_at_heads()
        return self._s

    def _fail(self, why: str) -> NoReturn:
        raise ReplayError(
            f"the snapshot can't be loaded: {why}: it is cut, or its parts are mixed up"
        )

    def _on_header(self, row: rows.HeaderRow) -> None:
        s = self._s
        self._header = row
        s.lanes.front, s.lanes.back = row.tickets
        s.stamps.first, s.stamps.last = row.stamps
        s.load_max = row.load_max
        s.lanes.expected.update(row.expected)
        s.lanes.now_s = row.now_s
        s.counters.put_back(row.counters)

    def _on_client(self, row: rows.ClientRow) -> None:
        self._s.clients[row.id] = Client(row.id, last_node=row.last_node, keeps=row.keeps)

    def _on_function(self, row: rows.FunctionRow) -> None:
        function = Function(
            row.digest, row.payload, set(row.declared_by), row.users, row.name, row.usual_s
        )
        self._functions.append(function)
        self._s.functions.put_back(function)
        for client in row.declared_by:
            self._s.clients[client].functions.add(row.digest)

    def _on_engine(self, row: rows.EngineRow) -> None:
        self._s.engines[row.id] = Engine(
            id=row.id,
            resources=dict(row.resources),
            host=row.host,
            pid=row.pid,
            store=row.store,
            limit=row.limit,
            stamp=row.stamp,
            free=dict(row.free),
            draining=row.draining,
            recalling=row.recalling,
            progress_at_s=row.progress_at_s,
            run_mean_s=row.run_mean_s,
            done=row.done,
            ends_at_s=row.ends_at_s,
            longest_s=row.longest_s,
            stands_in=row.stands_in,
            blocked=row.blocked,
        )

    def _on_group(self, row: rows.GroupRow) -> None:
        self._s.groups[row.id] = Group(
            id=row.id,
            client=client_of(row.id),
            size=row.size,
            open=row.open,
            succeeded=row.succeeded,
            failed=row.failed,
            culprit=row.culprit,
            holds=row.holds,
            released=row.released,
            spans=row.spans,
        )
        self._belongs_to_its_client(row.id)

    def _on_options(self, row: rows.OptionsRow) -> None:
        self._options[row.number] = row.options

    def _on_task(self, row: rows.TaskRow) -> None:
        tasks = self._s.tasks
        task = Task(
            id=row.id,
            client=client_of(row.id),
            function=None if row.function is None else self._functions[row.function],
            payload=row.payload,
            options=self._options[row.options],
            state=row.state,
            attempt=row.attempt,
            unmet=row.unmet,
            ticket=row.ticket,
            engine=row.engine,
            result=row.result,
            lineage=None if row.lineage is None else Lineage(*row.lineage),
            problem=row.problem,
            holds=row.holds,
            released=row.released,
            cancelled=row.cancelled,
            failures=row.failures,
            crashes=row.crashes,
            excluded=None if row.excluded is None else frozenset(row.excluded),
            since_s=row.since_s,
            traceparent=row.traceparent,
            nest=None if row.nest is None else Nest(*row.nest),
        )
        if row.conditions is not None:
            task.conditions = tuple([self._condition(task, each) for each in row.conditions])
        if row.inputs is not None:
            task.inputs = tuple([tasks[node] for node in row.inputs])
        tasks[task.id] = task
        self._s.lineages.put_back(task)
        if isinstance(task.result, StoredValue):
            self._s.stored.put(task)
        self._belongs_to_its_client(task.id)
        if row.state not in FINAL_STATES:
            self._s.count_unfinished(task)

    def _condition(self, task: Task, row: rows.ConditionRow) -> Condition:
        s = self._s
        condition = Condition(
            task=task,
            need=row.need,
            on=row.on,
            open=row.open,
            hits=row.hits,
            upstreams=tuple([s.tasks.get(node) or s.groups[node] for node in row.upstreams]),
            best=row.best,
            culprit=row.culprit,
            is_met=row.is_met,
        )
        if row.where is not None:
            task.follow = condition
            condition.where = dict(row.where)
            for engine in condition.where:
                s.engines[engine].followers[condition] = None
        return condition

    def _belongs_to_its_client(self, node: TaskId) -> None:
        """A client that has left has let go of its nodes, or left them behind."""
        client = self._s.clients.get(client_of(node))
        if client is not None:
            client.nodes.add(node)

    def _on_edges(self, row: rows.EdgesRow) -> None:
        upstream = self._s.tasks[row.upstream]
        if upstream.dependents is None:
            upstream.dependents = []
        for node, number in zip(row.nodes, row.numbers, strict=True):
            is_group = number == rows.GROUP
            upstream.dependents.append(
                self._s.groups[node] if is_group else self._condition_of(node, number)
            )

    def _on_waiters(self, row: rows.WaitersRow) -> None:
        by_threshold = self._s.groups[row.group].waiting.setdefault(row.on, {})
        waiting = by_threshold.setdefault(row.threshold, [])
        for task, number in zip(row.tasks, row.numbers, strict=True):
            waiting.append(self._condition_of(task, number))

    def _condition_of(self, task: TaskId, number: int) -> Condition:
        return (self._s.tasks[task].conditions or ())[number]

    def _on_seated(self, row: rows.SeatedRow) -> None:
        engine = self._s.engines[row.engine]
        for task in row.tasks:
            seated = engine.assigned[task] = self._s.tasks[task]
            if seated.options.tags is not None and task != engine.blocked:
                self._s.limits.take_again(dict.fromkeys(seated.options.tags))
        engine.unwanted.update(row.unwanted)
        if row.is_last:
            self._s.lanes.engine_joined(engine)

    def _on_queue(self, row: rows.QueueRow) -> None:
        lanes = self._s.lanes
        lane = lanes.lane_like(
            Restriction(
                allowed=None if row.allowed is None else frozenset(row.allowed),
                excluded=None if row.excluded is None else frozenset(row.excluded),
                needs=tuple(row.needs),
                waits=row.waits,
                tags=tuple(row.tags),
                run_s=row.run_s,
                depth=row.depth,
            )
        )
        for task in row.tasks:
            lanes.put_back(self._s.tasks[task], lane)
        lane.put_back_turns(row.turns)

    def _on_tag(self, row: rows.TagRow) -> None:
        most = inf if row.held_max is None else row.held_max
        self._s.limits.put_back(row.name, row.limit, most, row.full_s, row.due_s)

    def _on_timers(self, row: rows.TimersRow) -> None:
        for task, timer, at_s in row.timers:
            self._s.timers.arm(task, timer, at_s)

    def _on_recalls(self, row: rows.RecallsRow) -> None:
        standing = Standing(row.idle, row.queued, row.looked_to)
        self._s.recalls.put_back(standing, self._s.engines)

    def _on_kept(self, row: rows.KeptRow) -> None:
        for node in row.nodes:
            if node not in self._s.tasks and node not in self._s.groups:
                raise LookupError(node)
            self._s.kept[node] = None

    def _on_end(self, row: rows.EndRow) -> None:
        s, header = self._s, self._header
        assert header is not None
        for task in s.tasks.values():
            if task.nest is not None and task.state not in FINAL_STATES:
                s.families.put_back(task)
        found = [len(s.tasks), len(s.groups), len(s.engines), len(s.clients), len(s.functions)]
        told = [header.tasks, header.groups, header.engines, header.clients, header.functions]
        if found != told:
            self._fail(f"it has {found} tasks, groups, engines, clients and functions, not {told}")
        self._has_ended = True
