"""Jobs and the core: msg_ids become task ids, uuids engine ids, replies outcomes, and back.

The `Bridge` owns a `headway.core.scheduler.Scheduler` and tells it what happened, in events; the
commands that it answers with are in `out`, for the scheduler's shell to perform. What a job is
to the core is one task of one client, with a function and arguments that nobody looks at.

A task leaves the core as soon as it has ended and nothing in there depends on it. How it ended is
then kept in `finished`, compactly; a later task that follows it puts it back for a moment.

What this file must not know: sockets, frames, sessions, the clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random
from typing import Any

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core.commands import Command
from headway.core.problems import KIND_IMPOSSIBLE, KIND_INVALID
from headway.core.records import Task
from headway.core.scheduler import Scheduler
from headway.core.states import ON_ENGINE_STATES, TaskState
from headway.ipyparallel.engines import EngineEntry, Engines
from headway.ipyparallel.finished import FinishedIds
from headway.ipyparallel.requests import PLAIN, Request, Wanted

#: Clients without unfinished tasks are forgotten when there are more clients than this.
_CLIENTS_MAX = 1_000
#: A task or an engine, as the core's texts name it.
_CORE_NAME = re.compile(r"\b(?:\d{1,9}-\d{1,13}|e\d{1,15})\b")
#: So many tasks that ended last can be named in a text, and those that others wait for still.
_NAMED_MAX = 1_000
#: The one function of every task, as the core sees it: what it is travels in the buffers.
_FUNCTION = b"apply"
#: What is known of an exception, which travels in the reply; and what a job ends with whose engine
#: does not answer.
_ERROR = ev.ErrorInfo([], "")
_LOST = "EngineError"


class Job:
    """One request, from its arrival until its reply: a container, as in the seed.

    Parameters:
        msg_id: its name everywhere.
        raw_msg: its frames as they came, from the client's identity on.
        idents: the route back to its client.
        msg, header, metadata: what was unpacked of it.
        targets: uuids of the engines that it may run on, as bytes; empty for all.
        after, follow: sets of msg_ids.
        timeout: seconds in the queue, or None.
    """

    __slots__ = (
        "after", "attempts", "engine", "expects_no_more", "follow", "header", "idents",
        "last_engine", "metadata", "msg", "msg_id", "overran", "passed", "place", "queued_at_s",
        "raw_msg", "reply", "request", "targets", "task_id", "timeout", "why",
    )  # fmt: skip

    def __init__(
        self,
        msg_id: str,
        raw_msg: list[Any],
        idents: list[bytes],
        msg: Any,
        header: dict[str, Any],
        metadata: dict[str, Any],
        targets: Any,
        after: Any,
        follow: Any,
        timeout: float | None,
    ) -> None:
        self.msg_id = msg_id
        self.raw_msg = raw_msg
        self.idents = idents
        self.msg = msg
        self.header = header
        self.metadata = metadata
        self.targets = targets
        self.after = after
        self.follow = follow
        self.timeout = timeout
        self.request: Request = PLAIN
        self.task_id = ev.TaskId(0)
        #: The uuid of the engine that has it; and of the one that had it last.
        self.engine: bytes | None = None
        self.last_engine: bytes | None = None
        #: How often it was sent; and where the last time is among what its engine was sent.
        self.attempts = 0
        self.place = 0
        #: When its present wait for an engine began.
        self.queued_at_s = 0.0
        #: The last reply to it: what its client is sent if it turns out to be the final one.
        self.reply: list[Any] | None = None
        #: Its run_timeout passed, and its engine was asked to interrupt it.
        self.overran = False
        #: Its engine has answered for a later one.
        self.passed = False
        #: The time is over in which those of its targets that nobody knew could register.
        self.expects_no_more = False
        #: The name of the error to reply with, where someone decided on one.
        self.why = ""

    def __repr__(self) -> str:
        where = f" on {self.engine.decode('ascii', 'replace')}" if self.engine else ""
        return f"<Job {self.msg_id}{where}>"


class UnknownDependency(ValueError):
    """A request depends on a task that was never submitted, or is forgotten, or on itself."""


@dataclass(slots=True)
class _Client:
    id: ev.ClientId
    nodes: int = 0
    open: int = 0

    def next_id(self) -> ev.TaskId:
        self.nodes += 1
        return ev.task_id(self.id, self.nodes)


@dataclass(slots=True)
class _Edges:
    """The conditions of a new task, in the core's ids."""

    after: ev.ConditionSpec | None = None
    follow: ev.ConditionSpec | None = None
    past: list[ev.PastTask] = field(default_factory=list)
    #: The task that makes it impossible already.
    culprit: str | None = None


