"""Dask's collections on headway's engines: `dask.compute(..., scheduler=headway.dask_get)`.

Each node of Dask's graph is one task, labelled with its key. Tasks that are ready start in the
order that Dask gives to its graphs, so that what was made is used up before more is made.

What this file must not know: what is in a node. Dask turns graphs of the older kind, made of
tuples, into nodes that can be called.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Hashable, Mapping
from typing import Any

from headway.client.client import Client
from headway.client.futures import Future
from headway.doors import on_engine
from headway.doors.shared import client_or_shared, needed
from headway.errors import ConnectionLost

#: Keys of some collections are long; people see this much of them.
_LABEL_CHARS_MAX = 200


def dask_get(
    dsk: Mapping[Any, Any], keys: Any, *, client: Client | None = None, **ignored: Any
) -> Any:
    """Compute `keys` of the graph `dsk`: what `scheduler=` of Dask takes.

    `x.compute(scheduler=headway.dask_get)` for one computation,
    `dask.config.set(scheduler=headway.dask_get)` for all.

    Parameters:
        dsk: a graph of Dask, as nodes or as tuples.
        keys: a key, or nested lists of keys.
        client: where to run it. Default: the client of the innermost `with headway.Client()` that
            is open; else one that is started once, and closed at the end of the program.
        ignored: what Dask tells its own schedulers, such as `num_workers`.

    Returns the values, as nested as the keys.

    Raises:
        ImportError: Dask is not installed.
        Exception: what the first node that failed raised. The others are cancelled.
    """
    task_spec = needed("dask._task_spec", "dask")
    client = client_or_shared(client)
    wanted = set(_flat(keys))
    graph = dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__()
    nodes = task_spec.cull(task_spec.convert_legacy_graph(graph), wanted)
    missing = [key for key in wanted if key not in nodes]
    if missing:
        raise KeyError(f"{missing[0]!r} is not in the graph")
    run = _Run(client, task_spec)
    try:
        run.submit(nodes, wanted)
        run.wait()
        return _nested(keys, {key: run.value(key) for key in wanted})
    finally:
        run.cancel_open()


class _Run:
    """The tasks of one graph."""

    def __init__(self, client: Client, task_spec: Any) -> None:
        self._client = client
        self._task_spec = task_spec
        #: What each key stands for: a future, or a value that is here.
        self._results: dict[Any, Any] = {}
        self._open: set[Future[Any]] = set()
        self._failed: Future[Any] | None = None
        self._news = threading.Event()

    def submit(self, nodes: Mapping[Any, Any], wanted: set[Any]) -> None:
        """Submit all nodes. Futures are kept only as long as something here needs them."""
        users = dict.fromkeys(nodes, 0)
        for node in nodes.values():
            for key in node.dependencies:
                users[key] += 1
        rank = needed("dask.order", "dask").order(nodes)
        for key in sorted(nodes, key=rank.__getitem__):
            node = nodes[key]
            self._results[key] = self._submit(key, node, -rank[key], users[key])
            for used in node.dependencies:
                users[used] -= 1
                if not users[used] and used not in wanted:
                    del self._results[used]

    def _submit(self, key: Any, node: Any, priority: int, users: int) -> Any:
        if isinstance(node, self._task_spec.Alias):
            return self._results[node.target]
        if isinstance(node, self._task_spec.DataNode) and users <= 1:
            return node.value  # it travels once, with its user
        inputs = tuple(node.dependencies)
        view = self._client.options(label=str(key)[:_LABEL_CHARS_MAX], priority=priority)
        values = [self._results[used] for used in inputs]
        future = view.submit(on_engine.call_node, node, inputs, values)
        self._open.add(future)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: concurrent.futures.Future[Any]) -> None:
        assert isinstance(future, Future)
        self._open.discard(future)
        # Not one that only could not run since another had failed.
        if self._failed is None and future.state not in ("succeeded", "impossible"):
            self._failed = future
        if self._failed is not None or not self._open:
            self._news.set()

    def wait(self) -> None:
        """Wait until all have ended, or one has failed."""
        self._client._link.check_may_wait("a graph")
        while True:
            self._news.clear()
            if self._failed is not None or not self._open:
                return
            self._news.wait()

    def value(self, key: Any) -> Any:
        """The value of `key`; raises what the first node that failed raised."""
        result = self._results[key]
        if self._failed is not None:
            result = self._failed
        return result.result() if isinstance(result, Future) else result

    def cancel_open(self) -> None:
        """Nobody wants the rest: an error, or Ctrl-C."""
        if self._open:
            with contextlib.suppress(ConnectionLost):  # then none of them will run
                self._client.cancel(list(self._open))


def _flat(keys: Any) -> list[Hashable]:
    if not isinstance(keys, list):
        return [keys]
    return [key for entry in keys for key in _flat(entry)]


def _nested(keys: Any, values: Mapping[Any, Any]) -> Any:
    """The values, in the shape of the keys; tuples, as Dask's own schedulers give them."""
    if not isinstance(keys, list):
        return values[keys]
    return tuple(_nested(entry, values) for entry in keys)
