"""What a snapshot is made of: rows of plain data, in parts, as bytes.

One row is one record of `records.py`, with ids where the record has references, or a stretch of
a list that may be long. Rows stand in an order in which each names only what stood before it.
A part is as many rows as make some 2,000 tasks, so that nothing is ever held in one piece.

SNAPSHOT_VERSION changes with every class here, and with those of `events.py` inside them. What
this file must not know: the scheduler.
"""

from __future__ import annotations

import zlib
from typing import TypeAlias

from msgspec import Struct, msgpack

from headway.core.events import ClientId, EngineId, Payload, StoreId, TaskId, TaskOptions, Value
from headway.core.limits import Limit
from headway.core.problems import Problem
from headway.core.states import TaskState
from headway.core.statistics import Counters
from headway.core.timers import Timer
from headway.errors import ReplayError

SNAPSHOT_VERSION = 3

#: In the place of a condition's number: the edge leads to a group.
GROUP = 255


class HeaderRow(Struct, array_like=True, frozen=True, tag=0):
    """How much there is of everything, and all that is counted."""

    tasks: int
    groups: int
    engines: int
    clients: int
    functions: int
    tickets: tuple[int, int]
    stamps: tuple[int, int]
    load_max: float
    expected: list[EngineId]
    counters: Counters
    now_s: float = 0.0


class ClientRow(Struct, array_like=True, frozen=True, tag=1):
    """A client. Its nodes and functions name it."""

    id: ClientId
    last_node: int
    keeps: bool


class FunctionRow(Struct, array_like=True, frozen=True, tag=2):
    """A function. Tasks name it by its place among the functions, from 0."""

    digest: bytes
    payload: Payload
    declared_by: list[ClientId]
    users: int
    name: str = ""
    usual_s: float = 0.0


class EngineRow(Struct, array_like=True, frozen=True, tag=3):
    """An engine, without the tasks on it."""

    id: EngineId
    resources: dict[str, float]
    host: str
    pid: int
    store: StoreId
    limit: float
    stamp: int
    free: dict[str, float]
    draining: bool
    recalling: bool
    progress_at_s: float
    run_mean_s: float | None
    done: int
    ends_at_s: float | None = None
    longest_s: float = 0.0
    stands_in: bool = False
    blocked: TaskId | None = None


class GroupRow(Struct, array_like=True, frozen=True, tag=4):
    """A group, without who waits for it."""

    id: TaskId
    size: int
    open: int
    succeeded: int
    failed: int
    culprit: TaskId | None
    holds: int
    released: bool
    spans: list[tuple[TaskId, int]]


class OptionsRow(Struct, array_like=True, frozen=True, tag=5):
    """Options, which the tasks below name by this number until it is given anew."""

    number: int
    options: TaskOptions


class ConditionRow(Struct, array_like=True, frozen=True):
    """A condition, inside its task. `where` is None but for follow."""

    need: int
    on: int
    open: int
    hits: int
    upstreams: list[TaskId]
    where: list[tuple[EngineId, int]] | None
    best: int
    culprit: TaskId | None
    is_met: bool


class TaskRow(Struct, array_like=True, frozen=True, tag=6):
    """A task, without who waits for it, and its place in a queue or on an engine."""

    id: TaskId
    function: int | None
    payload: Payload
    options: int
    state: TaskState
    attempt: int
    unmet: int
    conditions: list[ConditionRow] | None
    inputs: list[TaskId] | None
    ticket: int
    engine: EngineId | None
    result: Value | None
    #: kept_bytes, reruns, holds.
    lineage: tuple[int, int, int] | None
    problem: Problem | None
    holds: int
    released: bool
    cancelled: bool
    failures: int
    crashes: list[str] | None
    excluded: list[EngineId] | None
    since_s: float
    traceparent: str = ""
    #: parent, attempt, depth, owner.
    nest: tuple[TaskId, int, int, ClientId] | None = None


class EdgesRow(Struct, array_like=True, frozen=True, tag=7):
    """Who waits for the end of a task, in order; a long list takes several rows.

    Each edge leads to the condition of a task that has the number beside it, or to a group.
    """

    upstream: TaskId
    nodes: list[TaskId]
    numbers: bytes


