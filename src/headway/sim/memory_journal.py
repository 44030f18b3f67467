"""The journal of a simulated controller: in memory, as the real one would have it on a disk.

A controller may die while it writes: then the turn is there, or it is not, or its beginning is;
and nobody was told. As in SQLite's log, a turn counts if its frame is whole (its length, a
checksum, then the record), and what is written next takes the place of a frame that is not.
What this file must not know: what turns are about.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from headway.config import SchedulerConfig
from headway.controller.entries import decode_record
from headway.controller.ledger import Ledger
from headway.controller.recovery import read_ledger
from headway.controller.snapshot import dump_ledger
from headway.sim.network import Crashed


class MemoryJournal:
    """What a Journal is to a controller, and to the one after it."""

    path = Path("memory")

    def __init__(self, config: SchedulerConfig) -> None:
        self._config = config
        self._meta: dict[str, Any] = {}
        #: Frames, of which the last may be torn.
        self._frames: list[bytes] = []
        self._parts: list[bytes] = []
        #: Those of the last turn, as of the last compaction.
        self._times = 0.0, 0.0
        self.last_seq = 0
        self.snapshot_seq = 0
        self.turns_bytes = 0
        #: "before", "torn" or "after": the next commit is the end of the controller.
        self.crash: str | None = None

    def meta(self, key: str) -> Any:
        return self._meta.get(key)

    def set_meta(self, **facts: Any) -> None:
        self._meta.update(facts)

    def commit(self, record: bytes) -> None:
        """Write one turn; or die before that, in the middle, or after it."""
        crash, self.crash = self.crash, None
        if crash == "before":
            raise Crashed
        if self._frames and not _is_whole(self._frames[-1]):
            self._frames.pop()
        frame = _frame(record)
        if crash == "torn":
            self._frames.append(frame[: len(frame) // 2])
            raise Crashed
        self.last_seq += 1
        self._frames.append(frame)
        if crash == "after":
            raise Crashed

    def parts(self) -> Iterator[bytes]:
        yield from self._parts

    def turns(self) -> Iterator[tuple[int, bytes]]:
        for seq, frame in enumerate(self._frames, self.snapshot_seq + 1):
            if _is_whole(frame):
                yield seq, frame[_HEAD_BYTES:]

    def count_turns(self) -> None:
        """Nothing is compacted but by `compact`."""

    def snapshot_bytes(self) -> int:
        return sum(map(len, self._parts))

    def compact(self, living: Ledger | None = None) -> None:
        """As the compactor does, at the present turn.

        Parameters:
            living: what that turn led to, as a controller's fork packs it; None reads it again.
        """
        whole = [frame for frame in self._frames[-2:] if _is_whole(frame)]
        if whole:
            last = decode_record(whole[-1][_HEAD_BYTES:])
            self._times = last.now, last.wall_s
        ledger = living or read_ledger(self, self._config, Random(self._config.seed))[0]
        self._parts = list(dump_ledger(ledger, *self._times))
        self.snapshot_seq = self.last_seq
        self._frames.clear()

    def close(self) -> None:
        """It stays."""


#: Before each record: its length, and its checksum.
_HEAD_BYTES = 8


def _frame(record: bytes) -> bytes:
    return b"".join((len(record).to_bytes(4, "big"), zlib.crc32(record).to_bytes(4, "big"), record))


def _is_whole(frame: bytes) -> bool:
    head, record = frame[:_HEAD_BYTES], frame[_HEAD_BYTES:]
    return head == _frame(record)[:_HEAD_BYTES]
