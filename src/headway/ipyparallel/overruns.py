"""`run_timeout`: a run that takes too long is interrupted, and given up if it does not stop.

The time of a run begins when its engine has answered for all that it was sent before, so that a
task which waits behind another there is not charged for it. An interrupt goes to the engine's
process, whatever runs there: until it is known to have arrived, the engine is given nothing, or a
task that it was not meant for could be hit. (One that was there already, behind the other, still
can, if the interrupt crosses the answer on its way.)

What this file must not know: which engine a task may run on, how a task ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headway.core import events as ev
from headway.ipyparallel.alarms import Alarm
from headway.ipyparallel.bridge import Job
from headway.ipyparallel.engines import EngineEntry

if TYPE_CHECKING:
    from headway.ipyparallel.desk import Desk

#: Between the interrupt of a task that overran its run_timeout, and giving it up.
_INTERRUPT_GRACE_S = 2.0


class Overruns:
    """The bounds of all runs that have one."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._bridge = desk.bridge
        desk.alarms.on(Alarm.RUN_TIMEOUT, self._is_due)
        desk.alarms.on(Alarm.OVERRAN, self._goes_on)
        desk.alarms.on(Alarm.INTERRUPTED, self._unconfirmed)

    def watch(self, entry: EngineEntry) -> None:
        """Time the run that the engine is at, if it has a bound: call it whenever that changes."""
        job: Job | None = entry.sent.first
        if job is None or job.request.run_timeout_s is None or job.engine != entry.uuid:
            return
        alarms = self._desk.alarms
        if not job.overran and not alarms.is_armed(job.task_id, Alarm.RUN_TIMEOUT):
            at_s = self._desk.now() + job.request.run_timeout_s
            alarms.arm(job.task_id, Alarm.RUN_TIMEOUT, at_s)

    def ended(self, job: Job) -> None:
        """This run of `job` has ended, or nobody waits for it any more."""
        if job.request.run_timeout_s is not None:
            self._desk.alarms.disarm(job.task_id, Alarm.RUN_TIMEOUT)
            self._desk.alarms.disarm(job.task_id, Alarm.OVERRAN)

    def _is_due(self, number: int, now: float) -> None:
        job, entry = self._run(number)
        if job is None or entry is None:
            return
        job.overran = True
        msg_id = self._desk.frames.new_id()
        if not self._desk.signal(entry.uuid, "SIGINT", msg_id):
            self._give_up(job, entry)
            return
        entry.interrupts.add(msg_id)
        self._bridge.tell(ev.EngineDraining(entry.id), now)
        self._desk.alarms.arm(entry.id, Alarm.INTERRUPTED, now + _INTERRUPT_GRACE_S)
        self._desk.alarms.arm(job.task_id, Alarm.OVERRAN, now + _INTERRUPT_GRACE_S)

    def _goes_on(self, number: int, now: float) -> None:
        job, entry = self._run(number)
        if job is not None and entry is not None:
            self._give_up(job, entry)

    def _run(self, number: int) -> tuple[Job | None, EngineEntry | None]:
        """The job that is meant, and the engine that it is on."""
        job = self._bridge.find_job(ev.TaskId(number))
        if job is None or job.engine is None:
            return None, None
        return job, self._bridge.engines.get(job.engine)

    def _give_up(self, job: Job, entry: EngineEntry) -> None:
        """The client of `job` hears now that it overran, and its engine gets no other task before
        it is past this one."""
        now = self._desk.now()
        entry.overrun[job.msg_id] = job.place
        self._bridge.tell(ev.EngineDraining(entry.id), now)
        self._bridge.outcome(job, ev.OVERRAN, now)
        job.engine = None
        # The interrupt may have come when it had run, and cost it its answer.
        self._desk.fleet.probe(entry)

    # --- interrupts -----------------------------------------------------------------------------

    def confirm(self, raw: list[Any]) -> None:
        """Take an answer from the control channel: an interrupt has arrived, or could not."""
        message = self._desk.read("answer to an interrupt", self._desk.frames.whole, raw)
        if message is None:
            return
        msg_id = message.parent.get("msg_id")
        entry = self._bridge.engines.get(message.idents[0]) if message.idents else None
        if entry is not None and msg_id in entry.interrupts:
            entry.interrupts.discard(msg_id)
            self._desk.fleet.resume(entry)

    def _unconfirmed(self, number: int, now: float) -> None:
        """It did not arrive, or the answer did not."""
        entry = self._bridge.entry_of(ev.EngineId(number))
        entry.interrupts.clear()
        self._desk.fleet.resume(entry)
