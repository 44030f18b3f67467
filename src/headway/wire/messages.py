"""The messages of the native wire, one class each, and who may send which.

The schema is these classes and the specs and events of the core, which travel as they are.
`VERSION` changes with any of them: a peer of another version is told so, and refused.
Each connection starts with a hello, and nothing else is heard before it is answered.

What this file must not know: sockets, frames (codec.py), and what any message leads to.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from headway.core.events import (
    Amount,
    Count,
    EngineEnd,
    EngineId,
    GroupSpec,
    Outcome,
    Payload,
    StoredValue,
    TaskId,
    TaskSpec,
)
from headway.core.listing import TaskQuery
from headway.core.problems import Problem

#: Raised with every change of a message or of its meaning.
VERSION = 5

#: A client says Heard after so many messages with results, or so many bytes of them.
HEARD_MESSAGES = 100
HEARD_BYTES = 1 << 20

#: An engine sends its results on a second connection, whose identity is its first's and this.
RESULTS_SUFFIX = b"/out"


# --- every peer to the controller, and back -----------------------------------------------------


class ClientHello(Struct, tag="client-hello", frozen=True):
    """A client asks to be let in. `session` is its own random name, the same when it returns.

    `cluster` is the one that it was welcomed to before, "" at first. `nth` counts the hellos of
    one peer from 1: the Welcome that counts is the one to the last. `engine` is the token of the
    engine in whose process it is, with whom it ends; "" where it is in none of this cluster.
    """

    version: int
    session: str
    pid: int = 0
    host: str = ""
    want_output: bool = True
    cluster: str = ""
    nth: int = 1
    engine: str = ""


class Held(Struct, array_like=True, frozen=True):
    """An attempt at a task that an engine has: it waits there, runs, or its outcome is on its
    way to the controller."""

    task: TaskId
    attempt: int


class EngineHello(Struct, tag="engine-hello", frozen=True):
    """An engine is ready. `token` is what its nanny named it; `nanny` is its nanny's token.

    One that was welcomed before and returns says to which `cluster`, and what it `held` when it
    said so: what it is sent between this hello and the answer, it throws away.
    `ends_in_s`: it ends then, whatever runs there; None where nobody knows of an end.
    `stands_in`: it was started for one that is blocked: see StartEngines.
    """

    version: int
    token: str
    nanny: str
    pid: int
    host: str
    resources: dict[str, Amount]
    cluster: str = ""
    held: list[Held] = []
    nth: int = 1
    ends_in_s: Amount | None = None
    stands_in: bool = False


class NannyHello(Struct, tag="nanny-hello", frozen=True):
    """A nanny is ready to start and watch engines on its host.

    One that returns says to which `cluster` it belongs, which `engines` live (their tokens), and
    how the last ones `died`, since those reports may have been lost.
    """

    version: int
    token: str
    pid: int
    host: str
    cluster: str = ""
    engines: list[str] = []
    died: list[EngineDied] = []
    nth: int = 1


class Welcome(Struct, tag="welcome", frozen=True):
    """The answer to a hello. `number` is the client's or the engine's, 0 for a nanny.

    `cluster` is the cluster's random name: a future of another one is told apart by it. `epoch`
    grows when a controller takes over the journal of one that ended. `accepted` is the peer's
    last batch that is in the controller's hands: a peer that returns sends the later ones again.
    `reconnect_s` is for how long a peer tries to come back, when the controller is silent or
    the connection is lost, before it gives up. `nth` is the hello's. `value_store` is the URL of
    the place where the cluster's hosts share large values; "" for none.
    """

    version: int
    cluster: str
    epoch: int
    number: int
    heartbeat_s: float
    heartbeat_timeout_s: float
    accepted: int = 0
    reconnect_s: float = 0.0
    nth: int = 1
    value_store: str = ""


class WhoAreYou(Struct, tag="who-are-you", frozen=True):
    """The controller does not know whose connection this is: it shall say hello (again)."""


class Refused(Struct, tag="refused", frozen=True):
    """The controller does not talk to this peer (again), and says why."""

    reason: str


class Ping(Struct, tag="ping", frozen=True):
    """A sign of life, in both directions. It is not answered."""


class Bye(Struct, tag="bye", frozen=True):
    """The sender leaves on purpose. From the controller: the cluster stops, for `reason`."""

    reason: str = ""


# --- client to controller -----------------------------------------------------------------------


class Submit(Struct, tag="submit"):
    """A batch of nodes, and the functions that they need and the controller has not seen.

    Submit, Release, Cancel and Keep of one client are batches: they count up from 1, are
    acknowledged (see Accepted), and are sent again, until then, when the connection was lost.
    `released` are nodes that the client does not need any more once it has submitted these.
    """

    batch: int
    functions: list[bytes]
    groups: list[GroupSpec]
    tasks: list[TaskSpec]
    new_functions: dict[bytes, Payload | int] = {}
    released: list[TaskId] = []
    #: What people call the new functions.
    function_names: dict[bytes, str] = {}


class Release(Struct, tag="release", frozen=True):
    """Nodes and functions that the client does not need any more. A batch: see Submit."""

    batch: int
    nodes: list[TaskId]
    functions: list[bytes] = []


class Cancel(Struct, tag="cancel", frozen=True):
    """Tasks that shall not run. Each is answered by its Result, whichever that is. A batch.

    `queued_only`: but for those that have begun on an engine, which are left alone.
    `downstream`: nor what depends on them; see core.events.CancelAsked.
    """

    batch: int
    tasks: list[TaskId]
    queued_only: bool = False
    downstream: bool = False


class Keep(Struct, tag="keep", frozen=True):
    """What this client asked for shall outlive it: see core.events.KeepAsked. A batch, so that a
    client that has it accepted may leave, in whatever way."""

    batch: int


class Watch(Struct, tag="watch", frozen=True):
    """A client wants to know how these tasks end, whoever submitted them: each is answered by its
    Result, when it has ended. It is said again by a client that has returned."""

    tasks: list[TaskId]


class Resume(Struct, tag="resume", frozen=True):
    """A client has returned, and has not heard how these tasks ended: those that have ended are
    told again, and one that nobody knows any more is LOST."""

    tasks: list[TaskId]


class Missed(Struct, tag="missed", frozen=True):
    """The stored value `name` of a task that has succeeded can't be read: answered by another
    Result, when the task has run again, or else with a problem."""

    task: TaskId
    name: str


class Ask(Struct, tag="ask", frozen=True):
    """A question, answered by an Answer with the same `number`.

    `what` is one of explain, task, raised (what a task raised, as its engine packed it), group,
    tasks, cluster, engines, statistics, observe (see wire/observed.py), trace (see wire/traced.py;
    `node` is where its page begins); `node` is the task or group, where one is meant; `tasks` says
    which are wanted. Or it is spare, and `node` the number of an engine: the client is about to
    kill it, and no task is to be charged for that.
    """

    number: int
    what: str
    node: TaskId | None = None
    tasks: TaskQuery | None = None


class Order(Struct, tag="order", frozen=True):
    """What is to be done with engines or a task, answered by an Answer with the same `number`.

    `what` is start (`count` more of them), drain, stop or restart (`engine`); retry (`task`, which
    has failed: see core.events.RetryAsked); scale, to have from `least` to `count` of them, as the
    work demands, less after `idle_s`; or limit, of the tag `tag` to `limit`, as people write it
    (core/limits.py). Questions share its
    numbers; but one whose answer was lost is not sent again, since it would be done again.
    """

    number: int
    what: str
    engine: EngineId | None = None
    count: Annotated[int, Meta(ge=0, le=10_000)] = 0
    tag: str = ""
    limit: str = ""
    least: Annotated[int, Meta(ge=0, le=10_000)] = 0
    idle_s: Amount = 0.0
    task: TaskId | None = None


class Shown(Struct, tag="shown", frozen=True):
    """So many more `Output` messages were shown: the controller keeps few on their way."""

    outputs: Count


class Heard(Struct, tag="heard", frozen=True):
    """So many more `Results` messages were heard: the controller keeps few on their way."""

    results: Count


class Shutdown(Struct, tag="shutdown", frozen=True):
    """Stop the cluster: engines, nannies and controller.

    With `keep_tasks`, the controller that takes over its journal goes on with its tasks.
    """

    keep_tasks: bool = False


# --- controller to client -----------------------------------------------------------------------


class Accepted(Struct, tag="accepted", frozen=True):
    """All batches of the peer up to `batch` are in the scheduler's hands, and, where there is a
    journal, in it.

    The same is said by `accepted` in Results and Assigned, if it is not 0. This is sent where
    none of those follows soon.
    """

    batch: int


class Hold(Struct, tag="hold", frozen=True):
    """The client shall submit no more for now, and `why`: see controller/admission.py; "" ends it.
    A Welcome ends it too. What is on its way already is taken in."""

    why: str


class Result(Struct, array_like=True):
    """How one task ended. `state` is a TaskState; `payload` is a result, or where it is kept, or
    a pickled exception."""

    task: TaskId
    state: int
    payload: Payload | int | StoredValue | None = None
    engine: EngineId | None = None
    problem: Problem | None = None


class Results(Struct, tag="results"):
    """Ends of tasks, in the order in which they happened. `accepted`: see Accepted."""

    results: list[Result]
    accepted: int = 0


class Answer(Struct, tag="answer", frozen=True):
    """The answer to an Ask: plain data, or an `error` in words."""

    number: int
    body: dict[str, object] | list[dict[str, object]] | None = None
    error: str = ""


class Printed(Struct, array_like=True, frozen=True):
    """Text that a task (or an engine, outside of any task) wrote.

    `stream` is stdout or stderr. `engine` is filled in by the controller.
    """

    task: TaskId | None
    stream: str
    text: str
    engine: EngineId | None = None


class Output(Struct, tag="output", frozen=True):
    """What was printed on engines: from engine or nanny to controller, and on to the client,
    which answers by Shown when it has shown it."""

    lines: list[Printed]
    #: The nanny's name of the engine, where the nanny is the sender.
    token: str = ""


class Notice(Struct, tag="notice", frozen=True):
    """Something that the user should see now: an engine died, engines do not start.

    `fatal`: no engine is here, and nobody is left who would start one.
    """

    text: str
    fatal: bool = False


# --- controller to engine -----------------------------------------------------------------------


class Assignment(Struct, array_like=True):
    """One attempt at a task. `function` points into the batch's `functions`.

    `inputs` are the values that the arguments refer to, in order, or where they are kept.
    `traceparent`: see core.events.TaskSpec; where there is one, `label` is the task's.
    """

    task: TaskId
    attempt: int
    function: int
    payload: Payload | int
    inputs: list[Payload | int | StoredValue] | None = None
    run_timeout_s: float | None = None
    traceparent: str = ""
    label: str = ""


class Assigned(Struct, tag="assigned"):
    """Tasks to run in this order, after those assigned before.

    The engine first forgets the `dropped_functions`, then stores the `new_functions`, which it
    was not sent yet. `accepted`: see Accepted.
    """

    functions: list[bytes]
    tasks: list[Assignment]
    new_functions: dict[bytes, Payload | int] = {}
    dropped_functions: list[bytes] = []
    accepted: int = 0


class GiveBack(Struct, tag="give-back", frozen=True):
    """Tasks that the engine shall not begin, if it has not. Answered by Returned, always; though
    not while its running task holds the GIL in C code."""

    tasks: list[TaskId]


class StopTasks(Struct, tag="stop-tasks", frozen=True):
    """Tasks to drop, or to interrupt if they run: the answer to each that was is STOPPED. The
    engine's nanny is told the same (InterruptTasks), should it not be able to hear this."""

    tasks: list[TaskId]


