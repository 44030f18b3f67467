"""Futures of tasks that another client left behind, and leaving one's own behind.

A client that detaches has the controller say that its tasks outlive it, and goes. Whoever knows
their ids attaches to them: a future that is told how the task ends, and holds nothing.

What this file must not know: sockets, batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headway.client import dependency
from headway.client.cancelling import Stranger
from headway.client.futures import Future, Group
from headway.core.events import TaskId

if TYPE_CHECKING:
    from headway.client.client import Client


class StrangeGroup(Group):
    """The tasks of a group that is another client's."""

    def __del__(self) -> None:
        """Nothing is released: the group is somebody else's."""


def attach(client: Client, ids: Any) -> Any:
    """See `Client.attach`."""
    if isinstance(ids, str | int):
        return _attach(client, dependency.as_node(ids))
    if not isinstance(ids, Iterable) or isinstance(ids, bytes | bytearray):
        raise TypeError(f"attach takes ids of tasks and groups, not {ids!r}")
    return [attach(client, each) for each in ids]


def _attach(client: Client, node: TaskId) -> Future[Any] | Group:
    group = client._link.ask("group", node)
    if not group:
        return _future(client, node)
    members = members_of(group)
    found = StrangeGroup([_future(client, member) for member in members], client)
    found.node = node
    return found


def members_of(group: dict[str, Any]) -> list[TaskId]:
    """The ids of the tasks in a group, from what the controller tells of it."""
    return [
        TaskId(number) for first, count in group["spans"] for number in range(first, first + count)
    ]


def _future(client: Client, node: TaskId) -> Future[Any]:
    stranger: Future[Any] = Stranger(client)
    stranger.node = node
    return client._link.watch(node, stranger)
