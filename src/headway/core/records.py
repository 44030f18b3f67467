"""What the scheduler remembers: tasks, groups, conditions, engines, clients, functions.

Plain records: no rule lives here. Who may write which field is said beside it; `Task.state` is
written by `Life.move` alone. A million waiting tasks are a million `Task`s, so a field
here costs eight bytes each; what few tasks need is in `Task.options` or None. Of tuples and lists
with few in them a tuple takes half: so those that do not grow are tuples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headway.core.events import (
    DEFAULT_OPTIONS,
    NO_STORE,
    ClientId,
    EngineId,
    Payload,
    StoreId,
    TaskId,
    TaskOptions,
    Value,
)
from headway.core.problems import Problem
from headway.core.states import TaskState

if TYPE_CHECKING:
    from headway.core.ready import Lane


@dataclass(slots=True, eq=False)
class Function:
    """A pickled function. It lives while a client declares it or a task needs it."""

    digest: bytes
    payload: Payload
    declared_by: set[ClientId]
    users: int = 0
    #: As its client called it, for people; "" if it did not say.
    name: str = ""
    #: The longest of its recent runs, if one took a second; 0 before. Written by lifetimes.py.
    usual_s: float = 0.0


@dataclass(slots=True)
class Lineage:
    """What concerns a task that may be run again after it has succeeded, or is needed for that.

    Written by lineage.py and again.py."""

    #: What it keeps for that; 0 if it can't be run again, or is being.
    kept_bytes: int = 0
    #: How often it was.
    reruns: int = 0
    #: Tasks that have ended, are kept, and have it as an input.
    holds: int = 0


@dataclass(frozen=True, slots=True)
class Nest:
    """Where a task comes from that a task has submitted. Its siblings share it."""

    parent: TaskId
    #: The attempt at the parent that submitted it.
    attempt: int
    #: 1 for a child of a task that no task has submitted.
    depth: int
    #: The client of the task from which all of it began: turns are taken in its name.
    owner: ClientId


@dataclass(slots=True, eq=False, repr=False)
class Task:
    """One task, from its submission until its client has let go and nothing needs it."""

    id: TaskId
    client: ClientId
    #: None once the task has ended, as its arguments: it will not run again. But see lineage.py.
    function: Function | None
    payload: Payload
    options: TaskOptions = DEFAULT_OPTIONS
    state: TaskState = TaskState.WAITING
    #: Grows with each assignment: an outcome of an older attempt is stale.
    attempt: int = 0
    #: Conditions not yet met; READY at 0. Written by graph.py.
    unmet: int = 0
    #: Conditions and groups that wait for this task's end. Written by graph.py; None when ended.
    dependents: list[Condition | Group] | None = None
    #: What it waits for, or waited for: until it has ended.
    conditions: tuple[Condition, ...] | None = None
    follow: Condition | None = None
    #: The tasks whose values the arguments need, until this one has ended, or is not kept. Mostly
    #: the very tuple that its first condition has as its upstreams.
    inputs: Sequence[Task] | None = None
    #: Where it queues while READY, and its place there: of each stretch in a queue its own, and 0
    #: outside of one. Written by ready.py.
    lane: Lane | None = None
    ticket: int = 0
    #: Where it is, or where it ended.
    engine: EngineId | None = None
    #: What it returned, or the pickled exception that it raised: kept as long as the record, so
    #: that a client that comes back can be told again. None for a value that was dropped, while
    #: the record stays for others to be run again.
    result: Value | None = None
    lineage: Lineage | None = None
    problem: Problem | None = None
    #: Unfinished tasks that need this one's record: it can't be forgotten before they end.
    holds: int = 0
    released: bool = False
    cancelled: bool = False
    #: Times that the function raised; then how each engine died under it.
    failures: int = 0
    crashes: list[str] | None = None
    #: Engines that refused it, or on which it raised while it was to be retried elsewhere.
    excluded: frozenset[EngineId] | None = None
    #: When the current stretch in the queue began, or when the engine said that it started.
    since_s: float = 0.0
    #: See TaskSpec; until it has ended, or is not kept.
    traceparent: str = ""
    #: None for a task that no task has submitted.
    nest: Nest | None = None

    def __repr__(self) -> str:
        from headway.core.events import format_engine_id, format_task_id

        where = f" on {format_engine_id(self.engine)}" if self.engine is not None else ""
        return f"<Task {format_task_id(self.id)} {self.state.name} attempt={self.attempt}{where}>"


@dataclass(slots=True, eq=False)
class Condition:
    """`after` or `follow` of one task, as counters: each upstream's end costs O(1)."""

    task: Task
    need: int
    on: int
    #: Upstreams that have not ended yet, and those that ended as wanted.
    open: int
    hits: int = 0
    #: Empty once its task has let go of them: then it counts no more, also if that task runs again.
    upstreams: Sequence[Task | Group] = ()
    #: For follow alone: how many of the hits each present engine has, and the most that one has.
    where: dict[EngineId, int] | None = None
    best: int = 0
    #: The first upstream that missed, for the chain of causes.
    culprit: TaskId | None = None
    is_met: bool = False


