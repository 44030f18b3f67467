"""The task scheduler of IPython.parallel, name for name, over headway's core.

    Job, TaskScheduler, logged, plainrandom, lru, twobin, weighted, leastload, launch_scheduler

A `TaskScheduler` speaks the IPython.parallel protocol with a real Hub, real clients and real
engines. This file is its public face: the methods of the seed, which say what happens to a
message. What a message does to a job is the core's to decide (bridge.py), what is sent because of
it is in desk.py, the sockets are in sockets.py.

Loads and targets: the seed keeps two lists of engines, `targets` and `loads`, in LRU order. Here
they are made when they are first asked for, or when a subclass overrides `add_job` or
`finish_job`, or a `scheme` of the user's own is set; from then on tasks are placed by these lists,
at a cost of O(engines) a task. Until then the core places them by its own index, in O(1).
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

from jupyter_client.session import Session, SessionFactory
from traitlets import Any as AnyTrait
from traitlets import Float, Integer, TraitError, Unicode, observe, validate

from headway.collector import tune_garbage_collection
from headway.core import events as ev
from headway.core.problems import KIND_IMPOSSIBLE, KIND_INVALID, KIND_TIMEOUT
from headway.ipyparallel.bridge import Job, UnknownDependency
from headway.ipyparallel.cancels import cancel
from headway.ipyparallel.desk import Desk
from headway.ipyparallel.frames import Message
from headway.ipyparallel.launch import launch_scheduler
from headway.ipyparallel.lists import EngineLists
from headway.ipyparallel.requests import PLAIN, BadRequest, read
from headway.ipyparallel.schemes import (
    BY_NAME,
    Scheme,
    leastload,
    lru,
    plainrandom,
    twobin,
    weighted,
)
from headway.ipyparallel.sockets import COPIED_MAX, NONE_COPIED
from ipyparallel import error as ipp_error

__all__ = [
    "Job",
    "TaskScheduler",
    "launch_scheduler",
    "leastload",
    "logged",
    "lru",
    "plainrandom",
    "twobin",
    "weighted",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])
#: What a client may send to be run: the rest of Jupyter's requests is not for a load balancer.
_TASK_TYPES = frozenset({"apply_request", "execute_request"})


def logged(f: _Method) -> _Method:
    """Decorate a method of a scheduler: each call is logged, at level DEBUG."""

    @wraps(f)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.log.debug("scheduler::%s(*%s,**%s)", f.__name__, args, kwargs)
        return f(self, *args, **kwargs)

    return call  # type: ignore[return-value]


class TaskScheduler(SessionFactory):
    """The Python task scheduler: msg_id dependencies, location dependencies, schemes, retries.

    *Only* msg_ids of tasks are known, not those of messages sent through a direct view.

    Parameters:
        client_stream, engine_stream: ROUTER sockets, bound; ZMQStreams or plain sockets.
        mon_stream: a PUB socket, connected to the Hub's monitor.
        notifier_stream: a SUB socket, connected to the Hub's notifications.
        query_stream: a DEALER socket, connected to the Hub's registration.
        loop, log, config, session: as for any Jupyter application; each has a default.
    """

    hwm = Integer(
        1,
        min=0,
        help="""High water mark: how many tasks may be outstanding on an engine at most. 1 sends
        an engine its next task when it has answered the last; more hide the way there and back;
        0 is no limit, which can leave some engines with long queues while others idle.""",
    ).tag(config=True)
    scheme_name = Unicode(
        "leastload",
        help="""How an engine is chosen: leastload, lru, twobin, weighted, plainrandom; or pure,
        which is ZMQ's own queue without any of the rest.""",
    ).tag(config=True)
    stranded_grace_s = Float(
        5.0,
        min=0,
        help="""Seconds that results of an engine which was unregistered may still come, before
        its tasks are given up; and that an engine which nobody knows may take to register.""",
    ).tag(config=True)
    finished_max = Integer(
        1_000_000,
        min=64,
        help="""How many finished tasks are remembered, so that others can depend on them.""",
    ).tag(config=True)
    control_addr = Unicode(
        "",
        help="""Where the controller listens for its clients' control messages: tasks that overran
        their run_timeout are interrupted through it. Without, they are only given up.""",
    ).tag(config=True)

    client_stream = AnyTrait(None)
    engine_stream = AnyTrait(None)
    mon_stream = AnyTrait(None)
    notifier_stream = AnyTrait(None)
    query_stream = AnyTrait(None)
    #: A DEALER socket, connected to `control_addr`, where there is one.
    control_stream = AnyTrait(None)
    #: A user's own scheme: a function of a list of loads, in LRU order, that returns an index.
    scheme = AnyTrait(None, allow_none=True)
    #: The time, in seconds from whenever; it never jumps.
    clock = AnyTrait(time.monotonic)

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get("session") is None:
            # Not given our own arguments, of which Session knows none.
            kwargs["session"] = Session(config=kwargs.get("config"))
        if kwargs.get("log") is None:
            kwargs["log"] = logging.getLogger(kwargs.get("logname") or "headway.ipyparallel")
        self.lists: EngineLists | None = None
        super().__init__(**kwargs)
        self._desk = Desk(self)
        overridden = any(
            getattr(type(self), name) is not getattr(TaskScheduler, name)
            for name in ("add_job", "finish_job", "available_engines", "submit_task")
        )
        if overridden or self.scheme is not None:
            self._keep_lists()

    # --- settings -------------------------------------------------------------------------------

    @validate("scheme_name")
    def _check_scheme_name(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if name != "pure" and name not in BY_NAME:
            known = ", ".join([*BY_NAME, "pure"])
            raise TraitError(f"no scheme {name!r}: known are {known}")
        return name

    @validate("scheme")
    def _check_scheme(self, proposal: Any) -> Scheme | None:
        scheme: Any = proposal["value"]
        if scheme is not None and not callable(scheme):
            raise TraitError(f"scheme={scheme!r} is not a function of a list of loads")
        return scheme  # type: ignore[no-any-return]

    @observe("hwm")
    def _hwm_changed(self, change: Any) -> None:
        if hasattr(self, "_desk"):
            if self.lists is None:
                self._desk.bridge.core.set_hwm(self.hwm)
            self._desk.wake()

    @observe("scheme", "scheme_name")
    def _scheme_changed(self, change: Any) -> None:
        if hasattr(self, "_desk"):
            self._keep_lists()

    def start(self) -> None:
        """Ask the Hub for its engines, and take messages from now on."""
        if self.scheme_name == "pure":
            raise ValueError("scheme_name='pure' is a device of ZMQ: launch_scheduler runs it")
        if multiprocessing.parent_process() is not None:
            tune_garbage_collection()  # a controller's child has no other work
        # A subclass may look at messages, and expects what ZMQStreams would give it.
        self._desk.start(COPIED_MAX if type(self) is TaskScheduler else NONE_COPIED)
        self.log.info("headway's task scheduler started [%s, hwm=%d]", self.scheme_name, self.hwm)

    def close(self) -> None:
        """Stop, and close the sockets."""
        self._desk.close()

    def resume_receiving(self) -> None:
        """Resume accepting jobs."""
        self._desk.receiving = True
        self._desk.wake()

    def stop_receiving(self) -> None:
        """Stop accepting jobs. Leave them in the ZMQ queue."""
        self._desk.receiving = False

    # --- engines come and go --------------------------------------------------------------------

    def dispatch_query_reply(self, msg: Sequence[Any]) -> None:
        """Handle the reply to our initial request for a connection: it lists the engines."""
        message = self._desk.read("answer of the Hub", self._desk.frames.whole, msg)
        if message is None:
            return
        if self._desk.hub is not None:
            self._desk.hub.answered()
        engines = message.content.get("engines", {})
        for uuid in engines.values() if isinstance(engines, dict) else ():
            entry = self._desk.bridge.engines.find(str(uuid).encode())
            # An answer can be older than the notification that an engine has left.
            if entry is None or not entry.has_departed:
                self._register_engine(str(uuid).encode())
        self._desk.settle()

    def dispatch_notification(self, msg: Sequence[Any]) -> None:
        """Dispatch the Hub's notifications: an engine registered, or unregistered."""
        message = self._desk.read("notification", self._desk.frames.whole, msg)
        if message is None:
            return
        kind = message.header.get("msg_type")
        uuid = message.content.get("uuid")
        if kind == "shutdown_notification":
            if self._desk.hub is not None:
                self._desk.hub.shuts_down()
        elif kind not in ("registration_notification", "unregistration_notification"):
            self._desk.complain("notification of an unknown type", repr(kind))
        elif not isinstance(uuid, str) or not uuid:
            self._desk.complain(f"{kind} without a uuid", repr(message.content))
        elif kind == "registration_notification":
            self._register_engine(uuid.encode())
        else:
            self._unregister_engine(uuid.encode())
        self._desk.settle()

    def _register_engine(self, uid: bytes) -> None:
        if not self._desk.fleet.joins(uid):
            self.log.debug("engine %s is registered already", uid)
        elif self.lists is not None:
            self.lists.joined(uid)
            # One that came back in time has tasks still.
            for _ in range(self._desk.fleet.load_of(uid)):
                self._job_added(uid)

    def _unregister_engine(self, uid: bytes) -> None:
        entry = self._desk.bridge.engines.get(uid)
        if entry is None:
            # So that an older answer of the Hub does not bring it back.
            self._desk.bridge.engines.left(uid)
        if entry is None or entry.leaving_at_s is not None:
            self._desk.complain("an unknown engine was unregistered", repr(uid))
            return
        if self.lists is not None:
            self.lists.left(uid)
        self._desk.fleet.leaves(entry)

    def handle_stranded_tasks(self, engine: bytes) -> None:
        """Deal with jobs resident in an engine that died: each gets an EngineError for a reply,
        and is tried again elsewhere if it has retries left."""
        entry = self._desk.bridge.engines.get(engine)
        if entry is None:
            self._desk.complain("stranded tasks of an unknown engine", repr(engine))
            return
        if self.lists is not None:
            self.lists.left(engine)
        self._desk.fleet.strand(entry)
        self._desk.settle()

    # --- jobs come ------------------------------------------------------------------------------

    def dispatch_submission(self, raw_msg: list[Any]) -> None:
        """Dispatch a submission to the appropriate handlers: relayed to the Hub's monitor, read,
        checked, and saved until it can run."""
        desk = self._desk
        message = desk.read("task", desk.frames.request, raw_msg)
        if message is None:
            return
        header = message.header
        if not message.idents:
            desk.complain("a task without a route back", repr(header))
            return
        kind = header.get("msg_type")
        if kind == "cancel_request":
            cancel(desk, raw_msg)
            desk.settle()
            return
        msg_id: str = header["msg_id"]
        if kind not in _TASK_TYPES:
            desk.complain(f"a request of the unknown type {kind!r}", msg_id)
            return
        if msg_id in desk.bridge.jobs or msg_id in desk.bridge.finished:
            desk.complain("a task that came twice", msg_id)
            return
        desk.monitor([b"intask", *raw_msg])
        self._take(msg_id, raw_msg, message)
        desk.settle()

    def _take(self, msg_id: str, raw_msg: list[Any], message: Message) -> None:
        """Make a job of a request, and save it; or reply why not."""
        metadata = message.metadata
        why = ""
        try:
            request = read(metadata)
        except BadRequest as bad:
            request, why = PLAIN, str(bad)
        targets: set[bytes] = set()
        if request.targets:
            targets = {target.encode("utf8", "replace") for target in request.targets}
        job = Job(
            msg_id, raw_msg, message.idents, message, message.header, metadata,
            targets, request.after, request.follow, request.timeout_s,
        )  # fmt: skip
        job.request = request
        if why:
            job.why = "ValueError"
            self._desk.bridge.refuse(job, why, self._desk.now())
            return
        if self._desk.guarded("save_unmet", self.save_unmet, job):
            return
        if msg_id not in self._desk.bridge.jobs:
            job.why = "RuntimeError"
            text = f"task {msg_id} could not be taken in: see the scheduler's log"
            self._desk.bridge.refuse(job, text, self._desk.now())

    def save_unmet(self, job: Job) -> None:
        """Save a job until its dependencies are met and an engine has room."""
        desk = self._desk
        try:
            desk.bridge.submit(job, desk.now())
        except UnknownDependency as unknown:
            desk.bridge.refuse(job, str(unknown), desk.now())
            return
        if job.targets:
            desk.fleet.expect(job)

    def job_timeout(self, job: Job) -> None:
        """A job's timeout has passed: if it still waits, it fails with a TaskTimeout."""
        if job.msg_id in self._desk.bridge.jobs and not self._desk.bridge.is_on_engine(job):
            self.fail_unreachable(job.msg_id, ipp_error.TaskTimeout)

    def fail_unreachable(
        self, msg_id: str, why: type[BaseException] = ipp_error.ImpossibleDependency
    ) -> None:
        """A task has become unreachable: send a reply with an error of the class `why`. The tasks
        that depend on it hear of it."""
        job = self._desk.bridge.jobs.get(msg_id)
        if job is None or self._desk.bridge.is_on_engine(job):
            self.log.error("task %r can't fail as unreachable: it runs, or has ended", msg_id)
            return
        job.why = why.__name__
        kinds = {"InvalidDependency": KIND_INVALID, "TaskTimeout": KIND_TIMEOUT}
        kind = kinds.get(job.why, KIND_IMPOSSIBLE)
        self._desk.bridge.abandon(job, kind, f"task {msg_id} is unreachable", self._desk.now())
        self._desk.settle()

    # --- jobs run -------------------------------------------------------------------------------

    def available_engines(self) -> list[int]:
        """The indices into `targets` of the engines that may get another task, by hwm."""
        loads = self.loads
        return [idx for idx in range(len(loads)) if not self.hwm or loads[idx] < self.hwm]

    def free_engines(self) -> list[int]:
        """What `available_engines` says; where a user's own raises, what the default would."""
        try:
            return list(self.available_engines())
        except Exception as error:
            self._desk.failed("available_engines", error)
            return TaskScheduler.available_engines(self)

    def maybe_run(self, job: Job) -> bool:
        """Run `job` now if its dependencies are met and an engine has room for it. Returns
        whether it was sent to one."""
        desk = self._desk
        if self.lists is not None:
            indices = self.lists.indices_for(job, self.free_engines())
            if indices:
                self.submit_task(job, indices)
        else:
            desk.bridge.core.place_task(job.task_id, desk.now(), desk.bridge.out)
            desk.perform()
        is_sent = job.engine is not None
        desk.settle()
        return is_sent

    def submit_task(self, job: Job, indices: Sequence[int] | None = None) -> None:
        """Submit a task to any of a subset of our targets, which the scheme chooses."""
        lists = self._keep_lists()
        if indices is None:
            indices = self.free_engines()
        if not indices:
            return
        uuid = self.targets[lists.choose(indices)]
        desk = self._desk
        engine = desk.bridge.engines.get(uuid)
        among = [engine.id] if engine is not None else []
        if desk.bridge.core.place_task(job.task_id, desk.now(), desk.bridge.out, among=among):
            self._job_added(uuid)
            desk.perform()
        desk.settle()

    # --- jobs end -------------------------------------------------------------------------------

    def dispatch_result(self, raw_msg: list[Any]) -> None:
        """Dispatch an engine's reply: a result, a failure, or a dependency that is not met."""
        desk = self._desk
        message = desk.read("reply", desk.frames.reply, raw_msg)
        if message is None:
            return
        job = desk.fleet.answered_job(message)
        if job is None:
            desk.settle()  # it may have freed its engine
            return
        engine = message.idents[0]
        if self.lists is not None and job.engine == engine:  # not one that was given up
            self.engine_freed(engine)
        metadata = message.metadata
        status = metadata.get("status", "no status")
        if not metadata.get("dependencies_met", True):
            self._handle("handle_unmet_dependency", job, message.idents, message.parent)
        elif status == "aborted":
            job.reply = raw_msg
            desk.bridge.aborted(job, desk.now())
            desk.fleet.answered(engine, job)
        else:
            succeeded = status == "ok"
            self._handle("handle_result", job, message.idents, message.parent, raw_msg, succeeded)
        desk.settle()

    def _handle(self, method: str, job: Job, idents: list[bytes], *arguments: Any) -> None:
        """Call a method that takes an answer for `job`. Where a user's own raises before it has
        done so, the default takes it: else nobody would ever."""
        place = job.place
        done = self._desk.guarded(method, getattr(self, method), idents, *arguments)
        if not done and job.place == place and idents[0] in (job.engine, job.last_engine):
            getattr(TaskScheduler, method)(self, idents, *arguments)

    def handle_result(
        self, idents: list[bytes], parent: dict[str, Any], raw_msg: list[Any], success: bool = True
    ) -> None:
        """Handle a real task result, either success or failure: it is relayed to the client, or,
        if it failed and has retries left, the task is tried on another engine."""
        job = self._desk.bridge.jobs.get(parent["msg_id"])
        if job is None:
            self._desk.complain("a result of an unknown task", str(parent["msg_id"]))
            return
        job.reply = raw_msg
        self.update_graph(job.msg_id, success)

    def handle_unmet_dependency(self, idents: list[bytes], parent: dict[str, Any]) -> None:
        """Handle an unmet dependency: the task will not be sent to that engine again, and is
        tried on the others."""
        job = self._desk.bridge.jobs.get(parent["msg_id"])
        if job is None or job.engine != idents[0]:
            self._desk.complain("an unmet dependency of an unknown task", str(parent["msg_id"]))
            return
        job.reply = None
        self._desk.bridge.outcome(job, ev.REFUSED, self._desk.now())
        self._desk.fleet.answered(idents[0], job)
        self._desk.settle()

    def update_graph(self, dep_id: str | None = None, success: bool = True) -> None:
        """`dep_id` just finished. Update the dependency graph, and submit any jobs that just
        became runnable.

        Called with dep_id=None: submit what has become runnable, without finishing a task.
        """
        desk = self._desk
        job = desk.bridge.jobs.get(dep_id) if dep_id is not None else None
        if job is not None and job.engine is not None:
            status = ev.RAN if success else ev.OVERRAN if job.overran else ev.RAISED
            desk.bridge.outcome(job, status, desk.now())
            desk.fleet.answered(job.engine, job)
        elif job is not None and job.last_engine is not None:
            desk.bridge.late_outcome(job, ev.RAN if success else ev.RAISED, desk.now())
        elif dep_id is not None and dep_id not in desk.bridge.finished:
            desk.complain("an unknown task finished", dep_id)
        desk.settle()

    # --- the lists of the seed ------------------------------------------------------------------

    def _keep_lists(self) -> EngineLists:
        """Place by `targets` and `loads` from now on."""
        if self.lists is None:
            self.lists = EngineLists(self._desk.bridge, self._report_scheme)
        self.lists.scheme = self.scheme or BY_NAME.get(self.scheme_name, leastload)
        return self.lists

    def engine_freed(self, engine: bytes) -> None:
        """`engine` has one task less."""
        if self.lists is not None:
            self._count("finish_job", engine)

    def _job_added(self, engine: bytes) -> None:
        """`engine` has one task more."""
        self._count("add_job", engine)

    def _count(self, hook: str, engine: bytes) -> None:
        """Call `add_job` or `finish_job`. Where a user's own raises, the default counts, as if
        it had not been called: else the engine's load would be wrong for ever."""
        lists = self._keep_lists()
        idx = lists.index_of(engine)
        if idx is None:
            return
        before = list(lists.targets), list(lists.loads)
        if not self._desk.guarded(hook, getattr(self, hook), idx):
            lists.targets, lists.loads = before
            getattr(TaskScheduler, hook)(self, idx)

    def _report_scheme(self, failure: str) -> None:
        self._desk.complain("the scheme failed, and leastload chose in its place", failure)

    @property
    def targets(self) -> list[bytes]:
        """The uuids of the engines, in LRU order."""
        return self._keep_lists().targets

    @targets.setter
    def targets(self, targets: list[bytes]) -> None:
        self._keep_lists().targets = targets

    @property
    def loads(self) -> list[int]:
        """The loads of the engines, in the order of `targets`."""
        return self._keep_lists().loads

    @loads.setter
    def loads(self, loads: list[int]) -> None:
        self._keep_lists().loads = loads

    def add_job(self, idx: int) -> None:
        """Called after self.targets[idx] just got a job. Override in subclasses. The default
        order is simple LRU; the default loads are the numbers of outstanding jobs."""
        targets, loads = self.targets, self.loads
        loads[idx] += 1
        targets.append(targets.pop(idx))
        loads.append(loads.pop(idx))

    def finish_job(self, idx: int) -> None:
        """Called after self.targets[idx] just finished a job. Override in subclasses."""
        self.loads[idx] -= 1