class Bridge:
    """All jobs and engines, and the core that decides.

    Parameters:
        config: how to place tasks.
        rng: the source of chance of the random schemes.
        finished_max: how many finished msg_ids to remember.
    """

    def __init__(self, config: SchedulerConfig, rng: Random, finished_max: int) -> None:
        self.core = Scheduler(config, rng)
        self.out: list[Command] = []
        #: Unfinished jobs by msg_id.
        self.jobs: dict[str, Job] = {}
        self.finished = FinishedIds(finished_max)
        self.engines = Engines()
        self._by_task: dict[ev.TaskId, Job] = {}
        #: The msg_ids of jobs that have ended, in that order; and when there are too many.
        self._ended: dict[ev.TaskId, str] = {}
        self._ended_max = 2 * _NAMED_MAX
        self._clients: dict[bytes, _Client] = {}
        #: When those without a task are looked for: more of them than that may have one.
        self._clients_max = _CLIENTS_MAX
        self._clients_made = 0

    # --- what a job is to the core --------------------------------------------------------------

    def task(self, job: Job) -> Task | None:
        """The core's record of `job`."""
        return self.core.tasks.get(job.task_id)

    def job_of(self, task: ev.TaskId) -> Job:
        """The job of a task that has not ended."""
        return self._by_task[task]

    def find_job(self, task: ev.TaskId) -> Job | None:
        """The job of `task`, if it has not ended."""
        return self._by_task.get(task)

    def is_on_engine(self, job: Job) -> bool:
        """Whether an engine has `job`."""
        task = self.task(job)
        return task is not None and task.state in ON_ENGINE_STATES

    def engine_of(self, job: Job) -> bytes | None:
        """The uuid of the engine on which `job` is, or has ended; None if on none."""
        task = self.task(job)
        entry = self.engines.by_id(task.engine) if task is not None and task.engine else None
        return None if entry is None else entry.uuid

    def is_queued(self, job: Job) -> bool:
        """Whether `job` waits: for its dependencies, or for an engine."""
        task = self.task(job)
        return task is not None and task.state in (TaskState.WAITING, TaskState.READY)

    def in_words(self, text: str) -> str:
        """`text` of the core, with msg_ids and uuids where it names tasks and engines."""
        # To the core a task whose engine was lost is one that raised: see `lost`.
        text = text.replace(f" raised {_LOST}: ", f" ended with {_LOST}: ")
        return _CORE_NAME.sub(self._outer_name, text)

    def _outer_name(self, found: re.Match[str]) -> str:
        name = found[0]
        if name.startswith("e"):
            entry = self.engines.by_id(ev.EngineId(int(name[1:])))
            return name if entry is None else entry.uuid.decode("utf-8", "replace")
        task = ev.parse_task_id(name)
        job = self._by_task.get(task)
        return self._ended.get(task, name) if job is None else job.msg_id

    def forget_names(self) -> None:
        """Those of jobs that ended long ago and that nothing waits for; between two batches of
        commands, since the texts of one batch name tasks that end in it."""
        ended, tasks = self._ended, self.core.tasks
        if len(ended) <= self._ended_max:
            return
        oldest = len(ended) - _NAMED_MAX
        self._ended = {
            task: msg_id
            for n, (task, msg_id) in enumerate(ended.items())
            if n >= oldest or task in tasks
        }
        self._ended_max = 2 * len(self._ended)

    # --- submission -----------------------------------------------------------------------------

    def submit(self, job: Job, now: float) -> None:
        """Take `job` in. What becomes of it is in `out`.

        Raises:
            UnknownDependency: it names a task that is not known, or itself. It was not taken in.
        """
        request = job.request
        client = self._client_of(job.idents[0])
        edges = _Edges()
        if request.after or request.follow:
            self._connect(job, client, edges)
        job.task_id = client.next_id()
        job.queued_at_s = now
        self.jobs[job.msg_id] = job
        self._by_task[job.task_id] = job
        client.open += 1
        if edges.past:
            self.tell(ev.Remembered(client.id, edges.past), now)
        spec = ev.TaskSpec(job.task_id, 0, b"", None, edges.after, edges.follow)
        if request is not PLAIN:
            spec.options = self._options(request)
        self.tell(ev.Submitted(client.id, [_FUNCTION], [], [spec]), now)
        if edges.past:
            self.tell(ev.Released(client.id, [past.id for past in edges.past]), now)
        if edges.culprit is not None:
            text = f"task {job.msg_id} is impossible: {edges.culprit} did not end as it wants"
            self.abandon(job, KIND_IMPOSSIBLE, text, now)

    def abandon(self, job: Job, kind: str, text: str, now: float) -> None:
        """End `job`, which no engine has."""
        self.tell(ev.Abandoned(job.task_id, kind, text), now)

    def refuse(self, job: Job, text: str, now: float) -> None:
        """End `job` at once, since what it asks for makes no sense."""
        job.request = PLAIN
        self.submit(job, now)
        self.abandon(job, KIND_INVALID, text, now)

    def ended(self, job: Job, succeeded: bool, now: float) -> None:
        """`job` was replied to: what is left of it is how it ended."""
        task = self.task(job)
        engine = task.engine if task is not None else None
        self.finished.add(job.msg_id, succeeded, engine)
        del self.jobs[job.msg_id], self._by_task[job.task_id]
        self._ended[job.task_id] = job.msg_id
        client = self._clients[job.idents[0]]
        client.open -= 1
        for target in job.request.targets:
            self.engines.unname(_uuid(target))
        self.tell(ev.Released(client.id, [job.task_id]), now)

    def tell(self, event: ev.Event, now: float) -> None:
        """Let the core know of `event`."""
        self.core.handle(event, now, self.out)

    def _connect(self, job: Job, client: _Client, edges: _Edges) -> None:
        request = job.request
        for role, wanted in (("after", request.after), ("follow", request.follow)):
            if job.msg_id in wanted:
                raise UnknownDependency(f"task {job.msg_id}: {role} names the task itself")
            for msg_id in wanted:
                if msg_id not in self.jobs and msg_id not in self.finished:
                    raise UnknownDependency(
                        f"task {job.msg_id}: {role} names {msg_id}, which is no task that this "
                        f"scheduler knows: never submitted here, or finished long ago"
                    )
        if request.after:
            self._connect_after(request.after, edges)
        if request.follow:
            ids = []
            for msg_id in request.follow:
                other = self.jobs.get(msg_id)
                if other is not None:
                    ids.append(other.task_id)
                    continue
                succeeded, engine = self.finished.get(msg_id) or (False, None)
                ids.append(client.next_id())
                where = None if engine is None else ev.EngineId(engine)
                edges.past.append(ev.PastTask(ids[-1], succeeded, where, msg_id))
            edges.follow = ev.ConditionSpec(ids, request.follow.need, request.follow.on)

    def _connect_after(self, wanted: Wanted, edges: _Edges) -> None:
        """What has ended already is counted here, so that the core hears of the rest alone."""
        need = wanted.need or len(wanted)
        open_ids = []
        missed = None
        for msg_id in wanted:
            other = self.jobs.get(msg_id)
            if other is not None:
                open_ids.append(other.task_id)
                continue
            past = self.finished.get(msg_id)
            ended_as = ev.ON_SUCCESS if past is not None and past[0] else ev.ON_FAILURE
            if ended_as & wanted.on:
                need -= 1
            else:
                missed = missed or msg_id
        if need > len(open_ids):
            edges.culprit = missed
        elif need > 0:
            edges.after = ev.ConditionSpec(open_ids, need, wanted.on)

    def _options(self, request: Request) -> ev.TaskOptions:
        targets = None
        unknown = False
        if request.targets:
            entries = [self.engines.name(_uuid(target)) for target in request.targets]
            targets = sorted(entry.id for entry in entries)
            unknown = any(entry.is_expected for entry in entries)
        # A task that may run anywhere and has a timeout waits that long for another engine: with
        # retries=len(client), ipyparallel's tests want a TaskTimeout.
        waits = request.timeout_s is not None and not targets
        return ev.TaskOptions(
            targets=targets,
            wait_for_engines=request.wait_for_engines or waits or unknown,
            timeout_s=request.timeout_s,
            run_timeout_s=request.run_timeout_s,
            retries=request.retries,
            priority=request.priority,
            retry_elsewhere=not request.retry_same_engine,
            fair=request.fair,
        )

    def _client_of(self, ident: bytes) -> _Client:
        client = self._clients.get(ident)
        if client is None:
            if len(self._clients) >= self._clients_max:
                self._forget_idle_clients()
            self._clients_made += 1
            client = self._clients[ident] = _Client(ev.ClientId(self._clients_made))
            self.tell(ev.ClientJoined(client.id), 0.0)
            self.tell(ev.FunctionsDeclared(client.id, {_FUNCTION: b""}), 0.0)
        return client

    def _forget_idle_clients(self) -> None:
        """Half of those without a task, the oldest first: a sweep pays for the next ones too."""
        idle = [ident for ident, client in self._clients.items() if not client.open]
        # All may be busy: then the next sweep waits until there are twice as many.
        self._clients_max = max(_CLIENTS_MAX, 2 * (len(self._clients) - len(idle)))
        for ident in idle[: len(idle) // 2 + 1]:
            self.tell(ev.ClientLeft(self._clients.pop(ident).id), 0.0)

    # --- engines --------------------------------------------------------------------------------

    def engine_joined(self, uuid: bytes, now: float) -> bool:
        """`uuid` has registered. False if it is here already."""
        if uuid in self.engines:
            return False
        self.tell(ev.EngineJoined(self.engines.joined(uuid).id, {}), now)
        return True

    def engine_left(self, entry: EngineEntry, now: float) -> None:
        """The engine is gone, and has no tasks any more."""
        self.engines.left(entry.uuid)
        self.tell(ev.EngineLeft(entry.id, ev.EngineEnd("unregistered", wanted=True)), now)

    def entry_of(self, engine: ev.EngineId) -> EngineEntry:
        """The engine of that number, which is here."""
        entry = self.engines.by_id(engine)
        assert entry is not None
        return entry

    def uuid_of(self, engine: ev.EngineId) -> bytes:
        """The uuid of an engine that is here."""
        return self.entry_of(engine).uuid

    def may_run_on_some(self, job: Job) -> bool:
        """Whether an engine is here on which `job`, which names targets, has not failed."""
        task = self.task(job)
        excluded = (task.excluded if task is not None else None) or ()
        entries = [self.engines.get(_uuid(target)) for target in job.request.targets]
        return any(entry is not None and entry.id not in excluded for entry in entries)

    def has_jobs(self, entry: EngineEntry) -> bool:
        """Whether the engine has any."""
        engine = self.core.engines.get(entry.id)
        return engine is not None and bool(engine.assigned)

    def jobs_on(self, entry: EngineEntry) -> list[Job]:
        """What the engine has, in the order in which it was sent."""
        engine = self.core.engines.get(entry.id)
        return [self._by_task[task] for task in engine.assigned] if engine is not None else []

    # --- outcomes -------------------------------------------------------------------------------

    def outcome(self, job: Job, status: int, now: float, error: ev.ErrorInfo = _ERROR) -> None:
        """The engine that has `job` answered: `status` is one of the core's (RAN, RAISED...)."""
        task = self.task(job)
        assert task is not None
        assert task.engine is not None
        about = error if status == ev.RAISED else None
        outcome = ev.Outcome(task.id, task.attempt, status, b"", error=about)
        job.queued_at_s = now  # if it is to be tried again
        self.tell(ev.Finished(task.engine, [outcome]), now)

    def lost(self, job: Job, text: str, now: float) -> None:
        """The engine that has `job` will not answer for it, for the reason in `text`: `job` failed,
        but may be tried again there too. The engine drains from now on."""
        task = self.task(job)
        assert task is not None
        assert task.engine is not None
        self.tell(ev.EngineDraining(task.engine), now)
        self.outcome(job, ev.RAISED, now, ev.ErrorInfo([_LOST], text))

    def cancel(self, job: Job, now: float) -> None:
        """End `job`, which no engine has, as its client wants."""
        self.tell(ev.CancelAsked(self._clients[job.idents[0]].id, [job.task_id]), now)

    def aborted(self, job: Job, now: float) -> None:
        """The engine that has `job`, or had it last, did not run it, since its client wanted so."""
        self.cancel(job, now)
        if self.is_on_engine(job):
            self.outcome(job, ev.STOPPED, now)

    def late_outcome(self, job: Job, status: int, now: float) -> None:
        """The engine that had `job` last, and was given up, answered after all."""
        task = self.task(job)
        assert task is not None
        outcome = ev.Outcome(task.id, task.attempt, status, b"")
        self.tell(ev.LateOutcome(outcome), now)

    def undelivered(self, job: Job, now: float) -> None:
        """`job` could not be sent to the engine that it was placed on."""
        task = self.task(job)
        assert task is not None
        assert task.engine is not None
        self.tell(ev.Undelivered(task.engine, task.id, job.queued_at_s), now)


def _uuid(target: str) -> bytes:
    """The uuid that a request names, as the identity of a socket."""
    return target.encode("utf-8", "replace")
