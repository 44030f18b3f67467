"""Takes over the journal of a controller that ended: its ledger, and its place in the world.

What this file must not know: sockets, and what happens next.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from headway.config import SchedulerConfig
from headway.controller.books import Clock
from headway.controller.entries import decode_record
from headway.controller.journal import Journal
from headway.controller.ledger import Commands, Ledger
from headway.controller.snapshot import load_ledger
from headway.errors import JournalError
from headway.wire.endpoint import Keys


class Place(msgspec.Struct, frozen=True):
    """Where a cluster is found, so that its peers find the next controller at the same place."""

    cluster: str
    directory: str
    connection: str
    address: str = ""
    keys: dict[str, str] | None = None
    #: The nanny of the controller's host: see nanny_process.py.
    nanny: str = ""
    #: Where its hosts share large values; "" for nowhere.
    value_store: str = ""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a journal held."""

    ledger: Ledger
    clock: Clock
    epoch: int
    place: Place | None


def recover(journal: Journal, config: SchedulerConfig) -> Recovered:
    """Read `journal` from its snapshot to its end; a new one holds nothing.

    The epoch is written at once: a peer that was welcomed under an older one can tell.

    Raises:
        JournalError: it can't be read, or one turn does not follow from those before it.
    """
    _require_same_hwm(journal, config)
    rng = Random(config.seed)
    with journal.at_one_moment():
        ledger, last_now, last_wall_s = read_ledger(journal, config, rng)
    place = journal.meta("place")
    epoch = int(journal.meta("epoch") or 0) + 1
    journal.set_meta(epoch=epoch)
    return Recovered(
        ledger,
        Clock(last_now, last_wall_s),
        epoch,
        msgspec.convert(place, Place) if place is not None else None,
    )


def _require_same_hwm(journal: Journal, config: SchedulerConfig) -> None:
    """What was placed once must fit again: so a journal belongs to its high water mark. The scheme
    is free, since what it chose is in the journal."""
    hwm = journal.meta("hwm")
    if hwm is None:
        journal.set_meta(hwm=config.hwm)
    elif hwm != config.hwm:
        raise JournalError(
            f"the journal {journal.path} was begun with hwm={hwm}, and can't go on with "
            f"hwm={config.hwm}: start it with --hwm {hwm}"
        )


def read_ledger(
    journal: Any, config: SchedulerConfig, rng: Random, up_to: int | None = None
) -> tuple[Ledger, float, float]:
    """The ledger after turn `up_to` (None is the last), and the times of that turn.

    Parameters:
        journal: whose `parts()` and `turns()` are read; a file `at_one_moment`.

    Raises:
        JournalError: see `recover`.
    """
    ledger, last_now, last_wall_s = load_ledger(journal.parts(), config, rng)
    out: Commands = []
    for seq, data in journal.turns():
        if up_to is not None and seq > up_to:
            break
        try:
            record = decode_record(data)
            ledger.replay(record, out)
        except JournalError as error:
            raise JournalError(_damaged(journal.path, seq, error)) from error
        out.clear()
        last_now, last_wall_s = record.now, record.wall_s
    return ledger, last_now, last_wall_s


def _damaged(path: Path, seq: int, error: JournalError) -> str:
    return (
        f"turn {seq} of the journal {path} is damaged: {error}. Put back a copy of the file, with "
        "its -wal file; or move it away and start anew, which loses the tasks in it"
    )


def keys_of(place: Place) -> Keys | None:
    """The cluster's keys, None for one with local sockets."""
    return Keys(**place.keys) if place.keys is not None else None
