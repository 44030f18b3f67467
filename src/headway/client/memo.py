"""`memo=True` and named runs: a call whose result had been kept is not run again.

A call's key is a hash of its function's code and its arguments; of a future among these, the key of
its own call, so that whole graphs are hits before anything has run. A hit is a future that is done;
a miss is a task, whose result a thread writes when it has come. With `run="name"` calls are noted,
too, so that `resume` can submit them again.

Rule 1: where nothing can be kept, this is said once, and tasks run as if without it. Rule 2: what
would give an old result in silence is an error where it is submitted. Rule 3: a run can't be
resumed by halves: what can't be noted is an error as well.

What this file must not know: sockets, batches, and how a task ends.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.client.batch_writer import Function
from headway.client.futures import Future, Group
from headway.client.link import Link
from headway.client.memo_futures import Hit, Miss, from_kept
from headway.client.memo_runs import Reader, Run
from headway.client.memo_writer import Result, Writer, when
from headway.core.events import StoredValue
from headway.core.states import TaskState
from headway.errors import HeadwayError, ValueLost
from headway.memo.hashing import Unhashable, code_of, key_of
from headway.memo.runs import RUNS_MAX, Runs
from headway.memo.store import BYTES_MAX, Store
from headway.wire import messages as m
from headway.wire import payload

if TYPE_CHECKING:
    from headway.client.client import Client
    from headway.client.view import View


#: Functions of which the part of the key is remembered.
_CODES_MAX = 4_096


def _key_of_future(value: Any) -> bytes | None:
    """What stands for a future in the hash of arguments."""
    if not isinstance(value, Future):
        return None
    if value.memo_key is None:
        raise Unhashable(
            f"it is the future of task {value.id}, which is not memoised. Submit that with "
            "memo=True, too, or pass its result"
        )
    return value.memo_key


class Memo:
    """What one client keeps, and the runs that it notes. Nothing is opened until it is needed.

    Parameters:
        folder: where; None is the user's own, see docs/memo.md.
        bytes_max: of all values that are kept in it.
    """

    def __init__(self, link: Link, folder: Path | None, bytes_max: int | None) -> None:
        self._link = link
        self._folder = folder
        self._bytes_max = BYTES_MAX if bytes_max is None else bytes_max
        #: Reentrant: a signal handler may submit at any point.
        self._lock = threading.RLock()
        self._writer = Writer(link.reader.read)
        self._runs: dict[str, Run] = {}
        self._codes: dict[bytes, bytes] = {}

    def submit(
        self,
        client: Client,
        function: Function,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        view: View,
    ) -> Future[Any]:
        """As `Client.submit`; the future of a hit is done."""
        self._link.check_open()
        run = self._run(view.run) if view.run else None
        return self._call(client, function, fn, args, kwargs, view, run)

    def _call(
        self,
        client: Client,
        function: Function,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        view: View,
        run: Run | None,
        number: int | None = None,
    ) -> Future[Any]:
        """`number`: that of a call that was noted before."""
        name = view.label or payload.name_of(fn)
        key = key_of(fn, args, kwargs, _key_of_future, self._code_of(function, fn))
        hit = self._find(client, key, name, view)
        if hit is not None and run is None:
            return hit
        self._writer.start()
        data, refs = client._dump(fn, args, kwargs)
        future = hit if hit is not None else Miss(client, key, view.label, self._ended)
        if run is not None:
            if number is None:
                number = run.note(function, view, name, data, refs)
            else:
                run.note_state(number)
            future.call = run, number
            run.futures[number] = future
            if hit is not None:
                run.note_state(number, hit.state)
        if hit is None:
            if self._link.waits_for_room and not self._link.is_io_thread:
                self._writer.wait_for_room()
            client._send(future, function, data, refs, view)
        return future

    def _code_of(self, function: Function, fn: Callable[..., Any]) -> bytes:
        """The function's part of the key. What has the same pickle has the same one here."""
        known = self._codes.get(function.digest)
        if known is None:
            known = self._codes[function.digest] = code_of(fn)
            while len(self._codes) > _CODES_MAX:
                self._codes.pop(next(iter(self._codes)), None)
        return known

    # --- what is kept ---------------------------------------------------------------------------

    def _find(self, client: Client, key: bytes, name: str, view: View) -> Hit[Any] | None:
        value = self._writer.find_pending(key)
        if value is not None:
            why = f"{name}: kept from before, by this client: not run again"
            return Hit(client, key, value, why, view.label)
        store = self._store()
        if store is None:
            return None
        try:
            found = store.get(key)
            if found is None:
                return None
            value = from_kept(key, found.value)
        except (OSError, sqlite3.Error) as error:
            self._writer.give_up(error)
            return None
        except ValueLost:  # its checksum holds, so it was written by another version: run it again
            return None
        of_run = f"run {found.run!r}, " if found.run else ""
        why = f"{name}: kept from {of_run}{when(found.made_at)}: not run again"
        return Hit(client, key, value, why, view.label)

    def _store(self) -> Store | None:
        with self._lock:
            writer = self._writer
            if writer.store is None and writer.keeps:
                try:
                    writer.store = Store(self._folder, self._bytes_max)
                except HeadwayError as error:
                    writer.give_up(error)
            return writer.store if writer.keeps else None

    def _ended(self, future: Miss[Any], end: m.Result) -> None:
        """The task of `future` has ended. Called under the lock of futures: never waits."""
        run, number = future.call or (None, 0)
        if end.state == TaskState.SUCCEEDED and future.memo_key is not None:
            value = end.payload
            if value is None or isinstance(value, bytes | StoredValue):
                name = run.name if run is not None else ""
                self._writer.put(Result(future.memo_key, value or b"", future, name))
        if run is not None:
            run.note_state(number, TaskState(end.state).name.lower())

    # --- runs -----------------------------------------------------------------------------------

    def _run(self, name: str) -> Run:
        """The run that this client notes under `name`: one of its own, unless it was resumed."""
        found = self._runs.get(name)
        if found is None:
            runs = self._open_runs()
            with self._lock:
                found = self._runs.get(name)
                if found is None:
                    try:
                        number = runs.begin(name)
                    except (OSError, sqlite3.Error) as error:
                        raise HeadwayError(f"the run {name!r} can't be noted: {error}") from error
                    found = self._runs[name] = Run(number, name, self._writer.put)
                    while len(self._runs) > RUNS_MAX:  # more are not kept
                        runs.let_go(self._runs.pop(next(iter(self._runs))).id)
        return found

    def _open_runs(self) -> Runs:
        with self._lock:
            if self._writer.runs is None:
                self._writer.runs = Runs(self._folder)
            return self._writer.runs

    def resume(self, client: Client, name: str) -> Group:
        """See `Client.resume`."""
        self._link.check_open()
        self._link.check_may_wait(f"the run {name!r}")
        self._writer.flush()
        runs = self._open_runs()
        try:
            run, reader = self._found(client, runs, name)
            futures: dict[int, Future[Any]] = {}
            for call in runs.calls(run.id):
                alive = run.futures.get(call.number)
                if alive is not None and (not alive.done() or alive.state == "succeeded"):
                    futures[call.number] = alive
                    continue
                fn, args, kwargs, view = reader.load(call, futures)
                function = client._function(fn)
                futures[call.number] = self._call(
                    client, function, fn, args, kwargs, view, run, call.number
                )
        except (OSError, sqlite3.Error) as error:
            raise HeadwayError(f"the run {name!r} can't be read: {error}") from error
        return Group(list(futures.values()), client)

    def _found(self, client: Client, runs: Runs, name: str) -> tuple[Run, Reader]:
        number = runs.find(name)
        if number is None:
            names = list(dict.fromkeys(str(row["run"]) for row in runs.listing()))
            there = f"there are {', '.join(map(repr, names[:10]))}" if names else "there is none"
            raise ValueError(f"no run {name!r} is kept in {runs.folder}: {there}")
        if not runs.hold(number):
            raise ValueError(
                f"the run {name!r} goes on: another client has submitted it, or resumes it, and "
                "is not closed"
            )
        parts = runs.parts(number)
        with self._lock:
            run = self._runs.get(name)
            if run is None or run.id != number:
                run = self._runs[name] = Run(number, name, self._writer.put)
                run.go_on(*runs.extent(number))
        return run, Reader(client, run, parts)

    # --- the end --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Wait until what has come is written: while the cluster still has what is large."""
        if not self._link.is_forked and not self._link.is_io_thread:
            self._writer.flush()

    def close(self) -> None:
        """Write what is left, and close the files."""
        self._writer.close()
