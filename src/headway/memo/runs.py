"""Named runs: the calls that were submitted under a name, so that they can be submitted again.

A call refers to its function and its settings, which many share (parts), and to the calls whose
values it takes, by their numbers in the run: those are always lower than its own.

Rule 1: of all runs the newest are kept, up to a number and to their bytes; one that went is not
noted any more. Rule 2: any number of processes may use a folder at once; one notes a run.

What this file must not know: clients, and what is in the bytes.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.memo.database import default_folder, open_database

#: So many runs are kept, and so many bytes of what was noted of them.
RUNS_MAX = 100
BYTES_MAX = 1 << 30
_VERSION = 1
#: Calls that are read at once.
_PAGE = 500

#: Of a call that has not ended, as far as anybody knows.
OPEN = "open"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, began_at REAL NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS by_name ON runs (name);
CREATE TABLE IF NOT EXISTS parts (
    run INTEGER REFERENCES runs ON DELETE CASCADE, part INTEGER, data BLOB, refs BLOB,
    PRIMARY KEY (run, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
    run INTEGER REFERENCES runs ON DELETE CASCADE, number INTEGER, name TEXT, function INTEGER,
    settings INTEGER, data BLOB, refs BLOB, state TEXT,
    PRIMARY KEY (run, number)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A function, or settings: bytes, and the numbers of the calls that they refer to."""

    run: int
    part: int
    data: bytes
    refs: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A call: its parts, its arguments, and the numbers of the calls whose values it takes."""

    run: int
    number: int
    name: str
    function: int
    settings: int
    data: bytes
    refs: Sequence[int] = ()
    state: str = OPEN


@dataclass(frozen=True, slots=True)
class State:
    """What became of a call."""

    run: int
    number: int
    state: str


Note = Part | Call | State


class Runs:
    """The runs in a memo folder; it may be used by any number of threads and processes.

    Raises:
        HeadwayError: the folder can't be used, is another user's, or is of another version.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        self._lock = threading.RLock()
        #: The locks of the runs that are noted here: they end with the process, however that ends.
        self._held: dict[int, int] = {}
        self._db = open_database(self.folder, "runs.db", _VERSION, _SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            for run in list(self._held):
                self.let_go(run)
            self._db.close()

    def hold(self, run: int) -> bool:
        """Whether this run may be noted here from now on: nobody else does.

        Raises:
            OSError: the folder can't be written to.
        """
        with self._lock:
            if run in self._held:
                return True
            fd = os.open(self._lock_of(run), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            self._held[run] = fd
            return True

    def let_go(self, run: int) -> None:
        """This run is not noted here any more."""
        with self._lock:
            fd = self._held.pop(run, None)
            if fd is not None:
                os.close(fd)

    def _lock_of(self, run: int) -> Path:
        return self.folder / f"run-{run}.lock"

    def begin(self, name: str) -> int:
        """A new run of this name, which is noted here; its number. The oldest go where there are
        too many.

        Raises:
            OSError, sqlite3.Error: it can't be written.
        """
        with self._lock:
            run = self._begin(name)
            self.hold(run)
            self._sweep()
        return run

    def _sweep(self) -> None:
        """Delete the locks of runs that went."""
        known = {f"run-{run}.lock" for (run,) in self._db.execute("SELECT id FROM runs")}
        for path in self.folder.glob("run-*.lock"):
            if path.name not in known:
                path.unlink(missing_ok=True)

    def _begin(self, name: str) -> int:
        with self._writing() as db:
            made = db.execute(
                "INSERT INTO runs (name, began_at) VALUES (?, ?)", (name, time.time())
            )
            kept = size = 0
            for run, run_bytes in db.execute("SELECT id, bytes FROM runs ORDER BY id DESC"):
                kept, size = kept + 1, size + run_bytes
                if kept > RUNS_MAX or size > BYTES_MAX:
                    db.execute("DELETE FROM runs WHERE id <= ?", (run,))
                    break
            assert made.lastrowid is not None
            return made.lastrowid

    def find(self, name: str) -> int | None:
        """The newest run of this name."""
        with self._lock:
            found = self._db.execute(
                "SELECT id FROM runs WHERE name = ? ORDER BY id DESC LIMIT 1", (name,)
            ).fetchone()
        return None if found is None else int(found[0])

    def note(self, notes: Sequence[Note]) -> None:
        """Write these, in this order, all at once.

        Raises:
            sqlite3.Error: they can't be written; none was.
        """
        with self._lock, self._writing() as db:
            alive = {
                run: db.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone() is not None
                for run in {note.run for note in notes}
            }
            for note in notes:
                if not alive[note.run]:
                    continue
                if isinstance(note, State):
                    db.execute(
                        "UPDATE calls SET state = ? WHERE run = ? AND number = ?",
                        (note.state, note.run, note.number),
                    )
                    continue
                if isinstance(note, Part):
                    row: tuple[Any, ...] = (note.run, note.part, note.data, _packed(note.refs))
                    db.execute("INSERT INTO parts VALUES (?, ?, ?, ?)", row)
                else:
                    row = (
                        note.run, note.number, note.name, note.function, note.settings, note.data,
                        _packed(note.refs), note.state,
                    )  # fmt: skip
                    db.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
                db.execute(
                    "UPDATE runs SET bytes = bytes + ? WHERE id = ?", (len(note.data), note.run)
                )

    def _writing(self) -> _Transaction:
        return _Transaction(self._db)

    def parts(self, run: int) -> dict[int, Part]:
        """The parts of a run, by their numbers."""
        with self._lock:
            rows = self._db.execute(
                "SELECT part, data, refs FROM parts WHERE run = ?", (run,)
            ).fetchall()
        return {part: Part(run, part, data, _unpacked(refs)) for part, data, refs in rows}

    def extent(self, run: int) -> tuple[int, int, int]:
        """How many parts and calls a run has, and how many bytes."""
        with self._lock:
            found = self._db.execute(
                "SELECT (SELECT COALESCE(MAX(part) + 1, 0) FROM parts WHERE run = id),"
                " (SELECT COALESCE(MAX(number) + 1, 0) FROM calls WHERE run = id), bytes"
                " FROM runs WHERE id = ?",
                (run,),
            ).fetchone()
        parts, calls, size = found or (0, 0, 0)
        return parts, calls, size

    def calls(self, run: int) -> Iterator[Call]:
        """The calls of a run, in order. Others may write meanwhile."""
        last = -1
        while True:
            with self._lock:
                rows = self._db.execute(
                    "SELECT number, name, function, settings, data, refs, state FROM calls"
                    " WHERE run = ? AND number > ? ORDER BY number LIMIT ?",
                    (run, last, _PAGE),
                ).fetchall()
            for number, name, function, settings, data, refs, state in rows:
                yield Call(run, number, name, function, settings, data, _unpacked(refs), state)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def listing(self) -> list[dict[str, Any]]:
        """Each run, the newest first: its name, when it began, its bytes, its calls by state."""
        with self._lock:
            runs = self._db.execute(
                "SELECT id, name, began_at, bytes FROM runs ORDER BY id DESC"
            ).fetchall()
            counts: dict[int, dict[str, int]] = {row[0]: {} for row in runs}
            states = "SELECT run, state, COUNT(*) FROM calls GROUP BY run, state"
            for run, state, count in self._db.execute(states):
                counts.setdefault(run, {})[state] = count
        return [
            {"run": name, "began_at": began_at, "bytes": size, "tasks": counts[run]}
            for run, name, began_at, size in runs
        ]

    def clear(self) -> None:
        """Forget all runs.

        Raises:
            sqlite3.Error: it can't be done, or others use it for too long.
        """
        with self._lock:
            self._db.execute("DELETE FROM runs")
            self._db.execute("VACUUM")
            self._sweep()


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:  # a full disk may have rolled it back already
                self._db.execute("ROLLBACK")


def _packed(numbers: Sequence[int]) -> bytes:
    return array("q", numbers).tobytes()


def _unpacked(data: bytes) -> list[int]:
    numbers = array("q")
    numbers.frombytes(data)
    return numbers.tolist()
