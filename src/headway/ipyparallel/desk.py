"""What a task scheduler sends and hears: its sockets, its turns, its clock.

A turn takes in all that waits, then places once, then sends: first the tasks to the engines, which
idle without, then, in one go, the answers to the clients and what the monitor is told of it all.
To wake ZMQ's own thread once for these costs less than to wake it for each. The order on the
monitor is that of the protocol (intask, tracktask, outtask), since each is put there in the step
that it tells of.

Whatever a message, a command of the core or a method of the user's own leads to, the turn goes on:
what raises is mentioned, and costs no other task anything.

What this file must not know: which job goes where, and when (the bridge's and the core's); what it
means that an engine leaves or a run takes long (fleet.py, overruns.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

import zmq

from headway.config import SchedulerConfig
from headway.core.commands import Assign, Command, Deliver
from headway.core.problems import KIND_CANCELLED, KIND_IMPOSSIBLE, KIND_RUN_TIMEOUT
from headway.core.states import TaskState
from headway.ipyparallel.alarms import Alarms
from headway.ipyparallel.bridge import Bridge, Job
from headway.ipyparallel.complaints import Complaints
from headway.ipyparallel.fleet import Fleet
from headway.ipyparallel.frames import BadMessage, Frame, Frames, Message
from headway.ipyparallel.hub import Hub
from headway.ipyparallel.overruns import Overruns
from headway.ipyparallel.replies import ABORTED, error_content, error_metadata, error_name
from headway.ipyparallel.schemes import BY_NAME
from headway.ipyparallel.sockets import Channel, Unroutable, Watch

if TYPE_CHECKING:
    from headway.ipyparallel.scheduler import TaskScheduler

#: Messages of one socket taken in before it is another's turn.
_DRAIN_MAX = 500
#: Rounds of a turn before the loop's other guests have theirs. To go through the loop for each
#: costs as much as to schedule a task.
_ROUNDS_MAX = 20
_WAS_RUN = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})

Handler = Callable[[list[Any]], None]


class Desk:
    """The sockets of a scheduler, and what is done when one of them has a message.

    Parameters:
        owner: whose methods the messages go to, and whose settings count.
    """

    def __init__(self, owner: TaskScheduler) -> None:
        self.owner = owner
        assert owner.session is not None
        self.frames = Frames(owner.session)
        scheme = owner.scheme_name if owner.scheme_name in BY_NAME else "leastload"
        # Engines of IPython can't give tasks back, so none is ever recalled.
        config = SchedulerConfig(hwm=owner.hwm, scheme=scheme, recall_after_s=inf)
        self.bridge = Bridge(config, Random(), owner.finished_max)
        self.receiving = True
        self._complaints = Complaints(owner.log)
        self._clock: Callable[[], float] = owner.clock
        self.alarms = Alarms()
        self.fleet = Fleet(self)
        self.overruns = Overruns(self)
        self.hub: Hub | None = None
        self._in_turn = False
        #: When the round began, 0.0 outside.
        self._turn_at_s = 0.0
        self._turn_asked = False
        self._timeout: object | None = None
        self._timeout_at_s = inf
        self._client: Channel | None = None
        self._engine: Channel | None = None
        self._monitor: Channel | None = None
        self._control: Channel | None = None
        self._closers: list[Callable[[], None]] = []
        #: What is read, in this order, and who takes it; and the two that are sent to all the time.
        self._inbox: list[tuple[Channel, Handler]] = []
        self._busy: list[tuple[Channel, Handler]] = []
        #: For clients and for the monitor, at the end of the round.
        self._unanswered: list[Sequence[Frame]] = []
        self._unsaid: list[Sequence[Frame]] = []

    def start(self, copied_max: int) -> None:
        """Take the sockets over, and ask the Hub which engines there are.

        Parameters:
            copied_max: see `Channel`, for what clients and engines send.
        """
        owner, loop = self.owner, self.owner.loop
        self._client = Channel(owner.client_stream, loop, self._busy_turn, copied_max)
        self._engine = Channel(owner.engine_stream, loop, self._busy_turn, copied_max)
        self._monitor = Channel(owner.mon_stream, loop)
        notifier = Channel(owner.notifier_stream, loop, self._turn)
        query = Channel(owner.query_stream, loop, self._turn)
        # Engines before tasks, and what has ended before what is new.
        self._inbox = [
            (notifier, owner.dispatch_notification),
            (query, owner.dispatch_query_reply),
            (self._engine, owner.dispatch_result),
            (self._client, owner.dispatch_submission),
        ]
        if owner.control_stream is not None:
            self._control = Channel(owner.control_stream, loop, self._turn)
            self._inbox.insert(0, (self._control, self.overruns.confirm))
        self._busy = self._inbox[-2:]
        self._client.route_strictly()
        self._engine.route_strictly()
        self.hub = Hub(self, query, notifier)
        events = int(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        watch = Watch(self._engine, loop, events, lambda event: self.fleet.connections_changed())
        channels = [*(channel for channel, _ in self._inbox), self._monitor]
        self._closers = [self.hub.close, watch.close, *(channel.close for channel in channels)]
        self.hub.ask()

    def close(self) -> None:
        """Close all sockets."""
        if self._timeout is not None:
            self.owner.loop.remove_timeout(self._timeout)
            self._timeout = None
        self._in_turn = True  # a turn that was asked for finds nothing to do
        for close in self._closers:
            close()

    def now(self) -> float:
        """The time, in seconds from an arbitrary point; one time for the whole of a round. Not
        the wall clock's, which can be set."""
        return self._turn_at_s or self._clock()

    # --- trouble --------------------------------------------------------------------------------

    def complain(self, kind: str, text: str) -> None:
        """Say what is wrong with a message, once for each kind."""
        self._complaints.say(kind, text, self.now())

    def failed(self, what: str, error: Exception) -> None:
        """Something raised that should not have."""
        self.owner.log.debug("%s failed", what, exc_info=error)
        self.complain(f"{what} failed: {type(error).__name__}", repr(error))

    def guarded(self, what: str, do: Callable[..., object], *arguments: Any) -> bool:
        """Call `do`. What it raises is mentioned, and goes no further. Returns whether all went
        well."""
        try:
            do(*arguments)
        except Exception as error:
            self.failed(what, error)
            return False
        return True

    def read(
        self, what: str, reader: Callable[[Sequence[Frame]], Message], raw: Sequence[Frame]
    ) -> Message | None:
        """`raw` as a message; None, and a complaint, if it is none."""
        try:
            return reader(raw)
        except BadMessage as bad:
            self.complain(f"an unusable {what} ({bad.kind})", str(bad))
            return None

    # --- turns ----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Take a turn soon."""
        if not self._turn_asked and self._inbox:
            self._turn_asked = True
            self.owner.loop.add_callback(self._asked_turn)

    def _asked_turn(self) -> None:
        self._turn_asked = False
        self._turn()

    def _turn(self) -> None:
        """Take in what waits on any channel, and do what is due."""
        if self._in_turn:
            return
        self._round(self._waiting(self._inbox))
        self._busy_turn()

    def _busy_turn(self) -> None:
        """Take in what clients and engines sent, and again what came meanwhile; but the loop has
        other guests too. Of the other channels it sees every edge, since sends on them ask for a
        turn."""
        if self._in_turn:
            return
        for _ in range(_ROUNDS_MAX):
            waiting = self._waiting(self._busy)
            if not waiting:
                return
            self._round(waiting)
        self.wake()

    def _waiting(self, inbox: list[tuple[Channel, Handler]]) -> list[tuple[Channel, Handler]]:
        """Those of `inbox` on which a message waits that may be taken in."""
        waiting = [entry for entry in inbox if entry[0].readable]
        if not self.receiving:
            waiting = [entry for entry in waiting if entry[0] is not self._client]
        return waiting

    def _round(self, waiting: Sequence[tuple[Channel, Handler]]) -> None:
        self._turn_at_s = self._clock()
        self._in_turn = True
        try:
            for channel, handler in waiting:
                self._drain(channel, handler)
            self._tick()
        finally:
            self._in_turn = False
            try:
                self.settle()
            finally:
                self._turn_at_s = 0.0

    def _drain(self, channel: Channel, handler: Handler) -> None:
        for _ in range(_DRAIN_MAX):
            raw = channel.receive()
            if raw is None:
                return
            try:
                handler(raw)
            except Exception as error:  # no message may cost another task its turn
                self.failed(f"{handler.__name__} of a message", error)

    def settle(self) -> None:
        """Place what can be placed, send what is decided; not within a turn, which ends so."""
        if self._in_turn:
            return
        self._in_turn = True
        try:
            self.perform()
            self.guarded("placing", self._place)
            while self.bridge.out:
                self.perform()
                self.guarded("placing", self._place)
            self._flush()
        finally:
            self._in_turn = False
            self._set_timeout()

    def _place(self) -> None:
        owner, lists = self.owner, self.owner.lists
        if lists is None:
            self.bridge.core.place(self.now(), self.bridge.out)
            return
        for job, indices in lists.placements(owner.free_engines):
            self.guarded("submit_task", owner.submit_task, job, indices)

    # --- time -----------------------------------------------------------------------------------

    def _set_timeout(self) -> None:
        times = (self.bridge.core.next_deadline_s(), self.alarms.next_s())
        at_s = min((t for t in times if t is not None), default=inf)
        if at_s == self._timeout_at_s:
            return
        loop = self.owner.loop
        if self._timeout is not None:
            loop.remove_timeout(self._timeout)
            self._timeout = None
        self._timeout_at_s = at_s
        if at_s < inf:
            # A duration, since the loop's own clock is that on the wall.
            self._timeout = loop.call_later(max(0.0, at_s - self._clock()), self._time_has_come)

    def _time_has_come(self) -> None:
        self._timeout, self._timeout_at_s = None, inf
        self._turn()

    def _tick(self) -> None:
        now = self.now()
        due_s = self.bridge.core.next_deadline_s()
        if due_s is not None and due_s <= now:
            self.guarded("a deadline", self.bridge.core.tick, now, self.bridge.out)
        self.alarms.ring(now, self.guarded)

    # --- what the core decides ------------------------------------------------------------------

    def perform(self) -> None:
        """Do what the core has decided."""
        bridge = self.bridge
        while bridge.out:
            commands, bridge.out = bridge.out, []
            undelivered = []
            for command in commands:
                try:
                    if type(command) is Assign:
                        if not self._assign(command):
                            undelivered.append(command)
                    elif type(command) is Deliver:
                        self._deliver(command)
                    # The rest asks for what engines of IPython can't do, and what nobody waits for.
                except Exception as error:
                    self._not_performed(command, error)
            if undelivered:
                # Together, so that they keep their order; and before the next is placed.
                self.fleet.undelivered(undelivered)
            bridge.forget_names()

    def _assign(self, command: Assign) -> bool:
        """Send a job to an engine. False if that is out of reach."""
        bridge = self.bridge
        job, entry = bridge.job_of(command.task.id), bridge.entry_of(command.engine)
        if entry.resume_at_s is not None:
            return False  # so was one before it, a moment ago
        raw = job.raw_msg
        if job.attempts:
            # Engines drop what they have seen, and it may come to the same engine again.
            raw = self.frames.resigned(raw, {"attempt": job.attempts + 1})
        try:
            self.to_engine([entry.uuid, *raw])
        except Unroutable:
            self.fleet.out_of_reach(entry, job)
            return False
        job.engine, job.last_engine = entry.uuid, None
        job.attempts += 1
        job.overran = False
        entry.unroutable = 0
        job.place = entry.sent.add(job)
        self.overruns.watch(entry)
        content = {"msg_id": job.msg_id, "engine_id": entry.uuid.decode("utf-8", "replace")}
        idents = [b"tracktask", self.frames.bsession]
        self.monitor(self.frames.build("task_destination", content, idents=idents))
        return True

    def _deliver(self, command: Deliver) -> None:
        """A job has ended: tell its client, and the Hub."""
        job = self.bridge.job_of(command.task)
        problem = command.problem
        refused = command.state is TaskState.IMPOSSIBLE
        try:
            if job.reply is not None and (command.state in _WAS_RUN or (refused and not job.why)):
                # The last engine's reply. Also of a task that failed, and that no other may try.
                self._relay(job, job.reply)
            elif problem is None or problem.kind == KIND_CANCELLED:
                self._reply(job, ABORTED, ABORTED)
            else:
                content = error_content(
                    error_name(job, problem), self.bridge.in_words(problem.text)
                )
                # The one end on an engine for which it has no reply: else it is relayed, above.
                engine = self.bridge.engine_of(job) if problem.kind == KIND_RUN_TIMEOUT else None
                self._reply(job, content, None if engine is None else error_metadata(engine))
        finally:
            self.fleet.ended(job)
            self.bridge.ended(job, command.state is TaskState.SUCCEEDED, self.now())

    def _not_performed(self, command: Command, error: Exception) -> None:
        """A command raised. A job that was not sent because of it ends with an error."""
        self.failed("a command of the core", error)
        if type(command) is not Assign:
            return
        job = self.bridge.find_job(command.task.id)
        if job is not None and job.engine is None and self.bridge.is_on_engine(job):
            self.fleet.undelivered([command])
            job.why, job.reply = "EngineError", None
            text = f"task {job.msg_id} could not be sent to an engine: {error!r}"
            self.bridge.abandon(job, KIND_IMPOSSIBLE, text, self.now())

    # --- sending --------------------------------------------------------------------------------

    def _relay(self, job: Job, raw: list[Any]) -> None:
        """Send an engine's reply on, with the first two identities swapped."""
        message = [job.idents[0], raw[0], *raw[2:]]
        self.to_client(message)
        self.monitor([b"outtask", *message])

    def _reply(self, job: Job, content: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        message = self.frames.build(
            "apply_reply", content, parent=job.header, metadata=metadata, idents=job.idents
        )
        self.to_client(message)
        self.monitor([b"outtask", *message])

    def to_client(self, message: Sequence[Frame]) -> None:
        """Send to the client whose identity comes first, when the engines have their tasks."""
        self._unanswered.append(message)

    def to_engine(self, message: Sequence[Frame]) -> None:
        """Send to the engine whose identity comes first.

        Raises:
            Unroutable: it is not connected.
        """
        assert self._engine is not None
        self._engine.send(message)

    def signal(self, uuid: bytes, name: str, msg_id: str) -> bool:
        """Send a signal to the process of an engine; False if there is no way to. The answer is
        about `msg_id`."""
        if self._control is None:
            return False
        content = {"sig": name}
        message = self.frames.build("signal_request", content, idents=[uuid], msg_id=msg_id)
        self._control.send(message)
        self.wake()
        return True

    def monitor(self, message: Sequence[Frame]) -> None:
        """Let the Hub know, when engines and clients have been told."""
        self._unsaid.append(message)

    def _flush(self) -> None:
        assert self._client is not None
        assert self._monitor is not None
        if self._unanswered:
            messages, self._unanswered = self._unanswered, []
            for message in messages:
                try:
                    self._client.send(message)
                except Unroutable:
                    # Its tasks go on, as with the stock scheduler; the Hub keeps their results.
                    self.complain("a client has gone, whose tasks go on", repr(message[0]))
                except Exception as error:
                    self.failed("an answer to a client", error)
        if self._unsaid:
            messages, self._unsaid = self._unsaid, []
            for message in messages:
                try:
                    self._monitor.send(message)
                except Exception as error:
                    self.failed("a message to the monitor", error)
