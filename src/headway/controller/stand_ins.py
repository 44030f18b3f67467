"""Engines that stand in for those on which tasks wait for tasks that they have submitted.

A blocked engine takes no tasks, so its slot would be lost, and with all engines blocked nothing
would ever go on. So while nested tasks are ready, as many engines more are started beside the
blocked ones, by the nanny of these: such a stand-in runs nested tasks alone, the deepest first, so
that few are needed however many tasks wait. Rule 1: on each host as many engines work as are its
own. When a blocked engine goes on, a stand-in is one too many: it takes no more tasks, is kept for
a moment, since a task that waits once often waits again, and then ends. Rule 2: there are at most
`depth` of them for each engine of the host. Where no engine that works may run what is ready, and
no other may be started, a task that waits for it is told so: it would wait for ever.

Nothing of it is remembered: what there is says what is to be done, also after a restart.

What this file must not know: sockets, and how engines are started.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from math import inf

from headway.controller.books import Books
from headway.controller.outbox import Outbox
from headway.controller.peers import EnginePeer, NannyPeer, Peers
from headway.core import events as ev
from headway.core.events import EngineId, TaskId, format_task_id
from headway.core.ready import Lane
from headway.core.records import Engine, Task
from headway.core.words import name_of
from headway.wire import messages as m

#: While some engine is blocked, it is looked this often at most: some times what a look costs.
_LOOK_S = 0.005
#: A stand-in that was too many for so long takes no more tasks; and ends when it had none for so
#: long since. Before, the task that went on may wait again.
_SURPLUS_S = 0.01
_PARKED_S = 3.0
#: An engine that was asked for and has not joined by then did not start.
_START_S = 60.0
#: For so long it must have looked as if a task would wait for ever, before it is told.
_HOPELESS_S = 1.0
#: So many tasks of a queue are looked at for one that somebody waits for.
_WAITING_LOOK_MAX = 1_000


@dataclass(slots=True)
class _Host:
    """What one nanny has: its own engines, those that are blocked, those that stand in."""

    nanny: NannyPeer
    own: int = 0
    blocked: int = 0
    #: Stand-ins that take tasks, of which some may be blocked; and those that do not any more.
    active: list[Engine] = field(default_factory=list)
    parked: list[Engine] = field(default_factory=list)


class StandIns:
    """As many as there are blocked engines, up to a bound.

    Parameters:
        depth: so many on a host at most for each engine of its own.
    """

    def __init__(self, books: Books, peers: Peers, outbox: Outbox, depth: int) -> None:
        self._books = books
        self._peers = peers
        self._outbox = outbox
        self._depth = depth
        #: When `look` has something to do, unless something happens before.
        self.due_at_s = 0.0
        #: Blocked engines, with their runs, in the order in which they were; and of those that were
        #: told that they wait for ever.
        self._blocked: dict[EngineId, tuple[TaskId, int]] = {}
        self._told: set[EngineId] = set()
        #: By nanny: when those that were asked for are given up; the most engines of its own that
        #: it has had; since when it has a stand-in too many.
        self._starting: dict[str, list[float]] = {}
        self._own_max: dict[str, int] = {}
        self._surplus_since_s: dict[str, float] = {}
        self._known: set[EngineId] = set()
        #: Since when a parked one has had no task.
        self._parked_since_s: dict[EngineId, float] = {}
        self._hopeless_since_s = inf
        #: Nested tasks were ready that no engine had room for, when it was looked last; and when it
        #: is looked again.
        self._has_ready = False
        self._ready_at_s = 0.0

    # --- what engines say ------------------------------------------------------------------------

    def on_blocked(self, peer: EnginePeer, message: m.Blocked, now: float) -> None:
        """A task on `peer` waits for its own."""
        self._books.tell(ev.EngineBlocked(peer.number, message.task, message.attempt), now)
        self._told.discard(peer.number)
        self._blocked.pop(peer.number, None)
        self._blocked[peer.number] = (message.task, message.attempt)
        self.due_at_s = now

    def on_unblocked(self, peer: EnginePeer, message: m.Unblocked, now: float) -> None:
        """It goes on."""
        self._books.tell(ev.EngineUnblocked(peer.number), now)
        self._blocked.pop(peer.number, None)
        self.due_at_s = now

    def start_failed(self, nanny: NannyPeer) -> None:
        """Nothing that was asked of `nanny` will come."""
        self._starting.pop(nanny.hello.token, None)

    # --- once a turn -----------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Have engines started, put to rest, and ended, as is needed. Before it is placed: what the
        scheduler is told in a turn comes before what it places."""
        if now < self.due_at_s:
            return
        hosts = self._see(now)
        has_ready = self._has_ready
        for host in hosts.values():
            surplus = len(host.active) + len(self._starting_at(host)) - host.blocked
            if surplus < 0 and has_ready:
                self._add(host, -surplus, now)
            self._settle_surplus(host, surplus, now)
            self._end_parked(host, now)
        self._help(self._find_stuck() if has_ready else None, hosts, now)
        engines = self._books.scheduler.engines.values()
        is_needed = any(e.stands_in or e.blocked is not None for e in engines)
        self.due_at_s = now + (_LOOK_S if has_ready else 10 * _LOOK_S) if is_needed else inf

    def placed(self, now: float) -> None:
        """All that can be placed has been: whether anything nested is left that is ready."""
        if not self._blocked:
            self._has_ready = False
        elif now >= self._ready_at_s:
            self._ready_at_s = now + _LOOK_S
            had_ready = self._has_ready
            lanes = self._books.scheduler.lanes
            self._has_ready = any(x.count and x.restriction.depth for x in lanes)
            if self._has_ready and not had_ready:
                self.due_at_s = 0.0

    def _see(self, now: float) -> dict[str, _Host]:
        peers = self._peers
        hosts = {token: _Host(nanny) for token, nanny in peers.nannies.items()}
        engines = self._books.scheduler.engines
        for number, peer in peers.engines.items():
            host = hosts.get(peer.hello.nanny)
            engine = engines.get(number)
            if host is None or engine is None:
                continue
            if not engine.stands_in:
                host.own += 1
            elif number not in self._known and (asked := self._starting.get(peer.hello.nanny)):
                del asked[0]
            if engine.stands_in and peer.is_drained:
                host.parked.append(engine)
                continue
            if engine.stands_in:
                host.active.append(engine)
            if engine.blocked is not None:
                host.blocked += 1
        self._known = set(engines)
        for number in [n for n in self._blocked if n not in engines or not engines[n].blocked]:
            del self._blocked[number]
        self._told &= self._blocked.keys()
        for gone in self._own_max.keys() - hosts.keys():
            del self._own_max[gone]
            self._starting.pop(gone, None)
            self._surplus_since_s.pop(gone, None)
        for token, host in hosts.items():
            self._own_max[token] = max(self._own_max.get(token, 0), host.own)
            if token in self._starting:
                self._starting[token] = [at_s for at_s in self._starting[token] if at_s > now]
        return hosts

    def _starting_at(self, host: _Host) -> list[float]:
        return self._starting.get(host.nanny.hello.token, [])

    def _may_start(self, host: _Host) -> int:
        """How many more may be started there."""
        nanny = host.nanny
        if not nanny.is_here or nanny.failure or nanny.leaves:
            return 0
        most = self._depth * self._own_max[nanny.hello.token]
        return most - len(host.active) - len(host.parked) - len(self._starting_at(host))

    def _add(self, host: _Host, count: int, now: float) -> None:
        """`count` more: those that were put to rest first."""
        for engine in sorted(host.parked, key=lambda e: e.load)[:count]:
            peer = self._peers.engines[engine.id]
            if not peer.is_here:
                continue
            peer.is_drained = False
            host.parked.remove(engine)
            self._parked_since_s.pop(engine.id, None)
            self._books.tell(ev.EngineResumed(engine.id), now)
            count -= 1
        count = min(count, self._may_start(host))
        if count > 0:
            token = host.nanny.hello.token
            self._outbox.say(host.nanny, m.StartEngines(count, stand_ins=True))
            self._starting.setdefault(token, []).extend([now + _START_S] * count)

    def _settle_surplus(self, host: _Host, surplus: int, now: float) -> None:
        """Put one to rest for each that has been too many for a while."""
        token = host.nanny.hello.token
        surplus = min(surplus, len(host.active))
        if surplus <= 0:
            self._surplus_since_s.pop(token, None)
            return
        if now - self._surplus_since_s.setdefault(token, now) < _SURPLUS_S:
            return
        free = sorted((e for e in host.active if e.blocked is None), key=lambda e: e.load)
        for engine in free[:surplus]:
            self._peers.engines[engine.id].is_drained = True
            self._books.tell(ev.EngineDraining(engine.id), now)

    def _end_parked(self, host: _Host, now: float) -> None:
        for engine in host.parked:
            if engine.assigned:
                self._parked_since_s.pop(engine.id, None)
                continue
            idle_s = now - self._parked_since_s.setdefault(engine.id, now)
            if idle_s >= _PARKED_S and host.nanny.is_here:
                token = self._peers.engines[engine.id].hello.token
                why = "was given back: nobody waits whom it would stand in for"
                self._outbox.say(host.nanny, m.StopEngine(token, why))
                self._parked_since_s[engine.id] = now  # should that be lost, it is said again
        for number in self._parked_since_s.keys() - self._peers.engines.keys():
            del self._parked_since_s[number]

    # --- no hope ---------------------------------------------------------------------------------

    def _find_stuck(self) -> Lane | None:
        """The deepest nested tasks that are ready, and that no engine which works may run: all are
        blocked, or the task was refused where it is free."""
        stuck = None
        for lane in self._books.scheduler.lanes:
            r = lane.restriction
            if not lane.count or not r.depth or r.allowed is not None:
                continue
            if any(self._works(engine) for engine in lane.engines.values()):
                continue
            if lane.engines and (stuck is None or r.depth > stuck.restriction.depth):
                stuck = lane
        return stuck

    def _works(self, engine: Engine) -> bool:
        """Whether it takes tasks, or will when its connection is there again."""
        peer = self._peers.engines.get(engine.id)
        is_away = peer is not None and not peer.is_here
        return is_away or (engine.blocked is None and not engine.draining)

    def _hosts_of(self, lane: Lane, hosts: dict[str, _Host]) -> list[_Host]:
        """Where an engine more may run these tasks, as those that are blocked there may."""
        nannies = dict.fromkeys(
            peer.hello.nanny
            for number in lane.engines
            if (peer := self._peers.engines.get(number)) is not None
        )
        return [hosts[token] for token in nannies if token in hosts]

    def _help(self, stuck: Lane | None, hosts: dict[str, _Host], now: float) -> None:
        """Start one more for tasks that none of those may run that work; or, where that can't be,
        tell a task that waits for one of them, one at a time."""
        helpers = self._hosts_of(stuck, hosts) if stuck is not None else []
        if stuck is None or any(self._starting_at(host) for host in helpers):
            self._hopeless_since_s = inf
            return
        for host in helpers:
            if self._may_start(host) > 0:
                self._hopeless_since_s = inf
                self._add(host, 1, now)
                return
        self._hopeless_since_s = min(self._hopeless_since_s, now)
        if self._told or now - self._hopeless_since_s < _HOPELESS_S:
            return
        waits_for = {engine_task: number for number, (engine_task, _) in self._blocked.items()}
        for task in islice(stuck.waiting(), _WAITING_LOOK_MAX):
            number = waits_for.get(task.nest.parent) if task.nest is not None else None
            if number is not None:
                self._tell(number, task)
                return

    def _tell(self, number: EngineId, child: Task) -> None:
        """What `number` runs waits for `child`, which can't run."""
        task, attempt = self._blocked[number]
        self._told.add(number)
        why = (
            f"task {format_task_id(task)} would wait for ever: it waits for {name_of(child)}, and "
            f"the engines that may run this are those of {len(self._blocked)} tasks that wait for "
            f"tasks of their own. Let fewer of them wait for each other, or allow more engines to "
            f"stand in for those that wait: nested_depth is {self._depth}"
        )
        self._outbox.say(self._peers.engines[number], m.StopWaiting(task, attempt, why))
