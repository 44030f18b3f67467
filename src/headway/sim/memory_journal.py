"""The journal of a simulated controller: in memory, as the real one would have it on a disk.

A controller may die while it writes: then the turn is there, or it is not, and nobody was told.
What this file must not know: what turns are about.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from headway.config import SchedulerConfig
from headway.controller.recovery import read_ledger
from headway.controller.snapshot import dump_ledger
from headway.sim.network import Crashed


class MemoryJournal:
    """What a Journal is to a controller, and to the one after it."""

    path = Path("memory")

    def __init__(self, config: SchedulerConfig) -> None:
        self._config = config
        self._meta: dict[str, Any] = {}
        self._turns: list[tuple[int, bytes]] = []
        self._parts: list[bytes] = []
        self.last_seq = 0
        self.snapshot_seq = 0
        self.turns_bytes = 0
        #: "before" or "after": the next commit is the end of the controller.
        self.crash: str | None = None

    def meta(self, key: str) -> Any:
        return self._meta.get(key)

    def set_meta(self, **facts: Any) -> None:
        self._meta.update(facts)

    def commit(self, record: bytes) -> None:
        """Write one turn; or die before that, or after it."""
        crash, self.crash = self.crash, None
        if crash == "before":
            raise Crashed
        self.last_seq += 1
        self._turns.append((self.last_seq, record))
        if crash == "after":
            raise Crashed

    def parts(self) -> Iterator[bytes]:
        yield from self._parts

    def turns(self) -> Iterator[tuple[int, bytes]]:
        yield from self._turns

    def count_turns(self) -> None:
        """Nothing is compacted but by `compact`."""

    def snapshot_bytes(self) -> int:
        return sum(map(len, self._parts))

    def compact(self) -> None:
        """As the compactor does, at the present turn."""
        ledger, now, wall_s = read_ledger(self, self._config, Random(self._config.seed))
        self._parts = list(dump_ledger(ledger, now, wall_s))
        self.snapshot_seq = self.last_seq
        self._turns.clear()

    def close(self) -> None:
        """It stays."""
