"""A journal as a flow: the tasks that a cluster has run, what each waited for, and how long its
runs took.

Read from the entries as they stand, without deciding anything anew. A journal that was compacted
remembers of what ended before only what was still needed; what a flow can't express or a journal
does not tell is counted, and said in the flow's notes.

What this file must not know: how a flow is replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from headway.config import HWM_AUTO, SchedulerConfig
from headway.controller import entries as en
from headway.controller.journal_reader import JournalReader
from headway.controller.snapshot import load_ledger
from headway.core import events as ev
from headway.core.events import NEED_ALL, ConditionSpec, TaskId, TaskOptions
from headway.core.states import FINAL_STATES
from headway.errors import FlowError, JournalError, ProtocolError
from headway.flows.flow import Flow, FlowTask, make_flow
from headway.wire import codec
from headway.wire import messages as m

#: Runs that tell how long a task takes.
_TELLING = (ev.RAN, ev.RAISED)


@dataclass(slots=True)
class _Known:
    """A task that the journal tells of."""

    conditions: list[ConditionSpec]
    label: str
    is_restricted: bool
    #: Of all its runs that have ended; and the place of the last of these among all.
    runs: int = 0
    run_s: float = 0.0
    ended_as: int = 0


@dataclass(slots=True)
class _Past:
    """All that was read so far."""

    tasks: dict[TaskId, _Known] = field(default_factory=dict)
    groups: dict[TaskId, list[TaskId]] = field(default_factory=dict)
    outcomes: int = 0


def read_journal_flow(path: Path) -> Flow:
    """The flow of the tasks that have run, as far as the journal at `path` tells. It is only read,
    and may be that of a controller that lives.

    Raises:
        JournalError: it can't be read, or is of another version.
        FlowError: no task in it has run.
    """
    journal = JournalReader(path)
    try:
        past = _Past()
        _read_snapshot(journal, past)
        has_snapshot = journal.snapshot_seq > 0
        from_client, from_engine = codec.from_client(), codec.from_engine()
        for seq, data in journal.turns():
            try:
                for entry in en.decode_record(data).entries:
                    if isinstance(entry, en.ClientSaid):
                        _note_batch(from_client.decode(entry.frames), past)
                    elif isinstance(entry, en.EngineSaid):
                        _note_outcomes(from_engine.decode(entry.frames), past)
            except (JournalError, ProtocolError) as error:
                raise JournalError(f"turn {seq} of the journal {path}: {error}") from error
    finally:
        journal.close()
    return _flow_of(past, path, has_snapshot)


def _read_snapshot(journal: JournalReader, past: _Past) -> None:
    """The tasks of the snapshot that have not ended: how long others ran is not in there."""
    hwm = journal.meta("hwm")
    config = SchedulerConfig(hwm=hwm if hwm is not None else HWM_AUTO)
    ledger, _, _ = load_ledger(journal.parts(), config, Random(config.seed))
    for task in ledger.scheduler.tasks.values():
        if task.state not in FINAL_STATES:
            conditions = [
                ConditionSpec([node.id for node in condition.upstreams], condition.need)
                for condition in task.conditions or ()
            ]
            past.tasks[task.id] = _Known(
                conditions, task.options.label, _is_restricted(task.options, task.follow)
            )


def _is_restricted(options: TaskOptions, follow: object) -> bool:
    return bool(options.targets or options.resources or options.priority or follow)


def _note_batch(batch: object, past: _Past) -> None:
    if not isinstance(batch, m.Submit):
        return
    for group in batch.groups:
        past.groups[group.id] = group.members
    for spec in batch.tasks:
        options = spec.options or ev.DEFAULT_OPTIONS
        conditions = [c for c in (spec.after, spec.follow) if c is not None]
        if spec.inputs:
            conditions.append(ConditionSpec(spec.inputs))
        past.tasks[spec.id] = _Known(
            conditions, options.label, _is_restricted(options, spec.follow)
        )


def _note_outcomes(batch: object, past: _Past) -> None:
    if not isinstance(batch, m.Outcomes):
        return
    for outcome in batch.outcomes:
        task = past.tasks.get(outcome.task)
        if task is not None and outcome.status in _TELLING and outcome.run_s >= 0:
            past.outcomes += 1
            task.runs += 1
            task.run_s += outcome.run_s
            task.ended_as = past.outcomes


def _flow_of(past: _Past, path: Path, has_snapshot: bool) -> Flow:
    ran = {task_id: task for task_id, task in past.tasks.items() if task.runs}
    if not ran:
        after = " since it was compacted" if has_snapshot else ""
        raise FlowError(f"{path}: no task in this journal has run{after}")
    unknown = 0
    tasks = []
    for task_id, task in ran.items():
        parents: dict[TaskId, None] = {}
        for condition in task.conditions:
            found, missing = _upstreams(condition, past, ran)
            unknown += missing
            parents.update(dict.fromkeys(found))
        name = ev.format_task_id(task_id)
        tasks.append(
            FlowTask(
                name,
                tuple(map(ev.format_task_id, parents)),
                task.run_s,
                task.label or "task",
                place=f"task {name}",
            )
        )
    return make_flow(path.stem, str(path), tasks, list(_notes(past, ran, unknown, has_snapshot)))


def _upstreams(
    condition: ConditionSpec, past: _Past, ran: dict[TaskId, _Known]
) -> tuple[list[TaskId], int]:
    """Those that a condition waited for, and how many of them are not known: of a condition that
    wanted some, those that ended first."""
    members: list[TaskId] = []
    for node in condition.upstreams:
        members.extend(past.groups.get(node, [node]))
    known = [member for member in members if member in ran]
    if condition.need == NEED_ALL:
        return known, len(members) - len(known)
    known.sort(key=lambda member: ran[member].ended_as)
    return known[: condition.need], 0


def _notes(
    past: _Past, ran: dict[TaskId, _Known], unknown: int, has_snapshot: bool
) -> Iterator[str]:
    """What is not told by the flow."""
    if has_snapshot:
        yield "the journal was compacted: what ended before that is not in it"
    yield from _counted(
        (len(past.tasks) - len(ran), "tasks have not run (yet), and are left out"),
        (unknown, "dependencies on tasks that are not in it are left out"),
        (
            sum(task.is_restricted for task in ran.values()),
            "tasks had targets, resources, a priority or follow, which is not replayed",
        ),
        (
            sum(task.runs > 1 for task in ran.values()),
            "tasks ran more than once: their runs count as one",
        ),
    )


def _counted(*counts: tuple[int, str]) -> Iterable[str]:
    return [f"{count:,} {what}" for count, what in counts if count]
