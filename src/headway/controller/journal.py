"""The journal: one SQLite file with all that a controller must not forget.

    meta       what the cluster is: its name, epoch, address and keys
    turns      one row a turn, as entries.py has packed it, from `snapshot_seq` on
    parts      the state before these, as the compactor has packed it

Rule 1: a turn is committed before anything that follows from it is sent. Rule 2: one controller
has the journal; a lock file beside it says so, and is let go by the end of the process, however
it ends. Rule 3: whatever SQLite has to say about the file is said in words, with what to do.

`normal` survives the death of the controller (the system has the bytes), `full` also that of the
host (the disk has them): SQLite's `synchronous`. WAL, so that the compactor can read and write
beside the controller.

What this file must not know: what an entry means.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from headway.controller.entries import SCHEMA_VERSION
from headway.errors import JournalError

OFF, NORMAL, FULL = "off", "normal", "full"
DURABILITIES = (OFF, NORMAL, FULL)

#: "hdwy": tells our files from other SQLite databases.
_APPLICATION_ID = 0x68647779
#: Pages of the write-ahead log (4 KiB each) before they are brought into the file. More make
#: fewer and longer pauses.
_CHECKPOINT_PAGES = 4_000
#: The write-ahead log is cut down to this when it begins anew.
_LOG_BYTES_KEPT = 16 << 20
#: The compactor's transactions are short: nobody waits longer for the other.
_BUSY_TIMEOUT_MS = 10_000

_SCHEMA = f"""
BEGIN;
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE turns (seq INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE parts (snapshot INTEGER, part INTEGER, data BLOB NOT NULL,
                    PRIMARY KEY (snapshot, part));
INSERT INTO meta VALUES ('snapshot_seq', '0');
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class JournalFile:
    """An open journal, to be read: its facts, its snapshot, its turns. Must be closed.

    Parameters:
        path: the file; made if it is missing, mode 0600, since it holds the cluster's keys.
        durability: "normal" or "full".

    Raises:
        JournalError: it can't be opened; the message says why, and what to do.
    """

    def __init__(self, path: Path, durability: str = NORMAL) -> None:
        self.path = path
        self.db = _open(path, durability)

    @property
    def snapshot_seq(self) -> int:
        """The last turn that the snapshot has in it; 0 if there is no snapshot."""
        return int(self.meta("snapshot_seq") or 0)

    def meta(self, key: str) -> Any:
        """What `set_meta` wrote under `key`; None if it did not."""
        with self.in_words("read"):
            value = self.one("SELECT value FROM meta WHERE key = ?", key)
        return None if value is None else msgspec.json.decode(value)

    def parts(self) -> Iterator[bytes]:
        """The snapshot, part by part; nothing if there is none."""
        with self.in_words("read"):
            rows = self.db.execute(
                "SELECT data FROM parts WHERE snapshot = ? ORDER BY part", (self.snapshot_seq,)
            )
            for (data,) in rows:
                yield data

    def turns(self) -> Iterator[tuple[int, bytes]]:
        """The turns after the snapshot, in order, each with its number."""
        with self.in_words("read"):
            expected = self.snapshot_seq + 1
            for seq, record in self.db.execute(
                "SELECT seq, record FROM turns WHERE seq >= ? ORDER BY seq", (expected,)
            ):
                if seq != expected:
                    raise JournalError(f"turn {expected} is missing from the journal {self.path}")
                expected += 1
                yield seq, record

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self.db.close()

    @contextlib.contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Read all of what is read within as it was at one moment. A compactor that a killed
        controller has left may be at work: between the snapshot and the turns after it, it would
        put another snapshot, and the turns that are in that one would be missed without a word."""
        with self.in_words("read"):
            self.db.execute("BEGIN")
            try:
                yield
            finally:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")

    def one(self, query: str, *values: Any) -> Any:
        """The first value of the first row, None if there is none."""
        row = self.db.execute(query, values).fetchone()
        return None if row is None else row[0]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is written within, or nothing.

        Raises:
            JournalError: it can't be written, and nothing of it was.
        """
        with self.in_words("written"):
            try:
                self.db.execute("BEGIN IMMEDIATE")
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def in_words(self, done: str) -> Iterator[None]:
        """Say in words what SQLite says."""
        try:
            yield
        except sqlite3.Error as error:
            raise in_words(self.path, done, error) from error


class Journal(JournalFile):
    """A journal that is ours alone, to be written. Must be closed. See JournalFile."""

    def __init__(self, path: str | os.PathLike[str], durability: str) -> None:
        path = Path(path).absolute()
        _require_file(path)
        self._lock_fd = _lock(path)
        try:
            super().__init__(path, durability)
        except BaseException:
            os.close(self._lock_fd)
            raise
        with self.in_words("read"):
            last_turn = self.one("SELECT max(seq) FROM turns") or 0
            self.last_seq: int = max(last_turn, self.snapshot_seq)
        self.count_turns()

    def set_meta(self, **facts: Any) -> None:
        """Write facts about the cluster: anything that JSON can say."""
        rows = [(key, msgspec.json.encode(value)) for key, value in facts.items()]
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def commit(self, record: bytes) -> None:
        """Write one turn, and be sure of it.

        Raises:
            JournalError: it can't be written; nothing of it was. `is_full` says if room is all
                that is missing, so that it may be tried again.
        """
        with self.transaction() as db:
            db.execute("INSERT INTO turns VALUES (?, ?)", (self.last_seq + 1, record))
        self.last_seq += 1
        self.turns_bytes += len(record)

    def count_turns(self) -> None:
        """Count what a controller that takes over would have to read again: there was a look at
        the file, or the compactor has made a snapshot."""
        with self.in_words("read"):
            #: Bytes of the turns since the snapshot.
            self.turns_bytes: int = (
                self.one("SELECT sum(length(record)) FROM turns WHERE seq > ?", self.snapshot_seq)
                or 0
            )

    def snapshot_bytes(self) -> int:
        """The size of the snapshot; 0 if there is none."""
        with self.in_words("read"):
            total = "SELECT sum(length(data)) FROM parts WHERE snapshot = ?"
            return int(self.one(total, self.snapshot_seq) or 0)

    def file_bytes(self) -> int:
        """What it takes on disk, with its write-ahead log."""
        found = 0
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            with contextlib.suppress(OSError):  # there is no log, or it was removed just now
                found += path.stat().st_size
        return found

    def close(self) -> None:
        """Close the file, and let others have it."""
        super().close()
        os.close(self._lock_fd)


def in_words(path: Path, done: str, error: sqlite3.Error) -> JournalError:
    """What `error` of SQLite means for the journal, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    said = f"the journal {path} can't be {done}: {error}"
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_disk_full(path)):
        text = f"{said}. Its disk is full: make room there, and start the cluster again"
        return JournalError(text, is_full=True)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return JournalError(f"{said}. Its directory must be there, and writable for this user")
    if code == sqlite3.SQLITE_NOTADB:
        return JournalError(f"{path} is no journal of headway. Give --journal another path")
    if code == sqlite3.SQLITE_CORRUPT:
        return JournalError(
            f"{said}. The file is damaged. Put back a copy of it, with its -wal file; or move it "
            "away and start anew, which loses the tasks in it"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalError(f"{said}. Another program has it open: end that, and try again")
    return JournalError(said)


def _is_disk_full(path: Path) -> bool:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < 1 << 20


def _require_file(path: Path) -> None:
    """Nothing but a file of its own may become a journal: a device or a pipe stays as it is."""
    if os.path.isdir(path):
        raise JournalError(f"{path} is a directory: --journal is the path of a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise JournalError(f"{path} is no regular file. Give --journal another path")


def _lock(path: Path) -> int:
    """Make sure that no other controller has the journal; the lock file's descriptor."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        hint = " Its disk is full: make room there" if error.errno == errno.ENOSPC else ""
        raise JournalError(
            f"the journal {path} can't be opened: {error.strerror} ({lock_path.name}).{hint}"
            " The directory must be there, and writable for this user"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise JournalError(
            f"the journal {path} is in use, by the controller with process id {owner or '?'}: "
            "stop that one, or give --journal another path"
        ) from None
    except OSError as error:  # such as some network file systems
        os.close(descriptor)
        raise JournalError(
            f"the journal {path} can't be locked: {error.strerror}. Its file system has no locks: "
            "give --journal a path on a disk of this host"
        ) from None
    with contextlib.suppress(OSError):  # it is for people alone
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _open(path: Path, durability: str) -> sqlite3.Connection:
    _require_file(path)
    try:
        # Made here, so that nobody else can read it at any time: it will hold keys.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise _cannot_open(path, error) from None
    try:
        db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        # Some builds of SQLite overwrite what is deleted: a compaction would write again, into the
        # write-ahead log, all that it has made superfluous. And that log stays as large as it once
        # was, unless it has a limit.
        db.execute("PRAGMA secure_delete = OFF")
        db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES_KEPT}")
        if _is_empty(db):
            os.chmod(path, 0o600)
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)
        check_ours(db, path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if durability == FULL else 'NORMAL'}")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    except sqlite3.Error as error:
        db.close()
        raise in_words(path, "opened", error) from error
    except OSError as error:
        db.close()
        raise _cannot_open(path, error) from None
    except BaseException:
        db.close()
        raise
    return db


def _cannot_open(path: Path, error: Exception) -> JournalError:
    said = getattr(error, "strerror", None) or error
    return JournalError(f"the journal {path} can't be opened: {said}")


def _is_empty(db: sqlite3.Connection) -> bool:
    """Whether nothing was ever written there. Not by the size of the file: a controller that was
    killed, or found its disk full, while it began a journal leaves the first page of one."""
    used = db.execute(
        "SELECT (SELECT count(*) FROM sqlite_master), application_id, user_version "
        "FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    return not any(used)


def check_ours(db: sqlite3.Connection, path: Path) -> None:
    """Make sure that an open database is a journal, and of this version.

    Raises:
        JournalError: it is not.
    """
    if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise JournalError(
            f"{path} is an SQLite database, but no journal of headway. Give --journal another path"
        )
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise JournalError(
            f"the journal {path} was written by a headway whose journals have version {version}; "
            f"this one writes version {SCHEMA_VERSION}. Let that headway finish its tasks, or "
            "move the file away and start anew, which loses the tasks in it"
        )
