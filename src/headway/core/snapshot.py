"""The whole state of a scheduler as plain data: `dump` writes it down, `load` puts it back.

    for part in dump(scheduler): store(pack(part))
    scheduler = load(map(unpack, stored), config, rng)

The loaded scheduler decides from then on as the dumped one would, bar chance: it goes on with
the rng that it is given. A scheduler must not be told anything while it is being dumped.

Rule 1: no decision is made here, and nothing is worked out that a record says. What is an index
(a client's nodes, the lanes of engines and their room) is filled by those who keep it. Rule 2:
tasks are written in the order in which they came, so that each comes after all that it names:
no recursion, one pass, linear. Rule 3: the same state gives the same bytes, however it came about.

A field that is added to a record is added here and in rows.py, or a test of `same_state` fails.
What this file must not know: files, and events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, replace
from itertools import islice
from random import Random
from typing import TypeVar

from msgspec import msgpack

from headway.config import SchedulerConfig
from headway.core import rows
from headway.core.events import TaskId
from headway.core.graph import living_edges
from headway.core.ready import Lane
from headway.core.records import Condition, Group, Task
from headway.core.restore import Restorer
from headway.core.rows import SNAPSHOT_VERSION, Part, Row, pack, unpack
from headway.core.scheduler import Scheduler

__all__ = ["SNAPSHOT_VERSION", "Part", "dump", "load", "pack", "unpack"]

#: A part is closed when its rows are of about so many bytes: some 2,000 tasks. One row alone may
#: have more, but never more than the message that brought its task.
_PART_BYTES = 256 * 1024
#: A guess at the bytes of a row without its payloads and lists, and of one id in a list.
_ROW_BYTES = 100
_ID_BYTES = 10
#: A list that may be as long as there are tasks is cut into rows of so many.
_LIST_MAX = 2_000
#: So many different options are remembered, to write each once.
_OPTIONS_MAX = 1_000

Item = TypeVar("Item")
#: A row, and a guess at its bytes.
_Sized = tuple[Row, int]


def dump(scheduler: Scheduler) -> Iterator[Part]:
    """The state of `scheduler`, in parts to be kept in this order."""
    header = _header(scheduler)
    mark = rows.fingerprint(header)
    nth = size = 0
    gathered: list[Row] = [header]
    for row, row_bytes in _rows(scheduler):
        gathered.append(row)
        size += row_bytes
        if size >= _PART_BYTES:
            yield Part(SNAPSHOT_VERSION, mark, nth, gathered)
            nth += 1
            size, gathered = 0, []
    gathered.append(rows.EndRow())
    yield Part(SNAPSHOT_VERSION, mark, nth, gathered)


def load(parts: Iterable[Part], config: SchedulerConfig, rng: Random) -> Scheduler:
    """The scheduler whose state `dump` gave.

    Parameters:
        config: the one that it had. For another hwm, let `set_hwm` follow.
        rng: the source of chance from now on.

    Raises:
        ReplayError: the parts are of another version, cut, or not all of one snapshot.
    """
    restorer = Restorer(Scheduler(config, rng))
    for part in parts:
        restorer.put_back(part)
    return restorer.finished()


def _header(s: Scheduler) -> rows.HeaderRow:
    return rows.HeaderRow(
        tasks=len(s.tasks),
        groups=len(s.groups),
        engines=len(s.engines),
        clients=len(s.clients),
        functions=len(s.functions),
        tickets=(s.lanes.front, s.lanes.back),
        stamps=(s.stamps.first, s.stamps.last),
        load_max=float(s.load_max),
        expected=sorted(s.lanes.expected),
        counters=replace(s.counters, by_state=list(s.counters.by_state)),
        now_s=float(s.lanes.now_s),
    )


def _rows(s: Scheduler) -> Iterator[_Sized]:
    for client in s.clients.values():
        yield rows.ClientRow(client.id, client.last_node, client.keeps), _ROW_BYTES
    for function in s.functions:
        declared_by = sorted(function.declared_by)
        row = rows.FunctionRow(
            function.digest,
            function.payload,
            declared_by,
            function.users,
            function.name,
            float(function.usual_s),
        )
        yield row, _ROW_BYTES + len(function.payload)
    yield from _tag_rows(s)
    yield from _engine_rows(s)
    for group in s.groups.values():
        yield _group_row(group), _ROW_BYTES + 2 * _ID_BYTES * len(group.spans)
    yield from _task_rows(s)
    yield from _edge_rows(s)
    yield from _queue_rows(s)
    for timers in _cut((*key, at_s) for key, at_s in s.timers.armed().items()):
        yield rows.TimersRow(timers), 2 * _ID_BYTES * len(timers)  # type: ignore[arg-type]
    standing = s.recalls.standing()
    for idle in _cut(standing.idle):
        yield rows.RecallsRow(idle, [], []), _ID_BYTES * len(idle)
    for queued in _cut(standing.queued):
        yield rows.RecallsRow([], queued, []), 2 * _ID_BYTES * len(queued)
    for looked_to in _cut(standing.looked_to):
        yield rows.RecallsRow([], [], looked_to), 2 * _ID_BYTES * len(looked_to)
    for kept in _cut(s.kept):
        yield rows.KeptRow(kept), _ID_BYTES * len(kept)


def _tag_rows(s: Scheduler) -> Iterator[_Sized]:
    for tag in sorted(s.limits, key=lambda tag: tag.name):
        if not tag.limit.is_none:
            most = None if tag.limit.at_once is None else int(tag.held_max)
            yield rows.TagRow(tag.name, tag.limit, most, tag.full_s, tag.due_s), _ROW_BYTES


def _engine_rows(s: Scheduler) -> Iterator[_Sized]:
    for e in s.engines.values():
        # As floats, whatever numbers came: see rule 3.
        row = rows.EngineRow(
            id=e.id,
            resources=_floats(e.resources),
            host=e.host,
            pid=e.pid,
            store=e.store,
            limit=float(e.limit),
            stamp=e.stamp,
            free=_floats(e.free),
            draining=e.draining,
            recalling=e.recalling,
            progress_at_s=e.progress_at_s,
            run_mean_s=e.run_mean_s,
            done=e.done,
            ends_at_s=e.ends_at_s,
            longest_s=float(e.longest_s),
            stands_in=e.stands_in,
            blocked=e.blocked,
        )
        yield row, _ROW_BYTES


def _floats(amounts: dict[str, float]) -> dict[str, float]:
    return {name: float(amount) for name, amount in amounts.items()}


def _group_row(g: Group) -> rows.GroupRow:
    return rows.GroupRow(
        id=g.id,
        size=g.size,
        open=g.open,
        succeeded=g.succeeded,
        failed=g.failed,
        culprit=g.culprit,
        holds=g.holds,
        released=g.released,
        spans=list(g.spans),
    )


def _task_rows(s: Scheduler) -> Iterator[_Sized]:
    functions = {id(function): number for number, function in enumerate(s.functions)}
    numbers: dict[bytes, int] = {}
    encode = msgpack.Encoder().encode
    options, number = None, 0
    for task in s.tasks.values():
        if task.options is not options:
            options = task.options
            packed = encode(options)
            known = numbers.get(packed)
            if known is None:
                if len(numbers) == _OPTIONS_MAX:
                    numbers.clear()
                known = numbers[packed] = len(numbers)
                yield rows.OptionsRow(known, options), len(packed)
            number = known
        function = None if task.function is None else functions[id(task.function)]
        yield _task_row(task, function, number)


def _task_row(t: Task, function: int | None, options: int) -> _Sized:
    size = _ROW_BYTES + len(t.payload) + len(t.traceparent)
    if isinstance(t.result, bytes):
        size += len(t.result)
    if t.problem is not None:
        size += len(t.problem.text) + len(t.problem.root_text)
    conditions = inputs = None
    if t.conditions:
        conditions = [_condition_row(condition) for condition in t.conditions]
        size += _ID_BYTES * sum(len(row.upstreams) for row in conditions)
    if t.inputs is not None:
        inputs = [node.id for node in t.inputs]
        size += _ID_BYTES * len(inputs)
    # By position, in the order of the fields: by name costs half as much again.
    row = rows.TaskRow(
        t.id,
        function,
        t.payload,
        options,
        t.state,
        t.attempt,
        t.unmet,
        conditions,
        inputs,
        t.ticket,
        t.engine,
        t.result,
        None if t.lineage is None else astuple(t.lineage),
        t.problem,
        t.holds,
        t.released,
        t.cancelled,
        t.failures,
        t.crashes,
        None if t.excluded is None else sorted(t.excluded),
        t.since_s,
        t.traceparent,
        None if t.nest is None else astuple(t.nest),
    )
    return row, size


def _condition_row(c: Condition) -> rows.ConditionRow:
    return rows.ConditionRow(
        need=c.need,
        on=c.on,
        open=c.open,
        hits=c.hits,
        upstreams=[node.id for node in c.upstreams],
        where=None if c.where is None else list(c.where.items()),
        best=c.best,
        culprit=c.culprit,
        is_met=c.is_met,
    )


def _edge_rows(s: Scheduler) -> Iterator[_Sized]:
    """Who waits for whom, and who is on which engine."""
    for task in s.tasks.values():
        if task.dependents:
            for edges in _cut(living_edges(task.dependents)):
                nodes, numbers = _names_of(edges)
                yield rows.EdgesRow(task.id, nodes, numbers), _ROW_BYTES + _ID_BYTES * len(edges)
    for group in s.groups.values():
        for on, by_threshold in sorted(group.waiting.items()):
            for threshold, waiting in sorted(by_threshold.items()):
                for conditions in _cut(living_edges(waiting)):
                    tasks, numbers = _names_of(conditions)
                    row = rows.WaitersRow(group.id, on, threshold, tasks, numbers)
                    yield row, _ROW_BYTES + _ID_BYTES * len(tasks)
    for engine in s.engines.values():
        for seated in _cut(engine.assigned):
            unwanted = [task for task in seated if task in engine.unwanted]
            size = _ROW_BYTES + _ID_BYTES * (len(seated) + len(unwanted))
            yield rows.SeatedRow(engine.id, seated, unwanted, False), size
        yield rows.SeatedRow(engine.id, [], [], True), _ROW_BYTES


def _names_of(edges: Sequence[Condition | Group]) -> tuple[list[TaskId], bytes]:
    """Each edge as what it leads to, and the number of its condition there."""
    nodes = []
    numbers = bytearray()
    for edge in edges:
        if isinstance(edge, Group):
            nodes.append(edge.id)
            numbers.append(rows.GROUP)
        else:
            nodes.append(edge.task.id)
            numbers.append((edge.task.conditions or ()).index(edge))
    return nodes, bytes(numbers)


def _queue_rows(s: Scheduler) -> Iterator[_Sized]:
    for lane in sorted((lane for lane in s.lanes if lane.count), key=Lane.order_key):
        r = lane.restriction
        turns, rest = lane.turns_taken(), lane.count
        for tasks in _cut(task.id for task in lane.by_party()):
            rest -= len(tasks)
            row = rows.QueueRow(
                allowed=None if r.allowed is None else sorted(r.allowed),
                excluded=None if r.excluded is None else sorted(r.excluded),
                needs=list(r.needs),
                waits=r.waits,
                tasks=tasks,
                tags=list(r.tags),
                turns=[] if rest else turns,
                run_s=r.run_s,
                depth=r.depth,
            )
            yield row, _ROW_BYTES + _ID_BYTES * len(tasks)


def _cut(items: Iterable[Item]) -> Iterator[list[Item]]:
    """`items` in lists of at most _LIST_MAX; none of them is empty."""
    rest = iter(items)
    while some := list(islice(rest, _LIST_MAX)):
        yield some
