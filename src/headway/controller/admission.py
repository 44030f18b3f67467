"""How much one client may have in the scheduler's hands: it waits, before memory ends.

Every task that has not ended takes some hundred bytes and its arguments. So a client that submits
faster than engines work is told to hold: its `submit` waits, until enough of its tasks have ended.
Its batches are taken in all the same, and acknowledged: what it had on its way then is bounded by
its window, and nothing has to be thrown away or put into an order again.

The rule: a client may have as much unfinished as is still free for all. So one alone gets half of
the whole, of n that all want more each gets a share of n + 1, and room is always left for one that
comes. It can't lock anything up: ids go forwards, so a task that was taken in never waits for one
that was not; and a client without an unfinished task is never held, so also one inside a task, on
which a client waits that is held, gets on.

What this file must not know: sockets, and what a task is for.
"""

from __future__ import annotations

from headway.config import AdmissionConfig
from headway.controller.peers import ClientPeer
from headway.core.records import Client
from headway.core.scheduler import Scheduler
from headway.wire.messages import Hold

#: Who is held goes on when it has so much less than it may have: not at each task that ends.
_SLACK = 1 / 16


class Admission:
    """Who is held.

    Parameters:
        config: how much is free when nothing waits.
        scheduler: to be looked at.
    """

    def __init__(self, config: AdmissionConfig, scheduler: Scheduler) -> None:
        self._config = config
        self._scheduler = scheduler
        #: Who is held, or has submitted since the last look.
        self._suspects: dict[ClientPeer, None] = {}

    def submitted(self, peer: ClientPeer) -> None:
        """`peer` has more than before; or has just come back, and knows of no hold."""
        self._suspects[peer] = None

    def look(self) -> list[tuple[ClientPeer, Hold]]:
        """Once a turn: who has to be told something."""
        if not self._suspects:
            return []
        told = []
        free_tasks, free_bytes = self._free()
        for peer in list(self._suspects):
            client = self._scheduler.clients.get(peer.number)
            if client is None or not peer.is_here:
                del self._suspects[peer]  # gone; or away, and looked at when it returns
                continue
            slack = 1 + _SLACK if peer.is_held else 1.0
            is_held = bool(client.unfinished) and (
                client.unfinished * slack >= free_tasks
                or (bool(client.unfinished_bytes) and client.unfinished_bytes * slack >= free_bytes)
            )
            if is_held != peer.is_held:
                peer.is_held = is_held
                told.append((peer, Hold(self._why(client) if is_held else "")))
            if not is_held:
                del self._suspects[peer]
        return told

    def _free(self) -> tuple[int, int]:
        config, scheduler = self._config, self._scheduler
        return (
            config.unfinished_tasks_max - scheduler.counters.unfinished,
            config.unfinished_bytes_max - scheduler.unfinished_bytes,
        )

    def _why(self, client: Client) -> str:
        config = self._config
        free_tasks, free_bytes = self._free()
        return (
            f"{client.unfinished:,} tasks of this client have not ended, with "
            f"{_mb(client.unfinished_bytes)} MB of arguments, and a client may have as much as is "
            f"still free for all: {max(0, free_tasks):,} of {config.unfinished_tasks_max:,} tasks, "
            f"{_mb(max(0, free_bytes))} of {_mb(config.unfinished_bytes_max)} MB"
        )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"
