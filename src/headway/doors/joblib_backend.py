"""joblib's backend: each of its batches of calls is a task.

Rule 1: what joblib does when a batch has ended (it takes a lock, and submits the next one) is done
by a thread of its own. In the client's thread it would wait for who holds the lock, who may wait
for room, for which it needs the client's thread.

What this file must not know: what is in a batch.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
from collections.abc import Callable
from typing import Any

from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from headway.client import nesting
from headway.client.client import Client
from headway.client.futures import Future
from headway.doors import on_engine
from headway.doors.shared import client_or_shared, number_of_engines
from headway.errors import ConnectionLost


class HeadwayBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches on the engines of a cluster. Made by joblib, once for each `Parallel`.

    `n_jobs` is how many batches joblib takes to run at once (it hands out twice as many), -1 one
    for each engine; they run on any of the engines. A `Parallel` inside a batch uses threads, and
    one inside that runs its calls in order: joblib's default.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    def __init__(self, client: Client | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._given = client
        self._client: Client | None = None
        self._open: set[Future[Any]] = set()
        self._threads: int | None = None
        self._waits = contextlib.ExitStack()
        self._callbacks: concurrent.futures.ThreadPoolExecutor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches may run at once, of the `n_jobs` that the user wants."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            return max(number_of_engines(client_or_shared(self._given)) + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, **ignored: Any
    ) -> int:
        """Be ready for a `Parallel`; what is ignored is how others share memory."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._client = client_or_shared(self._given)
        self._threads = self._threads_of_each(n_jobs)
        self._callbacks = concurrent.futures.ThreadPoolExecutor(1, "headway-joblib")
        return n_jobs

    def _threads_of_each(self, n_jobs: int) -> int | None:
        """How many threads a batch may use in numpy's libraries; None as many as they like."""
        if self.inner_max_num_threads is not None:
            return int(self.inner_max_num_threads)
        if any(name in os.environ for name in self.MAX_NUM_THREADS_VARS):
            return None  # the engines have the same environment
        return max((os.cpu_count() or 1) // n_jobs, 1)

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Run a batch; `callback` is called with its future when it has ended."""
        assert self._client is not None
        call = func.items[0][0]
        label = str(getattr(call, "__qualname__", type(call).__qualname__))[:200]
        view = self._client.options(label=label)
        future = view.submit(on_engine.call_batch, func, self._threads)
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        callbacks = self._callbacks
        if callback is not None and callbacks is not None:

            def tell(ended: Any) -> None:
                with contextlib.suppress(RuntimeError):  # it was shut down: nobody asks any more
                    callbacks.submit(callback, ended)

            future.add_done_callback(tell)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The values of the batch, or what it raised."""
        return out.result()

    def start_call(self) -> None:
        """A `Parallel` begins to run its calls: in a task, one that waits for them."""
        assert self._client is not None
        self._waits.enter_context(nesting.blocked(self._client))

    def stop_call(self) -> None:
        """It has run them."""
        self._waits.close()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """One batch raised, or nobody wants the rest: stop what is open, also what runs."""
        if self._open and self._client is not None:
            with contextlib.suppress(ConnectionLost):  # then none of them will run
                self._client.cancel(list(self._open))

    def terminate(self) -> None:
        """The `Parallel` is done."""
        if self._callbacks is not None:
            self._callbacks.shutdown(wait=False)
            self._callbacks = None
        self.reset_batch_stats()
