"""The functions that tasks call: pickled, shared, and kept no longer than needed.

A function lives while a client declares it or an unfinished task needs it; when both have
ended, engines are told to forget it too. So a client that submits a million lambdas leaves no
more of them than it keeps declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from headway.core.commands import Command, DropFunction
from headway.core.events import Payload
from headway.core.records import Client, Function, Task

#: Of the name of a function no more is kept.
NAME_CHARS_MAX = 80


class Functions:
    """The table of functions, by digest."""

    def __init__(self) -> None:
        self._functions: dict[bytes, Function] = {}

    def __len__(self) -> int:
        return len(self._functions)

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def get(self, digest: bytes) -> Function | None:
        """The function of that digest, if it is known."""
        return self._functions.get(digest)

    def put_back(self, function: Function) -> None:
        """`function` is known again, from a snapshot."""
        self._functions[function.digest] = function

    def declare(
        self,
        client: Client,
        functions: Mapping[bytes, Payload],
        names: Mapping[bytes, str] = MappingProxyType({}),
    ) -> None:
        """`client` sent these, and may name them; `names` is what people call them."""
        for digest, payload in functions.items():
            function = self._functions.get(digest)
            if function is None:
                function = self._functions[digest] = Function(digest, payload, set())
            if not function.name:
                function.name = names.get(digest, "")[:NAME_CHARS_MAX]
            function.declared_by.add(client.id)
            client.functions.add(digest)

    def drop(self, client: Client, digests: Iterable[bytes], out: list[Command]) -> None:
        """`client` will not name these again."""
        for digest in digests:
            function = self._functions.get(digest)
            if function is not None and client.id in function.declared_by:
                function.declared_by.discard(client.id)
                client.functions.discard(digest)
                self._drop_if_unused(function, out)

    def unuse(self, task: Task, out: list[Command]) -> None:
        """`task` has ended, and needs its function no more."""
        function, task.function = task.function, None
        assert function is not None
        function.users -= 1
        if not function.declared_by:
            self._drop_if_unused(function, out)

    def _drop_if_unused(self, function: Function, out: list[Command]) -> None:
        if not function.users and not function.declared_by:
            del self._functions[function.digest]
            out.append(DropFunction(function.digest))
