"""A SQLite file in a memo folder, opened: one that others could write to is refused.

What this file must not know: what is in it.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from headway.errors import HeadwayError

#: So long another process may keep a file locked.
_BUSY_S = 30.0


def default_folder() -> Path:
    """`headway/memo` in XDG_CACHE_HOME, or else in ~/.cache."""
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "headway" / "memo"


def open_database(folder: Path, file: str, version: int, schema: str) -> sqlite3.Connection:
    """The SQLite file `file` in `folder`, with `schema`; both are made if they are not there.

    Any thread may use the connection, one at a time.

    Raises:
        HeadwayError: it can't be used, is another user's, or is of another version.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o002:
            raise HeadwayError(
                f"the memo folder {folder} is another user's, or all may write to it: "
                "who can write there could have this program run anything"
            )
        # For us alone, also in a folder that others may read; what SQLite puts beside it is, too.
        os.close(os.open(folder / file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            folder / file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, folder, version, schema)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise HeadwayError(
            f"the memo folder {folder} can't be used: {error}. If it is damaged, delete it"
        ) from error
    return connection


def _prepare(connection: sqlite3.Connection, folder: Path, version: int, schema: str) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found not in (0, version):
        raise HeadwayError(f"the memo folder {folder} is of version {found}: delete it")
    if found == 0:
        connection.executescript(f"BEGIN IMMEDIATE;{schema}PRAGMA user_version = {version};COMMIT;")
