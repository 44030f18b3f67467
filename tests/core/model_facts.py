"""The naive model's records, and every question that can be asked of them. See model.py.

Rule 1: nothing here changes a record. Rule 2: whatever can be worked out is worked out anew each
time: no counters, no indexes. From `headway.core` it takes events and the names of states alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core.events import ClientId, ConditionSpec, EngineId, TaskId, TaskOptions, TaskSpec
from headway.core.states import FINAL_STATES, ON_ENGINE_STATES, TaskState

S = TaskState

#: How far a condition is.
MET, OPEN, IMPOSSIBLE = "met", "open", "impossible"

#: Where a task stands in its queue: lower goes first, equal means that either may.
Rank = tuple[int, int]


@dataclass
class ModelTask:
    """One task, and all that ever happened to it."""

    spec: TaskSpec
    client: ClientId
    function: bytes
    options: TaskOptions
    state: TaskState = S.WAITING
    engine: EngineId | None = None
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    excluded: set[EngineId] = field(default_factory=set)
    cancelled: bool = False
    #: On an engine, which was asked to give it back: it is cancelled if it does.
    unwanted: bool = False
    released: bool = False
    queued_at_s: float = 0.0
    backoff_until_s: float | None = None
    rank: Rank = (0, 0)
    #: Where `follow` was met when it got its rank.
    followed: frozenset[EngineId] | None = None
    problem: str | None = None
    #: The shell put it back: how it ended is known, and no more.
    is_remembered: bool = False
    #: It failed, and may be tried again when somebody asks: it needs its function and its inputs.
    may_be_retried: bool = False

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def ended_as(self) -> int:
        """The bit that conditions look at: one of ON_SUCCESS and ON_FAILURE, 0 while open."""
        if not self.is_final:
            return 0
        return ev.ON_SUCCESS if self.state is S.SUCCEEDED else ev.ON_FAILURE

    def needs(self) -> Iterator[TaskId]:
        """Every node that the task names."""
        yield from self.spec.inputs or ()
        for condition in (self.spec.after, self.spec.follow):
            if condition is not None:
                yield from condition.upstreams

    def deadline_s(self) -> float | None:
        """When it has been in the queue for too long."""
        if self.state not in (S.WAITING, S.READY) or self.options.timeout_s is None:
            return None
        return self.queued_at_s + self.options.timeout_s


@dataclass
class ModelGroup:
    """A group. A member that was unknown when the group was made is None: a failure."""

    client: ClientId
    members: list[ModelTask | None]
    released: bool = False

    @property
    def is_final(self) -> bool:
        return all(member is None or member.is_final for member in self.members)

    def ends(self) -> list[int]:
        """`ended_as` of each member."""
        return [ev.ON_FAILURE if member is None else member.ended_as for member in self.members]


@dataclass
class ModelEngine:
    """One engine, while it is here. `assigned` is in the order in which it runs its tasks."""

    id: EngineId
    resources: dict[str, float]
    assigned: list[TaskId] = field(default_factory=list)
    draining: bool = False
    #: Of each report that counted for something: how many outcomes, and how long they ran together.
    runs: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Said:
    """What the model expects to be told to a client: how a task ended, and its problem's kind."""

    client: ClientId
    task: TaskId
    state: TaskState
    problem: str | None


class Disagreement(AssertionError):
    """The scheduler did what its semantics do not allow."""


