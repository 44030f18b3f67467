"""What can happen to the scheduler: the events that it is told, and the specs inside them.

Every class here is plain data that the codec decodes straight from a message, so that a batch
of ten thousand tasks is decoded once and looked at once. An event may come from a peer that is
confused or hostile: the codec has checked its types, the scheduler checks its meaning.

Functions, arguments and results are `Payload`: bytes that nothing in the core ever opens.
"""

from __future__ import annotations

from typing import Annotated, NewType

from msgspec import Meta, Struct

from headway.core.limits import Limit

#: Names its client: see `task_id`. Unique in a cluster, never used again.
TaskId = NewType("TaskId", int)
ClientId = NewType("ClientId", int)
#: One life of one engine process: a replacement gets a new one.
EngineId = NewType("EngineId", int)

#: Pickled arguments, results, functions: opaque. `None` stands for "nothing was sent".
Payload = bytes

#: One directory of large values, on one host: the token of the nanny that keeps it.
StoreId = NewType("StoreId", str)
NO_STORE = StoreId("")


class StoredValue(Struct, array_like=True, frozen=True, gc=False):
    """A result that is too large to travel: a file in the store of the host that made it.

    It stands wherever a result would. `name` is unique in the cluster (`value_name`), `size` in
    bytes. The rest is for those who read it: `path` on its host, and where that host's store
    answers to others, with its public key (None on local sockets).
    """

    store: StoreId
    name: str
    size: Annotated[int, Meta(ge=0, le=1 << 60)]
    path: str = ""
    host: str = ""
    address: str = ""
    key: str | None = None


#: What a task returned: itself, or where it is kept.
Value = Payload | StoredValue

#: An id is its client's number, then the client's own count: 2^40 tasks for each client.
SEQUENCE_BITS = 40

#: The `on` of a condition: which end of a task counts. The seed's success= and failure=.
ON_SUCCESS = 1
ON_FAILURE = 2
ON_DONE = ON_SUCCESS | ON_FAILURE

#: The `need` of a condition that wants every one of its tasks.
NEED_ALL = 0


def task_id(client: ClientId, sequence: int) -> TaskId:
    """The id of the `sequence`-th node (task or group) that `client` made, from 1."""
    return TaskId(client << SEQUENCE_BITS | sequence)


def client_of(task: TaskId) -> ClientId:
    """The client that made `task`."""
    return ClientId(task >> SEQUENCE_BITS)


def format_task_id(task: TaskId) -> str:
    """`task` as people read and write it: the client's number, a dash, the client's count."""
    return f"{task >> SEQUENCE_BITS}-{task & (1 << SEQUENCE_BITS) - 1}"


def parse_task_id(text: str) -> TaskId:
    """The id that `format_task_id` wrote.

    Raises:
        ValueError: `text` is not of that form.
    """
    client, dash, sequence = text.partition("-")
    if not (dash and client.isdecimal() and sequence.isdecimal()):
        raise ValueError(f"{text!r} is not a task id: expected CLIENT-NUMBER, such as 1-42")
    return task_id(ClientId(int(client)), int(sequence))


def value_name(task: TaskId, attempt: int) -> str:
    """The name of what an attempt returned, where it is stored: no other has the same."""
    return f"{format_task_id(task)}.{attempt}"


def parse_value_name(name: str) -> tuple[TaskId, int]:
    """The task and the attempt of which `name` is.

    Raises:
        ValueError: it is none that `value_name` made.
    """
    task, dot, attempt = name.rpartition(".")
    if not (dot and attempt.isdecimal()):
        raise ValueError(f"{name!r} names no value: expected TASK.ATTEMPT, such as 1-42.1")
    return parse_task_id(task), int(attempt)


def format_engine_id(engine: EngineId) -> str:
    """`engine` as people read and write it: `e` and its number."""
    return f"e{engine}"


class ConditionSpec(Struct, array_like=True, frozen=True):
    """`after` or `follow`: `need` of `upstreams` must have ended as `on` says.

    `need` is NEED_ALL or a count from 1; `on` is ON_SUCCESS, ON_FAILURE or ON_DONE.
    """

    upstreams: list[TaskId]
    need: int = NEED_ALL
    on: int = ON_SUCCESS