class StopWaiting(Struct, tag="stop-waiting", frozen=True):
    """What the run of `task` waits for will not come: it would wait for ever, for the reason `why`,
    which is raised where it waits."""

    task: TaskId
    attempt: int
    why: str


# --- engine to controller -----------------------------------------------------------------------


class Outcomes(Struct, tag="outcomes"):
    """How attempts ended, in order; each attempt once.

    An engine's batches count up from 1. It keeps each until it is accepted, and sends it again
    when it returns.
    """

    batch: int
    outcomes: list[Outcome]


class Returned(Struct, tag="returned", frozen=True):
    """The answer to GiveBack: the attempts that were not begun, and now will not be.

    `begun` are the other tasks that it named: they have begun here, and may have ended since.
    """

    tasks: list[Held]
    begun: list[TaskId] = []


class Blocked(Struct, tag="blocked", frozen=True):
    """The code that runs waits for tasks that it has submitted: see core.events.EngineBlocked.
    Said on the connection for results, and again after each welcome, as long as it is so."""

    task: TaskId
    attempt: int


class Unblocked(Struct, tag="unblocked", frozen=True):
    """It goes on. Said after a welcome, too, by an engine that was blocked before."""


# --- nanny and controller -----------------------------------------------------------------------


class Vitals(Struct, array_like=True, frozen=True):
    """One engine, as its nanny sees it: what it runs now (if anything), and its memory."""

    token: str
    task: TaskId | None
    task_since_s: float
    rss_bytes: int


