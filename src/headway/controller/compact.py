"""Makes a journal short: `python -m headway.controller.compact FILE`, while its controller serves.

It reads the journal as a controller that takes over would, writes the state that it comes to as
a snapshot, and removes the turns that led there. A process of its own, so that the controller
never waits for it, but for transactions of some milliseconds. Whenever it is killed, the journal
is whole: the snapshot counts from the moment in which one number is written.

What this file must not know: sockets, and what the turns are about.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

import msgspec

from headway.config import SchedulerConfig
from headway.controller.journal import JournalFile
from headway.controller.recovery import read_ledger
from headway.controller.snapshot import dump_ledger
from headway.errors import HeadwayError

#: Of one transaction: some milliseconds.
_BYTES_MAX = 1 << 20
_ROWS_MAX = 500


def compact(path: Path, config: SchedulerConfig) -> int:
    """Write a snapshot of `path`, and remove what it makes needless; the last turn in it.

    Raises:
        JournalError: it can't be read or written. The journal is as it was.
    """
    journal = JournalFile(path)
    try:
        last_seq = journal.one("SELECT max(seq) FROM turns") or 0
        if last_seq <= journal.snapshot_seq:
            return journal.snapshot_seq
        _remove_leftovers(journal)
        ledger, now, wall_s = read_ledger(journal, config, Random(config.seed), last_seq)
        _write_parts(journal, last_seq, dump_ledger(ledger, now, wall_s))
        with journal.transaction() as db:
            value = msgspec.json.encode(last_seq)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('snapshot_seq', ?)", (value,))
        _remove_leftovers(journal)
        return int(last_seq)
    finally:
        journal.close()


def _write_parts(journal: JournalFile, seq: int, parts: object) -> None:
    waiting: list[tuple[int, int, bytes]] = []
    waiting_bytes = 0

    def write() -> None:
        with journal.transaction() as db:
            db.executemany("INSERT INTO parts VALUES (?, ?, ?)", waiting)
        waiting.clear()

    for number, data in enumerate(parts):  # type: ignore[arg-type, var-annotated]
        waiting.append((seq, number, data))
        waiting_bytes += len(data)
        if waiting_bytes >= _BYTES_MAX:
            write()
            waiting_bytes = 0
    if waiting:
        write()


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
    arguments = parser.parse_args()
    try:
        config = msgspec.json.decode(arguments.config, type=SchedulerConfig)
        compact(arguments.journal, config)
    except HeadwayError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
