"""Dask's collections on headway's engines: `dask.compute(..., scheduler=headway.dask_get)`.

Each node of Dask's graph is one task, labelled with its key. Tasks that are ready start in the
order that Dask gives to its graphs, so that what was made is used up before more is made.

What this file must not know: what is in a node. Dask turns graphs of the older kind, made of
tuples, into nodes that can be called.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from headway.client.client import Client
from headway.client.futures import Future
from headway.doors import on_engine
from headway.doors.running import Running
from headway.doors.shared import client_or_shared, needed

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
    running = Running(client)
    run = _Run(client, running, task_spec)
    try:
        run.submit(nodes, wanted)
        running.wait()
        return run.values(keys)
    finally:
        running.cancel_open()


class _Run:
    """What became of the nodes of one graph."""

    def __init__(self, client: Client, running: Running, task_spec: Any) -> None:
        self._client = client
        self._running = running
        self._task_spec = task_spec
        #: What each key stands for: a future, or a value that is here.
        self._results: dict[Any, Any] = {}

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
        return self._running.add(view.submit(on_engine.call_node, node, inputs, values))

    def values(self, keys: Any) -> Any:
        """The values of `keys`, as nested as these are; tuples, as Dask's own schedulers give."""
        if isinstance(keys, list):
            return tuple(self.values(entry) for entry in keys)
        result = self._results[keys]
        return result.result() if isinstance(result, Future) else result


def _flat(keys: Any) -> list[Hashable]:
    if not isinstance(keys, list):
        return [keys]
    return [key for entry in keys for key in _flat(entry)]
