"""Who wants to be told how a task ends that another client submitted.

The scheduler tells a task's own client alone, and says it too when that has left. So this is no
part of what a journal must remember: who watches says so again when it returns.

What this file must not know: sockets, and how tasks end.
"""

from __future__ import annotations

from collections.abc import Iterable

from headway.controller.peers import ClientPeer
from headway.core.events import ClientId, TaskId


class Watchers:
    """The clients that watch each task. Bounded by what clients that are connected asked for."""

    def __init__(self) -> None:
        self.by_task: dict[TaskId, set[ClientId]] = {}

    def add(self, peer: ClientPeer, tasks: Iterable[TaskId]) -> None:
        """`peer` watches `tasks`, which have not ended."""
        for task in tasks:
            peer.watched.add(task)
            self.by_task.setdefault(task, set()).add(peer.number)

    def take(self, task: TaskId) -> Iterable[ClientId]:
        """Who watched `task`, which has ended: nobody does any more."""
        return sorted(self.by_task.pop(task, ()))

    def forget(self, peer: ClientPeer) -> None:
        """`peer` is gone."""
        for task in peer.watched:
            watching = self.by_task.get(task)
            if watching is not None:
                watching.discard(peer.number)
                if not watching:
                    del self.by_task[task]
        peer.watched.clear()