class Heartbeat(Struct, tag="heartbeat", frozen=True):
    """A nanny's sign of life, with its engines' vitals.

    `leaves`: why it is about to end; "" while it is not. Then its engines take no more tasks, and
    each is ended (StopEngine) once it has none: the nanny waits for that, up to a limit of its own.
    """

    engines: list[Vitals]
    leaves: str = ""


class EngineDied(Struct, tag="engine-died", frozen=True):
    """An engine's process ended. `started` and `busy`: see core.events.EngineLeft. `how` it ended
    is one word for those who count: exit, signal, out_of_memory."""

    token: str
    end: EngineEnd
    started: TaskId | None
    busy: bool
    how: str = ""


class EnginesFailed(Struct, tag="engines-failed", frozen=True):
    """The nanny starts no more engines: too many starts in a row have failed. `text` says how.

    Those that run go on. It says so when none is on its way any more, unless some run.
    """

    text: str


class StopEngine(Struct, tag="stop-engine", frozen=True):
    """Controller to nanny: end one engine: SIGTERM, then SIGKILL. `restart` replaces it."""

    token: str
    reason: str
    restart: bool = False


class StartEngines(Struct, tag="start-engines", frozen=True):
    """Controller to nanny: start so many more engines.

    `stand_ins`: they run in place of others that are blocked. One that ends is not replaced, but by
    another order.
    """

    count: int
    stand_ins: bool = False


