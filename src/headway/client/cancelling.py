"""Cancelling tasks, and the truth about what became of that.

A cancel is a wish: the task may have ended already, or end by itself while the wish travels. So
whoever cancels waits until each task has ended, and is told how. A task that runs is interrupted,
and if it does not heed that, killed with its engine a grace later: the waiting outlasts both.

What this file must not know: sockets, batches, and how a task is submitted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headway.client import dependency
from headway.client.futures import Future, Group
from headway.core.events import TaskId

if TYPE_CHECKING:
    from headway.client.client import Client

#: How long `cancel` waits for the truth: the engines' grace (2 s), the kill, the news of it; and
#: that on a machine that is busy.
WAIT_S = 5.0

#: States in which nothing more comes of a cancel.
_BEYOND_CANCEL = frozenset({"succeeded", "failed", "impossible", "timed_out", "lost"})

#: States in which a task may have begun.
_ON_ENGINE = frozenset({"assigned", "running"})


@dataclass(frozen=True)
class Wish:
    """What else goes with the tasks, or not: see `Client.cancel`."""

    queued_only: bool = False
    downstream: bool = False


class CancelReport(list[bool]):
    """What became of a cancel: for each task, in order, whether it is cancelled.

    `states` has, in the same order, the state in which each ended, such as "succeeded" for one
    that was done already; or where it was when the waiting ended.
    """

    def __init__(self, states: Iterable[str], sent: bool = False) -> None:
        """`sent`: nobody waited; of those that have not ended, True says that the wish was sent."""
        self.states = list(states)
        super().__init__(
            state == "cancelled" or (sent and state not in _BEYOND_CANCEL) for state in self.states
        )


class Stranger(Future[Any]):
    """Stands for a task of which its client has no future: it only carries its id."""

    def __del__(self) -> None:
        """Nothing is released: the task is somebody else's."""


def named_tasks(client: Client, value: Any) -> tuple[list[Future[Any]], list[Group]]:
    """The tasks that `value` names: futures, ids, and lists of those at any depth; and the groups
    among these lists.

    Raises:
        TypeError, ValueError: something in it names no task.
    """
    groups: list[Group] = []
    return [_as_future(client, entry) for entry in _flatten(value, groups)], groups


def _flatten(value: Any, groups: list[Group]) -> Iterator[Any]:
    if isinstance(value, Future | str | int):
        yield value
        return
    if not isinstance(value, Iterable) or isinstance(value, bytes | bytearray):
        raise TypeError(f"cancel takes futures or ids of tasks, not {value!r}")
    if isinstance(value, Group):
        groups.append(value)
    for entry in value:
        yield from _flatten(entry, groups)


def _as_future(client: Client, entry: Any) -> Future[Any]:
    """The future that `entry` names; one that is not ours to know is made for the purpose."""
    if isinstance(entry, Future):
        return entry
    node = dependency.as_node(entry)
    known = client._link.session.open.get(node)
    if known is not None:
        return known
    stranger: Future[Any] = Stranger(client)
    stranger.node = node
    return stranger


def cancel(futures: Sequence[Future[Any]], groups: Sequence[Group], wish: Wish) -> CancelReport:
    """Cancel them, wait for the truth, and tell it. Where waiting would block (in a callback, or
    under an event loop), it is not waited for.

    Raises:
        ConnectionLost: the cluster is gone, or its client was closed.
    """
    nodes: dict[Client, dict[TaskId, None]] = {}
    for future in futures:
        # What is done has nothing to cancel, but perhaps something downstream.
        if wish.downstream or not future.done():
            nodes.setdefault(future._client, {})[future.node] = None
    for group in groups if wish.downstream else ():
        if group.node:
            nodes.setdefault(group._client, {})[group.node] = None
    for client, wanted in nodes.items():
        client._link.cancel(list(wanted), wish.queued_only, wish.downstream)
    is_loop = asyncio._get_running_loop() is not None
    if is_loop or any(future._client._link.is_io_thread for future in futures):
        return CancelReport((f._final_state or "pending" for f in futures), sent=True)
    deadline_at = time.monotonic() + WAIT_S
    return CancelReport(_wait_ended(future, wish, deadline_at) for future in futures)


def _wait_ended(future: Future[Any], wish: Wish, deadline_at: float) -> str:
    """Wait until `future` has ended, or nothing more comes of a cancel; its state then."""
    step_s = 0.005
    while not future.done():
        left_s = deadline_at - time.monotonic()
        facts = future._client._ask_task(future, max(left_s, step_s))
        state = str(facts.get("state", ""))
        if isinstance(future, Stranger) and (state == "cancelled" or not state):
            return state or "unknown"
        has_begun = state in _ON_ENGINE and not facts.get("asked_back")
        left_s = deadline_at - time.monotonic()
        if state in _BEYOND_CANCEL or (wish.queued_only and has_begun) or left_s <= 0:
            return future._final_state or state or "pending"
        with future._condition:
            if not future.done():
                future._condition.wait(min(step_s, left_s))
        step_s = min(step_s * 2, 0.1)
    return future._final_state
