"""The controller: the one place on the server that owns sockets and the clock.

One turn of the loop: take in everything that waits, decode it, tell the scheduler, `place` once,
write it into the journal (where there is one), send. Nothing is decided here; what is said is the
scheduler's business, who may speak is in reception.py, and no payload is ever opened.

A peer that breaks the protocol is told why, and is heard no more; its tasks go the way of any
peer's that left. Nothing else is disturbed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq
from msgspec import structs

from headway.config import NESTED_DEPTH, AdmissionConfig, WireConfig
from headway.controller.admission import Admission
from headway.controller.answers import answer
from headway.controller.books import Books
from headway.controller.commits import Commits
from headway.controller.journal import Journal
from headway.controller.leavers import Leavers
from headway.controller.ledger import Gap
from headway.controller.meter import METRICS, Meter
from headway.controller.observe import OBSERVE, Observers
from headway.controller.orders import Orders
from headway.controller.outbox import Outbox
from headway.controller.outlook import Outlook
from headway.controller.peers import ClientPeer, EnginePeer, NannyPeer, Peer, Peers
from headway.controller.reception import Reception
from headway.controller.shell_logs import remove_logs
from headway.controller.stand_ins import StandIns
from headway.core import events as ev
from headway.core.events import ClientId, EngineId, TaskId
from headway.core.limits import Limit
from headway.core.problems import KIND_TOO_LARGE
from headway.core.scheduler import Scheduler
from headway.core.states import FINAL_STATES
from headway.errors import JournalError, ProtocolError
from headway.logbook import Event, note
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
        books: the scheduler, who was known when this controller began, and its clock.
        epoch: how many controllers this cluster has had.
        journal: where each turn is written before anything is sent; None for nowhere.
        reconnect_s: for how long peers try to come back to a controller that is away.
        lifeline: a file descriptor whose end of file stops the controller, None for none.
        child_ended: asked about every heartbeat; a text says that the local nanny ended, and how.
        child_pid: the process id of that nanny.
        engines_expected: how many engines are being started: e0, e1 and so on.
        admission: how much work is taken in before clients have to wait.
        connections_max: how many connections fit; who comes then is declined.
        logs: where shell tasks write what they print; that of a task that is kept no more goes.
        limits: by tag, those that it begins with; of other tags a journal may tell.
        adaptive: at least and at most so many engines, as the work demands; None: as people say.
        value_store: the URL of where the hosts share large values; "" for nowhere.
        nested_depth: so many engines at most, for each, stand in for those that are blocked.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        cluster: str,
        books: Books,
        wire: WireConfig,
        *,
        epoch: int = 1,
        journal: Journal | None = None,
        reconnect_s: float = 0.0,
        lifeline: int | None = None,
        child_ended: Callable[[], str | None] = lambda: None,
        child_pid: int = 0,
        engines_expected: int = 0,
        admission: AdmissionConfig = AdmissionConfig(),  # noqa: B008 - frozen
        connections_max: int = sys.maxsize,
        logs: Path | None = None,
        limits: Mapping[str, Limit] | None = None,
        adaptive: tuple[int, int] | None = None,
        value_store: str = "",
        nested_depth: int = NESTED_DEPTH,
    ) -> None:
        self._router = router
        self._wire = wire
        self._books = books
        self._clock = books.clock
        self._lifeline = lifeline
        self._logs = logs
        self._child_ended = child_ended
        self.scheduler: Scheduler = books.scheduler
        self.peers = Peers()
        self._child_pid = child_pid
        self._outlook = Outlook(self.peers)
        self._observers = Observers(self.scheduler, self.peers, books.clock.wall_s)
        self._meter = Meter(self.scheduler, self.peers, epoch, books.clock.wall_s())
        self._outbox = Outbox(self.peers, wire, self._send)
        self._commits = Commits(books, journal, self._notice, self._outbox.flush_notices)
        self._admission = Admission(admission, books.scheduler)
        self.reception = Reception(
            cluster, epoch, books, self.peers, self._outbox, wire, self._send, self._notice,
            self._engine_died, self._admission.submitted, self._is_dying, reconnect_s,
            connections_max, self._meter, value_store,
        )  # fmt: skip
        #: The message that is being heard.
        self._frames: list[bytes] = []
        #: Deaths reported, when to believe them, and how they came in one word.
        self._deaths: deque[tuple[float, EnginePeer, ev.EngineLeft, str]] = deque()
        #: What clients asked in this turn.
        self._questions: list[tuple[ClientPeer, m.Ask]] = []
        self._chores_at_s = 0.0
        #: The last turn ended with something to send or to place.
        self._unfinished = False
        self._scheme_failure_said = False
        self._hopeless_said = ""
        self._parent = os.getppid()
        self.stop_reason: str | None = None
        #: The next controller, on the same journal, goes on with the tasks.
        self.keeps_tasks = False
        self._stopper: ClientPeer | None = None
        self._orders = Orders(books, self.peers, self._outbox)
        self._leavers = Leavers(books, self.peers, self._outbox)
        self._stand_ins = StandIns(books, self.peers, self._outbox, nested_depth)
        self._handlers = self._make_handlers()
        self._expect(engines_expected, self._clock.now())
        if adaptive is not None:
            self._orders.scaling.set_bounds(*adaptive)
        for tag, limit in (limits or {}).items():
            known = self.scheduler.limits.get(tag)
            if known is None or known.limit != limit:
                books.tell(ev.LimitSet(tag, limit), self._clock.now())

    def _make_handlers(self) -> dict[type, Callable[[Any, Any, float], None]]:
        """Who hears each message."""
        return {
            m.Submit: self._on_batch,
            m.Release: self._on_batch,
            m.Cancel: self._on_batch,
            m.Keep: self._on_batch,
            m.Watch: self._on_watch,
            m.Order: self._on_order,
            m.Resume: self._on_resume,
            m.Missed: self._on_missed,
            m.Ask: self._on_ask,
            m.Shown: self._on_shown,
            m.Heard: self._on_heard,
            m.Shutdown: self._on_shutdown,
            m.Outcomes: self._on_outcomes,
            m.Returned: self._on_returned,
            m.Blocked: self._stand_ins.on_blocked,
            m.Unblocked: self._stand_ins.on_unblocked,
            m.Output: self._on_output,
            m.Heartbeat: self._on_heartbeat,
            m.EngineDied: self._on_engine_died,
            m.EnginesFailed: self._on_engines_failed,
            m.Stock: self._on_stock,
            m.Ping: lambda peer, message, now: None,
            m.Bye: self._on_bye,
        }

    def _expect(self, engines: int, now: float) -> None:
        """Engines that are being started, and peers that another controller left."""
        if engines and not self._books.ledger.engines_seen:
            expected = [EngineId(number) for number in range(engines)]
            self._books.tell(ev.EnginesExpected(expected), now)
        self.reception.expect(now)

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
                self._turn(self._clock.now())
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
        now = self._clock.now()
        at_s = min(self._chores_at_s, self._outbox.accept_at_s, self._observers.due_at_s)
        at_s = min(at_s, self._stand_ins.due_at_s)
        deadline_s = self.scheduler.next_deadline_s()
        if deadline_s is not None:
            at_s = min(at_s, deadline_s)
        if self._deaths:
            at_s = min(at_s, self._deaths[0][0])
        # Rounded up, so that what is waited for is due when the poll ends.
        return max(0, int((at_s - now) * 1000) + 1)

    def _turn(self, now: float) -> None:
        """Take in what waits, then place once, then write it down, then send."""
        books = self._books
        self._meter.now = now
        heard_s = now if self._take_in(now) else now - _BACKLOG_PATIENCE_S
        while self._deaths and self._deaths[0][0] <= heard_s:
            _, peer, event, how = self._deaths.popleft()
            self.reception.lose_engine(peer, event, now, how)
        deadline_s = self.scheduler.next_deadline_s()
        if deadline_s is not None and deadline_s <= now:
            books.tick(now)
        if now >= self._chores_at_s:
            self._chores_at_s = now + self._wire.heartbeat_s
            self._do_chores(now, heard_s)
        self._stand_ins.look(now)
        books.place(now)
        self._stand_ins.placed(now)
        self._leavers.look()
        # Answered when everything is in its place: what waits then, waits for a reason.
        for asker, question in self._questions:
            self._outbox.say(asker, self._answer(question, now))
        self._questions.clear()
        for observer, said in self._observers.answers(now):
            self._outbox.say(observer, said)
        self._tell_outlook()
        for client, hold in self._admission.look():
            self._outbox.say(client, hold)
            if hold.why:
                note(Event.CLIENT_HELD, client=client.number, why=hold.why)
            else:
                note(Event.CLIENT_RELEASED, client=client.number)
        self._commits.commit(now)
        self._outbox.put(books.commands)
        books.commands.clear()
        if self._outbox.troubled:
            if books.recorder is not None:
                books.recorder.told(self._outbox.troubled, now)
            self._outbox.troubled.clear()
        self._outbox.flush(now)
        forgotten, self._outbox.forgotten = self._outbox.forgotten, []
        if self._logs is not None:
            remove_logs(self._logs, forgotten)
        unsendable, self._outbox.unsendable = self._outbox.unsendable, []
        for task, why in unsendable:
            name, label = ev.format_task_id(task.id), task.options.label
            note(Event.TASK_TOO_LARGE, task=name, label=label, why=why)
            books.tell(ev.Abandoned(task.id, KIND_TOO_LARGE, why, task.attempt), now)
        unreachable, self._outbox.unreachable = self._outbox.unreachable, []
        for away in unreachable:
            self.reception.is_away(away, now)
        self._unfinished = bool(unsendable or unreachable)

    def _take_in(self, now: float) -> bool:
        """Hear what waits, up to a turn's worth; whether that was all."""
        router = self._router
        for _ in range(_MESSAGES_A_TURN):
            # Not by trying: an exception costs three times as much, each turn.
            if not int(router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return True
            frames = router.recv_multipart(zmq.NOBLOCK)
            self._receive(frames[0], frames[1:], now)
        return False

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
        if peer is None or not peer.is_here:
            if not self.peers.is_banned(identity):
                self.reception.introduce(identity, frames, now)
            return
        peer.heard_at_s = now
        try:
            message = peer.decoder.decode(frames)
            handler = self._handlers.get(type(message))
            if handler is not None:
                self._frames = frames
                handler(peer, message, now)
            elif identity == peer.identity:
                # Its connection was lost and is there again, before we noticed.
                self.reception.introduce(identity, frames, now)
            else:
                raise ProtocolError("a hello on a connection for results")
        except Gap:
            # What it had sent before was lost with its connection, which is there again: it will
            # know, and say hello. Should it not, it is asked to.
            self.reception.ask_who(peer.identity)
        except ProtocolError as error:
            self.reception.refuse(peer, str(error), now)

    def _notice(self, text: str) -> None:
        for client in self.peers.clients.values():
            if not client.is_silent and not client.hello.engine:
                self._outbox.say(client, m.Notice(text))

    def _answer(self, question: m.Ask, now: float) -> m.Answer:
        if question.what == METRICS:
            metrics = self._meter.read(now, self._commits.metrics())
            return m.Answer(question.number, structs.asdict(metrics))
        return answer(question, self.scheduler, self.peers, now, self._books.recorder)

    def _tell_outlook(self) -> None:
        """Whoever waits for an engine that will not come is told, once; later clients too."""
        why = self._outlook.why_hopeless()
        if why != self._hopeless_said:
            self._hopeless_said = why
            if why:
                note(Event.HOPELESS, why=why)
        if why:
            for client in self.peers.clients.values():
                if client.is_here and client.told_hopeless != why:
                    client.told_hopeless = why
                    self._outbox.say(client, m.Notice(why, fatal=True))

    # --- what clients say ------------------------------------------------------------------------

    def _on_batch(self, peer: ClientPeer, message: m.ClientBatch, now: float) -> None:
        self._books.client_said(peer.number, message, self._frames, now)
        self._outbox.accept(peer, self._books.ledger.clients[peer.number].batch, now)
        if isinstance(message, m.Submit):
            self._admission.submitted(peer)

    def _on_resume(self, peer: ClientPeer, message: m.Resume, now: float) -> None:
        self.scheduler.redeliver(peer.number, message.tasks, self._books.commands)

    def _on_watch(self, peer: ClientPeer, message: m.Watch, now: float) -> None:
        open_ = self.scheduler.watch(peer.number, message.tasks, self._books.commands)
        self._outbox.watchers.add(peer, open_)

    def _on_order(self, peer: ClientPeer, message: m.Order, now: float) -> None:
        said = self._orders.carry_out(message, now)
        if isinstance(said.body, dict):
            note(Event.ORDER_GIVEN, client=peer.number, did=said.body["text"])
        else:
            note(Event.ORDER_REFUSED, client=peer.number, why=said.error)
        self._outbox.say(peer, said)

    def _on_missed(self, peer: ClientPeer, message: m.Missed, now: float) -> None:
        self._books.tell(ev.ValueMissed(peer.number, message.task, message.name), now)

    def _on_ask(self, peer: ClientPeer, message: m.Ask, now: float) -> None:
        if message.what != OBSERVE:
            self._questions.append((peer, message))
            return
        told = self._observers.ask(peer, message.number, now)
        if told is not None:
            self._outbox.say(peer, told)

    def _on_shown(self, peer: ClientPeer, message: m.Shown, now: float) -> None:
        text = peer.unshown.shown(message.outputs, self._wire.output_chars_max)
        if text:
            self._outbox.show(peer, m.Notice(text))

    def _on_heard(self, peer: ClientPeer, message: m.Heard, now: float) -> None:
        peer.undelivered.heard(message.results)
        self._outbox.go_on(peer)

    def _on_shutdown(self, peer: ClientPeer, message: m.Shutdown, now: float) -> None:
        if message.keep_tasks and not self._commits.is_durable:
            text = "the cluster has no journal, so its tasks can't be kept: it is not stopped"
            self._outbox.say(peer, m.Notice(text, fatal=True))
            return
        self.keeps_tasks = message.keep_tasks
        self._stopper = peer
        self.stop_reason = "a client shut the cluster down"
        if message.keep_tasks:
            self.stop_reason += ", and its tasks are kept"

    def _on_bye(self, peer: Peer, message: m.Bye, now: float) -> None:
        self.reception.lose(peer, message.reason or "said goodbye", now, said_bye=True)

    # --- what engines and nannies say ------------------------------------------------------------

    def _on_outcomes(self, peer: EnginePeer, message: m.Outcomes, now: float) -> None:
        if self._orders.scaling.is_on:
            self._orders.scaling.ran(message.outcomes)
        # Not of a batch that comes again, nor of one before which another is missing.
        if self._meter.is_on and message.batch == self._books.ledger.engines[peer.number].batch + 1:
            self._meter.ran(message.outcomes)
        self._books.engine_said(peer.number, message, self._frames, now)
        self._outbox.accept(peer, self._books.ledger.engines[peer.number].batch, now)
        if self._observers:
            self._observers.ran(peer.number, message.outcomes)

    def _on_returned(self, peer: EnginePeer, message: m.Returned, now: float) -> None:
        assigned = self.scheduler.engines[peer.number].assigned
        # One that comes twice may name a task that the engine was sent again since.
        tasks = [
            held.task
            for held in message.tasks
            if held.task in assigned and assigned[held.task].attempt == held.attempt
        ]
        self._books.tell(ev.GaveBack(peer.number, tasks, message.begun), now)

    def _on_output(self, peer: Peer, message: m.Output, now: float) -> None:
        """Pass on what was printed: to the client of the task that printed it, or to all."""
        engine = self.peers.engines_by_token.get(message.token)
        if isinstance(peer, EnginePeer):
            engine = peer
        number = engine.number if engine is not None else None
        if self._observers:
            self._observers.printed(number, message.lines)
        by_client: dict[ClientId, list[m.Printed]] = {}
        for line in message.lines:
            said = m.Printed(line.task, line.stream, line.text, number)
            owners = list(self.peers.clients) if not line.task else [self._owner_of(line.task)]
            for owner in owners:
                by_client.setdefault(owner, []).append(said)
        for owner, lines in by_client.items():
            client = self.peers.clients.get(owner)
            if client is None or not client.is_here or not client.hello.want_output:
                continue
            if client.unshown.admit(lines, self._wire.output_chars_max):
                self._outbox.show(client, m.Output(lines))

    def _owner_of(self, task: TaskId) -> ClientId:
        """Whose task it is: of nested ones, that of the task from which all of it began."""
        record = self.scheduler.tasks.get(task)
        nest = record.nest if record is not None else None
        return ev.client_of(task) if nest is None else nest.owner

    def _on_heartbeat(self, peer: NannyPeer, message: m.Heartbeat, now: float) -> None:
        for vitals in message.engines:
            engine = self.peers.engines_by_token.get(vitals.token)
            if engine is None:
                continue
            # Also of one that is away: while its task holds the GIL it can't come back.
            engine.heard_at_s = now
            engine.rss_bytes = vitals.rss_bytes
            if vitals.task is not None and vitals.task != engine.running:
                record = self.scheduler.engines.get(engine.number)
                if record is not None and vitals.task in record.assigned:
                    self._books.tell(
                        ev.Started(engine.number, vitals.task, vitals.task_since_s), now
                    )
            engine.running = vitals.task
        if message.leaves:
            self._leavers.leaves(peer, message.leaves, now)

    def _on_engine_died(self, peer: NannyPeer, message: m.EngineDied, now: float) -> None:
        self._engine_died(message, now)

    def _engine_died(self, message: m.EngineDied, now: float) -> None:
        engine = self.peers.engines_by_token.get(message.token)
        if engine is None:
            # Its hello, on another connection, may be on its way: nobody would ever end it again.
            self.peers.bury(message.token)
            return
        end = message.end
        if engine.is_spared:  # its nanny can't know who it was
            end = structs.replace(end, wanted=True, text="was killed on purpose (chaos)")
        event = ev.EngineLeft(engine.number, end, message.started, message.busy)
        self._deaths.append((now + _DEATH_DELAY_S, engine, event, message.how))

    def _is_dying(self, engine: EngineId) -> bool:
        """Whether the nanny has reported the end of `engine`, which is believed in a moment."""
        return any(peer.number == engine for _, peer, _, _ in self._deaths)

    def _on_engines_failed(self, peer: NannyPeer, message: m.EnginesFailed, now: float) -> None:
        text = self._outlook.gave_up(peer, message.text)
        note(Event.ENGINES_FAILED, why=text)
        self._orders.scaling.start_failed(text, now)
        self._stand_ins.start_failed(peer)
        if not self._outlook.why_hopeless():
            self._notice(text)

    def _on_stock(self, peer: NannyPeer, message: m.Stock, now: float) -> None:
        scheduler, store = self.scheduler, ev.StoreId(message.store or peer.hello.token)
        names = scheduler.stored.unneeded(store, message.values, scheduler.tasks)
        if names:
            self._outbox.drop_values(store, names)

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
            note(Event.SCHEME_FAILED, why=failure)
            self._notice(failure)
        self._commits.look()
        self._meter.look(now)
        self._observers.forget_silent(now)
        self.reception.look_around(now, heard_s)
        trouble = self._orders.scaling.look(now)
        if trouble:
            note(Event.SCALING_TROUBLE, why=trouble)
            self._notice(trouble)

    def _on_own_nanny_ended(self, how: str, now: float) -> None:
        self._outlook.own_nanny_ended = text = f"the nanny of this host {how}"
        for nanny in list(self.peers.nannies.values()):
            if (nanny.hello.host, nanny.hello.pid) == (socket.gethostname(), self._child_pid):
                self.reception.lose(nanny, how, now)
        note(Event.ENGINES_FAILED, why=text)
        if not self._outlook.why_hopeless():
            self._notice(text)

    def close(self, say_bye: bool = True) -> None:
        """Say goodbye to everybody; or leave, without a word, to the next controller.

        With `keeps_tasks` clients hear nothing, for they may wait for the next one; but engines
        end, and what they had begun is begun anew.

        Raises:
            JournalError: that all has ended could not be written. Everybody was told all the same.
        """
        self._commits.close()
        try:
            if say_bye and self._commits.is_durable:
                self._end_books(self._clock.now())
        except JournalError as error:
            text = f"the cluster was stopped, and its journal does not know: {error}"
            raise JournalError(text, is_full=error.is_full) from error
        finally:
            self._say_bye(say_bye)

    def _say_bye(self, say_bye: bool) -> None:
        bye = codec.encode(m.Bye(self.stop_reason or ""))
        for peer in self.peers if say_bye else ():
            if isinstance(peer, ClientPeer) and self.keeps_tasks and peer is not self._stopper:
                continue
            if not isinstance(peer, EnginePeer):  # its nanny stops it, and sees it end
                self._send(peer.identity, bye)
        self._router.close(linger=500)

    def _end_books(self, now: float) -> None:
        """All that hear our goodbye are gone, and what they asked for with them, unless it is to
        be kept."""
        for client, peer in self.peers.clients.items():
            if not self.keeps_tasks or peer is self._stopper:
                self._books.tell(ev.ClientLeft(client), now)
        if not self.keeps_tasks:  # a journal that stays would go on with what was left behind
            left = [t.id for t in self.scheduler.tasks.values() if t.state not in FINAL_STATES]
            self._books.tell(ev.CancelAsked(ClientId(0), left), now)
        for engine in self.peers.engines:
            # Of what it has, anything may have begun by now.
            end = ev.EngineEnd("was stopped with its cluster", wanted=True)
            self._books.tell(ev.EngineLeft(engine, end, known=False), now)
        self._commits.commit_last(now)
