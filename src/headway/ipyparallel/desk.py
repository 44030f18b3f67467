"""What a task scheduler sends and hears: its sockets, its turns, its timers, its replies.

A turn takes in all that waits, then places once, then sends. The order on the monitor is that of
the protocol (intask, tracktask, outtask), since each is sent in the step that it tells of.

What this file must not know: which job goes where, and when; that is the bridge's, and the
core's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core.commands import Assign, Deliver
from headway.core.problems import (
    KIND_CANCELLED,
    KIND_IMPOSSIBLE,
    KIND_INVALID,
    KIND_LOST,
    KIND_RUN_TIMEOUT,
    KIND_TIMEOUT,
)
from headway.core.states import TaskState
from headway.core.timers import Timers
from headway.ipyparallel.bridge import Bridge, EngineEntry, Job
from headway.ipyparallel.complaints import Complaints
from headway.ipyparallel.frames import BadMessage, Frame, Frames, Message
from headway.ipyparallel.schemes import BY_NAME
from headway.ipyparallel.sockets import Channel, Unroutable

if TYPE_CHECKING:
    from headway.ipyparallel.scheduler import TaskScheduler

#: Messages of one socket taken in before it is another's turn.
_DRAIN_MAX = 500
#: Rounds of a turn before the loop's other guests have theirs. To go through the loop for each
#: costs as much as to schedule a task.
_ROUNDS_MAX = 20
#: After an engine could not be reached: when to try again, doubled each time.
_RESUME_S, _RESUME_MAX_S = 0.05, 2.0
#: Between the interrupt of a task that overran its run_timeout, and giving it up.
_INTERRUPT_GRACE_S = 2.0

#: What a client of ipyparallel calls the ways in which a task can end without a reply.
_ERROR_NAMES = {
    KIND_INVALID: "InvalidDependency",
    KIND_IMPOSSIBLE: "ImpossibleDependency",
    KIND_TIMEOUT: "TaskTimeout",
    KIND_RUN_TIMEOUT: "TaskTimeout",
    KIND_LOST: "EngineError",
}
_ABORTED = {"status": "aborted"}


Handler = Callable[[list[Any]], None]


class Alarm(IntEnum):
    """What a timer of the desk is for; its number names an engine or a task."""

    STRANDED = 0
    RESUME = 1
    EXPECTED = 2
    RUN_TIMEOUT = 3
    OVERRAN = 4


def error_content(name: str, text: str) -> dict[str, Any]:
    """The content of a reply that says that a task did not succeed."""
    return {
        "status": "error",
        "ename": name,
        "evalue": text,
        "traceback": [f"{name}: {text}"],
        "engine_info": {},
    }


class Desk:
    """The sockets of a scheduler, and what is done when one of them has a message.

    Parameters:
        owner: whose methods the messages go to, and whose settings count.
    """

    def __init__(self, owner: TaskScheduler) -> None:
        self._owner = owner
        assert owner.session is not None
        self.frames = Frames(owner.session)
        scheme = owner.scheme_name if owner.scheme_name in BY_NAME else "leastload"
        # Engines of IPython can't give tasks back, so none is ever recalled.
        config = SchedulerConfig(hwm=owner.hwm, scheme=scheme, recall_after_s=inf)
        self.bridge = Bridge(config, Random(), owner.finished_max)
        self.receiving = True
        self._complaints = Complaints(owner.log)
        self._alarms: Timers[Alarm] = Timers()
        self._in_turn = False
        #: When the round began, 0.0 outside.
        self._turn_at_s = 0.0
        self._turn_asked = False
        self._timeout: object | None = None
        self._timeout_at_s = inf
        self._client: Channel | None = None
        self._engine: Channel | None = None
        self._monitor: Channel | None = None
        self._notifier: Channel | None = None
        self._query: Channel | None = None
        self._control: Channel | None = None
        #: What is read, in this order, and who takes it; and the two that are sent to all the time.
        self._inbox: list[tuple[Channel, Handler]] = []
        self._busy: list[tuple[Channel, Handler]] = []
        #: For the monitor, at the end of the round.
        self._unsaid: list[Sequence[Frame]] = []

    def start(self) -> None:
        """Take the sockets over, and ask the Hub which engines there are."""
        owner, loop = self._owner, self._owner.loop
        self._client = Channel(owner.client_stream, loop, self._turn)
        self._engine = Channel(owner.engine_stream, loop, self._turn)
        self._monitor = Channel(owner.mon_stream, loop)
        self._notifier = Channel(owner.notifier_stream, loop, self._turn)
        self._query = Channel(owner.query_stream, loop, self._turn)
        # Engines before tasks, and what has ended before what is new.
        self._inbox = [
            (self._notifier, owner.dispatch_notification),
            (self._query, owner.dispatch_query_reply),
            (self._engine, owner.dispatch_result),
            (self._client, owner.dispatch_submission),
        ]
        if owner.control_stream is not None:
            self._control = Channel(owner.control_stream, loop, self._turn)
            self._inbox.insert(0, (self._control, self._ignore))
        self._busy = self._inbox[-2:]
        self._client.mandatory()
        self._engine.mandatory()
        self._query.send(self.frames.build("connection_request", {}))
        self.wake()

    def close(self) -> None:
        """Close all sockets."""
        if self._timeout is not None:
            self._owner.loop.remove_timeout(self._timeout)
            self._timeout = None
        self._in_turn = True  # a turn that was asked for finds nothing to do
        for channel in (
            self._client, self._engine, self._monitor, self._notifier, self._query, self._control,
        ):  # fmt: skip
            if channel is not None:
                channel.close()

    def now(self) -> float:
        """The time by the loop's clock, in seconds; one time for the whole of a round."""
        return self._turn_at_s or float(self._owner.loop.time())

    def complain(self, kind: str, text: str) -> None:
        """Say what is wrong with a message, once for each kind."""
        self._complaints.say(kind, text, self.now())

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
        if not self._turn_asked:
            self._turn_asked = True
            self._owner.loop.add_callback(self._asked_turn)

    def _asked_turn(self) -> None:
        self._turn_asked = False
        self._turn()

    def _turn(self) -> None:
        """Take in what waits, and again what came meanwhile; but the loop has other guests too."""
        if self._in_turn:
            return
        self._round([entry for entry in self._inbox if entry[0].readable and self._takes(entry[0])])
        for _ in range(_ROUNDS_MAX):
            # Of the others every edge is seen by the loop, since sends on them ask for a turn.
            waiting = [entry for entry in self._busy if entry[0].readable and self._takes(entry[0])]
            if not waiting:
                return
            self._round(waiting)
        self.wake()

    def _takes(self, channel: Channel) -> bool:
        return self.receiving or channel is not self._client

    def _round(self, waiting: Sequence[tuple[Channel, Handler]]) -> None:
        self._turn_at_s = float(self._owner.loop.time())
        self._in_turn = True
        try:
            for channel, handler in waiting:
                self._drain(channel, handler)
            self._tick()
            self._in_turn = False
            self.settle()
        finally:
            self._in_turn = False
            self._turn_at_s = 0.0

    def _drain(self, channel: Channel, handler: Handler) -> None:
        for _ in range(_DRAIN_MAX):
            raw = channel.receive()
            if raw is None:
                return
            try:
                handler(raw)
            except Exception as error:  # no message may cost another task its turn
                self._owner.log.debug("handling a message failed", exc_info=True)
                self.complain(
                    f"{handler.__name__} failed on a message: {type(error).__name__}", repr(error)
                )

    def drain_results(self) -> None:
        """Take in the results that have come, before an engine goes."""
        if self._in_turn or self._engine is None:
            return
        self._in_turn = True
        try:
            self._drain(self._engine, self._owner.dispatch_result)
        finally:
            self._in_turn = False

    def _ignore(self, raw: list[Any]) -> None:
        """An answer to a signal: whether it worked shows in the task's reply."""

    def settle(self) -> None:
        """Place what can be placed, send what is decided; not within a turn, which ends so."""
        if self._in_turn:
            return
        self._in_turn = True
        try:
            self.perform()
            self._place()
            while self.bridge.out:
                self.perform()
                self._place()
            self._tell_monitor()
        finally:
            self._in_turn = False
        self._set_timeout()

    def _place(self) -> None:
        owner = self._owner
        lists = owner.lists
        if lists is None:
            self.bridge.core.place(self.now(), self.bridge.out)
            return
        for job, indices in lists.placements(owner.available_engines):
            owner.submit_task(job, indices)

    # --- timers ---------------------------------------------------------------------------------

    def _set_timeout(self) -> None:
        times = (self.bridge.core.next_deadline_s(), self._alarms.next_s())
        at_s = min((t for t in times if t is not None), default=inf)
        if at_s == self._timeout_at_s:
            return
        loop = self._owner.loop
        if self._timeout is not None:
            loop.remove_timeout(self._timeout)
            self._timeout = None
        self._timeout_at_s = at_s
        if at_s < inf:
            self._timeout = loop.call_at(at_s, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timeout, self._timeout_at_s = None, inf
        self._turn()

    def _tick(self) -> None:
        now = self.now()
        due_s = self.bridge.core.next_deadline_s()
        if due_s is not None and due_s <= now:
            self.bridge.core.tick(now, self.bridge.out)
        for number, alarm in self._alarms.take_due(now):
            if alarm in (Alarm.STRANDED, Alarm.RESUME):
                self._engine_alarm(ev.EngineId(number), alarm)
            else:
                self._job_alarm(ev.TaskId(number), alarm, now)

    def _engine_alarm(self, engine: ev.EngineId, alarm: Alarm) -> None:
        entry = self.bridge.entry_of(engine)
        if entry is None:
            return
        if alarm is Alarm.STRANDED and entry.leaving_at_s is not None:
            self._owner.handle_stranded_tasks(entry.uuid)
        elif alarm is Alarm.RESUME:
            self._resume(entry)

    def _job_alarm(self, task: ev.TaskId, alarm: Alarm, now: float) -> None:
        job = self.bridge.find_job(task)
        if job is None:
            return
        if alarm is Alarm.EXPECTED:
            self._give_up_expecting(job, now)
            return
        if not self.bridge.is_on_engine(job):
            return
        assert job.engine is not None
        if alarm is Alarm.RUN_TIMEOUT and self._control is not None:
            job.overran = True
            signal = self.frames.build("signal_request", {"sig": "SIGINT"}, idents=[job.engine])
            self._control.send(signal)
            self.wake()
            self._alarms.arm(task, Alarm.OVERRAN, now + _INTERRUPT_GRACE_S)
        else:
            self._give_up_running(job, job.engine, now)

    def _give_up_expecting(self, job: Job, now: float) -> None:
        """A job names engines that nobody knew when it came. Some may have come since."""
        engines = [self.bridge.engines.get(uuid) for uuid in job.targets]
        if any(e is not None and not e.expected for e in engines):
            # It may wait for those that are here as long as they are.
            self._alarms.arm(job.task_id, Alarm.EXPECTED, now + self._owner.stranded_grace_s)
            return
        for entry in engines:
            if entry is not None:
                self.bridge.engine_left(entry, now)
        if not self.bridge.is_on_engine(job):
            names = ", ".join(uuid.decode("utf-8", "replace") for uuid in sorted(job.targets)[:5])
            text = f"task {job.msg_id}: none of its targets ({names}) is registered"
            self.bridge.abandon(job, KIND_IMPOSSIBLE, text, now)

    def _give_up_running(self, job: Job, uuid: bytes, now: float) -> None:
        """A job overran, and does not stop: its client hears so now, and its engine gets no other
        task before it has answered for this one."""
        entry = self.bridge.engines[uuid]
        entry.overrun = job.msg_id
        self.bridge.tell(ev.EngineDraining(entry.id), now)
        self.bridge.outcome(job, ev.OVERRAN, now)
        job.engine = None

    # --- engines --------------------------------------------------------------------------------

    def engine_leaves(self, entry: EngineEntry) -> None:
        """No more tasks for this engine; those that it has are waited for, for a while."""
        if not self.bridge.jobs_on(entry):
            self.forget_engine(entry)
            return
        now = self.now()
        entry.leaving_at_s = now + self._owner.stranded_grace_s
        self.bridge.tell(ev.EngineDraining(entry.id), now)
        self._alarms.arm(entry.id, Alarm.STRANDED, entry.leaving_at_s)

    def forget_engine(self, entry: EngineEntry) -> None:
        """The engine is gone, and has no tasks."""
        self._alarms.disarm(entry.id, Alarm.STRANDED)
        self._alarms.disarm(entry.id, Alarm.RESUME)
        self.bridge.engine_left(entry, self.now())

    def stranded_reply(self, job: Job, engine: bytes) -> list[Any]:
        """What the engine would have said, had it known that it dies."""
        uuid = engine.decode("utf-8", "replace")
        content = error_content("EngineError", f"engine {uuid} died while it had task {job.msg_id}")
        date = datetime.now(UTC).isoformat()
        metadata = {"status": "error", "engine": uuid, "date": date}
        idents = [engine, *job.idents]
        return list(
            self.frames.build(
                "apply_reply", content, parent=job.header, metadata=metadata, idents=idents
            )
        )

    def _unreachable(self, job: Job, entry: EngineEntry) -> None:
        """An engine that is registered is not connected (yet): its task goes to another, or
        waits; the engine is tried again soon."""
        now = self.now()
        self.complain("an engine is not connected", f"{entry.uuid!r} for task {job.msg_id}")
        job.engine = None
        self._owner.engine_freed(entry.uuid)
        self.bridge.gave_back(job, now)
        self.bridge.tell(ev.EngineDraining(entry.id), now)
        entry.resume_at_s = now + min(_RESUME_S * 2.0 ** min(entry.unroutable, 10), _RESUME_MAX_S)
        entry.unroutable += 1
        self._alarms.arm(entry.id, Alarm.RESUME, entry.resume_at_s)

    def _resume(self, entry: EngineEntry) -> None:
        entry.resume_at_s = None
        if entry.overrun is None and entry.leaving_at_s is None:
            self.bridge.tell(ev.EngineResumed(entry.id), self.now())

    # --- jobs -----------------------------------------------------------------------------------

    def save(self, job: Job) -> None:
        """Hand `job` to the core, which keeps it until it can run."""
        now = self.now()
        self.bridge.submit(job, now)
        if job.targets and not job.request.wait_for_engines:
            engines = [self.bridge.engines.get(uuid) for uuid in job.targets]
            if any(entry is not None and entry.expected for entry in engines):
                grace_s = self._owner.stranded_grace_s
                self._alarms.arm(job.task_id, Alarm.EXPECTED, now + grace_s)

    def job_answered(self, message: Message) -> Job | None:
        """The job that a reply is about, if it may have come from that engine."""
        msg_id = message.parent["msg_id"]
        if len(message.idents) < 2:
            self.complain("a reply without a route to a client", msg_id)
            return None
        uuid = message.idents[0]
        job = self.bridge.jobs.get(msg_id)
        if job is not None and uuid in (job.engine, job.last_engine):
            return job
        entry = self.bridge.engines.get(uuid)
        if entry is not None and entry.overrun == msg_id:
            entry.overrun = None
            self._owner.engine_freed(uuid)
            if entry.resume_at_s is None:
                self._resume(entry)
        elif entry is None:
            self.complain("a reply from an unknown engine", f"{uuid!r} about {msg_id}")
        elif job is None:
            self.complain("a reply for an unknown task", f"{msg_id} from {uuid!r}")
        else:
            self.complain("a reply from an engine that has not the task", f"{uuid!r}, {msg_id}")
        return None

    def finish(self, job: Job, success: bool) -> None:
        """The engine that has `job` ran it."""
        if success:
            status = ev.RAN
        else:
            status = ev.OVERRAN if job.overran else ev.RAISED
        self.bridge.outcome(job, status, self.now())

    def cancel(self, raw: list[Any]) -> None:
        """A client wants tasks not to run: those that no engine has end now."""
        message = self.read("cancel_request", self.frames.whole, raw)
        if message is None:
            return
        ids = message.content.get("msg_ids")
        if not isinstance(ids, list):
            self.complain("a cancel_request without msg_ids", repr(message.content))
            ids = []
        answer: dict[str, Any] = {"status": "ok"}
        answer |= {"cancelled": [], "running": [], "done": [], "unknown": []}
        now = self.now()
        for msg_id in dict.fromkeys(i for i in ids if isinstance(i, str)):
            job = self.bridge.jobs.get(msg_id)
            if job is None:
                how = "done" if msg_id in self.bridge.finished else "unknown"
            elif self.bridge.is_on_engine(job):
                how = "running"
            else:
                how = "cancelled"
                self.bridge.cancel(job, now)
            answer[how].append(msg_id)
        reply = self.frames.build(
            "cancel_reply", answer, parent=message.header, idents=message.idents
        )
        self._to_client(reply)

    def perform(self) -> None:
        """Do what the core has decided."""
        bridge = self.bridge
        while bridge.out:
            commands, bridge.out = bridge.out, []
            for command in commands:
                if type(command) is Assign:
                    self._assign(command)
                elif type(command) is Deliver:
                    self._deliver(command)
                # The rest asks for what engines of IPython can't do, and what nobody waits for.

    def _assign(self, command: Assign) -> None:
        job = self.bridge.job_of(command.task.id)
        uuid = self.bridge.uuid_of(command.engine)
        raw = job.raw_msg
        if job.attempts and job.request.retry_same_engine:
            raw = self.frames.resigned(raw, {"attempt": job.attempts + 1})
        job.engine, job.last_engine = uuid, None
        job.overran = False
        assert self._engine is not None
        try:
            self._engine.send([uuid, *raw])
        except Unroutable:
            self._unreachable(job, self.bridge.engines[uuid])
            return
        job.attempts += 1
        self.bridge.engines[uuid].unroutable = 0
        content = {"msg_id": job.msg_id, "engine_id": uuid.decode("utf-8", "replace")}
        idents = [b"tracktask", self.frames.bsession]
        self.monitor(self.frames.build("task_destination", content, idents=idents))
        run_timeout_s = job.request.run_timeout_s
        if run_timeout_s is not None:
            self._alarms.disarm(job.task_id, Alarm.OVERRAN)
            self._alarms.arm(job.task_id, Alarm.RUN_TIMEOUT, self.now() + run_timeout_s)

    def _deliver(self, command: Deliver) -> None:
        """A job has ended: tell its client, and the Hub."""
        job = self.bridge.job_of(command.task)
        problem = command.problem
        refused = command.state is TaskState.IMPOSSIBLE
        was_run = command.state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)
        if job.reply is not None and (was_run or (refused and not job.why)):
            # The last engine's reply. Also of a task that failed, and that no other may try.
            self._relay(job, job.reply)
        elif problem is None or problem.kind == KIND_CANCELLED:
            self._reply(job, _ABORTED, _ABORTED)
        else:
            name = job.why or _ERROR_NAMES.get(problem.kind, "ImpossibleDependency")
            self._reply(job, error_content(name, self.bridge.in_words(problem.text)), None)
        if job.targets or job.request.run_timeout_s is not None:
            for alarm in (Alarm.EXPECTED, Alarm.RUN_TIMEOUT, Alarm.OVERRAN):
                self._alarms.disarm(job.task_id, alarm)
        self.bridge.ended(job, command.state is TaskState.SUCCEEDED, self.now())

    def _relay(self, job: Job, raw: list[Any]) -> None:
        """Send an engine's reply on, with the first two identities swapped."""
        message = [job.idents[0], raw[0], *raw[2:]]
        self._to_client(message)
        self.monitor([b"outtask", *message])

    def _reply(self, job: Job, content: dict[str, Any], metadata: dict[str, Any] | None) -> None:
        message = self.frames.build(
            "apply_reply", content, parent=job.header, metadata=metadata, idents=job.idents
        )
        self._to_client(message)
        self.monitor([b"outtask", *message])

    def _to_client(self, message: Sequence[Frame]) -> None:
        assert self._client is not None
        try:
            self._client.send(message)
        except Unroutable:
            # Its tasks go on, as with the stock scheduler; the Hub keeps their results.
            self.complain("a client has gone, whose tasks go on", repr(message[0]))

    def monitor(self, message: Sequence[Frame]) -> None:
        """Let the Hub know, when clients and engines have been told."""
        self._unsaid.append(message)

    def _tell_monitor(self) -> None:
        assert self._monitor is not None
        for message in self._unsaid:
            self._monitor.send(message)
        self._unsaid.clear()