#: The most of a resource, and the most seconds, that a task or an engine may name: up to here
#: every whole number is exact in a float, so that 8 PiB of memory are still counted to the byte.
AMOUNT_MAX = float(1 << 53)

#: What the codec lets through: no negative, infinite or not-a-number amount comes inside.
Amount = Annotated[float, Meta(ge=0, le=AMOUNT_MAX)]
Count = Annotated[int, Meta(ge=0, le=1 << 32)]


#: The most tasks in a turn; the most tags of a task.
WEIGHT_MAX = 1_000
TAGS_MAX = 16


class TaskOptions(Struct, array_like=True, frozen=True):
    """How a task wants to be treated. One instance may serve many tasks.

    `timeout_s` bounds one stretch in the queue, `run_timeout_s` one run; None is no bound.
    `retry_on` names exception classes, as module.qualname; None is any exception. The n-th
    retry waits `backoff_s * 2 ** (n - 1)` seconds, at most `BACKOFF_S_MAX`. Of the `priority`
    values, higher goes first. With `retry_elsewhere` a retry goes to an engine on which the task
    has not failed yet; with `fair` it takes turns with the tasks of other clients and shares: as a
    task of the share, if it names one, `weight` of them a turn. A task holds a permit of each of
    its `tags` while it is on an engine: see limits.py.
    """

    targets: list[EngineId] | None = None
    wait_for_engines: bool = False
    timeout_s: Amount | None = None
    run_timeout_s: Amount | None = None
    retries: Count = 0
    retry_on: list[str] | None = None
    backoff_s: Amount = 0.0
    crash_limit: Annotated[int, Meta(ge=1, le=1 << 32)] = 3
    at_most_once: bool = False
    priority: int = 0
    resources: dict[str, Amount] | None = None
    label: str = ""
    retry_elsewhere: bool = False
    fair: bool = False
    share: str = ""
    weight: Annotated[int, Meta(ge=1, le=WEIGHT_MAX)] = 1
    tags: Annotated[list[str], Meta(max_length=TAGS_MAX)] | None = None


#: No backoff grows beyond this.
BACKOFF_S_MAX = 3600.0

DEFAULT_OPTIONS = TaskOptions()


#: A traceparent of W3C's Trace Context, and after a space a tracestate of at most 512 characters.
TRACEPARENT_CHARS_MAX = 55 + 1 + 512


class Parent(Struct, array_like=True, frozen=True):
    """The attempt at a task whose code submitted another task, which is then its child."""

    task: TaskId
    attempt: int


class TaskSpec(Struct, array_like=True):
    """One task, as its client submits it.

    `function` is an index into the batch's `functions`. `inputs` are the tasks whose values
    the arguments need, in the order in which the engine will be given them. `traceparent` is the
    span of OpenTelemetry in which it was submitted, as W3C's Trace Context writes it, with its
    tracestate after a space; "" for none. Nobody but the engine reads it.
    the arguments need, in the order in which the engine will be given them. `parent` is the run
    that submitted it, where one did.
    """

    id: TaskId
    function: int
    payload: Payload | int
    inputs: list[TaskId] | None = None
    after: ConditionSpec | None = None
    follow: ConditionSpec | None = None
    options: TaskOptions | None = None
    traceparent: Annotated[str, Meta(max_length=TRACEPARENT_CHARS_MAX)] = ""
    parent: Parent | None = None


class GroupSpec(Struct, array_like=True):
    """Many tasks as one node of the graph: each of its dependents costs one edge."""

    id: TaskId
    members: list[TaskId]


class ErrorInfo(Struct, array_like=True, frozen=True):
    """What the scheduler may know of an exception: the names of its classes, and its message.

    `types` holds module.qualname of the class and of each of its bases, nearest first.
    """

    types: list[str]
    message: str


#: The `status` of an outcome.
RAN = 0
RAISED = 1
REFUSED = 2
STOPPED = 3
OVERRAN = 4
INPUT_LOST = 5


