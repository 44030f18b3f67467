"""Where results are kept by key: SQLite for the index and small values, files for large ones.

Rule 1: a file has its name before its row is committed, and each value its checksum in the row:
what is torn, cut or gone is a miss, never a value. Rule 2: any number of processes of one host
may use a folder at once. Rule 3: beyond its size the least recently used go.

What this file must not know: how keys are made, and what is in a value.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from headway.memo.database import default_folder, open_database

Buffer = bytes | bytearray | memoryview

#: Of all that is kept, in bytes.
BYTES_MAX = 4 << 30
#: A value above this is a file.
_INLINE_BYTES_MAX = 64 * 1024
#: A file that is so old and has no row was left by a process that died.
_ORPHAN_S = 3_600.0
#: So often a value that another process replaces is looked for.
_LOOKS = 5
_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key BLOB PRIMARY KEY, bytes INTEGER NOT NULL, used_at REAL NOT NULL,
    checksum BLOB NOT NULL, value BLOB, file TEXT, made_at REAL NOT NULL, run TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON entries (used_at);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON entries
    BEGIN UPDATE total SET bytes = bytes + NEW.bytes; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON entries
    BEGIN UPDATE total SET bytes = bytes - OLD.bytes; END;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value to be kept: pieces that stand one after the other; and the run that it is of, or
    ""."""

    key: bytes
    pieces: Sequence[Buffer]
    run: str = ""

    @property
    def size(self) -> int:
        """Of all pieces, in bytes."""
        return sum(memoryview(piece).nbytes for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Found:
    """A value that was kept. A large one is a view of its file, which may be gone by now."""

    value: bytes | memoryview
    made_at: float
    run: str


def _checksum(pieces: Sequence[Buffer]) -> bytes:
    made = blake2b(digest_size=16)
    for piece in pieces:
        made.update(piece)
    return made.digest()


class Store:
    """A folder of values; it may be used by any number of threads and processes.

    Raises:
        HeadwayError: the folder can't be used, is another user's, or is of another version.
    """

    def __init__(self, folder: Path | None = None, bytes_max: int = BYTES_MAX) -> None:
        self.folder = folder or default_folder()
        self._bytes_max = bytes_max
        self._values = self.folder / "values"
        self._lock = threading.RLock()
        self._db = open_database(self.folder, "index.db", _VERSION, _SCHEMA)
        try:
            self._values.mkdir(mode=0o700, exist_ok=True)
            self._sweep()
        except BaseException:
            self._db.close()
            raise

    def _sweep(self) -> None:
        """Delete what processes that died have left."""
        known = {row[0] for row in self._db.execute("SELECT file FROM entries WHERE file NOTNULL")}
        for entry in os.scandir(self._values):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps, too
                old = time.time() - entry.stat().st_mtime > _ORPHAN_S
                if old and entry.name not in known:
                    os.unlink(entry.path)

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            self._db.close()

    def get(self, key: bytes) -> Found | None:
        """The value under `key`; None if there is none that is whole.

        Raises:
            OSError, sqlite3.Error: the folder can't be read.
        """
        for _ in range(_LOOKS):
            with self._lock:
                row = self._db.execute(
                    "SELECT checksum, value, file, made_at, run FROM entries WHERE key = ?", (key,)
                ).fetchone()
            if row is None:
                return None
            checksum, value, file, made_at, run = row
            if file is not None:
                value = _map(self._values / file)
            is_whole = value is not None and _checksum([value]) == checksum
            with self._lock:
                if is_whole:
                    used = "UPDATE entries SET used_at = ? WHERE key = ?"
                    self._db.execute(used, (time.time(), key))
                    return Found(value, made_at, run)
                gone = self._db.execute(
                    "DELETE FROM entries WHERE key = ? AND file IS ? AND checksum = ?",
                    (key, file, checksum),
                )
                if gone.rowcount:
                    return None
            # Another process has put it anew meanwhile: that one is whole.
        return None

    def put(self, key: bytes, value: bytes) -> bool:
        """Keep `value` under `key`; returns False where it is larger than all that may be kept.

        Raises:
            OSError, sqlite3.Error: it could not be written; nothing is kept of it.
        """
        return self.put_all([Entry(key, [value])]) == 1

    def put_all(self, entries: Sequence[Entry]) -> int:
        """Keep these, all at once; returns how many. Those that are larger than all that may be
        kept are not.

        Raises:
            OSError, sqlite3.Error: they could not be written; nothing is kept of any.
        """
        fitting = {entry.key: entry for entry in entries if entry.size <= self._bytes_max}
        files: dict[bytes, str] = {}
        gone: list[tuple[str | None]] = []
        try:
            for entry in fitting.values():
                if entry.size > _INLINE_BYTES_MAX:
                    files[entry.key] = f"{entry.key.hex()}-{uuid.uuid4().hex}"
                    self._write(files[entry.key], entry.pieces)
            rows = [_row(entry, files.get(entry.key)) for entry in fitting.values()]
            with self._lock:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    for row in rows:
                        gone += self._db.execute(
                            "DELETE FROM entries WHERE key = ? RETURNING file", (row[0],)
                        ).fetchall()
                    self._db.executemany(
                        "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
                    )
                    gone += self._evict()
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:  # a full disk has rolled it back already
                        self._db.execute("ROLLBACK")
                    raise
        except BaseException:
            self._unlink(list(files.values()))
            raise
        self._unlink([name for (name,) in gone if name is not None])
        return len(fitting)

    def _unlink(self, names: Sequence[str]) -> None:
        for name in names:
            (self._values / name).unlink(missing_ok=True)

    def _write(self, file: str, pieces: Sequence[Buffer]) -> None:
        temporary = self._values / f"{file}.part"
        try:
            with open(temporary, "wb") as out:
                out.writelines(pieces)
            temporary.rename(self._values / file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _evict(self) -> list[tuple[str | None]]:
        """Delete the rows of the least recently used; the files of those."""
        gone: list[tuple[str | None]] = []
        while self._db.execute("SELECT bytes FROM total").fetchone()[0] > self._bytes_max:
            gone += self._db.execute(
                "DELETE FROM entries WHERE key = (SELECT key FROM entries ORDER BY used_at LIMIT 1)"
                " RETURNING file"
            ).fetchall()
        return gone

    def totals(self) -> tuple[int, int]:
        """How many values are kept, and their bytes."""
        with self._lock:
            (count,) = self._db.execute("SELECT COUNT(*) FROM entries").fetchone()
            (size,) = self._db.execute("SELECT bytes FROM total").fetchone()
        return count, size

    def clear(self) -> None:
        """Delete all values, and give their room back.

        Raises:
            OSError, sqlite3.Error: it can't be done, or others use it for too long.
        """
        with self._lock:
            gone = self._db.execute("DELETE FROM entries RETURNING file").fetchall()
            self._db.execute("VACUUM")
        self._unlink([name for (name,) in gone if name is not None])


def _row(entry: Entry, file: str | None) -> tuple[Any, ...]:
    now = time.time()
    value = b"".join(entry.pieces) if file is None else None
    checksum = _checksum(entry.pieces)
    return entry.key, entry.size, now, checksum, value, file, now, entry.run


def _map(path: Path) -> memoryview | None:
    """The file at `path`, mapped: what is deleted later stays readable. None if it is not there."""
    try:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (FileNotFoundError, ValueError):  # ValueError: it is empty, so it was torn
        return None
