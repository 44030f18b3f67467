"""A Submit being written: functions by their digests, tasks and groups, until it is large enough.

What this file must not know: what was asked for before, and when it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headway.config import WireConfig
from headway.core.events import GroupSpec, TaskId, TaskSpec
from headway.wire import messages as m
from headway.wire.codec import Batch, Buffer


class Function:
    """A pickled function, by its digest; `name` is what people call it."""

    __slots__ = ("digest", "name", "payload")

    def __init__(self, digest: bytes, payload: bytes, name: str = "") -> None:
        self.digest = digest
        self.payload = payload
        self.name = name

    def __repr__(self) -> str:
        return f"<Function {self.digest.hex()[:8]} {len(self.payload)} bytes>"


class BatchWriter:
    """A Submit being written: groups first, then tasks, closed by count or by bytes."""

    def __init__(self, wire: WireConfig) -> None:
        self._payloads = Batch(wire.inline_bytes_max)
        self._inline_bytes_max = wire.inline_bytes_max
        self._tasks_max = wire.batch_tasks_max
        self._bytes_max = wire.batch_bytes
        self._index_of: dict[bytes, int] = {}
        self.groups: list[GroupSpec] = []
        self.tasks: list[TaskSpec] = []
        self.functions: list[bytes] = []
        self.new_functions: dict[bytes, bytes] = {}
        self.function_names: dict[bytes, str] = {}
        self.released: list[TaskId] = []
        self.keep: list[Any] = []
        #: What its nodes count in the window; and what its new functions weigh beside that.
        self.window_bytes = 0
        self._function_bytes = 0

    def add(self, spec: TaskSpec, function: Function, known: dict[bytes, None]) -> None:
        """Add a task. `known` are the functions that the controller has, the one named longest ago
        first."""
        digest = function.digest
        index = self._index_of.get(digest)
        if index is None:
            index = self._index_of[digest] = len(self.functions)
            self.functions.append(digest)
            if digest in known:
                del known[digest]  # it moves to the end: named just now
            else:
                self.new_functions[digest] = function.payload
                self.function_names[digest] = function.name
                self._function_bytes += len(function.payload)
            known[digest] = None
        spec.function = index
        self.tasks.append(spec)

    @property
    def is_full(self) -> bool:
        """Whether the next goes into another."""
        return (
            len(self.tasks) >= self._tasks_max
            or self.window_bytes + self._function_bytes >= self._bytes_max
        )

    def message(self, number: int) -> m.Submit:
        """The Submit. Large payloads are placed in the order in which the codec takes them."""
        place = self._payloads.place
        new_functions: dict[bytes, bytes | int] = {
            digest: place(payload) for digest, payload in self.new_functions.items()
        }
        inline_bytes_max = self._inline_bytes_max
        for spec in self.tasks:
            if len(spec.payload) > inline_bytes_max:  # type: ignore[arg-type]
                spec.payload = place(spec.payload)  # type: ignore[arg-type]
        told = (new_functions, self.released, self.function_names)
        return m.Submit(number, self.functions, self.groups, self.tasks, *told)

    @property
    def large(self) -> Sequence[Buffer]:
        """The payloads that travel beside it."""
        return self._payloads.large
