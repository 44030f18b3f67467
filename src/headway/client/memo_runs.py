"""A named run as its client notes it: each call with its function, options and inputs.

Functions and options are noted once, however many calls have them. A call refers to others of the
same run by their numbers; what it needs of tasks outside could not be had again.

What this file must not know: how it is written, and how a task is submitted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from headway.client import dependency
from headway.client.batch_writer import Function
from headway.client.dependency import Dependency
from headway.client.futures import Future
from headway.client.options import CONDITIONS, MEMO
from headway.errors import HeadwayError, SerializationError
from headway.memo.runs import BYTES_MAX, OPEN, Call, Note, Part, State
from headway.wire import payload

if TYPE_CHECKING:
    from headway.client.client import Client
    from headway.client.view import View


class Run:
    """One run. `put` takes what is to be noted, in order."""

    def __init__(self, number: int, name: str, put: Callable[[Note], None]) -> None:
        self.id = number
        self.name = name
        self._put = put
        self._lock = threading.RLock()
        self._parts: dict[bytes, int] = {}
        self._part_of_view: WeakKeyDictionary[View, int] = WeakKeyDictionary()
        self._next_part = 0
        self._next_call = 0
        self._bytes = 0
        #: Those that somebody holds.
        self.futures: WeakValueDictionary[int, Future[Any]] = WeakValueDictionary()

    def go_on(self, parts: int, calls: int, size: int) -> None:
        """It was noted before: so many parts and calls."""
        self._next_part, self._next_call, self._bytes = parts, calls, size

    def note(
        self, function: Function, view: View, name: str, data: bytes, refs: Sequence[Any]
    ) -> int:
        """Note a call; its number.

        Raises:
            ValueError: it depends on what is not of this run.
            HeadwayError: the run has become too large.
        """
        numbers = [self._number_of(ref, "an argument") for ref in refs]
        with self._lock:
            function_part = self._part(function.payload, [])
            settings = self._settings(view)
            self._grow(len(data))
            number = self._next_call
            self._next_call += 1
            call = Call(self.id, number, name, function_part, settings, data, numbers)
            self._put(call)
        return number

    def note_state(self, number: int, state: str = OPEN) -> None:
        """Note what became of a call, or that it is submitted again."""
        self._put(State(self.id, number, state))

    def _number_of(self, future: Any, what: str) -> int:
        if not isinstance(future, Future):
            raise ValueError(
                f"{what} names the task {future!r}, which can't be had again when the run "
                f"{self.name!r} is resumed: name it by its future"
            )
        if future.call is None or future.call[0] is not self:
            raise ValueError(
                f"{what} is task {future.id}, which is not of the run {self.name!r}: submit it "
                f"with run={self.name!r} too, so that it can be had again when that is resumed"
            )
        return future.call[1]

    def _settings(self, view: View) -> int:
        known = self._part_of_view.get(view)
        if known is None:
            plain = {
                name: value
                for name, value in view.settings.items()
                if name not in CONDITIONS and name not in MEMO
            }
            conditions = {}
            for option in CONDITIONS:
                if view.settings.get(option) is not None:
                    found = dependency.conditions_of(view.settings[option], option)
                    for task in found.tasks:
                        self._number_of(task, option)
                    conditions[option] = list(found.tasks), found.need, found.on
            data, refs = payload.dump_arguments((plain, conditions), {}, "the options")
            numbers = [self._number_of(ref, "an option") for ref in refs]
            known = self._part_of_view[view] = self._part(data, numbers)
        return known

    def _part(self, data: bytes, numbers: list[int]) -> int:
        digest = blake2b(data + repr(numbers).encode(), digest_size=16).digest()
        known = self._parts.get(digest)
        if known is None:
            self._grow(len(data))
            known = self._parts[digest] = self._next_part
            self._next_part += 1
            self._put(Part(self.id, known, data, numbers))
        return known

    def _grow(self, size: int) -> None:
        if self._bytes + size > BYTES_MAX:
            raise HeadwayError(
                f"the run {self.name!r} would have {self._bytes + size:,} bytes of functions and "
                f"arguments, and at most {BYTES_MAX:,} are noted: let tasks load what is large, "
                "and pass their futures"
            )
        self._bytes += size


class Reader:
    """Makes the calls of a run again of what was noted."""

    def __init__(self, client: Client, run: Run, parts: dict[int, Part]) -> None:
        self._client = client
        self._run = run
        self._parts = parts
        self._functions: dict[int, Callable[..., Any]] = {}
        self._views: dict[int, View] = {}

    def load(
        self, call: Call, futures: dict[int, Future[Any]]
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], View]:
        """The function, the arguments and the options of a call, with the `futures` of others.

        Raises:
            SerializationError: it can't be loaded here.
        """
        try:
            fn = self._functions.get(call.function)
            if fn is None:
                fn = payload.load_function(self._parts[call.function].data)
                self._functions[call.function] = fn
            args, kwargs = payload.load_call(call.data, [futures[ref] for ref in call.refs])
            view = self._views.get(call.settings)
            if view is None:
                view = self._views[call.settings] = self._view(call.settings, futures)
        except Exception as error:  # unpickling runs the user's code
            raise SerializationError(
                f"call {call.number} of the run {self._run.name!r}, of {call.name}, can't be "
                f"loaded here: {type(error).__qualname__}: {error}"
            ) from error
        return fn, args, kwargs, view

    def _view(self, number: int, futures: dict[int, Future[Any]]) -> View:
        part = self._parts[number]
        (settings, conditions), _ = payload.load_call(
            part.data, [futures[ref] for ref in part.refs]
        )
        for option, (tasks, need, on) in conditions.items():
            settings[option] = Dependency(tasks, need, on)
        return self._client.options(**settings, run=self._run.name)
