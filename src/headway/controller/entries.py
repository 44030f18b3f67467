"""What the journal holds: one record a turn, with all that changed the scheduler in it.

A record is what happened, in order, and what was placed where in the end. Batches are kept as
they came, frame for frame; other events as the core knows them. Placements are kept too, and not
decided anew when the journal is read: a scheme of the user's, or of chance, would choose another
engine the second time.

SCHEMA_VERSION changes with any of these classes, with the messages and events inside them, and
with the order of EVENTS. What this file must not know: files, sockets, and what an entry leads to.
"""

from __future__ import annotations

import zlib

import msgspec
from msgspec import Struct

from headway.core import events as ev
from headway.core.events import ClientId, EngineId
from headway.errors import JournalError
from headway.wire import messages as m

#: Of the whole journal: its tables, its records, and the snapshot in it.
SCHEMA_VERSION = 3


class ClientCame(Struct, array_like=True, tag="client", frozen=True):
    """A client was welcomed under a new number; `identity` is its connection's."""

    number: ClientId
    identity: bytes
    hello: m.ClientHello


class EngineCame(Struct, array_like=True, tag="engine", frozen=True):
    """An engine was welcomed under a new number."""

    number: EngineId
    identity: bytes
    hello: m.EngineHello


class ClientSaid(Struct, array_like=True, tag="c", frozen=True):
    """A batch of a client (Submit, Release, Cancel, Keep), as it came."""

    number: ClientId
    frames: list[bytes]


class EngineSaid(Struct, array_like=True, tag="e", frozen=True):
    """A batch of an engine (Outcomes), as it came."""

    number: EngineId
    frames: list[bytes]


class Told(Struct, array_like=True, tag="t", frozen=True):
    """Any other event that the core was told: its place in EVENTS, and itself, packed."""

    kind: int
    event: msgspec.Raw


class Ticked(Struct, array_like=True, tag="k", frozen=True):
    """The core's timers were looked at."""


Entry = ClientCame | EngineCame | ClientSaid | EngineSaid | Told | Ticked

#: Never reordered: see SCHEMA_VERSION.
EVENTS: tuple[type, ...] = (
    ev.ClientLeft,
    ev.EngineLeft,
    ev.EngineDraining,
    ev.EngineResumed,
    ev.GaveBack,
    ev.Started,
    ev.Abandoned,
    ev.EnginesExpected,
    ev.CancelAsked,
    ev.ValueMissed,
    ev.LimitSet,
    ev.RetryAsked,
    ev.EngineBlocked,
    ev.EngineUnblocked,
)
_KIND_OF = {event: kind for kind, event in enumerate(EVENTS)}
_EVENT_DECODERS: list[msgspec.msgpack.Decoder[ev.Event]] = [
    msgspec.msgpack.Decoder(event) for event in EVENTS
]


class Record(Struct, array_like=True):
    """One turn. `now` is the journal's time in seconds, which never goes back; `wall_s` the
    clock on the wall. `placements` are pairs, one after the other: a task, and its engine."""

    now: float
    wall_s: float
    entries: list[Entry]
    placements: list[int]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)
_CRC_BYTES = 4


def told(event: ev.Event) -> Told:
    """`event` as an entry."""
    return Told(_KIND_OF[type(event)], msgspec.Raw(_encoder.encode(event)))


def event_of(entry: Told) -> ev.Event:
    """The event in an entry.

    Raises:
        JournalError: there is none.
    """
    try:
        return _EVENT_DECODERS[entry.kind].decode(entry.event)
    except (IndexError, msgspec.DecodeError) as error:
        raise JournalError(f"an event of kind {entry.kind} can't be read: {error}") from None


def encode_record(record: Record) -> bytes:
    """`record` as bytes, which begin with a checksum of the rest."""
    packed = _encoder.encode(record)
    return zlib.crc32(packed).to_bytes(_CRC_BYTES, "big") + packed


def decode_record(data: bytes) -> Record:
    """What `encode_record` wrote.

    Raises:
        JournalError: the bytes are not those that were written.
    """
    packed = memoryview(data)[_CRC_BYTES:]
    if zlib.crc32(packed) != int.from_bytes(data[:_CRC_BYTES], "big"):
        raise JournalError("its checksum is wrong: these are not the bytes that were written")
    try:
        return _decoder.decode(packed)
    except (msgspec.DecodeError, ValueError) as error:
        raise JournalError(f"it can't be read: {error}") from None