@dataclass(slots=True, eq=False)
class Group:
    """Many tasks as one node. Dependents wait for a count of ends, not for each member."""

    id: TaskId
    client: ClientId
    size: int
    open: int
    succeeded: int = 0
    failed: int = 0
    #: on -> number of hits wanted -> the conditions that want it. Written by graph.py.
    waiting: dict[int, dict[int, list[Condition]]] = field(default_factory=dict)
    culprit: TaskId | None = None
    holds: int = 0
    released: bool = False
    #: Who its members are, as runs of ids that follow one another: (first, how many). A `map`
    #: of any length is one run.
    spans: Sequence[tuple[TaskId, int]] = ()

    def members(self) -> Iterator[TaskId]:
        """The ids of its members, in order."""
        for first, count in self.spans:
            for number in range(first, first + count):
                yield TaskId(number)


@dataclass(slots=True, eq=False)
class Engine:
    """One engine, while it is here."""

    id: EngineId
    resources: dict[str, float]
    host: str = ""
    pid: int = 0
    store: StoreId = NO_STORE
    #: Tasks on it, in the order in which it runs them.
    assigned: dict[TaskId, Task] = field(default_factory=dict)
    #: How many tasks it may have outstanding; 0 while draining, or blocked.
    limit: float = 1
    #: Its place in LRU order: the engine with the lowest was given a task longest ago.
    stamp: int = 0
    #: Resources not taken by assigned tasks.
    free: dict[str, float] = field(default_factory=dict)
    #: The lanes whose tasks may run here. Written by ready.py.
    lanes: dict[Lane, None] = field(default_factory=dict)
    #: Follow conditions that count on this engine.
    followers: dict[Condition, None] = field(default_factory=dict)
    draining: bool = False
    #: A recall was sent, and is not answered yet.
    recalling: bool = False
    #: Of the assigned: asked back, to be cancelled unless they have begun.
    unwanted: set[TaskId] = field(default_factory=set)
    #: Time of its last sign of progress, and the mean run time of its recent tasks.
    progress_at_s: float = 0.0
    run_mean_s: float | None = None
    done: int = 0
    #: When it ends, whatever runs there; None where nobody knows of an end.
    ends_at_s: float | None = None
    #: Of one that ends: the longest that a task may run which it was sent since it last had none.
    longest_s: float = 0.0
    #: It runs tasks that tasks have submitted, and no other.
    stands_in: bool = False
    #: The task on it that waits for tasks which it has submitted. Written by life.py.
    blocked: TaskId | None = None

    @property
    def load(self) -> int:
        """The number of tasks outstanding: the seed's default load."""
        return len(self.assigned)


@dataclass(slots=True)
class Stamps:
    """The last stamps given at either end of the LRU order of engines: an engine that joins goes
    before all others, one that is given a task behind them."""

    first: int = 0
    last: int = 0


@dataclass(slots=True, eq=False)
class Client:
    """One client, while it is here, and the nodes it made."""

    id: ClientId
    nodes: set[TaskId] = field(default_factory=set)
    functions: set[bytes] = field(default_factory=set)
    #: Of its tasks that have not ended: how many, and the bytes of their arguments.
    unfinished: int = 0
    unfinished_bytes: int = 0
    #: The highest sequence accepted: what comes again at or below it is a duplicate.
    last_node: int = 0
    #: Its nodes outlive it.
    keeps: bool = False