class InterruptTasks(Struct, tag="interrupt-tasks", frozen=True):
    """Controller to nanny: `tasks` shall not run on that engine, which was told so by StopTasks,
    in the same order. The one that runs is interrupted, and if it goes on, killed with its engine.
    """

    token: str
    tasks: list[TaskId]


class Stock(Struct, tag="stock", frozen=True):
    """Nanny to controller: all the values that are in its store, or in `store`, whose nanny is
    gone. Answered by a DropValues, if some are there that nobody will ask for."""

    values: list[str]
    store: str = ""


class TakeStock(Struct, tag="take-stock", frozen=True):
    """Controller to nanny: say what is in `store`, whose nanny is gone, where values are shared."""

    store: str


class DropValues(Struct, tag="drop-values", frozen=True):
    """Controller to nanny: values that nobody needs any more, in its store, or in `store`, whose
    nanny is gone, where values are shared."""

    values: list[str]
    store: str = ""


#: What the controller hears from a peer, by the peer's role; and what each hears from it.
ClientBatch = Submit | Release | Cancel | Keep
Hello = ClientHello | EngineHello | NannyHello
FromClient = (
    ClientHello
    | Submit
    | Release
    | Cancel
    | Keep
    | Watch
    | Resume
    | Missed
    | Ask
    | Order
    | Shown
    | Heard
    | Shutdown
    | Ping
    | Bye
)
FromEngine = EngineHello | Outcomes | Returned | Blocked | Unblocked | Output | Ping | Bye
FromNanny = NannyHello | Heartbeat | EngineDied | EnginesFailed | Stock | Output | Bye
ToClient = (
    Welcome | WhoAreYou | Refused | Accepted | Hold | Results
    | Answer | Output | Notice | Ping | Bye
)  # fmt: skip
ToEngine = (
    Welcome | WhoAreYou | Refused | Accepted | Assigned | GiveBack
    | StopTasks | StopWaiting | Ping | Bye
)  # fmt: skip
ToNanny = (
    Welcome | WhoAreYou | Refused | StopEngine | StartEngines | InterruptTasks
    | DropValues | TakeStock | Ping | Bye
)  # fmt: skip
