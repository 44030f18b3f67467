"""The ledger as a few parts of bytes, and back: what the journal keeps of turns long past.

The first part is the ledger's own (who is known, and the times of the last turn), the others
are the scheduler's (core/snapshot.py). What this file must not know: files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from random import Random

import msgspec
from msgspec import Struct

from headway.config import SchedulerConfig
from headway.controller.ledger import KnownClient, KnownEngine, Ledger
from headway.core import rows
from headway.core import snapshot as core_snapshot
from headway.core.events import ClientId, EngineId
from headway.errors import JournalError, ReplayError
from headway.wire import messages as m

_CRC_BYTES = 4


class _Client(Struct, array_like=True):
    number: ClientId
    identity: bytes
    hello: m.ClientHello
    batch: int


class _Engine(Struct, array_like=True):
    number: EngineId
    identity: bytes
    hello: m.EngineHello
    batch: int


class _Front(Struct, array_like=True):
    now: float
    wall_s: float
    clients_seen: int
    engines_seen: int
    clients: list[_Client]
    engines: list[_Engine]


_encode = msgspec.msgpack.Encoder().encode
_decode_front = msgspec.msgpack.Decoder(_Front).decode


def dump_ledger(ledger: Ledger, now: float, wall_s: float) -> Iterator[bytes]:
    """The parts of `ledger` as it was at the end of a turn at these times."""
    front = _Front(
        now,
        wall_s,
        ledger.clients_seen,
        ledger.engines_seen,
        [_Client(n, k.identity, k.hello, k.batch) for n, k in ledger.clients.items()],
        [_Engine(n, k.identity, k.hello, k.batch) for n, k in ledger.engines.items()],
    )
    yield _sealed(_encode(front))
    for part in core_snapshot.dump(ledger.scheduler):
        yield _sealed(rows.pack(part))


def load_ledger(
    parts: Iterable[bytes], config: SchedulerConfig, rng: Random
) -> tuple[Ledger, float, float]:
    """What `dump_ledger` made the parts of; without any, a new ledger.

    Raises:
        JournalError: they are not all of the parts, or damaged.
    """
    parts = iter(parts)
    ledger = Ledger(config, rng)
    first = next(parts, None)
    if first is None:
        return ledger, 0.0, 0.0
    try:
        front = _decode_front(_opened(first))
        ledger.scheduler = core_snapshot.load(
            (rows.unpack(_opened(part)) for part in parts), config, rng
        )
    except (msgspec.DecodeError, ValueError, ReplayError) as error:
        raise JournalError(f"the journal's snapshot can't be read: {error}") from error
    ledger.clients_seen, ledger.engines_seen = front.clients_seen, front.engines_seen
    for client in front.clients:
        ledger.clients[client.number] = KnownClient(client.identity, client.hello, client.batch)
    for engine in front.engines:
        ledger.engines[engine.number] = KnownEngine(engine.identity, engine.hello, engine.batch)
    return ledger, front.now, front.wall_s


def _sealed(packed: bytes) -> bytes:
    return zlib.crc32(packed).to_bytes(_CRC_BYTES, "big") + packed


def _opened(data: bytes) -> bytes:
    packed = data[_CRC_BYTES:]
    if zlib.crc32(packed) != int.from_bytes(data[:_CRC_BYTES], "big"):
        raise JournalError("the journal's snapshot is damaged: a checksum is wrong")
    return packed