class Outcome(Struct, array_like=True):
    """How one attempt at a task ended, as its engine reports it, at most once.

    RAN: `payload` is the result. RAISED: `payload` is the pickled exception, `error` its names.
    REFUSED: the engine does not meet the task's functional dependency (`error.message` says
    which). STOPPED: dropped or interrupted on request. OVERRAN: interrupted at `run_timeout_s`.
    INPUT_LOST: not begun, for the stored values named in `lost` can't be read (`error.message`
    says why).
    `started_at_s` is the engine's wall clock, `run_s` what the run took.
    """

    task: TaskId
    attempt: int
    status: Annotated[int, Meta(ge=RAN, le=INPUT_LOST)]
    payload: Payload | int | StoredValue
    started_at_s: float = 0.0
    run_s: float = 0.0
    error: ErrorInfo | None = None
    lost: list[str] | None = None


class EngineEnd(Struct, array_like=True, frozen=True):
    """How an engine ended. `wanted`: on purpose (stopped, drained), which charges no task.

    `text` says it to people: "killed by SIGKILL, peak RSS 31.2 GB".
    """

    text: str
    wanted: bool = False
    overran: bool = False


# --- events ------------------------------------------------------------------------------------


class ClientJoined(Struct):
    """A client was welcomed under a new number."""

    client: ClientId


class ClientLeft(Struct):
    """A client said goodbye, or fell silent for too long: what it asked for is dropped, unless
    it asked to keep it (KeepAsked).

    With `keeps_nested`, what it submitted for tasks stays: it was an engine's client, and lost with
    that. Whether its tasks go on is their parents' matter.
    """

    client: ClientId
    keeps_nested: bool = False


class KeepAsked(Struct):
    """What the client asked for shall outlive it: when it leaves, nothing of it is cancelled, and
    what has ended is kept for others to ask about, up to `SchedulerConfig.finished_kept`."""

    client: ClientId


class Submitted(Struct):
    """A batch of tasks and groups, in the order in which the client made them.

    `functions` are the digests that `TaskSpec.function` points into. A node may name only nodes
    with lower numbers: groups and tasks are taken together, in the order of their ids.
    """

    client: ClientId
    functions: list[bytes]
    groups: list[GroupSpec]
    tasks: list[TaskSpec]


class FunctionsDeclared(Struct):
    """The client sent functions, and may name them from now on: digest to payload."""

    client: ClientId
    functions: dict[bytes, Payload]
    #: What people call them, as far as it was said.
    names: dict[bytes, str] = {}


class FunctionsDropped(Struct):
    """The client will not name these functions again without sending them anew."""

    client: ClientId
    digests: list[bytes]


class Released(Struct):
    """The client holds no future of these nodes any more."""

    client: ClientId
    nodes: list[TaskId]


class CancelAsked(Struct):
    """The client wants these tasks not to run; `queued_only`: unless they have begun.

    With `downstream`, neither what depends on them, directly or through others that have not
    ended; then `tasks` may name groups, and tasks that have ended.
    """

    client: ClientId
    tasks: list[TaskId]
    queued_only: bool = False
    downstream: bool = False


class RetryAsked(Struct):
    """Somebody wants a task that failed, was lost or timed out to run again, under its id and with
    fresh budgets. Its client hears of its second end as it did of the first; what depended on it
    counts the first alone."""

    task: TaskId


class ValueMissed(Struct):
    """A client can't read the stored value `name` of a task of its own, and wants it again."""

    client: ClientId
    task: TaskId
    name: str


class EngineJoined(Struct):
    """An engine is ready for tasks. `resources` is what it has to give, by name."""

    engine: EngineId
    resources: dict[str, float]
    host: str = ""
    pid: int = 0
    #: Where its large results are kept; "" for nowhere.
    store: StoreId = NO_STORE
    #: In so many seconds it ends, whatever runs there; None where nobody knows of an end.
    ends_in_s: float | None = None
    #: It stands in for one that is blocked: it runs tasks that tasks have submitted, and no other.
    stands_in: bool = False