class WaitersRow(Struct, array_like=True, frozen=True, tag=8):
    """Which conditions wait for so many ends of a group's members, in order, as in EdgesRow."""

    group: TaskId
    on: int
    threshold: int
    tasks: list[TaskId]
    numbers: bytes


class SeatedRow(Struct, array_like=True, frozen=True, tag=9):
    """The tasks on an engine, in order, and those of them that are unwanted; with `is_last`,
    they are complete."""

    engine: EngineId
    tasks: list[TaskId]
    unwanted: list[TaskId]
    is_last: bool


class QueueRow(Struct, array_like=True, frozen=True, tag=10):
    """The tasks in the lane of one restriction: the highest priority first, within it party
    after party in the order of their turns, and each first in, first out."""

    allowed: list[EngineId] | None
    excluded: list[EngineId] | None
    needs: list[tuple[str, float]]
    waits: bool
    tasks: list[TaskId]
    tags: list[str] = []
    #: Of the fair turns that have begun: their priority, and how much of them was had. It stands
    #: in the last row of a lane.
    turns: list[tuple[int, int]] = []
    run_s: float | None = None
    depth: int = 0


class TimersRow(Struct, array_like=True, frozen=True, tag=11):
    """Timers that are set, and for when."""

    timers: list[tuple[TaskId, Timer, float]]


class RecallsRow(Struct, array_like=True, frozen=True, tag=12):
    """Engines that idle, engines with tasks queued, and engines looked at: see recall.Standing."""

    idle: list[EngineId]
    queued: list[tuple[EngineId, float]]
    looked_to: list[tuple[EngineId, int]]


class KeptRow(Struct, array_like=True, frozen=True, tag=14):
    """What has ended of clients that left it behind, the oldest first; a long list takes several
    rows."""

    nodes: list[TaskId]


class TagRow(Struct, array_like=True, frozen=True, tag=15):
    """A tag that has a limit. Who holds its permits, the tasks on engines tell."""

    name: str
    limit: Limit
    #: None for no bound.
    held_max: int | None
    full_s: float
    due_s: float | None


class EndRow(Struct, array_like=True, frozen=True, tag=13):
    """Nothing comes after this."""


Row: TypeAlias = (
    HeaderRow
    | ClientRow
    | FunctionRow
    | EngineRow
    | GroupRow
    | OptionsRow
    | TaskRow
    | EdgesRow
    | WaitersRow
    | SeatedRow
    | QueueRow
    | TimersRow
    | RecallsRow
    | KeptRow
    | TagRow
    | EndRow
)


class Part(Struct, array_like=True, frozen=True):
    """Some rows. `nth` counts the parts from 0; `header` is the fingerprint of the HeaderRow, by
    which a part of another snapshot is told."""

    version: int
    header: int
    nth: int
    rows: list[Row]


class _Versioned(Struct, array_like=True):
    """What the parts of all versions begin with."""

    version: int


#: What the decoder raises on garbage: its own error and what is not UTF-8 are ValueErrors.
_MALFORMED = (ValueError, TypeError, OverflowError, RecursionError)

_encoder = msgpack.Encoder()
_decoder = msgpack.Decoder(Part)
_version_decoder = msgpack.Decoder(_Versioned)


def fingerprint(header: HeaderRow) -> int:
    """What the parts of a snapshot with this header are marked with."""
    return zlib.crc32(_encoder.encode(header))


def pack(part: Part) -> bytes:
    """`part` as bytes."""
    return _encoder.encode(part)


def unpack(data: bytes) -> Part:
    """The part that `pack` made bytes of.

    Raises:
        ReplayError: it is of another version, or no part at all.
    """
    try:
        require_version(_version_decoder.decode(data).version)
        return _decoder.decode(data)
    except _MALFORMED as error:
        raise ReplayError(f"{len(data)} bytes are no part of a snapshot: {error}") from None


def require_version(version: int) -> None:
    """Raise ReplayError if parts of this version can't be read."""
    if version != SNAPSHOT_VERSION:
        raise ReplayError(
            f"the snapshot is of version {version}, and this headway reads version "
            f"{SNAPSHOT_VERSION}: read it with the headway that wrote it"
        )
