"""Where results are kept by key: SQLite for the index and small values, files for large ones.

Rule 1: a file has its name before its row is committed, and each value its checksum in the row:
what is torn, cut or gone is a miss, never a value. Rule 2: any number of processes of one host
may use a folder at once. Rule 3: beyond its size the least recently used go.

What this file must not know: how keys are made, and what is in a value.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import uuid
from hashlib import blake2b
from pathlib import Path

from headway.errors import HeadwayError

#: Of all that is kept, in bytes.
BYTES_MAX = 4 << 30
#: A value above this is a file.
_INLINE_BYTES_MAX = 64 * 1024
#: So long another process may keep the index locked.
_BUSY_S = 30.0
#: A file that is so old and has no row was left by a process that died.
_ORPHAN_S = 3_600.0
_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key BLOB PRIMARY KEY, bytes INTEGER NOT NULL, used_at REAL NOT NULL,
    checksum BLOB NOT NULL, value BLOB, file TEXT);
CREATE INDEX IF NOT EXISTS by_use ON entries (used_at);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON entries
    BEGIN UPDATE total SET bytes = bytes + NEW.bytes; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON entries
    BEGIN UPDATE total SET bytes = bytes - OLD.bytes; END;
"""


def default_folder() -> Path:
    """`headway/memo` in XDG_CACHE_HOME, or else in ~/.cache."""
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "headway" / "memo"


def _checksum(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()


class Store:
    """A folder of values; it may be used by any number of threads and processes.

    Raises:
        HeadwayError: the folder can't be used, is another user's, or is of another version.
    """

    def __init__(self, folder: Path | None = None, bytes_max: int = BYTES_MAX) -> None:
        self.folder = folder or default_folder()
        self._bytes_max = bytes_max
        self._values = self.folder / "values"
        self._lock = threading.Lock()
        try:
            self._values.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.folder.stat()
            if found.st_uid != os.getuid() or found.st_mode & 0o002:
                raise HeadwayError(
                    f"the memo folder {self.folder} is another user's, or all may write to it: "
                    "who can write there could have this program run anything"
                )
            self._db = sqlite3.connect(
                self.folder / "index.db",
                timeout=_BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise HeadwayError(
                f"the memo folder {self.folder} can't be used: {error}. If it is damaged, delete it"
            ) from error

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise HeadwayError(f"the memo folder {self.folder} is of version {version}: delete it")
        self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")
        self._sweep()

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

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`; None if there is none that is whole."""
        with self._lock:
            row = self._db.execute(
                "SELECT checksum, value, file FROM entries WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        checksum, value, file = row
        if file is not None:
            try:
                value = (self._values / file).read_bytes()
            except FileNotFoundError:
                value = None
        with self._lock:
            if value is None or _checksum(value) != checksum:
                self._db.execute(
                    "DELETE FROM entries WHERE key = ? AND file IS ? AND checksum = ?",
                    (key, file, checksum),
                )
                return None
            self._db.execute("UPDATE entries SET used_at = ? WHERE key = ?", (time.time(), key))
        return bytes(value)

    def put(self, key: bytes, value: bytes) -> bool:
        """Keep `value` under `key`; returns False where it is larger than all that may be kept.

        Raises:
            OSError, sqlite3.Error: it could not be written; nothing is kept of it.
        """
        if len(value) > self._bytes_max:
            return False
        file = None if len(value) <= _INLINE_BYTES_MAX else f"{key.hex()}-{uuid.uuid4().hex}"
        if file is not None:
            self._write(file, value)
        row = (key, len(value), time.time(), _checksum(value), value if file is None else None)
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                gone = self._db.execute(
                    "DELETE FROM entries WHERE key = ? RETURNING file", (key,)
                ).fetchall()
                self._db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", (*row, file))
                gone += self._evict()
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                if file is not None:
                    (self._values / file).unlink(missing_ok=True)
                raise
        for (name,) in gone:
            if name is not None:
                (self._values / name).unlink(missing_ok=True)
        return True

    def _write(self, file: str, value: bytes) -> None:
        temporary = self._values / f"{file}.part"
        try:
            temporary.write_bytes(value)
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
