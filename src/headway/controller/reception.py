"""Who comes, who comes back, who goes: the peers' hellos, and the loss of their connections.

A peer that loses its connection is away, not gone: it keeps its number and what it has asked
for, is told nothing, and when it says hello again it is told what it missed. It is gone when it
says so, when its nanny does, when its process is not there any more, or when it has been away
or silent for too long.

What this file must not know: what peers say about tasks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from msgspec import structs

from headway.config import WireConfig
from headway.controller.books import Books
from headway.controller.descriptors import CONNECTIONS, ENGINE_CONNECTIONS
from headway.controller.meter import Meter
from headway.controller.outbox import Outbox
from headway.controller.peers import ClientPeer, EnginePeer, NannyPeer, Peer, Peers
from headway.controller.printed import Unshown
from headway.controller.undelivered import Undelivered
from headway.core import events as ev
from headway.core.commands import Deliver
from headway.core.events import EngineId, format_engine_id, format_task_id
from headway.core.states import TaskState
from headway.errors import ProtocolError
from headway.logbook import Event, note
from headway.processes import process_identity
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.codec import Buffer

#: What a peer may say whose connection is new to us: it was there before, and knows it not.
_ANY = (codec.from_client, codec.from_engine, codec.from_nanny)


class Reception:
    """Decides who is a peer.

    Parameters:
        send: sends frames to an identity; False if nobody is there.
        notice: tells all clients something.
        engine_died: told what a nanny says of an engine that ended while it had no connection.
        returned: told of a client that came back.
        is_dying: whether the end of an engine was reported, and is believed in a moment.
        reconnect_s: how long peers try to come back to a controller that is away.
        connections_max: how many connections this process can have.
        meter: counts who comes and goes.
        value_store: the URL of where the hosts share large values; "" for nowhere.
    """

    def __init__(
        self,
        cluster: str,
        epoch: int,
        books: Books,
        peers: Peers,
        outbox: Outbox,
        wire: WireConfig,
        send: Callable[[bytes, list[Buffer]], bool],
        notice: Callable[[str], None],
        engine_died: Callable[[m.EngineDied, float], None],
        returned: Callable[[ClientPeer], None],
        is_dying: Callable[[EngineId], bool],
        reconnect_s: float,
        connections_max: int,
        meter: Meter,
        value_store: str = "",
    ) -> None:
        self._cluster = cluster
        self._epoch = epoch
        self._books = books
        self._peers = peers
        self._outbox = outbox
        self._wire = wire
        self._send = send
        self._notice = notice
        self._engine_died = engine_died
        self._returned = returned
        self._is_dying = is_dying
        self._reconnect_s = reconnect_s
        self._connections_max = connections_max
        self._meter = meter
        self._value_store = value_store
        outbox.shares_values = bool(value_store)
        self._hello = codec.hello()
        self._any = [make() for make in _ANY]
        self._host = socket.gethostname()

    def expect(self, now: float) -> None:
        """Expect back those that the ledger knows: this controller took over from another."""
        ledger = self._books.ledger
        for client, known in ledger.clients.items():
            peer = ClientPeer(known.identity, client, known.hello, now, is_here=False)
            self._peers.add(peer)
        for engine, entry in ledger.engines.items():
            self._peers.add(EnginePeer(entry.identity, engine, entry.hello, now, is_here=False))
            self._books.tell(ev.EngineDraining(engine), now)

    # --- hellos ----------------------------------------------------------------------------------

    def introduce(self, identity: bytes, frames: list[bytes], now: float) -> None:
        """Hear the first message on a connection, or the first after it was lost."""
        own_identity = identity.removesuffix(m.RESULTS_SUFFIX)
        try:
            hello = self._hello.decode(frames)
        except ProtocolError as error:
            message = self._message_of_some_peer(frames)
            peer = self._peers.find(identity)
            if peer is not None and isinstance(message, m.Bye):
                # It was on its way when something that was sent found the connection closed.
                self.lose(peer, message.reason or "said goodbye", now, said_bye=True)
            elif message is not None:
                self.ask_who(own_identity)
            else:
                self.turn_away(identity, f"not a hello of headway protocol {m.VERSION}: {error}")
            return
        peer = self._peers.find(identity)
        if hello.version != m.VERSION:
            self.turn_away(
                identity,
                f"this peer speaks headway protocol {hello.version}, the controller {m.VERSION}: "
                f"install the same version of headway on both",
            )
        elif identity != own_identity:
            self.turn_away(
                identity, f"a hello on a connection for results ({m.RESULTS_SUFFIX.decode()})"
            )
        elif hello.cluster and hello.cluster != self._cluster:
            self._decline(
                identity,
                f"this is the cluster {self._cluster}, and no longer {hello.cluster}, to which "
                "this peer belongs",
            )
        elif peer is not None:
            self.welcome_back(peer, hello, now)
        else:
            self._welcome_new(identity, hello, now)

    def _message_of_some_peer(self, frames: list[bytes]) -> object | None:
        for decoder in self._any:
            try:
                return decoder.decode(frames)
            except ProtocolError:
                continue
        return None

    def ask_who(self, identity: bytes) -> None:
        """Ask who is there; an answer is a hello."""
        self._send(identity, codec.encode(m.WhoAreYou()))

    def _welcome_new(self, identity: bytes, hello: m.Hello, now: float) -> None:
        peer: Peer
        own = ENGINE_CONNECTIONS if isinstance(hello, m.EngineHello) else CONNECTIONS
        if self._peers.connections + own > self._connections_max:
            self._decline(
                identity,
                f"this controller has {self._peers.connections:,} connections, and can't open "
                "more files: raise the hard limit where it runs (`ulimit -Hn`)",
            )
        elif isinstance(hello, m.NannyHello):
            peer = NannyPeer(identity, hello, now)
            note(Event.NANNY_JOINED, nanny=hello.token, host=hello.host, pid=hello.pid)
            self._greet(peer, 0, 0)
            self._compare_engines(hello, now)
        elif hello.cluster or self._peers.is_gone(identity):
            role = "client" if isinstance(hello, m.ClientHello) else "engine"
            self._decline(
                identity,
                f"this {role} was given up while it was away: what it asked for was dropped"
                if role == "client"
                else f"this {role} was given up while it was away: its tasks run elsewhere",
            )
        elif isinstance(hello, m.ClientHello):
            number = self._books.client_came(identity, hello, now)
            peer = ClientPeer(identity, number, hello, now)
            note(Event.CLIENT_JOINED, client=number, host=hello.host, pid=hello.pid)
            self._greet(peer, number, 0)
        elif self._peers.is_dead(hello.token):
            self._decline(identity, "this engine has ended, as its nanny says")
        else:
            nanny = self._peers.nannies.get(hello.nanny)
            if nanny is not None:
                nanny.has_started = True
            engine = self._books.engine_came(identity, hello, now)
            self._meter.engines_joined += 1
            name = format_engine_id(engine)
            note(Event.ENGINE_JOINED, engine=name, host=hello.host, pid=hello.pid)
            self._greet(EnginePeer(identity, engine, hello, now), engine, 0)

    def _greet(self, peer: Peer, number: int, accepted: int) -> None:
        if self._peers.find(peer.identity) is not peer:
            self._peers.add(peer)
        wire = self._wire
        welcome = m.Welcome(
            m.VERSION, self._cluster, self._epoch, number, wire.heartbeat_s,
            wire.heartbeat_timeout_s, accepted, self._reconnect_s, peer.hello.nth,
            self._value_store,
        )  # fmt: skip
        self._outbox.greet(peer, welcome)

    def welcome_back(self, peer: Peer, hello: m.Hello, now: float) -> None:
        """A peer that we know says hello again: its connection was lost, or we ended meanwhile.

        Raises:
            ProtocolError: it says that it is another.
        """
        if type(hello) is not type(peer.hello) or _name_of(hello) != _name_of(peer.hello):
            raise ProtocolError("a hello of another peer on its connection")
        if hello.nth <= peer.hello.nth:
            # It came twice. What the peer held then is no longer what it holds.
            return
        note(Event.PEER_BACK, peer=_peer_name(peer))
        peer.heard_at_s = now
        peer.is_here = True
        peer.hello = hello
        ledger = self._books.ledger
        if isinstance(peer, ClientPeer):
            # What it was shown of what was on its way, nobody will say.
            peer.unshown = Unshown()
            # It will ask for the ends that it missed (Resume), and knows of no hold any more.
            peer.undelivered = Undelivered()
            peer.is_held = False
            self._returned(peer)
            self._greet(peer, peer.number, ledger.clients[peer.number].batch)
        elif isinstance(peer, EnginePeer):
            self._greet(peer, peer.number, ledger.engines[peer.number].batch)
            self._reconcile(peer, now)
            peer.hello = structs.replace(peer.hello, held=[])
        else:
            self._greet(peer, 0, 0)
            self._compare_engines(peer.hello, now)

    def _reconcile(self, peer: EnginePeer, now: float) -> None:
        """Take back what an engine was sent and never got."""
        record = self._books.scheduler.engines[peer.number]
        held = {(held.task, held.attempt) for held in peer.hello.held}
        missing = [t.id for t in record.assigned.values() if (t.id, t.attempt) not in held]
        if missing or record.recalling:
            # Also of a recall, neither the question nor the answer may have arrived.
            self._books.tell(ev.GaveBack(peer.number, missing), now)
        if not peer.is_drained:
            self._books.tell(ev.EngineResumed(peer.number), now)
        peer.functions.clear()
        peer.dropped_functions.clear()
        self._stop_again(peer)

    def _stop_again(self, peer: EnginePeer) -> None:
        """An engine, or the nanny that makes sure of it, may not have heard what is to be stopped.
        To hear it twice changes nothing."""
        assigned = self._books.scheduler.engines[peer.number].assigned
        to_stop = [task.id for task in assigned.values() if task.cancelled]
        if to_stop:
            self._outbox.stop(peer.number, to_stop)

    def _compare_engines(self, hello: m.NannyHello, now: float) -> None:
        """What a nanny says of its engines, after it could not say so for a while."""
        for died in hello.died:
            self._engine_died(died, now)
        if not hello.cluster:
            return
        living = {*hello.engines, *(died.token for died in hello.died)}
        for peer in list(self._peers.engines.values()):
            if peer.hello.nanny != hello.token:
                continue
            if peer.hello.token in living:
                self._stop_again(peer)
            else:
                self._give_up(peer, "ended while its nanny had no connection", now)

    # --- refusals --------------------------------------------------------------------------------

    def _decline(self, identity: bytes, reason: str) -> None:
        """Tell `identity` that it has no place here; as often as it says hello, since the answer
        may be lost."""
        self._note_refused(identity, reason)
        self._send(identity, codec.encode(m.Refused(reason)))

    def turn_away(self, identity: bytes, reason: str) -> None:
        """Tell `identity` that it is not heard, and why; and hear it no more."""
        self._note_refused(identity, reason)
        self._peers.ban(identity)
        self._send(identity, codec.encode(m.Refused(reason)))

    def _note_refused(self, identity: bytes, reason: str) -> None:
        self._meter.peers_refused += 1
        peer = self._peers.find(identity)
        name = _peer_name(peer) if peer is not None else identity.decode(errors="backslashreplace")
        note(Event.PEER_REFUSED, peer=name, why=reason)

    def refuse(self, peer: Peer, reason: str, now: float) -> None:
        """`peer` broke the protocol: tell it so, and hear it no more."""
        self.turn_away(peer.identity, reason)
        self.lose(peer, f"broke the protocol: {reason}", now)

    # --- away, and gone --------------------------------------------------------------------------

    def is_away(self, peer: Peer, now: float) -> None:
        """A message found nobody at `peer`'s end. It may come back."""
        if self._peers.find(peer.identity) is not peer or not peer.is_here:
            return
        peer.is_here = False
        peer.heard_at_s = now
        note(Event.PEER_AWAY, peer=_peer_name(peer))
        if isinstance(peer, EnginePeer):
            self._books.tell(ev.EngineDraining(peer.number), now)
        elif isinstance(peer, ClientPeer):
            peer.undelivered = Undelivered()

    def look_around(self, now: float, heard_s: float) -> None:
        """Once a heartbeat: give signs of life, and see who gives none. All that was sent before
        `heard_s` was heard."""
        wire = self._wire
        for peer in self._peers:
            patience_s = wire.heartbeat_timeout_s if peer.is_here else wire.away_timeout_s
            silent = peer.heard_at_s < heard_s - patience_s
            if peer.is_here:
                is_lost = silent and not self._is_alive_here(peer)
            else:
                is_lost = silent or self._is_alive_here(peer) is False
            if isinstance(peer, ClientPeer):
                peer.is_silent = silent
            if is_lost:
                self.lose(peer, self._how_lost(peer, patience_s), now)
            elif not peer.is_here:
                self.ask_who(peer.identity)
            elif not isinstance(peer, EnginePeer) and not silent:
                # Not to one that does not read: it would hear all of them when it goes on.
                self._outbox.say(peer, m.Ping())

    def _how_lost(self, peer: Peer, patience_s: float) -> str:
        if peer.is_here:
            return f"was silent for {patience_s:g} s"
        return "lost its connection, and did not come back"

    def lose(self, peer: Peer, why: str, now: float, *, said_bye: bool = False) -> None:
        """`peer` is gone, for a reason that nobody reported but the connection, or itself."""
        if self._peers.find(peer.identity) is not peer:
            return
        if isinstance(peer, ClientPeer):
            note(Event.CLIENT_LEFT, client=peer.number, why=why)
            self._peers.remove(peer)
            self._outbox.watchers.forget(peer)
            is_lost_with_engine = bool(peer.hello.engine) and not said_bye
            self._books.tell(ev.ClientLeft(peer.number, is_lost_with_engine), now)
        elif isinstance(peer, EnginePeer):
            self._give_up(peer, why, now)
            nanny = self._peers.nannies.get(peer.hello.nanny)
            if nanny is not None:
                self._outbox.say(nanny, m.StopEngine(peer.hello.token, why, restart=True))
        else:
            note(Event.NANNY_LEFT, nanny=peer.hello.token, host=peer.hello.host, why=why)
            self._peers.remove(peer)
            for engine in self._peers.engines_of(peer):
                if self._is_dying(engine.number):
                    continue  # it is believed in its time, and ended as was reported
                self._give_up(engine, f"was lost with its nanny, which {why}", now)
            if self._value_store and (other := self._peers.some_nanny()) is not None:
                self._outbox.say(other, m.TakeStock(peer.hello.token))

    def _give_up(self, peer: EnginePeer, why: str, now: float) -> None:
        """Nobody reported the end of this engine. If it lives, it shall know: its tasks run
        elsewhere from now on, and it will get no others."""
        if peer.is_here:
            self._send(peer.identity, codec.encode(m.Refused(f"this engine {why}")))
        # Of one that was about to leave, no task is to blame: its time was over sooner.
        end = ev.EngineEnd(why, wanted=bool(peer.leaves))
        self.lose_engine(peer, ev.EngineLeft(peer.number, end, known=False), now)

    def lose_engine(
        self, peer: EnginePeer, event: ev.EngineLeft, now: float, how: str = "lost"
    ) -> None:
        """An engine has ended, as `event` says; `how` is that in one word: see EngineDied."""
        if self._peers.find(peer.identity) is not peer:
            return
        self._peers.remove(peer)
        record = self._books.scheduler.engines.get(peer.number)
        tasks = len(record.assigned) if record is not None else 0
        before = len(self._books.commands)
        self._books.tell(event, now)
        for client in list(self._peers.clients.values()):
            if client.hello.engine == peer.hello.token:
                self.lose(client, "ended with its engine", now)
        name, end = format_engine_id(peer.number), event.end
        reason = "wanted" if end.wanted else "overran" if end.overran else how
        self._meter.engine_ended(reason)
        if end.wanted:
            note(Event.ENGINE_LEFT, engine=name, why=end.text)
            return
        host = peer.hello.host
        note(Event.ENGINE_DIED, engine=name, host=host, reason=reason, why=end.text, tasks=tasks)
        self._note_lost(before)
        self._notice(f"engine {name} {end.text}")

    def _note_lost(self, before: int) -> None:
        """Log the tasks that the last event has ended as LOST: what it led to begins there."""
        tasks = self._books.scheduler.tasks
        for command in self._books.commands[before:]:
            if isinstance(command, Deliver) and command.state == TaskState.LOST:
                task, problem = tasks.get(command.task), command.problem
                label = task.options.label if task is not None else ""
                why = problem.text if problem is not None else ""
                note(Event.TASK_LOST, task=format_task_id(command.task), label=label, why=why)

    def _is_alive_here(self, peer: Peer) -> bool | None:
        """Whether a client's process runs on this host: then it is busy, not gone. None if that
        can't be said.

        A task in C may hold the client's GIL for minutes. A nanny is never that busy, and of an
        engine it is the nanny's heartbeats that give the signs of life: one that they have not
        named for so long has ended, and the report of it was lost.
        """
        if not isinstance(peer, ClientPeer):
            return None
        if peer.hello.host != self._host or peer.hello.pid <= 0:
            return None
        try:
            os.kill(peer.hello.pid, 0)
        except (ProcessLookupError, OverflowError):  # none, or no number that a process can have
            return False
        except PermissionError:
            return True
        # One that has ended may stay unburied for ever, in a container without an init.
        return bool(process_identity(peer.hello.pid))


def _peer_name(peer: Peer) -> str:
    """A peer for people: `client 3`, `engine e0`, `nanny of HOST`."""
    if isinstance(peer, ClientPeer):
        return f"client {peer.number}"
    if isinstance(peer, EnginePeer):
        return f"engine {format_engine_id(peer.number)}"
    return f"nanny of {peer.hello.host}"


def _name_of(hello: m.Hello) -> str:
    return hello.session if isinstance(hello, m.ClientHello) else hello.token
