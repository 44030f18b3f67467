"""Nannies that leave: their engines take no more tasks, and each ends once it has none.

A nanny says so with each heartbeat until it has gone, so nothing need be remembered for it but
which engines are to end. What they have not begun is given back, and placed elsewhere.

What this file must not know: sockets, and why a nanny leaves.
"""

from __future__ import annotations

from headway.controller.books import Books
from headway.controller.outbox import Outbox
from headway.controller.peers import EnginePeer, NannyPeer, Peers
from headway.core import events as ev
from headway.logbook import Event, note
from headway.wire import messages as m


class Leavers:
    """The engines of nannies that leave."""

    def __init__(self, books: Books, peers: Peers, outbox: Outbox) -> None:
        self._books = books
        self._peers = peers
        self._outbox = outbox
        #: Engines that are to end when they have no task.
        self._engines: dict[str, EnginePeer] = {}

    def leaves(self, nanny: NannyPeer, reason: str, now: float) -> None:
        """`nanny` is about to end, for this reason: see Heartbeat. It may be told again."""
        if not nanny.leaves:
            note(Event.NANNY_LEAVES, nanny=nanny.hello.token, host=nanny.hello.host, why=reason)
        nanny.leaves = reason
        for engine in self._peers.engines_of(nanny):
            if not engine.leaves:
                engine.leaves = reason
                engine.is_drained = True
                self._engines[engine.hello.token] = engine
                self._books.tell(ev.EngineDraining(engine.number), now)

    def look(self) -> None:
        """Once a turn: have the nannies end what has nothing left to do."""
        for token, engine in list(self._engines.items()):
            record = self._books.scheduler.engines.get(engine.number)
            nanny = self._peers.nannies.get(engine.hello.nanny)
            if record is None or nanny is None:
                del self._engines[token]
            elif not record.assigned and nanny.is_here:
                # Should this be lost, the nanny ends by itself a little later.
                self._outbox.say(nanny, m.StopEngine(token, f"left: {engine.leaves}"))
                del self._engines[token]
