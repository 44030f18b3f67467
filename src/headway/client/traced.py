"""`Client.trace`: what the cluster ran, asked of its controller.

What this file must not know: sockets, and how a trace is put together (trace_rows.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from headway.client import attaching, dependency
from headway.client.futures import Future
from headway.client.trace_rows import build
from headway.core.events import TaskId, client_of, format_task_id, parse_task_id
from headway.errors import ProtocolError
from headway.traces import critical, summary
from headway.traces.chrome import chrome_trace
from headway.traces.critical import CriticalPath
from headway.traces.model import TraceData, TracedEngine, TracedTask
from headway.traces.select import select
from headway.traces.summary import Summary
from headway.wire.traced import TracePage

if TYPE_CHECKING:
    from headway.client.link import Link


class Trace:
    """What a cluster ran, until now: which task when, where, and after which others.

    Made by `Client.trace`. Times are seconds from its beginning. `data` is all of it, as plain
    data.
    """

    def __init__(self, data: TraceData) -> None:
        self.data = data

    def __repr__(self) -> str:
        count = len(self.tasks)
        return f"<Trace of {count:,} tasks in {self.data.span_s:.3f} s>"

    @property
    def tasks(self) -> list[TracedTask]:
        """The tasks, each with its attempts."""
        return self.data.tasks

    @property
    def engines(self) -> list[TracedEngine]:
        """The engines that were there."""
        return self.data.engines

    @property
    def notes(self) -> list[str]:
        """What is missing from it, and why, for people; empty if nothing is."""
        return self.data.notes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a Chrome trace, which https://ui.perfetto.dev opens.

        Raises:
            OSError: it can't be written there.
        """
        Path(path).write_text(json.dumps(chrome_trace(self.data)), encoding="utf-8")

    def critical_path(self) -> CriticalPath:
        """The tasks that made it take as long as it did, each with where its time went."""
        return critical.critical_path(self.data)

    def summary(self) -> Summary:
        """Where the time went: of tasks by phase, and of engines."""
        return summary.summary(self.data)


class Traces:
    """What has a `trace`: clients."""

    _link: Link

    def trace(self, futures: Any = None) -> Trace:
        """What ran: a trace of tasks that have ended, with where their time went.

        The controller keeps the last 100,000 attempts that ended, of all clients, until it ends.
        What is missing is said in the trace's `notes`.

        Parameters:
            futures: a future, an id of a task or group, a Group, or a list of those. Default: all
                tasks of this client.

        Raises:
            TypeError, ValueError: something names no task.
            HeadwayError: the cluster keeps no traces.
            ConnectionLost: the cluster is gone, or does not answer.
        """
        link = self._link
        wanted = None if futures is None else nodes_of(link, futures)
        data = read_trace(link)
        if wanted is not None:
            return Trace(named(data, wanted))
        own = link.number
        return Trace(select(data, lambda task: client_of(parse_task_id(task.id)) == own))


def read_trace(link: Link) -> TraceData:
    """All that the controller keeps of what ran, of whichever client.

    Raises:
        HeadwayError, ConnectionLost: see `Client.trace`.
    """
    pages: list[TracePage] = []
    cursor: int | None = 0
    while cursor is not None:
        body = link.ask("trace", TaskId(cursor))
        try:
            pages.append(msgspec.convert(body, TracePage))
        except msgspec.ValidationError as error:
            raise ProtocolError(f"the controller answered, for a trace, with {error}") from None
        cursor = pages[-1].next
    return build(pages)


def named(data: TraceData, wanted: Iterable[TaskId]) -> TraceData:
    """The tasks of these ids; how many of them are missing is said in its notes."""
    ids = {format_task_id(node) for node in wanted}
    found = select(data, lambda task: task.id in ids)
    missing = len(ids) - len(found.tasks)
    if missing:
        found.notes.append(f"{missing:,} of the {len(ids):,} tasks asked for are not in it")
    return found


def nodes_of(link: Link, value: Any) -> list[TaskId]:
    """The ids of the tasks that `value` names: a future, an id of a task or group, a Group, or a
    list of those.

    Raises:
        TypeError, ValueError: something in it names no task.
    """
    return list(_flatten(link, value))


def _flatten(link: Link, value: Any) -> Iterator[TaskId]:
    if isinstance(value, Future):
        yield value.node
    elif isinstance(value, str | int):
        node = dependency.as_node(value)
        group = link.ask("group", node)
        yield from attaching.members_of(group) if group else [node]
    elif isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        for each in value:
            yield from _flatten(link, each)
    else:
        raise TypeError(f"trace takes futures, groups and ids, not {value!r}")
