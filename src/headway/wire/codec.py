"""Frames ⇄ messages, and nothing else.

A message is one frame of msgpack, then one frame for each payload in it that is large, or beyond
what the first frame may hold of small ones: there such a payload is the index of its frame,
counted from 0 in the order in which the fields of the message stand. So every frame has one
place, and every place one frame; but a result that is kept in a store has none: a reference to it
stands in its place. For example, a `Results` of one small and one large result is

    frame 0    {"type": "results", "results": [[7, 4, b"small"], [8, 4, 0]]}
    frame 1    the large payload

The codec is strict: what does not decode to exactly one message of those that the peer may send
raises `ProtocolError`, and the peer loses its connection; nothing else happens. It checks types,
frames and the indices inside a message; what the numbers mean is the receiver's to check.

A `Decoder` is made for one kind of sender, and so can't be fooled into hearing a client where
an engine speaks. What this file must not know: sockets, and what any message leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from headway.core.events import RAN, StoredValue, Value
from headway.errors import ProtocolError, SerializationError
from headway.wire import messages as m

M = TypeVar("M")

#: What a socket takes and gives.
Buffer = bytes | bytearray | memoryview

_encoder = msgspec.msgpack.Encoder()


def encode(message: Any, large_payloads: Sequence[Buffer] = ()) -> list[Buffer]:
    """The frames of `message`; `large_payloads` are those that it refers to by index.

    Raises:
        SerializationError: a value in it does not fit msgpack: an integer beyond 64 bits, or a
            text with lone surrogates.
    """
    try:
        return [_encoder.encode(message), *large_payloads]
    except (OverflowError, UnicodeEncodeError, TypeError, RecursionError) as error:
        raise SerializationError(f"can't write a {type(message).__name__}: {error}") from error


#: What the decoder raises on garbage, beside DecodeError: on too deep a nesting, a number out of
#: range, a text that is not UTF-8 (a ValueError), a map's key that can't be one.
_MALFORMED = (msgspec.DecodeError, RecursionError, OverflowError, ValueError, TypeError)


class Decoder(Generic[M]):
    """Decodes the messages that one kind of peer may send."""

    def __init__(self, messages: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(messages)

    def decode(self, frames: Sequence[Buffer]) -> M:
        """The message in `frames`, its large payloads put in their places.

        Raises:
            ProtocolError: the frames are not one message that this peer may send.
        """
        if not frames:
            raise ProtocolError("an empty message")
        try:
            message = self._decoder.decode(frames[0])
        except _MALFORMED as error:
            raise ProtocolError(f"a malformed message: {error}") from None
        place = _PLACES.get(type(message))
        if place is None:
            if len(frames) > 1:
                raise ProtocolError(f"{type(message).__name__} has {len(frames) - 1} extra frames")
            return message
        place(message, _LargeFrames(frames))
        return message


class _LargeFrames:
    """The payload frames of a message: each must be there, and be referred to once."""

    def __init__(self, frames: Sequence[Buffer]) -> None:
        self._frames = frames
        self._used = 0

    def take(self, index: int) -> bytes:
        """The payload at `index`, counted from 0."""
        if index != self._used or index + 1 >= len(self._frames):
            raise ProtocolError(
                f"payload frame {index} is out of order or missing: "
                f"{len(self._frames) - 1} came, {self._used} were used"
            )
        self._used += 1
        return bytes(self._frames[index + 1])

    def end(self) -> None:
        """Every frame must have been used."""
        if self._used != len(self._frames) - 1:
            raise ProtocolError(f"{len(self._frames) - 1 - self._used} payload frames are unused")


def _place_functions(functions: dict[bytes, Any], large: _LargeFrames) -> None:
    for digest, payload in functions.items():
        if type(payload) is int:
            functions[digest] = large.take(payload)


def _no_function(number: int, count: int) -> ProtocolError:
    return ProtocolError(
        f"a malformed message: a task names function {number} of a batch with {count} of them"
    )


def _place_submit(message: m.Submit, large: _LargeFrames) -> None:
    _place_functions(message.new_functions, large)
    count = len(message.functions)
    for spec in message.tasks:
        if type(spec.payload) is int:
            spec.payload = large.take(spec.payload)
        if not 0 <= spec.function < count:
            raise _no_function(spec.function, count)
    large.end()


def _place_assigned(message: m.Assigned, large: _LargeFrames) -> None:
    _place_functions(message.new_functions, large)
    count = len(message.functions)
    for task in message.tasks:
        if type(task.payload) is int:
            task.payload = large.take(task.payload)
        if task.inputs is not None:
            task.inputs = [large.take(i) if type(i) is int else i for i in task.inputs]
        if not 0 <= task.function < count:
            raise _no_function(task.function, count)
    large.end()


def _place_outcomes(message: m.Outcomes, large: _LargeFrames) -> None:
    for outcome in message.outcomes:
        payload = outcome.payload
        if type(payload) is int:
            outcome.payload = large.take(payload)
        elif type(payload) is StoredValue and outcome.status != RAN:
            raise ProtocolError(
                f"a malformed message: an outcome of status {outcome.status} has a stored value"
            )
    large.end()


def _place_results(message: m.Results, large: _LargeFrames) -> None:
    for result in message.results:
        if type(result.payload) is int:
            result.payload = large.take(result.payload)
    large.end()


_PLACES: dict[type, Any] = {
    m.Submit: _place_submit,
    m.Assigned: _place_assigned,
    m.Outcomes: _place_outcomes,
    m.Results: _place_results,
}


#: What a message holds in its first frame of payloads, all together: what comes beyond travels
#: in frames of its own, so that a task with any number of small inputs still fits.
INLINE_SUM_MAX = 2 << 20


class Batch:
    """The large payloads of a message being written.

    `place` each payload in the order of the message's fields (functions, then task by task the
    arguments and the inputs), then `encode(message, batch.large)`.
    """

    def __init__(self, inline_bytes_max: int, inline_sum_max: int = INLINE_SUM_MAX) -> None:
        """Inline goes a payload of at most `inline_bytes_max`, while they fit `inline_sum_max`."""
        self._inline_bytes_max = inline_bytes_max
        self._inline_left = inline_sum_max
        self.large: list[Buffer] = []

    def place_value(self, value: Value) -> Value | int:
        """The same as `place`, for what a task returned: a reference stays one."""
        return value if isinstance(value, StoredValue) else self.place(value)

    def place(self, payload: bytes) -> bytes | int:
        """What to write into the message for `payload`: itself, or its frame's index."""
        size = len(payload)
        if size <= self._inline_bytes_max and size <= self._inline_left:
            self._inline_left -= size
            return payload
        self.large.append(payload)
        return len(self.large) - 1


def from_client() -> Decoder[m.FromClient]:
    """What a controller hears on a client's connection."""
    return Decoder(m.FromClient)


def from_engine() -> Decoder[m.FromEngine]:
    """What a controller hears on an engine's connection."""
    return Decoder(m.FromEngine)


def from_nanny() -> Decoder[m.FromNanny]:
    """What a controller hears on a nanny's connection."""
    return Decoder(m.FromNanny)


def hello() -> Decoder[m.Hello]:
    """What a controller hears on a connection that has not introduced itself."""
    return Decoder(m.Hello)


def to_client() -> Decoder[m.ToClient]:
    """What a client hears from its controller."""
    return Decoder(m.ToClient)


def to_engine() -> Decoder[m.ToEngine]:
    """What an engine hears from its controller."""
    return Decoder(m.ToEngine)


def to_nanny() -> Decoder[m.ToNanny]:
    """What a nanny hears from its controller."""
    return Decoder(m.ToNanny)
