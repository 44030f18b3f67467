"""Futures of memoised calls: `Hit`, whose value had been kept, and `Miss`, whose value will be.

What this file must not know: where values are kept, and under what key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from headway.client.futures import _FINISHED, Future
from headway.core.events import TaskId, TaskOptions
from headway.core.states import TaskState
from headway.values.layout import Buffer, lay_out, take_apart
from headway.wire import payload
from headway.wire.messages import Result

if TYPE_CHECKING:
    from headway.client.client import Client

T = TypeVar("T")

#: What a pickle begins with. A value of several parts lies as in a file of values.
_PICKLE = b"\x80"


def to_pieces(key: bytes, value: bytes | payload.Parts) -> list[Buffer]:
    """A value as it is kept, in pieces that stand one after the other."""
    if isinstance(value, bytes):
        return [value]
    return lay_out(key.hex(), value)[0]


def from_kept(key: bytes, data: bytes | memoryview) -> bytes | payload.Parts:
    """The value that `to_pieces` has made `data` of.

    Raises:
        ValueLost: it is none.
    """
    if not data or data[:1] == _PICKLE:
        return bytes(data)
    return take_apart(key.hex(), memoryview(data))


class Hit(Future[T]):
    """The result of a call that had been kept: done from the start, and no task of any cluster.

    Only when something that runs depends on it is a task made that has its value: the carrier.
    """

    is_hit = True

    def __init__(
        self, client: Client, key: bytes, value: bytes | payload.Parts, why: str, label: str
    ) -> None:
        super().__init__(client)
        self.memo_key = key
        self.label = label
        self._value = value
        self._said = why
        self._end = Result(TaskId(0), TaskState.SUCCEEDED, value)  # type: ignore[arg-type]
        self._state = _FINISHED

    def __del__(self) -> None:
        """Nothing: no task is held by it. Its carrier is a future of its own."""

    @property
    def id(self) -> str:
        """A name for people: it is no task."""
        return f"kept-{(self.memo_key or b'').hex()[:12]}"

    @property
    def node(self) -> TaskId:  # type: ignore[override]
        """The task that carries its value, made when something depends on it."""
        return self.carrier(self._client).node

    @property
    def _why(self) -> str:
        return self._said

    def explain(self) -> str:
        """Since when it is kept, and from which run."""
        return self._said

    def carrier(self, client: Client) -> Future[Any]:
        """A task of `client` that has its value.

        Raises:
            SerializationError: it is too large to travel.
        """
        if client is not self._client:
            return self._carried_by(client)
        made = self.__dict__.get("_carrier")
        if made is None:  # of two threads, both make one, and one of them is used
            made = self.__dict__.setdefault("_carrier", self._carried_by(client))
        return made  # type: ignore[no-any-return]

    def _carried_by(self, client: Client) -> Future[Any]:
        value = self._value
        plain = value if isinstance(value, bytes) else [bytes(part) for part in value]
        data, _ = payload.dump_arguments((plain,), {})
        payload.check_size(data, client._wire.frame_bytes_max, f"the value of {self.id}")
        carrier: Future[Any] = Future(client)
        carrier.label = f"{self.label[:80]} (kept)".lstrip()
        client._link.submit(
            client._function(payload.load_result),
            data,
            carrier,
            options=TaskOptions(label=carrier.label),
        )
        return carrier


class Miss(Future[T]):
    """A call that had not been kept: a task, of whose end `told` hears before anybody waiting."""

    def __init__(
        self, client: Client, key: bytes, label: str, told: Callable[[Miss[Any], Result], None]
    ) -> None:
        super().__init__(client)
        self.memo_key = key
        self.label = label
        self._told = told
        # There from the start, for `_tell_waiters` is called only where it is.
        assert self._condition is not None

    def _tell_waiters(self, condition: threading.Condition) -> None:
        if self._end is not None:
            self._told(self, self._end)
        super()._tell_waiters(condition)


payload.register_reference(Hit)
payload.register_reference(Miss)
