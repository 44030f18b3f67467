"""Results that are too large to travel, as an engine sees them: kept in the store of its host, and
read from there, or from another's.

Where the store has no room, or there is none, a result travels as small ones do, if a frame can
hold it.

What this file must not know: how a task is run, and sockets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headway.config import ValuesConfig
from headway.core.events import StoredValue, Value, value_name
from headway.errors import SerializationError, ValueLost
from headway.values.reading import Reader
from headway.values.writing import Writer
from headway.wire import payload as wire_payload
from headway.wire.messages import Assignment


class InputsLost(Exception):
    """Inputs of a task can't be read: `names` are theirs."""

    def __init__(self, text: str, names: list[str]) -> None:
        super().__init__(text)
        self.names = names


class Keeper:
    """What an engine keeps, and reads.

    Parameters:
        reader: reads values, wherever they are.
        writer: writes them here; None where there is no store.
        frame_bytes_max: the most that may travel.
    """

    def __init__(
        self, reader: Reader, writer: Writer | None, config: ValuesConfig, frame_bytes_max: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._config = config
        self._frame_bytes_max = frame_bytes_max
        self._travels_max = min(config.inline_bytes_max, frame_bytes_max)

    def read(self, inputs: Sequence[Value]) -> Sequence[bytes | wire_payload.Parts]:
        """The inputs of a task, each as it came, or as parts that lie where they are.

        Raises:
            InputsLost: some can't be read; all that can't are named.
        """
        found: list[bytes | wire_payload.Parts] = []
        lost: dict[str, str] = {}
        for value in inputs:
            if isinstance(value, bytes):
                found.append(value)
                continue
            try:
                found.append(self._reader.read(value))
            except ValueLost as error:
                lost[value.name] = str(error)
        if lost:
            raise InputsLost("; ".join(lost.values()), list(lost))
        return found

    def dump(self, result: Any, assignment: Assignment, function_name: str) -> Value:
        """The result of a task: pickled, or a reference to where it is kept.

        Raises:
            SerializationError: it can't be pickled, or is too large, and there is no room for it.
        """
        config = self._config
        found = wire_payload.dump_parts(
            result, function_name, config.inline_bytes_max, config.buffer_bytes_min
        )
        if isinstance(found, bytes) and len(found) <= self._travels_max:
            return found
        parts = [found] if isinstance(found, bytes) else found
        size = sum(memoryview(part).nbytes for part in parts)
        why = "this host has no store for it"
        if self._writer is not None:
            try:
                return self._writer.write(value_name(assignment.task, assignment.attempt), parts)
            except OSError as error:
                why = f"the store of this host has no room for it ({error.strerror})"
        if size > self._frame_bytes_max:
            raise SerializationError(
                f"the result of {function_name}: {size:,} bytes when pickled, and at most "
                f"{self._frame_bytes_max:,} may travel; {why}"
            )
        one_piece = found if isinstance(found, bytes) else None
        payload = one_piece or wire_payload.dump_result(result, function_name)
        wire_payload.check_size(payload, self._frame_bytes_max, f"the result of {function_name}")
        return payload

    def forget(self, result: Value) -> None:
        """The result of a run that was interrupted does not count."""
        if self._writer is not None and isinstance(result, StoredValue):
            self._writer.remove(result)
