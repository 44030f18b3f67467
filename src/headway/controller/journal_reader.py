"""A journal that is read and never written: also one that a controller writes just now.

All is read as it was at one moment: a transaction holds it, in which the compactor may remove what
it likes. What this file must not know: what a turn is about.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from headway.controller.journal import JournalFile, check_ours, in_words
from headway.errors import JournalError

#: What every database of SQLite begins with.
SQLITE_MAGIC = b"SQLite format 3\x00"


class JournalReader(JournalFile):
    """An open journal that nothing here can change. Must be closed.

    Parameters:
        path: the file; it must be there.

    Raises:
        JournalError: it can't be opened, or is no journal of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Without a write-ahead log beside it nobody has it open, and all is in the file: then
        # nothing needs to be made beside it, which SQLite would do to coordinate with writers.
        has_log = path.with_name(path.name + "-wal").exists()
        how = "mode=ro" if has_log else "mode=ro&immutable=1"
        try:
            self.db = sqlite3.connect(
                f"file:{quote(str(path.absolute()))}?{how}", uri=True, isolation_level=None
            )
        except sqlite3.Error as error:
            raise JournalError(f"the journal {path} can't be opened: {error}") from None
        try:
            check_ours(self.db, path)
            self.db.execute("BEGIN")
        except sqlite3.Error as error:
            self.close()
            raise in_words(path, "opened", error) from error
        except BaseException:
            self.close()
            raise