class EngineLeft(Struct):
    """An engine ended. It runs what it was sent in order, so `started`, the last task that it
    began, splits the rest: earlier ones have run, later ones have not begun.

    `busy` says whether it was still running `started`; if not, it ended before the outcome was
    heard. `known` is False where nobody could tell (its host fell silent): then each of its tasks
    may have started.
    """

    engine: EngineId
    end: EngineEnd
    started: TaskId | None = None
    busy: bool = False
    known: bool = True


class EngineDraining(Struct):
    """The engine takes no more tasks, and gives back those that it has not begun."""

    engine: EngineId


class EngineBlocked(Struct):
    """The code of `task`, which runs on the engine, waits for tasks that it has submitted: until it
    goes on the engine takes no tasks, and gives back those that it has not begun."""

    engine: EngineId
    task: TaskId
    attempt: int


class EngineUnblocked(Struct):
    """What ran on the engine, and waited, goes on. One whose task ends is not blocked any more,
    whether this is said or not."""

    engine: EngineId


class Finished(Struct):
    """An engine reports outcomes, in the order in which they happened."""

    engine: EngineId
    outcomes: list[Outcome]


class Started(Struct):
    """An engine, or its nanny, reports what runs there now, since `at_s` of its wall clock."""

    engine: EngineId
    task: TaskId
    at_s: float = 0.0


class GaveBack(Struct):
    """An engine's answer to a recall: the tasks it had not begun, and will not.

    Of the others that were asked for it says that they have `begun`.
    """

    engine: EngineId
    tasks: list[TaskId]
    begun: list[TaskId] = []


# --- events that no peer can send: a shell says them -------------------------------------------


class EnginesExpected(Struct):
    """These engines are being started: a task that may run there alone waits for them to join,
    where otherwise it would be impossible. A shell that gives up on them ends its clients."""

    engines: list[EngineId]


class LimitSet(Struct):
    """Tasks with this tag are limited so from now on, those on engines included."""

    tag: str
    limit: Limit


class EngineResumed(Struct):
    """A draining engine takes tasks again."""

    engine: EngineId


class Abandoned(Struct):
    """The shell knows that a task which is on no engine will not run. `kind` is KIND_INVALID,
    KIND_IMPOSSIBLE, KIND_TIMEOUT or KIND_TOO_LARGE; `text` is for people.

    `attempt` is that of an assignment which the shell could not send: then, too, it is on none.
    """

    task: TaskId
    kind: str
    text: str
    attempt: int = 0


class PastTask(Struct):
    """How a task ended that was forgotten since. `succeeded` or failed; where, if it ran.

    `name` is what people call it, for the texts of problems.
    """

    id: TaskId
    succeeded: bool
    engine: EngineId | None = None
    name: str = ""


class Remembered(Struct):
    """The shell remembers how tasks ended, and puts their records back, for a moment, so that
    new tasks may depend on them. Under new ids of `client`, who releases them as any other.

    Their values are not remembered: such a task can't be an argument.
    """

    client: ClientId
    tasks: list[PastTask]


class Undelivered(Struct):
    """The shell could not send `task` to `engine`, on which it was placed: it is queued as if it
    had not been, since `queued_at_s`, so that its timeout runs on. Of several, the last to be
    placed is told first: each goes to the front."""

    engine: EngineId
    task: TaskId
    queued_at_s: float


class LateOutcome(Struct):
    """An engine that was given up reports how the latest attempt of a task ended."""

    outcome: Outcome


Event = (
    ClientJoined
    | ClientLeft
    | KeepAsked
    | Submitted
    | FunctionsDeclared
    | FunctionsDropped
    | Released
    | CancelAsked
    | ValueMissed
    | RetryAsked
    | EngineJoined
    | EngineLeft
    | EngineDraining
    | EngineBlocked
    | EngineUnblocked
    | Finished
    | Started
    | GaveBack
    | EnginesExpected
    | EngineResumed
    | LimitSet
    | Abandoned
    | Remembered
    | Undelivered
    | LateOutcome
)
