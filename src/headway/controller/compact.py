"""Makes a journal short: `python -m headway.controller.compact FILE`, while its controller serves.

It writes the state after a turn as a snapshot, and removes the turns that led there. A controller
hands it the parts of that state, on its stdin (compaction.py). Without them it comes to the state
as a controller that takes over would: it reads the journal. A process of its own, so that the
controller never waits for it, but for transactions of some milliseconds. Whenever it is killed,
the journal is whole: the snapshot counts from the moment in which one number is written.

What this file must not know: sockets, and what the turns are about.
"""

from __future__ import annotations

import argparse
import enum
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import IO

import msgspec

from headway.config import SchedulerConfig
from headway.controller.journal import JournalFile
from headway.controller.recovery import read_ledger
from headway.controller.snapshot import dump_ledger
from headway.errors import HeadwayError, JournalError

#: Of one transaction: some milliseconds.
_BYTES_MAX = 1 << 20
_ROWS_MAX = 500


class Kind(enum.IntEnum):
    """What a frame on the way from the controller holds."""

    PART = 0
    #: Nothing: there are no more parts.
    END = 1
    #: Why there are no more.
    FAILED = 2


def write_framed(out: IO[bytes], kind: Kind, data: bytes = b"") -> None:
    """Write one frame: its kind, its length, itself."""
    out.write(bytes((kind,)) + len(data).to_bytes(8, "big"))
    out.write(data)


def read_framed(source: IO[bytes]) -> Iterator[bytes]:
    """The parts that `write_framed` wrote, to their end.

    Raises:
        JournalError: there is no end, since who wrote them was killed or could not go on.
    """
    while len(head := source.read(9)) == 9:
        data = source.read(int.from_bytes(head[1:], "big"))
        if head[0] == Kind.END:
            return
        if head[0] == Kind.FAILED:
            raise JournalError(f"the state could not be packed: {data.decode(errors='replace')}")
        yield data
    raise JournalError("the controller's fork ended before it had packed all of the state")


def compact(path: Path, config: SchedulerConfig) -> int:
    """Read `path`, write a snapshot of it, and remove what that makes needless.

    Returns:
        The last turn that the snapshot has in it.

    Raises:
        JournalError: it can't be read or written. The journal is as it was.
    """
    journal = JournalFile(path)
    try:
        with journal.at_one_moment():
            last_seq = int(journal.one("SELECT max(seq) FROM turns") or 0)
            if last_seq <= journal.snapshot_seq:
                return journal.snapshot_seq
            ledger, now, wall_s = read_ledger(journal, config, Random(config.seed), last_seq)
        _write_snapshot(journal, last_seq, dump_ledger(ledger, now, wall_s))
        return last_seq
    finally:
        journal.close()


def compact_with(path: Path, seq: int, parts: Iterable[bytes]) -> None:
    """Write `parts` as the snapshot of `path` after turn `seq`, and remove what is needless now.

    Raises:
        JournalError: it can't be written, or parts are missing. The journal is as it was.
    """
    journal = JournalFile(path)
    try:
        _write_snapshot(journal, seq, parts)
    finally:
        journal.close()


def _write_snapshot(journal: JournalFile, seq: int, parts: Iterable[bytes]) -> None:
    _remove_leftovers(journal)
    number = _write_parts(journal, seq, parts)
    with journal.transaction() as db:
        # A controller that was killed may have left a compactor, beside that of the next one.
        there = "SELECT count(*) FROM parts WHERE snapshot = ?"
        if journal.one(there, seq) != number or journal.snapshot_seq >= seq:
            raise JournalError(f"another process has compacted {journal.path} meanwhile")
        value = msgspec.json.encode(seq)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('snapshot_seq', ?)", (value,))
    _remove_leftovers(journal)


def _write_parts(journal: JournalFile, seq: int, parts: Iterable[bytes]) -> int:
    """Write them; how many there were."""
    waiting: list[tuple[int, int, bytes]] = []
    waiting_bytes = 0
    count = 0

    def write() -> None:
        with journal.transaction() as db:
            db.executemany("INSERT INTO parts VALUES (?, ?, ?)", waiting)
        waiting.clear()

    for count, data in enumerate(parts, 1):
        waiting.append((seq, count, data))
        waiting_bytes += len(data)
        if waiting_bytes >= _BYTES_MAX:
            write()
            waiting_bytes = 0
    if waiting:
        write()
    return count


def _remove_leftovers(journal: JournalFile) -> None:
    """Remove parts of other snapshots, and turns that the present one has in it."""
    seq = journal.snapshot_seq
    for table, condition in (("parts", "snapshot != ?"), ("turns", "seq <= ?")):
        rows = f"SELECT rowid FROM {table} WHERE {condition} LIMIT {_ROWS_MAX}"
        while True:
            with journal.transaction() as db:
                done = db.execute(f"DELETE FROM {table} WHERE rowid IN ({rows})", (seq,)).rowcount
            if done < _ROWS_MAX:
                break


def main() -> int:
    """Returns the exit status: 0 if it is short now, 1 if not, which stderr explains."""
    parser = argparse.ArgumentParser(prog="python -m headway.controller.compact")
    parser.add_argument("journal", type=Path)
    parser.add_argument("--config", default="{}", help="the scheduler's settings, as JSON")
    parser.add_argument(
        "--parts-of", type=int, metavar="SEQ", help="the state after this turn comes on stdin"
    )
    arguments = parser.parse_args()
    try:
        if arguments.parts_of is not None:
            compact_with(arguments.journal, arguments.parts_of, read_framed(sys.stdin.buffer))
        else:
            config = msgspec.json.decode(arguments.config, type=SchedulerConfig)
            compact(arguments.journal, config)
    except HeadwayError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
