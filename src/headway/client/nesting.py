"""Tasks that submit tasks: the client inside an engine, and what waits there.

Any client of the engine's own cluster, in the engine's process, is nested: what it submits is the
child of the task that runs, and who waits for it gives the engine's slot back. Rule 1: a wait is
told only once it has lasted for a moment, or a loop over short tasks would tell of each. Rule 2: a
wait in an engine looks up now and then whether it would last for ever; then it raises.

Outside of an engine nothing here does anything, and costs next to nothing.

What this file must not know: sockets, and how an engine tells its controller.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from headway import current, errors
from headway.client import active
from headway.client.batch_writer import Function
from headway.client.session import Session
from headway.config import WireConfig
from headway.core.events import ConditionSpec, Parent, TaskId, TaskOptions, TaskSpec

if TYPE_CHECKING:
    from headway.client.client import Client
    from headway.client.link import Link

F = TypeVar("F")

#: Who waits for less than this keeps its slot: another engine takes some times longer to start.
_SOON_S = 0.005
#: A wait looks up this often.
_LOOK_S = 0.2


class NestedSession(Session[F], Generic[F]):
    """A session whose tasks are the children of the task that runs."""

    def __init__(self, wire: WireConfig, wait_accepted: Callable[[TaskId], None]) -> None:
        """`wait_accepted` waits until the controller has heard of a node."""
        super().__init__(wire)
        self._wait_accepted = wait_accepted
        self._last_asked = TaskId(0)
        self._parent = Parent(TaskId(0), 0)

    def submit(
        self,
        function: Function,
        payload: bytes,
        future: F,
        inputs: list[TaskId] | None = None,
        after: ConditionSpec | None = None,
        follow: ConditionSpec | None = None,
        options: TaskOptions | None = None,
        keep: Any = None,
        traceparent: str = "",
    ) -> TaskId:
        """See Session.submit."""
        node = super().submit(
            function, payload, future, inputs, after, follow, options, keep, traceparent
        )
        self._last_asked = node
        if current.task:  # else by a thread that its task has left behind
            parent = self._parent
            if parent.task != current.task or parent.attempt != current.attempt:
                parent = self._parent = Parent(TaskId(current.task), current.attempt)
            spec = self._asked[-1][0]
            assert isinstance(spec, TaskSpec)
            spec.parent = parent
            current.submitted[self] = None
        return node

    def wait_all_accepted(self) -> None:
        """See current.Submitter."""
        self._wait_accepted(self._last_asked)


def host_of(address: str) -> current.Host | None:
    """The engine that this process is, if its controller is the one at `address`."""
    engine = current.engine
    return engine if engine is not None and engine.address == address else None


# --- waiting -----------------------------------------------------------------------------------


def _engine_of(client: Client) -> current.Host | None:
    """The engine whose slot is given back while this thread waits for tasks of `client`."""
    if current.engine is None or not current.task:
        return None
    link = client._link
    return None if link.is_io_thread else link.host


def wait(client: Client, step: Callable[[float | None], Any], timeout_s: float | None) -> None:
    """Wait by `step(seconds)`, which returns something true once there is nothing to wait for, and
    waits for as long as it is given at most; None is without end.

    Raises:
        NestedTooDeep: in an engine, it would wait for ever.
    """
    engine = _engine_of(client)
    if engine is None:
        step(timeout_s)
        return
    end_at_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    if step(min(_SOON_S, end_at_s - time.monotonic())):
        return
    with blocked(client) as check:
        while not step(max(0.0, min(_LOOK_S, end_at_s - time.monotonic()))):
            check()
            if time.monotonic() >= end_at_s:
                return


@contextlib.contextmanager
def blocked(client: Client, wake: Callable[[], None] | None = None) -> Iterator[Callable[[], None]]:
    """Inside an engine, its slot is given back until this ends.

    Parameters:
        wake: called by another thread when it is time to call what this gives: that raises
            NestedTooDeep if the wait would last for ever.
    """
    engine = _engine_of(client)
    run = engine.waits.begin(wake) if engine is not None else None
    if engine is None or run is None:
        yield lambda: None
        return
    waits = engine.waits

    def check() -> None:
        why = waits.why_not(run)
        if why:
            raise errors.NestedTooDeep(why)

    try:
        yield check
    finally:
        waits.end(run, wake)


class _Event(threading.Event):
    """An event on which a thread of an engine waits for a client's tasks."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def wait(self, timeout: float | None = None) -> bool:
        wait(self._client, super().wait, timeout)
        return self.is_set()


class _Waiters(list[Any]):
    """Where `concurrent.futures.wait` and `as_completed` put whoever is told of the end of a
    future: in an engine, their waits count."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def append(self, waiter: Any) -> None:
        """One that is on its first future has nothing set."""
        if type(waiter.event) is threading.Event and not waiter.event.is_set():
            waiter.event = _Event(self._client)
        super().append(waiter)


def waiters(client: Client) -> list[Any]:
    """What a future of `client` keeps those in who are told of its end."""
    return [] if current.engine is None or client._link.host is None else _Waiters(client)


# --- the client of an engine ---------------------------------------------------------------------

_lock = threading.Lock()
_own: Client | None = None


def _forget() -> None:
    global _own, _lock
    _own, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # a fork can't use its parent's
    os.register_at_fork(after_in_child=_forget)


def get_client() -> Client:
    """The client for code that is given none: inside a task, one of the engine's own, which all its
    tasks share; elsewhere that of the innermost `with headway.Client()` that is open.

    What a task submits is cancelled when its run ends without success; while it waits for that, its
    engine's place is taken by another. See docs/nested.md. Inside a task `close` and `with` leave
    the client open, for it is the engine's.

    Raises:
        HeadwayError: this is no task, and no client is open.
        ConnectionLost: inside a task: the controller does not answer.
    """
    global _own
    found = active.active_client()
    if found is not None:
        return found
    engine = current.engine
    if engine is None:
        raise errors.HeadwayError(
            "there is no client: get_client() is for code that runs in a task, or inside of "
            "`with headway.Client() as client:`"
        )
    from headway.client.engine_client import EngineClient

    with _lock:
        if _own is None or _own.closed:
            _own = EngineClient(engine.connection, output=False)
        return _own


def session_for(link: Link, wire: WireConfig) -> Session[Any]:
    """The session of `link`."""
    return Session(wire) if link.host is None else NestedSession(wire, link.wait_accepted)
