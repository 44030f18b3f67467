"""The engines as they come, go, and can't be reached; and what becomes of the tasks they had.

An engine that is unregistered may have results on their way: its tasks are given up when a grace
is over. One that can't be reached is left alone, and tried again soon. A target that nobody knows
may be about to register: its tasks wait, for the same grace.

A message can be lost on a connection that breaks, and nobody is told. But an engine answers in the
order in which it was asked: once it has answered for a later task, an earlier one is lost, or its
answer is. After connections broke, each engine that has a task is sent a probe, a request that
costs it nothing, so that there is a later one. Whether a lost task has run is not known; so it
ends as if its engine had died: an EngineError, or a retry if it has some left. Answers that came
by different connections can overtake each other, hence the grace here too.

What this file must not know: what a message looks like, where a task may run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway.core import events as ev
from headway.core.commands import Assign
from headway.core.problems import KIND_IMPOSSIBLE
from headway.ipyparallel.alarms import Alarm
from headway.ipyparallel.bridge import Job
from headway.ipyparallel.engines import EngineEntry
from headway.ipyparallel.frames import Message
from headway.ipyparallel.replies import lost_reply
from headway.ipyparallel.sockets import Unroutable

if TYPE_CHECKING:
    from headway.ipyparallel.desk import Desk

#: After an engine could not be reached: when to try again, doubled each time.
_RESUME_S, _RESUME_MAX_S = 0.05, 2.0
#: After connections broke: when to probe. They come back within a moment, or not soon.
_PROBE_S = 1.0
#: Probes that an engine has not answered: it is busy, and more would tell nothing new.
_PROBES_MAX = 100
#: In place of an engine's number; these begin at 1.
_ALL = 0


class Fleet:
    """All engines of a scheduler."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._bridge = desk.bridge
        self._owner = desk.owner
        #: uuid -> msg_id -> job: those that name the engine, and expect no other to register.
        self._sworn: dict[bytes, dict[str, Job]] = {}
        alarms = desk.alarms
        alarms.on(Alarm.STRANDED, self._is_stranded)
        alarms.on(Alarm.RESUME, self._try_again)
        alarms.on(Alarm.PROBE, self._probe_now)
        alarms.on(Alarm.LOST, self._is_lost)
        alarms.on(Alarm.EXPECTED, self._expects_no_more)

    # --- come and go ----------------------------------------------------------------------------

    def joins(self, uuid: bytes) -> bool:
        """`uuid` has registered. False if that is no news."""
        desk, now = self._desk, self._desk.now()
        if self._bridge.engine_joined(uuid, now):
            return True
        entry = self._bridge.engines.get(uuid)
        if entry is None or entry.leaving_at_s is None:
            return False
        # It came back within the grace: it is the same engine, and keeps its tasks.
        entry.leaving_at_s = None
        desk.alarms.disarm(entry.id, Alarm.STRANDED)
        self.resume(entry)
        self.probe(entry)
        return True

    def leaves(self, entry: EngineEntry) -> None:
        """No more tasks for this engine; those that it has are waited for, for a while."""
        if not self._bridge.has_jobs(entry):
            self.forget(entry)
            return
        now = self._desk.now()
        entry.leaving_at_s = now + self._owner.stranded_grace_s
        self._bridge.tell(ev.EngineDraining(entry.id), now)
        self._desk.alarms.arm(entry.id, Alarm.STRANDED, entry.leaving_at_s)

    def forget(self, entry: EngineEntry) -> None:
        """The engine is gone, and has no tasks."""
        desk = self._desk
        for alarm in (Alarm.STRANDED, Alarm.RESUME, Alarm.INTERRUPTED, Alarm.PROBE):
            desk.alarms.disarm(entry.id, alarm)
        self._bridge.engine_left(entry, desk.now())
        for job in list(self._sworn.get(entry.uuid, {}).values()):
            self._give_up_if_hopeless(job)

    def strand(self, entry: EngineEntry) -> None:
        """The tasks of an engine that is gone are given up."""
        uuid = entry.uuid.decode("utf-8", "replace")
        # The last first: one that is tried again goes to the front.
        for job in reversed(self._bridge.jobs_on(entry)):
            self._lose(job, entry, f"engine {uuid} died while it had task {job.msg_id}")
        self.forget(entry)

    def _is_stranded(self, number: int, now: float) -> None:
        entry = self._bridge.entry_of(ev.EngineId(number))
        if entry.leaving_at_s is not None:
            self._owner.handle_stranded_tasks(entry.uuid)

    def load_of(self, uuid: bytes) -> int:
        """How many tasks the engine has, those that nobody waits for included."""
        entry = self._bridge.engines.get(uuid)
        return 0 if entry is None else len(self._bridge.jobs_on(entry)) + len(entry.overrun)

    # --- out of reach ---------------------------------------------------------------------------

    def out_of_reach(self, entry: EngineEntry, job: Job) -> None:
        """An engine that is registered is not connected (yet). It is tried again soon."""
        desk, now = self._desk, self._desk.now()
        desk.complain("an engine is not connected", f"{entry.uuid!r} for task {job.msg_id}")
        self._bridge.tell(ev.EngineDraining(entry.id), now)
        entry.resume_at_s = now + min(_RESUME_S * 2.0 ** min(entry.unroutable, 10), _RESUME_MAX_S)
        entry.unroutable += 1
        desk.alarms.arm(entry.id, Alarm.RESUME, entry.resume_at_s)

    def undelivered(self, commands: list[Assign]) -> None:
        """These tasks could not be sent: they go to other engines, or wait, where they were."""
        # The last first: each goes to the front.
        for command in reversed(commands):
            self._owner.engine_freed(self._bridge.uuid_of(command.engine))
            self._bridge.undelivered(self._bridge.job_of(command.task.id), self._desk.now())

    def _try_again(self, number: int, now: float) -> None:
        entry = self._bridge.entry_of(ev.EngineId(number))
        entry.resume_at_s = None
        self.resume(entry)
        self.probe(entry)

    def resume(self, entry: EngineEntry) -> None:
        """The engine may be given tasks again, if nothing else is against it."""
        if entry.may_work:
            self._bridge.tell(ev.EngineResumed(entry.id), self._desk.now())

    # --- answers --------------------------------------------------------------------------------

    def answered_job(self, message: Message) -> Job | None:
        """The job that a reply is about, if it may have come from that engine."""
        msg_id: str = message.parent["msg_id"]
        idents = message.idents
        uuid = idents[0] if idents else b""
        job = self._bridge.jobs.get(msg_id)
        if job is not None and uuid in (job.engine, job.last_engine) and len(idents) > 1:
            return job
        desk = self._desk
        entry = self._bridge.engines.get(uuid)
        if entry is not None and msg_id in entry.probes:
            self._is_past(entry, entry.probes[msg_id])
        elif entry is not None and msg_id in entry.overrun:
            self._is_past(entry, entry.overrun[msg_id])
        elif len(message.idents) < 2:
            desk.complain("a reply without a route to a client", msg_id)
        elif entry is None:
            desk.complain("a reply from an unknown engine", f"{uuid!r} about {msg_id}")
        elif job is None:
            desk.complain("a reply for an unknown task", f"{msg_id} from {uuid!r}")
        else:
            desk.complain("a reply from an engine that has not the task", f"{uuid!r}, {msg_id}")
        return None

    def answered(self, uuid: bytes, job: Job) -> None:
        """The engine has answered for `job`, and has it no more."""
        self._taken_from(job)
        job.engine = job.last_engine = None
        entry = self._bridge.engines.get(uuid)
        if entry is not None:
            self._is_past(entry, job.place)
            if entry.leaving_at_s is not None and not self._bridge.has_jobs(entry):
                self.forget(entry)
        if job.expects_no_more:
            self._give_up_if_hopeless(job)

    def _taken_from(self, job: Job) -> None:
        """Nobody waits for its engine to answer for `job` any more."""
        self._desk.overruns.ended(job)
        if job.passed:
            job.passed = False
            self._desk.alarms.disarm(job.task_id, Alarm.LOST)

    def _is_past(self, entry: EngineEntry, place: int) -> None:
        """The engine has answered for what it was sent at `place`: it is past all before it."""
        lost_at_s = self._desk.now() + self._owner.stranded_grace_s
        for job in entry.sent.answered(place):
            if job is not None and job.engine == entry.uuid:
                job.passed = True
                self._desk.alarms.arm(job.task_id, Alarm.LOST, lost_at_s)
        if entry.probes:
            entry.probes = {m: at for m, at in entry.probes.items() if at > place}
        if entry.overrun:
            over = [msg_id for msg_id, at in entry.overrun.items() if at <= place]
            for msg_id in over:
                del entry.overrun[msg_id]
                self._owner.engine_freed(entry.uuid)
            if over:
                self.resume(entry)
        self._desk.overruns.watch(entry)

    # --- losses ---------------------------------------------------------------------------------

    def connections_changed(self) -> None:
        """A connection to some engine broke, or is new, which may be in place of a broken one."""
        self._probe_soon(_ALL)
        self._desk.wake()

    def _probe_soon(self, number: int) -> None:
        alarms = self._desk.alarms
        if not alarms.is_armed(number, Alarm.PROBE):
            alarms.arm(number, Alarm.PROBE, self._desk.now() + _PROBE_S)

    def _probe_now(self, number: int, now: float) -> None:
        entries = self._bridge.engines
        for entry in entries if number == _ALL else [self._bridge.entry_of(ev.EngineId(number))]:
            self.probe(entry)

    def probe(self, entry: EngineEntry) -> None:
        """Ask the engine for a sign that it is past what it was sent, if it has anything."""
        if not entry.sent or len(entry.probes) >= _PROBES_MAX:
            return
        msg_id = self._desk.frames.new_id()
        probe = self._desk.frames.build(
            "kernel_info_request", {}, idents=[entry.uuid], msg_id=msg_id
        )
        try:
            self._desk.to_engine(probe)
        except Unroutable:
            self._probe_soon(entry.id)
        else:
            entry.probes[msg_id] = entry.sent.add(None)

    def _is_lost(self, number: int, now: float) -> None:
        job = self._bridge.find_job(ev.TaskId(number))
        if job is None or not job.passed or job.engine is None:
            return
        entry = self._bridge.engines.get(job.engine)
        assert entry is not None
        uuid = entry.uuid.decode("utf-8", "replace")
        self._desk.complain("a task is lost", f"{job.msg_id}, which was sent to {uuid}")
        self._owner.engine_freed(entry.uuid)
        text = f"engine {uuid} never answered for task {job.msg_id}, but for what it was sent later"
        self._lose(job, entry, text)
        if entry.leaving_at_s is None:
            self.resume(entry)
        elif not self._bridge.has_jobs(entry):
            self.forget(entry)

    def _lose(self, job: Job, entry: EngineEntry, text: str) -> None:
        """The engine will not answer for `job`; `text` says why."""
        self._taken_from(job)
        job.reply = lost_reply(self._desk.frames, job, entry.uuid, text)
        self._bridge.lost(job, text, self._desk.now())
        # It may yet answer, as long as no other engine is given the task.
        job.engine, job.last_engine = None, entry.uuid

    # --- targets that nobody knows --------------------------------------------------------------

    def expect(self, job: Job) -> None:
        """`job` was taken in. If it names engines that nobody knows, they have a while."""
        if not job.targets or job.request.wait_for_engines:
            return
        entries = [self._bridge.engines.find(uuid) for uuid in job.targets]
        if any(entry is not None and entry.is_expected for entry in entries):
            at_s = self._desk.now() + self._owner.stranded_grace_s
            self._desk.alarms.arm(job.task_id, Alarm.EXPECTED, at_s)

    def ended(self, job: Job) -> None:
        """`job` has ended, and needs no engine any more."""
        self._taken_from(job)
        if not job.targets:
            return
        self._desk.alarms.disarm(job.task_id, Alarm.EXPECTED)
        if job.expects_no_more:
            for uuid in job.targets:
                named = self._sworn.get(uuid, {})
                named.pop(job.msg_id, None)
                if not named:
                    self._sworn.pop(uuid, None)

    def _expects_no_more(self, number: int, now: float) -> None:
        """From now on `job` waits for those of its targets that are here, as long as they are."""
        job = self._bridge.find_job(ev.TaskId(number))
        if job is None:
            return
        job.expects_no_more = True
        for uuid in job.targets:
            self._sworn.setdefault(uuid, {})[job.msg_id] = job
        self._give_up_if_hopeless(job)

    def _give_up_if_hopeless(self, job: Job) -> None:
        if not self._bridge.is_queued(job) or self._bridge.may_run_on_some(job):
            return
        names = ", ".join(uuid.decode("utf-8", "replace") for uuid in sorted(job.targets)[:5])
        text = f"task {job.msg_id}: none of its targets ({names}) is registered and may run it"
        self._bridge.abandon(job, KIND_IMPOSSIBLE, text, self._desk.now())
