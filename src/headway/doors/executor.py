"""The PEP 3148 executor: `concurrent.futures`, on a headway cluster.

Rule 1: as PEP 3148 has it, what runs is never cancelled: neither by its future, nor by `map`
when another call raises, nor by `shutdown`. To interrupt it, use `Client.cancel`.

What this file must not know: anything that a user of `headway.Client` could not.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from headway.client.client import Client
from headway.client.futures import Future
from headway.errors import ConnectionLost


class Executor(concurrent.futures.Executor):
    """Runs calls on the engines of a cluster.

    Parameters:
        max_workers: the number of engines of a cluster of its own; default one for each core.
        client: use this client's cluster instead; shutting down leaves the client open.

    """

    def __init__(self, max_workers: int | None = None, *, client: Client | None = None) -> None:
        if client is not None and max_workers is not None:
            raise ValueError(
                f"max_workers={max_workers!r} and client= exclude each other: "
                "the client's cluster has the engines that it has"
            )
        if max_workers is not None and not isinstance(max_workers, bool) and max_workers <= 0:
            raise ValueError(f"max_workers={max_workers!r} must be greater than 0")
        self._owns_client = client is None
        self._client = Client(engines=max_workers) if client is None else client
        self._lock = threading.RLock()  # reentrant: callbacks submit, and run anywhere
        self._open: set[Future[Any]] = set()
        self._is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(*args, **kwargs)`; returns its Future.

        Raises:
            RuntimeError: the executor was shut down.
        """
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            future = self._client.submit(fn, *args, **kwargs)
            future.cancel_interrupts = False
            self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

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
            chunksize: has no effect: headway makes batches of tasks by itself.
            buffersize: how many calls may be on their way; default all of them at once.

        Raises:
            TimeoutError: `timeout` passed; raised by the iterator, as what a call raises.
        """
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize={buffersize!r} must be None or at least 1")
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
            first = not self._is_shut_down
            self._is_shut_down = True
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
        for future in pending:
            # Not concurrent.futures.wait: in a callback, this raises instead of hanging.
            with contextlib.suppress(concurrent.futures.CancelledError):
                future.exception()
        if self._owns_client:
            self._client.close()
