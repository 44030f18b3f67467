"""A thread that writes what is to be kept: results, and what was noted of runs.

It takes whatever waits at once, so that many small results cost one transaction. A result is held
by its future until it is written: a large one lies in a store of the cluster for so long.

What this file must not know: keys, clients, and how tasks are submitted.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from headway.client.memo_futures import to_pieces
from headway.core.events import StoredValue
from headway.errors import ValueLost
from headway.memo.runs import Call, Note, Part, Runs, State
from headway.memo.store import Entry, Store
from headway.wire import payload

_log = logging.getLogger("headway.client")

#: Written in one transaction at most.
_BATCH_MAX = 200
#: What waits to be written: beyond, `submit` waits.
_BACKLOG_BYTES_MAX = 256 << 20
_BACKLOG_MAX = 20_000
#: A finalizer waits no longer for what has still to be written.
_CLOSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """A result to be kept, and the future that holds it."""

    key: bytes
    value: bytes | StoredValue
    future: Any
    run: str = ""

    @property
    def backlog_bytes(self) -> int:
        """What it takes here while it waits."""
        return len(self.value) if isinstance(self.value, bytes) else 0


class Writer:
    """Writes into a store and into runs, both of which are opened by whoever needs them first.

    Parameters:
        read: gives the parts of a value that is kept by the cluster.
    """

    def __init__(self, read: Callable[[StoredValue], payload.Parts]) -> None:
        self._read = read
        self.store: Store | None = None
        self.runs: Runs | None = None
        self._queue: SimpleQueue[Result | Note | threading.Event | None] = SimpleQueue()
        self._room = threading.Condition()
        #: Results that wait to be written, by their keys.
        self._pending: dict[bytes, Result] = {}
        self._backlog = self._backlog_bytes = 0
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._ended = threading.Event()
        self._pid = os.getpid()
        #: Whether results, and runs, are not written any more.
        self._keeps_nothing = self._notes_nothing = False

    # --- any thread -----------------------------------------------------------------------------

    def put(self, item: Result | Note) -> None:
        """Have `item` written. Never waits."""
        with self._room:
            if self._is_closed:
                return
            if isinstance(item, Result):
                if self._keeps_nothing:
                    return
                self._pending[item.key] = item
                self._backlog_bytes += item.backlog_bytes
            self._backlog += 1
            self._queue.put(item)

    def start(self) -> None:
        """Have the thread run, before anything is put.

        Raises:
            RuntimeError: no more threads are allowed.
        """
        with self._room:
            if self._thread is None and not self._is_closed:
                thread = threading.Thread(target=self._work, name="headway-memo", daemon=True)
                thread.start()
                self._thread = thread

    def find_pending(self, key: bytes) -> bytes | payload.Parts | None:
        """A result that waits to be written."""
        with self._room:
            result = self._pending.get(key)
        if result is None:
            return None
        if isinstance(result.value, bytes):
            return result.value
        try:
            return self._read(result.value)
        except ValueLost:  # then it is a miss, as if nothing had been kept
            return None

    def wait_for_room(self) -> None:
        """Wait while very much waits to be written."""
        with self._room:
            while not self._is_closed and (
                self._backlog > _BACKLOG_MAX or self._backlog_bytes > _BACKLOG_BYTES_MAX
            ):
                self._room.wait(1.0)

    def flush(self) -> None:
        """Wait until what was put before is written."""
        written = threading.Event()
        with self._room:
            if self._thread is None or self._is_closed:
                return
            self._queue.put(written)
        written.wait()

    def close(self) -> None:
        """Write what waits, and close the files. May be called again, and by a finalizer."""
        if os.getpid() != self._pid:  # a fork: they are the parent's
            return
        with self._room:
            was_closed, self._is_closed = self._is_closed, True
            if not was_closed and self._thread is not None:
                self._queue.put(None)
        if self._thread is None:
            self._close_files()
        elif threading.current_thread() is not self._thread:
            self._ended.wait(_CLOSE_S)

    def give_up(self, error: Exception) -> None:
        """Results can't be kept, or read: say so once, and go on without."""
        with self._room:
            if self._keeps_nothing:
                return
            self._keeps_nothing = True
        _log.warning("memo: results are neither looked up nor kept from now on: %s", error)

    @property
    def keeps(self) -> bool:
        """Whether results are looked up and kept."""
        return not self._keeps_nothing

    # --- the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._write_what_waits():
                pass
        except Exception as error:  # a bug: nobody may wait for what will never be written
            _log.exception("memo: the thread that writes failed")
            self.give_up(error)
        finally:
            self._close_files()
            with self._room:
                self._is_closed = True
                self._pending.clear()
                self._room.notify_all()
            while not self._queue.empty():
                if isinstance(item := self._queue.get(), threading.Event):
                    item.set()
            self._ended.set()

    def _write_what_waits(self) -> bool:
        """Wait for something, and write all that waits; returns whether there will be more."""
        batch = [self._queue.get()]
        try:
            while len(batch) < _BATCH_MAX:
                try:
                    batch.append(self._queue.get_nowait())
                except Empty:
                    break
            results = [item for item in batch if isinstance(item, Result)]
            notes = [item for item in batch if isinstance(item, Part | Call | State)]
            self._write(results, notes)
            self._written(results, len(results) + len(notes))
        finally:
            for item in batch:
                if isinstance(item, threading.Event):
                    item.set()
        return None not in batch

    def _write(self, results: list[Result], notes: Sequence[Note]) -> None:
        """Results first: a call counts as one that succeeded only once its result is kept."""
        entries = [entry for result in results if (entry := self._entry(result)) is not None]
        if entries and self.store is not None and self.keeps:
            try:
                self.store.put_all(entries)
            except (OSError, sqlite3.Error) as error:
                self.give_up(error)
        if notes and self.runs is not None and not self._notes_nothing:
            try:
                self.runs.note(notes)
            except sqlite3.Error as error:
                self._notes_nothing = True
                _log.warning("memo: what is submitted from now on can't be resumed: %s", error)

    def _entry(self, result: Result) -> Entry | None:
        value: bytes | payload.Parts
        if isinstance(result.value, bytes):
            value = result.value
        else:
            try:
                value = self._read(result.value)
            except ValueLost:  # its host went: as if it had not been kept
                return None
        return Entry(result.key, to_pieces(result.key, value), result.run)

    def _written(self, results: list[Result], count: int) -> None:
        with self._room:
            for result in results:
                self._backlog_bytes -= result.backlog_bytes
                if self._pending.get(result.key) is result:
                    del self._pending[result.key]
            self._backlog -= count
            self._room.notify_all()

    def _close_files(self) -> None:
        if self.store is not None:
            self.store.close()
        if self.runs is not None:
            self.runs.close()


def when(made_at: float) -> str:
    """A time for people."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(made_at))
