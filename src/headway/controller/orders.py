"""What people want done with a cluster: more engines, fewer, others; other limits; failed tasks
put back.

Of engines it is said to the nannies, who start and stop; what comes of it is told as always, by
engines that join and leave. A drain and a limit are the scheduler's.

What this file must not know: sockets, and what engines run.
"""

from __future__ import annotations

from headway.controller.books import Books
from headway.controller.outbox import Outbox
from headway.controller.peers import EnginePeer, NannyPeer, Peers
from headway.controller.scaling import Scaling
from headway.core import events as ev
from headway.core.again import why_no_retry
from headway.core.events import EngineId, TaskId, format_engine_id, format_task_id
from headway.core.limits import LIMITS_MAX, check_tag, parse_limit
from headway.core.states import RETRIABLE_STATES
from headway.wire import messages as m


class Orders:
    """Carries out orders; each is answered in words."""

    def __init__(self, books: Books, peers: Peers, outbox: Outbox) -> None:
        self._books = books
        self._peers = peers
        self._outbox = outbox
        #: How many engines there are to be, where that follows the work.
        self.scaling = Scaling(books.scheduler, self)

    def carry_out(self, order: m.Order, now: float) -> m.Answer:
        """Do what `order` says; the answer is what was begun, or why it can't be."""
        try:
            if order.what == "start":
                text = self.start_engines(order.count)
            elif order.what == "drain":
                text = self._drain(self._engine(order.engine), now)
            elif order.what in ("stop", "restart"):
                text = self._stop(self._engine(order.engine), order.what == "restart")
            elif order.what == "scale":
                self.scaling.set_bounds(order.least, order.count, order.idle_s)
                text = f"from now on {order.least} to {order.count} engines"
            elif order.what == "limit":
                text = self._limit(order.tag, order.limit, now)
            elif order.what == "retry":
                text = self._retry(order.task, now)
            else:
                raise LookupError(f"no such order: {order.what!r}")
        except (LookupError, ValueError) as error:
            return m.Answer(order.number, error=str(error.args[0]))
        return m.Answer(order.number, {"text": text})

    def _engine(self, number: EngineId | None) -> EnginePeer:
        peer = self._peers.engines.get(number) if number is not None else None
        if peer is None:
            here = ", ".join(format_engine_id(e) for e in sorted(self._peers.engines)) or "none"
            name = format_engine_id(number) if number is not None else "no engine"
            raise LookupError(f"{name} is not here; the engines are: {here}")
        return peer

    def start_engines(self, count: int) -> str:
        """Have `count` engines more started; what was begun, in words.

        Raises:
            LookupError: nobody is here who could.
        """
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

    def give_back(self, engine: EngineId, now: float) -> None:
        """`engine`, which has nothing to do, takes no more tasks and ends."""
        peer = self._peers.engines.get(engine)
        nanny = self._peers.nannies.get(peer.hello.nanny) if peer is not None else None
        if peer is None or nanny is None or not nanny.is_here:
            return  # it is looked at again when it is there
        self._drain(peer, now)
        text = "was given back: it had nothing to do"
        self._outbox.say(nanny, m.StopEngine(peer.hello.token, text, restart=False))

    def _limit(self, tag: str, text: str, now: float) -> str:
        limit = parse_limit(text)
        check_tag(tag)
        if not self._books.scheduler.limits.knows_or_has_room(tag):
            raise LookupError(f"there are {LIMITS_MAX:,} tags already: lift a limit first")
        self._books.tell(ev.LimitSet(tag, limit), now)
        return f"{tag} is not limited" if limit.is_none else f"{tag} is limited to {limit}"

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

    def _retry(self, node: TaskId | None, now: float) -> str:
        tasks = self._books.scheduler.tasks
        task = tasks.get(node) if node is not None else None
        if node is None or task is None:
            name = format_task_id(node) if node is not None else "(no task)"
            raise LookupError(f"no task {name} is known: it was forgotten, or never submitted")
        why = why_no_retry(task)
        if not why:
            self._books.tell(ev.RetryAsked(node), now)
            # An input that is gone for good shows when it is looked for.
            why = "the value of an input is gone for good" if task.state in RETRIABLE_STATES else ""
        if why:
            raise LookupError(f"task {format_task_id(node)} can't be tried again: {why}")
        return f"task {format_task_id(node)} runs again, as attempt {task.attempt + 1}"
