"""The PEP 3148 executor: `concurrent.futures`, on a headway cluster.

What this file must not know: anything that a user of `headway.Client` could not.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading  # noqa: TID251 - a door is a shell
from collections.abc import Callable
from typing import Any

from headway.client.client import Client
from headway.client.futures import Future


class Executor(concurrent.futures.Executor):
    """Runs calls on the engines of a cluster.

    Parameters:
        max_workers: the number of engines of a cluster of its own; default one for each core.
        client: use this client's cluster instead; shutting down leaves the client open.

    `map` comes from the base class: `timeout` counts from the call, and `chunksize` has no
    effect, since headway makes batches of tasks by itself.
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
            self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and free the engines once those that are open have ended.

        `cancel_futures` cancels those that do not run yet; `wait` returns only after the rest.
        """
        with self._lock:
            first = not self._is_shut_down
            self._is_shut_down = True
        pending = list(self._open)
        if cancel_futures and pending:
            self._client.cancel(pending)
        if wait:
            self._finish(pending)
        elif first and self._owns_client:
            # Not a daemon: the interpreter waits for it at exit, as PEP 3148 promises.
            threading.Thread(
                target=self._finish, args=(pending,), name="headway-executor-shutdown"
            ).start()

    def _finish(self, pending: list[Future[Any]]) -> None:
        for future in pending:
            # Not concurrent.futures.wait: in a callback, this raises instead of hanging.
            with contextlib.suppress(concurrent.futures.CancelledError):
                future.exception()
        if self._owns_client:
            self._client.close()