class Facts:
    """What happened so far, and what follows from it."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.nodes: dict[TaskId, ModelTask | ModelGroup] = {}
        self.forgotten: set[TaskId] = set()
        self.engines: dict[EngineId, ModelEngine] = {}
        #: The highest sequence number accepted from each client that is here.
        self.clients: dict[ClientId, int] = {}
        #: The functions that each of them has declared.
        self.declared: dict[ClientId, set[bytes]] = {}
        self.said: list[Said] = []
        self.stops: list[tuple[EngineId, TaskId]] = []
        self.asked_back: list[TaskId] = []
        self.expected: set[EngineId] = set()
        self.now = 0.0
        #: Counts the occasions on which tasks became READY: the queue's order.
        self.occasion = 0

    # --- what the records say ------------------------------------------------------------------

    def known(self, node: TaskId) -> ModelTask | ModelGroup | None:
        """The node, unless it was never submitted or is forgotten."""
        return None if node in self.forgotten else self.nodes.get(node)

    def tasks(self) -> Iterator[ModelTask]:
        """Every task that is not forgotten, in the order of submission."""
        for id_, node in self.nodes.items():
            if isinstance(node, ModelTask) and id_ not in self.forgotten:
                yield node

    def task(self, id_: TaskId) -> ModelTask | None:
        """The task, if it is known and is not a group."""
        node = self.known(id_)
        return node if isinstance(node, ModelTask) else None

    def task_on(self, id_: TaskId, engine: EngineId) -> ModelTask | None:
        """The task, if it is on that engine now."""
        task = self.task(id_)
        if task is None or task.state not in ON_ENGINE_STATES or task.engine != engine:
            return None
        return task

    def downstream(self, roots: list[TaskId]) -> set[TaskId]:
        """The unfinished tasks that name one of `roots`, or one that does, or a group with one."""
        found = {id_ for id_ in roots if self.known(id_) is not None}
        while True:
            groups = {
                id_
                for id_, node in self.nodes.items()
                if isinstance(node, ModelGroup) and not node.is_final
                for member in node.members
                if member is not None and not member.is_final and member.spec.id in found
            }
            more = {
                task.spec.id
                for task in self.tasks()
                if not task.is_final and (found | groups).intersection(task.needs())
            }
            if more <= found:
                return found.difference(roots)
            found |= more

    def ready(self) -> list[ModelTask]:
        return [task for task in self.tasks() if task.state is S.READY]

    def functions(self) -> set[bytes]:
        """Those that a client declares, or a task needs that has not ended or may be retried."""
        used = {task.function for task in self.tasks() if task.may_be_retried or not task.is_final}
        return used.union(*self.declared.values())

    # --- conditions ----------------------------------------------------------------------------

    def after_verdict(self, condition: ConditionSpec | None) -> str:
        """How far a condition on time is."""
        if condition is None or not condition.upstreams:
            return MET
        on = condition.on
        nodes = [self.nodes[upstream] for upstream in dict.fromkeys(condition.upstreams)]
        if len(nodes) == 1 and isinstance(nodes[0], ModelGroup):
            hits = [end & on != 0 if end else None for end in nodes[0].ends()]
        elif condition.need == ev.NEED_ALL:
            hits = [self._hit_by_all(node, on) for node in nodes]
        else:
            hits = [self._hit_by_any(node, on) for node in nodes]
        need = len(hits) if condition.need == ev.NEED_ALL else condition.need
        return _verdict(hits.count(True), hits.count(None), need)

    @staticmethod
    def _hit_by_all(node: ModelTask | ModelGroup, on: int) -> bool | None:
        """True, False, or None while open: did all that the node stands for end as wanted?"""
        ends = node.ends() if isinstance(node, ModelGroup) else [node.ended_as]
        if any(end and not end & on for end in ends):
            return False
        return True if all(ends) else None

    @staticmethod
    def _hit_by_any(node: ModelTask | ModelGroup, on: int) -> bool | None:
        """The same for: did at least one end as wanted?"""
        ends = node.ends() if isinstance(node, ModelGroup) else [node.ended_as]
        if any(end & on for end in ends):
            return True
        return False if all(ends) else None

    def _follow_counts(self, task: ModelTask) -> tuple[dict[EngineId, int], int, int]:
        """For a task that has `follow`: hits on each present engine that could run it at all,
        upstreams that are open, and the number of hits that is needed on one engine."""
        condition = task.spec.follow
        assert condition is not None
        nodes = [self.nodes[upstream] for upstream in dict.fromkeys(condition.upstreams)]
        upstreams = [node for node in nodes if isinstance(node, ModelTask)]
        hits = {
            engine.id: sum(
                upstream.ended_as & condition.on != 0 and upstream.engine == engine.id
                for upstream in upstreams
            )
            for engine in self.engines.values()
            if self.suits(task.options, engine)
        }
        need = len(upstreams) if condition.need == ev.NEED_ALL else condition.need
        return hits, sum(not upstream.is_final for upstream in upstreams), need

    def follow_verdict(self, task: ModelTask) -> str:
        """How far `follow` is: met as soon as it is met on one engine."""
        condition = task.spec.follow
        if condition is None or not condition.upstreams:
            return MET
        hits, open_, need = self._follow_counts(task)
        return _verdict(max(hits.values(), default=0), open_, need)

    def follow_set(self, task: ModelTask) -> frozenset[EngineId] | None:
        """The engines on which `follow` is met; None where there is no such condition."""
        condition = task.spec.follow
        if condition is None or not condition.upstreams:
            return None
        hits, _, need = self._follow_counts(task)
        return frozenset(engine for engine, count in hits.items() if count >= need)

    def verdicts(self, task: ModelTask) -> list[str]:
        """How far each condition of a task is."""
        spec = task.spec
        data = ConditionSpec(spec.inputs or [])
        return [
            self.after_verdict(spec.after),
            self.after_verdict(data),
            self.follow_verdict(task),
        ]

    # --- placement -----------------------------------------------------------------------------

    @staticmethod
    def suits(options: TaskOptions, engine: ModelEngine) -> bool:
        """Is the engine wanted, and has it, when idle, what the task needs?"""
        is_target = options.targets is None or engine.id in options.targets
        return is_target and _covers(engine.resources, options.resources)

    def permits(self, task: ModelTask, engine: ModelEngine) -> bool:
        """May the task run there as things stand, were the engine idle?"""
        follow = self.follow_set(task)
        return (
            self.suits(task.options, engine)
            and (follow is None or engine.id in follow)
            and engine.id not in task.excluded
        )

    def has_room(self, task: ModelTask, engine: ModelEngine) -> bool:
        """May the engine take the task now, if the task may run there at all?"""
        free = dict(engine.resources)
        for other in engine.assigned:
            record = self.nodes[other]
            assert isinstance(record, ModelTask)
            for name, amount in (record.options.resources or {}).items():
                free[name] -= amount
        has_seat = len(engine.assigned) < self.limit(engine)
        return not engine.draining and has_seat and _covers(free, task.options.resources)

    def limit(self, engine: ModelEngine) -> float:
        """How many tasks the engine may have, were it not draining."""
        config = self.config
        if config.hwm != "auto":
            return float(config.hwm) or float("inf")
        mean_s = None
        for count, run_s in engine.runs:
            mean = run_s / count
            mean_s = mean if mean_s is None else mean_s + (mean - mean_s) * count / (count + 8)
        if mean_s is None:
            return config.hwm_auto_min
        wanted = config.prefetch_s / mean_s if mean_s else float("inf")
        return int(min(max(wanted, config.hwm_auto_min), config.hwm_auto_max))

    def recallable(self, engine: ModelEngine) -> dict[TaskId, list[EngineId]]:
        """The tasks behind the one that runs there, and the idle engines that could run each."""
        tasks = [self.task(id_) for id_ in engine.assigned[1:]]
        return {
            task.spec.id: [
                idle.id
                for idle in self.engines.values()
                if not idle.assigned and self.permits(task, idle) and self.has_room(task, idle)
            ]
            for task in tasks
            if task is not None and not task.cancelled
        }

    def eligible(self, task: ModelTask) -> list[EngineId]:
        """The engines that a READY task may be given to now."""
        return [
            engine.id
            for engine in self.engines.values()
            if self.permits(task, engine) and self.has_room(task, engine)
        ]

    def check_all_placed(self) -> None:
        """Called when the scheduler says that it has placed whatever can be placed.

        Raises:
            Disagreement: an engine could take a READY task.
        """
        for task in self.ready():
            if engines := self.eligible(task):
                raise Disagreement(f"{task.spec.id} is READY though {engines} could take it")

    def next_deadline_s(self) -> float | None:
        """When time alone changes something."""
        times = [task.deadline_s() for task in self.tasks()]
        times += [task.backoff_until_s for task in self.tasks()]
        return min((at for at in times if at is not None), default=None)


def turn(task: ModelTask) -> tuple[int, Rank]:
    """The lowest goes first: the highest priority, then the longest in the queue."""
    return -task.options.priority, task.rank


def _verdict(hits: int, open_: int, need: int) -> str:
    if hits >= need:
        return MET
    return OPEN if hits + open_ >= need else IMPOSSIBLE


def _covers(have: dict[str, float], want: dict[str, float] | None) -> bool:
    return all(have.get(name, 0.0) >= amount for name, amount in (want or {}).items())
