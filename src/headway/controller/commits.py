"""How a turn gets into the journal: written before anybody is told, tried again while its disk is
full, and made shorter when it is due.

What this file must not know: sockets, and what is in a turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from headway.controller.books import Books
from headway.controller.compaction import Compaction
from headway.controller.journal import Journal
from headway.errors import JournalError
from headway.logbook import Event, note
from headway.wire.metrics import JournalMetrics

#: A journal whose disk is full is tried again this often, and for so long, before the
#: controller gives up: below the silence after which it would be given up itself.
_RETRY_COMMIT_S = 0.5
_RETRY_COMMIT_MAX_S = 10.0


class Commits:
    """Writes the turns of one controller. Must be closed.

    Parameters:
        books: what each turn did.
        journal: where it is written; None for nowhere.
        notice: tells all clients something, in words.
        flush_notices: sends that at once, since the turn may not end.
    """

    def __init__(
        self,
        books: Books,
        journal: Journal | None,
        notice: Callable[[str], None],
        flush_notices: Callable[[], None],
    ) -> None:
        self._books = books
        self._journal = journal
        self._notice = notice
        self._flush_notices = flush_notices
        self._compaction = Compaction(journal) if journal else None

    @property
    def is_durable(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    def commit(self, now: float) -> None:
        """Write down what this turn did, before anybody is told.

        Raises:
            JournalError: it can't be written. Nobody was told: peers will say it again to the
                controller that is started next.
        """
        record = self._books.take_record(now)
        if record is None or self._journal is None:
            return
        self._write(record)
        if self._compaction is not None:
            wall_s = self._books.clock.wall_s
            self._say(self._compaction.committed(self._books.ledger, now, wall_s))

    def commit_last(self, now: float) -> None:
        """Write down the last that is done: there is nobody to wait for a disk that is full.

        Raises:
            JournalError: it can't be written.
        """
        record = self._books.take_record(now)
        if record is not None and self._journal is not None:
            self._journal.commit(record)

    def look(self) -> None:
        """Once a heartbeat: see how a compaction has ended."""
        if self._compaction is not None:
            self._say(self._compaction.look())

    def close(self) -> None:
        """End what runs. The journal stays open: it is its owner's."""
        if self._compaction is not None:
            self._compaction.close()

    def metrics(self) -> JournalMetrics | None:
        """How large it is, and how often it was made shorter; None if there is none."""
        if self._journal is None or self._compaction is None:
            return None
        return JournalMetrics(
            bytes=self._journal.file_bytes(),
            turns_bytes=self._journal.turns_bytes,
            compacted=self._compaction.compacted,
            compactions_failed=self._compaction.failed,
        )

    def _say(self, trouble: str | None) -> None:
        if trouble is not None:
            note(Event.JOURNAL_TROUBLE, why=trouble)
            self._notice(trouble)

    def _write(self, record: bytes) -> None:
        assert self._journal is not None
        give_up_at_s = time.monotonic() + _RETRY_COMMIT_MAX_S
        is_said = False
        while True:
            try:
                self._journal.commit(record)
                return
            except JournalError as error:
                if not error.is_full or time.monotonic() > give_up_at_s:
                    raise
                if not is_said:
                    is_said = True
                    self._say(f"{error}. Trying again for {_RETRY_COMMIT_MAX_S:g} s")
                    self._flush_notices()
            time.sleep(_RETRY_COMMIT_S)
