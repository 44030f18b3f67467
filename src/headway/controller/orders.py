"""What people want done with engines: more of them, none, others.

It is said to the nannies, who start and stop; what comes of it is told as always, by engines that
join and leave. A drain alone is the scheduler's.

What this file must not know: sockets, and what engines run.
"""

from __future__ import annotations

from headway.controller.books import Books
from headway.controller.outbox import Outbox
from headway.controller.peers import EnginePeer, NannyPeer, Peers
from headway.core import events as ev
from headway.core.events import EngineId, format_engine_id
from headway.wire import messages as m


class Orders:
    """Carries out orders; each is answered in words."""

    def __init__(self, books: Books, peers: Peers, outbox: Outbox) -> None:
        self._books = books
        self._peers = peers
        self._outbox = outbox

    def carry_out(self, order: m.Order, now: float) -> m.Answer:
        """Do what `order` says; the answer is what was begun, or why it can't be."""
        try:
            if order.what == "start":
                text = self._start(order.count)
            elif order.what == "drain":
                text = self._drain(self._engine(order.engine), now)
            elif order.what in ("stop", "restart"):
                text = self._stop(self._engine(order.engine), order.what == "restart")
            else:
                raise LookupError(f"no such order: {order.what!r}")
        except LookupError as error:
            return m.Answer(order.number, error=str(error.args[0]))
        return m.Answer(order.number, {"text": text})

    def _engine(self, number: EngineId | None) -> EnginePeer:
        peer = self._peers.engines.get(number) if number is not None else None
        if peer is None:
            here = ", ".join(format_engine_id(e) for e in sorted(self._peers.engines)) or "none"
            name = format_engine_id(number) if number is not None else "no engine"
            raise LookupError(f"{name} is not here; the engines are: {here}")
        return peer

    def _start(self, count: int) -> str:
        nannies = [
            n for n in self._peers.nannies.values() if n.is_here and not (n.failure or n.leaves)
        ]
        if not nannies:
            raise LookupError(
                "no nanny is here that could start engines: the cluster was started with "
                "--engines 0, or its nanny has given up"
            )
        # To those that have the fewest.
        shares: dict[str, int] = {}
        loads = {n.hello.token: len(self._peers.engines_of(n)) for n in nannies}
        for _ in range(count):
            token = min(loads, key=lambda each: loads[each])
            loads[token] += 1
            shares[token] = shares.get(token, 0) + 1
        for token, share in shares.items():
            self._outbox.say(self._peers.nannies[token], m.StartEngines(share))
        hosts = ", ".join(f"{n.hello.host}" for n in nannies if n.hello.token in shares)
        return f"{count} engine{'s' if count != 1 else ''} more on {hosts}"

    def _drain(self, peer: EnginePeer, now: float) -> str:
        peer.is_drained = True
        self._books.tell(ev.EngineDraining(peer.number), now)
        return f"{format_engine_id(peer.number)} takes no more tasks, and ends those that it began"

    def _stop(self, peer: EnginePeer, restart: bool) -> str:
        name = format_engine_id(peer.number)
        nanny: NannyPeer | None = self._peers.nannies.get(peer.hello.nanny)
        if nanny is None or not nanny.is_here:
            raise LookupError(f"the nanny of {name} is not here, and nobody else can stop it")
        what = "restarted" if restart else "stopped"
        message = m.StopEngine(peer.hello.token, f"was {what} by request", restart)
        self._outbox.say(nanny, message)
        return f"{name} is {what}: what it runs is repeated elsewhere, where it may be"
