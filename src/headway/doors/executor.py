"""The PEP 3148 executor: `concurrent.futures`, on a headway cluster.

Rule 1: as PEP 3148 has it, what runs is never cancelled: neither by its future, nor by `map`
when another call raises, nor by `shutdown`. To interrupt it, use `Client.cancel`.

What this file must not know: anything that a user of `headway.Client` could not.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import threading
import time
import types
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from typing import Any

from headway.client.client import Client
from headway.client.futures import Future
from headway.doors import on_engine
from headway.errors import ConnectionLost

#: Functions for which the call with the initializer before it is kept, so that it is pickled once.
_PREPARED_MAX = 256


class Executor(concurrent.futures.Executor):
    """Runs calls on the engines of a cluster.

    Parameters:
        max_workers: the number of engines of a cluster of its own; default one for each core.
        initializer: called with `initargs` on each engine before its first call, also on an
            engine that takes the place of one that died. If it raises, the calls there raise a
            `concurrent.futures.BrokenExecutor`, and so does `submit` from then on.
        client: use this client's cluster instead; shutting down leaves the client open.

    Calls that are open when the program ends are waited for, as in `concurrent.futures`.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        client: Client | None = None,
    ) -> None:
        if client is not None and max_workers is not None:
            raise ValueError(
                f"max_workers={max_workers!r} and client= exclude each other: "
                "the client's cluster has the engines that it has"
            )
        if max_workers is not None and not isinstance(max_workers, bool) and max_workers <= 0:
            raise ValueError(f"max_workers must be greater than 0, and is {max_workers!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, and is {initializer!r}")
        self._owns_client = client is None
        self._client = Client(engines=max_workers) if client is None else client
        self._initializer = initializer
        self._initargs = tuple(initargs)
        #: What the engines know this executor by.
        self._name = uuid.uuid4().hex
        self._prepared: dict[int, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self._calls = _Calls()
        self._open = self._calls.open
        self._lock = threading.RLock()  # reentrant: callbacks submit, and run anywhere

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(*args, **kwargs)`; returns its Future.

        Raises:
            RuntimeError: the executor was shut down.
            concurrent.futures.BrokenExecutor: its initializer failed, or its cluster is gone.
        """
        with self._lock:
            if self._broken is not None:
                raise on_engine.InitializerFailed(str(self._broken))
            if self._calls.is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            call = fn if self._initializer is None else self._prepare(fn)
            try:
                future = self._client.submit(call, *args, **kwargs)
            except ConnectionLost as error:
                raise concurrent.futures.BrokenExecutor(str(error)) from error
            future.cancel_interrupts = False
            self._open.add(future)
        future.add_done_callback(self._calls.ended)
        return future

    @property
    def _broken(self) -> BaseException | None:
        """What the initializer failed with; under the name that the executors of Python have."""
        return self._calls.broken

    def _prepare(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn`, with the initializer before it. The same object for the same function."""
        if not isinstance(fn, types.FunctionType | types.BuiltinFunctionType | type):
            return self._with_initializer(fn)  # it may have state, and a user who lets it go
        known = self._prepared.get(id(fn))
        if known is None or known[0] is not fn:
            while len(self._prepared) >= _PREPARED_MAX:
                del self._prepared[next(iter(self._prepared))]
            known = self._prepared[id(fn)] = fn, self._with_initializer(fn)
        return known[1]

    def _with_initializer(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        name, initializer, initargs = self._name, self._initializer, self._initargs
        assert initializer is not None

        # A function, not an object: the client keeps the pickle of one that can't change.
        def call(*args: Any, **kwargs: Any) -> Any:
            return on_engine.call_initialized(name, initializer, initargs, fn, args, kwargs)

        call.__qualname__ = getattr(fn, "__qualname__", type(fn).__qualname__)
        return call

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """The values of `fn(*items)`, in order, as the built-in `map` pairs the items.

        Parameters:
            timeout: seconds from now in which all must have come.
            chunksize: how many calls are one task, which then ends as a whole. For calls of some
                microseconds only: headway makes batches of tasks by itself.
            buffersize: how many tasks may be on their way; default all of them at once.

        Raises:
            TimeoutError: `timeout` passed; raised by the iterator, as what a call raises.
        """
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize={buffersize!r} must be None or at least 1")
        if chunksize < 1:
            raise ValueError(f"chunksize must be >= 1, and is {chunksize!r}")
        if chunksize > 1:
            chunks = self.map(
                on_engine.call_each,
                repeat(fn),
                _chunks(zip(*iterables, strict=False), chunksize),
                timeout=timeout,
                buffersize=buffersize,
            )
            return _flat(chunks)
        deadline_at = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        futures = deque(self.submit(fn, *args) for args in islice(calls, buffersize))
        return self._values(fn, futures, calls, deadline_at)

    def _values(
        self,
        fn: Callable[..., Any],
        futures: deque[Future[Any]],
        calls: Iterator[tuple[Any, ...]],
        deadline_at: float | None,
    ) -> Iterator[Any]:
        try:
            while futures:
                left_s = None if deadline_at is None else deadline_at - time.monotonic()
                values = [futures[0].result(left_s)]
                futures.popleft()
                futures.extend(self.submit(fn, *args) for args in islice(calls, 1))
                yield values.pop()  # not held here while the caller works with it
        finally:
            # At once: the base class asks for each by itself, which for many takes minutes.
            if futures:
                self._cancel_queued(futures)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and free the engines once those that are open have ended.

        `cancel_futures` cancels those that do not run yet; `wait` returns only after the rest.
        """
        with self._lock:
            first = not self._calls.is_shut_down
            self._calls.is_shut_down = True
        pending = list(self._open)
        if cancel_futures and pending:
            self._cancel_queued(pending)
        if wait:
            self._finish(pending)
        elif first and self._owns_client:
            # Not a daemon: the interpreter waits for it at exit, as PEP 3148 promises.
            threading.Thread(
                target=self._finish, args=(pending,), name="headway-executor-shutdown"
            ).start()

    def _cancel_queued(self, futures: Iterable[Future[Any]]) -> None:
        with contextlib.suppress(ConnectionLost):  # then none of them will run
            self._client.cancel(futures, queued_only=True)

    def _finish(self, pending: list[Future[Any]]) -> None:
        _wait_ended(pending)
        if self._owns_client:
            self._client.close()


class _Calls:
    """The calls of one executor that have not ended. It lives as long as one of them does, or the
    executor: who drops that does not drop its calls."""

    def __init__(self) -> None:
        self.open: set[Future[Any]] = set()
        self.is_shut_down = False
        self.broken: BaseException | None = None
        _all_calls.add(self)

    def ended(self, future: concurrent.futures.Future[Any]) -> None:
        """A call has ended: the callback of its future."""
        assert isinstance(future, Future)
        self.open.discard(future)
        # Only what raised is looked into: values are unpickled by who asks for them.
        if self.broken is None and future.state == "failed":
            error = future.exception()
            if isinstance(error, on_engine.InitializerFailed):
                self.broken = error


_all_calls: weakref.WeakSet[_Calls] = weakref.WeakSet()


# Registered after the client's own, which closes what is open, and so run before that.
@atexit.register
def _finish_all() -> None:
    for calls in list(_all_calls):
        calls.is_shut_down = True
        _wait_ended(list(calls.open))


def _wait_ended(futures: list[Future[Any]]) -> None:
    for future in futures:
        # Not concurrent.futures.wait: in a callback, this raises instead of hanging.
        with contextlib.suppress(concurrent.futures.CancelledError, ConnectionLost):
            future.exception()


def _chunks(calls: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(islice(calls, size)):
        yield chunk


def _flat(chunks: Iterator[list[Any]]) -> Iterator[Any]:
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()  # not held here while the caller works with it
