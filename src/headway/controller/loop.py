"""The controller: the one place on the server that owns sockets and the clock.

One turn of the loop: take in everything that waits, decode it, tell the scheduler, `place` once,
send. Nothing is decided here but who may speak; what is said is the scheduler's business, and no
payload is ever opened.

A peer that breaks the protocol is told why, and is heard no more; its tasks go the way of any
peer's that left. Nothing else is disturbed.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import zmq

from headway.config import SchedulerConfig, WireConfig
from headway.controller.answers import answer
from headway.controller.outbox import Outbox
from headway.controller.outlook import Outlook
from headway.controller.peers import ClientPeer, EnginePeer, NannyPeer, Peer, Peers
from headway.core import events as ev
from headway.core.commands import Command
from headway.core.events import ClientId, EngineId, format_engine_id
from headway.core.problems import KIND_TOO_LARGE
from headway.core.scheduler import Scheduler
from headway.errors import ProtocolError
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.codec import Buffer

#: At most so many messages are taken in before the loop places and sends: a turn stays short.
_MESSAGES_A_TURN = 200
#: A death that a nanny reports is believed this much later: what the engine itself had sent
#: before travels on another connection, and counts if it is there by then.
_DEATH_DELAY_S = 0.005
#: While messages wait that were not taken in, nobody is given up, since theirs may be among
#: them; but under a load that never ends not for longer than this.
_BACKLOG_PATIENCE_S = 1.0


class Controller:
    """Sockets and clock around a Scheduler.

    Parameters:
        router: a bound ROUTER, with ROUTER_MANDATORY; the controller closes it.
        cluster: the cluster's random name.
        lifeline: a file descriptor whose end of file stops the controller, None for none.
        child_ended: asked about every heartbeat; a text says that the local nanny ended, and how.
        child_pid: the process id of that nanny.
        engines_expected: how many engines are being started: e0, e1 and so on.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        cluster: str,
        scheduler: SchedulerConfig,
        wire: WireConfig,
        lifeline: int | None = None,
        child_ended: Callable[[], str | None] = lambda: None,
        child_pid: int = 0,
        engines_expected: int = 0,
    ) -> None:
        self._router = router
        self._cluster = cluster
        self._wire = wire
        self._lifeline = lifeline
        self._child_ended = child_ended
        self._child_pid = child_pid
        self.scheduler = Scheduler(scheduler, Random(scheduler.seed))
        self.peers = Peers()
        self._outlook = Outlook(self.peers)
        self._outbox = Outbox(self.peers, wire, self._send)
        self._hello = codec.hello()
        self._commands: list[Command] = []
        expected = [EngineId(number) for number in range(engines_expected)]
        self.scheduler.handle(ev.EnginesExpected(expected), 0.0, self._commands)
        self._clients_seen = 0
        self._engines_seen = 0
        self._epoch = 1
        #: Deaths reported, and when to believe them.
        self._deaths: deque[tuple[float, EnginePeer, ev.EngineLeft]] = deque()
        #: What clients asked in this turn.
        self._questions: list[tuple[ClientPeer, m.Ask]] = []
        self._chores_at_s = 0.0
        #: The last turn ended with something to send or to place.
        self._unfinished = False
        self._scheme_failure_said = False
        self._parent = os.getppid()
        self.stop_reason: str | None = None
        self._host = socket.gethostname()
        self._handlers: dict[type, Callable[[Any, Any, float], None]] = {
            m.Submit: self._on_submit,
            m.Release: self._on_release,
            m.Cancel: self._on_cancel,
            m.Ask: self._on_ask,
            m.Shown: self._on_shown,
            m.Shutdown: self._on_shutdown,
            m.Outcomes: self._on_outcomes,
            m.Returned: self._on_returned,
            m.Output: self._on_output,
            m.Heartbeat: self._on_heartbeat,
            m.EngineDied: self._on_engine_died,
            m.EnginesFailed: self._on_engines_failed,
            m.Ping: lambda peer, message, now: None,
            m.Bye: self._on_bye,
        }

    # --- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop: by a client, a signal, or the end of the lifeline."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        old_wakeup = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        old_handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(wake_read, zmq.POLLIN)
        if self._lifeline is not None:
            poller.register(self._lifeline, zmq.POLLIN)
        try:
            while self.stop_reason is None:
                ready = dict(poller.poll(self._patience_ms()))
                if self._lifeline in ready and not os.read(self._lifeline, 4096):  # type: ignore[arg-type]
                    self.stop_reason = "its owner ended"
                self._turn(time.monotonic())
        finally:
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in old_handlers.items():
                signal.signal(number, handler)
            os.close(wake_read)
            os.close(wake_write)

    def _on_signal(self, number: int, frame: object) -> None:
        self.stop_reason = f"it was told to by {signal.Signals(number).name}"

    def _patience_ms(self) -> int:
        """How long nothing needs to be done unless a message comes."""
        if self._unfinished:
            return 0
        now = time.monotonic()
        at_s = self._chores_at_s
        deadline_s = self.scheduler.next_deadline_s()
        if deadline_s is not None:
            at_s = min(at_s, deadline_s)
        if self._deaths:
            at_s = min(at_s, self._deaths[0][0])
        # Rounded up, so that what is waited for is due when the poll ends.
        return max(0, int((at_s - now) * 1000) + 1)

    def _turn(self, now: float) -> None:
        """Take in what waits, then place once, then send."""
        heard_s = now if self._take_in(now) else now - _BACKLOG_PATIENCE_S
        commands = self._commands
        while self._deaths and self._deaths[0][0] <= heard_s:
            _, peer, event = self._deaths.popleft()
            self._lose_engine(peer, event, now)
        deadline_s = self.scheduler.next_deadline_s()
        if deadline_s is not None and deadline_s <= now:
            self.scheduler.tick(now, commands)
        if now >= self._chores_at_s:
            self._chores_at_s = now + self._wire.heartbeat_s
            self._do_chores(now, heard_s)
        self._tell_outlook()
        self.scheduler.place(now, commands)
        # Answered when everything is in its place: what waits then, waits for a reason.
        for asker, question in self._questions:
            self._outbox.say(asker, answer(question, self.scheduler, self.peers, now))
        self._questions.clear()
        self._outbox.put(commands)
        commands.clear()
        self._outbox.flush()
        unsendable, self._outbox.unsendable = self._outbox.unsendable, []
        for task, why in unsendable:
            self._tell(ev.Abandoned(task.id, KIND_TOO_LARGE, why, task.attempt), now)
        unreachable, self._outbox.unreachable = self._outbox.unreachable, []
        for gone in unreachable:
            self._on_unreachable(gone, now)
        self._unfinished = bool(unsendable or unreachable)

    def _take_in(self, now: float) -> bool:
        """Hear what waits, up to a turn's worth; whether that was all."""
        for _ in range(_MESSAGES_A_TURN):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return True
            self._receive(frames[0], frames[1:], now)
        return False

    def _tell(self, event: ev.Event, now: float) -> None:
        self.scheduler.handle(event, now, self._commands)

    def _send(self, identity: bytes, frames: list[Buffer]) -> bool:
        try:
            # Large frames are handed over, not copied; for small ones a copy is cheaper.
            self._router.send_multipart([identity, *frames], zmq.NOBLOCK, copy=len(frames) == 1)
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True

    # --- who speaks ------------------------------------------------------------------------------

    def _receive(self, identity: bytes, frames: list[bytes], now: float) -> None:
        peer = self.peers.find(identity)
        if peer is None:
            if not self.peers.is_banned(identity):
                self._introduce(identity, frames, now)
            return
        peer.heard_at_s = now
        try:
            message = peer.decoder.decode(frames)
            handler = self._handlers.get(type(message))
            if handler is None:
                raise ProtocolError("a hello on a connection that has introduced itself")
            handler(peer, message, now)
        except ProtocolError as error:
            self._refuse(peer, str(error), now)

    def _introduce(self, identity: bytes, frames: list[bytes], now: float) -> None:
        try:
            hello = self._hello.decode(frames)
        except ProtocolError as error:
            self._turn_away(identity, f"not a hello of headway protocol {m.VERSION}: {error}")
            return
        if hello.version != m.VERSION:
            self._turn_away(
                identity,
                f"this peer speaks headway protocol {hello.version}, the controller {m.VERSION}: "
                f"install the same version of headway on both",
            )
        elif identity.endswith(m.RESULTS_SUFFIX):
            self._turn_away(
                identity, f"a hello on a connection for results ({m.RESULTS_SUFFIX.decode()})"
            )
        elif isinstance(hello, m.ClientHello):
            self._welcome_client(identity, hello, now)
        elif isinstance(hello, m.EngineHello):
            self._welcome_engine(identity, hello, now)
        else:
            self._welcome(NannyPeer(identity, hello, now), 0)

    def _welcome(self, peer: Peer, number: int) -> None:
        self.peers.add(peer)
        wire = self._wire
        self._outbox.say(
            peer,
            m.Welcome(
                m.VERSION,
                self._cluster,
                self._epoch,
                number,
                wire.heartbeat_s,
                wire.heartbeat_timeout_s,
            ),
        )
        # The welcome must be the first thing that a peer hears: before any task or output.
        self._outbox.flush()

    def _welcome_client(self, identity: bytes, hello: m.ClientHello, now: float) -> None:
        self._clients_seen += 1
        peer = ClientPeer(identity, ClientId(self._clients_seen), hello, now)
        self._welcome(peer, peer.number)
        self._tell(ev.ClientJoined(peer.number), now)

    def _welcome_engine(self, identity: bytes, hello: m.EngineHello, now: float) -> None:
        if self.peers.is_dead(hello.token):
            self._turn_away(identity, "this engine has ended, as its nanny says")
            return
        number = EngineId(self._engines_seen)
        self._engines_seen += 1
        peer = EnginePeer(identity, number, hello, now)
        self._welcome(peer, number)
        nanny = self.peers.nannies.get(hello.nanny)
        if nanny is not None:
            nanny.has_started = True
        self._tell(ev.EngineJoined(number, hello.resources, hello.host, hello.pid), now)

    def _refuse(self, peer: Peer, reason: str, now: float) -> None:
        """`peer` broke the protocol: tell it so, and hear it no more."""
        self._turn_away(peer.identity, reason)
        self._lose(peer, f"broke the protocol: {reason}", now)

    def _turn_away(self, identity: bytes, reason: str) -> None:
        self.peers.ban(identity)
        self._send(identity, codec.encode(m.Refused(reason)))

    def _on_unreachable(self, peer: Peer, now: float) -> None:
        """A message found nobody at `peer`'s end.

        Of an engine its nanny knows more: it has told of its death, or is about to; if the
        engine lives after all, it missed a message, and has to go.
        """
        if self.peers.find(peer.identity) is not peer:
            return
        why = "lost its connection"
        nanny = self.peers.nannies.get(peer.hello.nanny) if isinstance(peer, EnginePeer) else None
        if nanny is None or not isinstance(peer, EnginePeer):
            self._lose(peer, why, now)
        else:
            self._outbox.say(nanny, m.StopEngine(peer.hello.token, why, restart=True))

    def _lose(self, peer: Peer, why: str, now: float) -> None:
        """`peer` is gone, for a reason that nobody reported but the connection."""
        if self.peers.find(peer.identity) is not peer:
            return
        if isinstance(peer, ClientPeer):
            self.peers.remove(peer)
            self._tell(ev.ClientLeft(peer.number), now)
        elif isinstance(peer, EnginePeer):
            end = ev.EngineEnd(why)
            self._lose_engine(peer, ev.EngineLeft(peer.number, end, known=False), now)
            nanny = self.peers.nannies.get(peer.hello.nanny)
            if nanny is not None:
                self._outbox.say(nanny, m.StopEngine(peer.hello.token, why, restart=True))
        else:
            self.peers.remove(peer)
            # One whose end it has reported is believed in its time, and ended as was reported.
            reported = {engine.number for _, engine, _ in self._deaths}
            for engine in self.peers.engines_of(peer):
                if engine.number in reported:
                    continue
                end = ev.EngineEnd(f"was lost with its nanny, which {why}")
                self._lose_engine(engine, ev.EngineLeft(engine.number, end, known=False), now)

    def _lose_engine(self, peer: EnginePeer, event: ev.EngineLeft, now: float) -> None:
        if self.peers.find(peer.identity) is peer:
            self.peers.remove(peer)
            self.peers.ban(peer.identity)
            self._tell(event, now)
            if not event.end.wanted:
                self._notice(f"engine {format_engine_id(peer.number)} {event.end.text}")

    def _notice(self, text: str) -> None:
        for client in self.peers.clients.values():
            self._outbox.say(client, m.Notice(text))

    def _tell_outlook(self) -> None:
        """Whoever waits for an engine that will not come is told, once; later clients too."""
        why = self._outlook.why_hopeless()
        if why:
            for client in self.peers.clients.values():
                if client.told_hopeless != why:
                    client.told_hopeless = why
                    self._outbox.say(client, m.Notice(why, fatal=True))

    # --- what clients say ------------------------------------------------------------------------

    def _on_submit(self, peer: ClientPeer, message: m.Submit, now: float) -> None:
        if message.batch <= peer.batch:  # sent again, since our answer was late
            self._outbox.say(peer, m.Accepted(peer.batch))
            return
        if message.batch != peer.batch + 1:
            raise ProtocolError(f"batch {message.batch} came after batch {peer.batch}")
        for digest in message.functions:
            if digest not in message.new_functions:
                function = self.scheduler.functions.get(digest)
                if function is None or peer.number not in function.declared_by:
                    raise ProtocolError(f"function {digest.hex()} was not sent before its use")
        peer.batch = message.batch
        if message.new_functions:
            functions: Any = message.new_functions  # the codec has put the payloads in place
            self._tell(ev.FunctionsDeclared(peer.number, functions), now)
        counters = self.scheduler.counters
        ignored = counters.invalid + counters.duplicates
        self._tell(ev.Submitted(peer.number, message.functions, message.groups, message.tasks), now)
        ignored = counters.invalid + counters.duplicates - ignored
        if ignored:  # its client would wait for them for ever
            raise ProtocolError(
                f"{ignored} of the {len(message.tasks) + len(message.groups)} nodes of batch "
                f"{message.batch} are not this client's, or not above those before them"
            )
        self._outbox.say(peer, m.Accepted(peer.batch))

    def _on_release(self, peer: ClientPeer, message: m.Release, now: float) -> None:
        if message.nodes:
            self._tell(ev.Released(peer.number, message.nodes), now)
        if message.functions:
            self._tell(ev.FunctionsDropped(peer.number, message.functions), now)

    def _on_cancel(self, peer: ClientPeer, message: m.Cancel, now: float) -> None:
        event = ev.CancelAsked(peer.number, message.tasks, message.queued_only, message.downstream)
        self._tell(event, now)

    def _on_ask(self, peer: ClientPeer, message: m.Ask, now: float) -> None:
        self._questions.append((peer, message))

    def _on_shown(self, peer: ClientPeer, message: m.Shown, now: float) -> None:
        text = peer.unshown.shown(message.outputs, self._wire.output_chars_max)
        if text:  # at once, and so before what is printed from here on
            self._send(peer.identity, codec.encode(m.Notice(text)))

    def _on_shutdown(self, peer: ClientPeer, message: m.Shutdown, now: float) -> None:
        self.stop_reason = "a client shut the cluster down"

    def _on_bye(self, peer: Peer, message: m.Bye, now: float) -> None:
        self._lose(peer, message.reason or "said goodbye", now)

    # --- what engines and nannies say ------------------------------------------------------------

    def _on_outcomes(self, peer: EnginePeer, message: m.Outcomes, now: float) -> None:
        self._tell(ev.Finished(peer.number, message.outcomes), now)

    def _on_returned(self, peer: EnginePeer, message: m.Returned, now: float) -> None:
        self._tell(ev.GaveBack(peer.number, message.tasks, message.begun), now)

    def _on_output(self, peer: Peer, message: m.Output, now: float) -> None:
        """Pass on what was printed: to the client of the task that printed it, or to all."""
        engine = self.peers.engines_by_token.get(message.token)
        if isinstance(peer, EnginePeer):
            engine = peer
        number = engine.number if engine is not None else None
        by_client: dict[ClientId, list[m.Printed]] = {}
        for line in message.lines:
            said = m.Printed(line.task, line.stream, line.text, number)
            owners = list(self.peers.clients) if not line.task else [ev.client_of(line.task)]
            for owner in owners:
                by_client.setdefault(owner, []).append(said)
        for owner, lines in by_client.items():
            client = self.peers.clients.get(owner)
            if client is None or not client.hello.want_output:
                continue
            if client.unshown.admit(lines, self._wire.output_chars_max):
                # At once, and so before the result of the task, which is sent with the turn.
                self._send(client.identity, codec.encode(m.Output(lines)))

    def _on_heartbeat(self, peer: NannyPeer, message: m.Heartbeat, now: float) -> None:
        for vitals in message.engines:
            engine = self.peers.engines_by_token.get(vitals.token)
            if engine is None:
                continue
            engine.heard_at_s = now
            engine.rss_bytes = vitals.rss_bytes
            if vitals.task is not None and vitals.task != engine.running:
                record = self.scheduler.engines.get(engine.number)
                if record is not None and vitals.task in record.assigned:
                    self._tell(ev.Started(engine.number, vitals.task, vitals.task_since_s), now)
            engine.running = vitals.task

    def _on_engine_died(self, peer: NannyPeer, message: m.EngineDied, now: float) -> None:
        engine = self.peers.engines_by_token.get(message.token)
        if engine is None:
            # Its hello, on another connection, may be on its way: nobody would ever end it again.
            self.peers.bury(message.token)
            return
        event = ev.EngineLeft(engine.number, message.end, message.started, message.busy)
        self._deaths.append((now + _DEATH_DELAY_S, engine, event))

    def _on_engines_failed(self, peer: NannyPeer, message: m.EnginesFailed, now: float) -> None:
        text = self._outlook.gave_up(peer, message.text)
        if not self._outlook.why_hopeless():
            self._notice(text)

    # --- chores ----------------------------------------------------------------------------------

    def _do_chores(self, now: float, heard_s: float) -> None:
        """Once a heartbeat: signs of life, and who gives none. All that was sent before
        `heard_s` was heard."""
        if self._lifeline is not None and os.getppid() != self._parent:
            # A fork of the owner may hold the other end of the lifeline.
            self.stop_reason = "its owner ended"
            return
        ended = self._child_ended() if not self._outlook.own_nanny_ended else None
        if ended is not None:
            self._on_own_nanny_ended(ended, now)
        failure = self.scheduler.scheme_failure
        if failure and not self._scheme_failure_said:
            self._scheme_failure_said = True
            self._notice(failure)
        silent_since_s = heard_s - self._wire.heartbeat_timeout_s
        for peer in self.peers:
            if peer.heard_at_s < silent_since_s and not self._is_alive_here(peer):
                silence_s = self._wire.heartbeat_timeout_s
                self._lose(peer, f"was silent for {silence_s:g} s", now)
            elif not isinstance(peer, EnginePeer):
                self._outbox.say(peer, m.Ping())

    def _on_own_nanny_ended(self, how: str, now: float) -> None:
        self._outlook.own_nanny_ended = text = f"the nanny of this host {how}"
        for nanny in list(self.peers.nannies.values()):
            if (nanny.hello.host, nanny.hello.pid) == (self._host, self._child_pid):
                self._lose(nanny, how, now)
        if not self._outlook.why_hopeless():
            self._notice(text)

    def _is_alive_here(self, peer: Peer) -> bool:
        """Whether a silent client's process runs on this host: then it is busy, not gone.

        A task in C may hold the client's GIL for minutes. A nanny is never that busy, and of an
        engine it is the nanny's heartbeats that give the signs of life: one that they have not
        named for so long has ended, and the report of it was lost.
        """
        if not isinstance(peer, ClientPeer):
            return False
        if peer.hello.host != self._host or peer.hello.pid <= 0:
            return False
        try:
            os.kill(peer.hello.pid, 0)
        except (ProcessLookupError, OverflowError):  # none, or no number that a process can have
            return False
        except PermissionError:
            return True
        return True

    def close(self) -> None:
        """Say goodbye to everybody."""
        bye = codec.encode(m.Bye(self.stop_reason or ""))
        for peer in self.peers:
            if not isinstance(peer, EnginePeer):  # its nanny stops it, and sees it end
                self._send(peer.identity, bye)
        self._router.close(linger=500)
