"""What this client asked of its controller, what it was told, and what is still open.

Rule 1: pure. No socket, thread, lock or clock: io.py holds a lock around the methods that
say so, and sends what `take_messages` returns, in that order, on one connection.
Rule 2: nodes enter the stream in the order of their ids, since the controller takes a node at
or below the last one for a duplicate.
Rule 3: a release never overtakes a Submit that names its node: what was released is looked at
before what was submitted, and sent with it or after it.
Rule 4: Submit, Release, Cancel and Keep are batches, numbered in the order in which they are
sent. Each is kept until it is accepted, so that after a loss the same stream goes on where the
controller has it: `resend`, then `resume_messages`, then what waits.

What this file must not know: what a payload means, and what a future is. `open` maps the id of
a task to whatever its maker put there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from headway.client.batch_writer import BatchWriter, Function
from headway.config import WireConfig
from headway.core.events import (
    SEQUENCE_BITS,
    ConditionSpec,
    EngineId,
    GroupSpec,
    TaskId,
    TaskOptions,
    TaskSpec,
)
from headway.core.listing import TaskQuery
from headway.errors import ConnectionLost, ProtocolError
from headway.wire import messages as m
from headway.wire.codec import Buffer, encode

F = TypeVar("F")

#: Functions that the controller is asked to remember for this client.
FUNCTIONS_KNOWN_MAX = 512

#: About what a task costs on the wire beside its payload; also bounds tasks without one.
TASK_BYTES = 48

#: Tasks in one Resume: some 200 KB, as many as the window holds by default.
RESUMED_TASKS_MAX = 20_000
#: At most what the id of a node takes on the wire.
_NODE_BYTES = 9


#: A node that was asked for, its function (None: a group), what must live until it has arrived,
#: and about what it takes on the wire.
_Asked = tuple[TaskSpec | GroupSpec, Function | None, Any, int]

#: A message, and the large payloads that travel beside it.
Outgoing = tuple[Any, Sequence[Buffer]]


@dataclass(slots=True)
class _Unacknowledged:
    """A batch on its way, to be sent again if it is lost; what it counts until it has arrived,
    and what must live until then."""

    number: int
    outgoing: Outgoing
    #: Of a Submit: what it counts in the window, and its last node.
    tasks: int = 0
    bytes: int = 0
    last_node: int = 0
    #: The nodes and functions that it releases or cancels.
    names: int = 0
    keep: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class _Question:
    """Put, and not answered yet. An order is put once: were its answer lost, and it said again, it
    would be done again."""

    message: m.Ask | m.Order
    answered: Callable[[m.Answer], None]


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """A snapshot: tasks open, tasks and bytes in the window, questions open, functions that the
    controller holds for us, batches not acknowledged, and nodes and functions that these name
    (Release, Cancel)."""

    open_tasks: int
    window_tasks: int
    window_bytes: int
    questions: int
    functions_known: int
    batches: int
    names: int


class Session(Generic[F]):
    """One client's conversation with its controller, from the welcome on."""

    def __init__(self, wire: WireConfig, functions_known_max: int = FUNCTIONS_KNOWN_MAX) -> None:
        self._wire = wire
        self._functions_known_max = functions_known_max
        self._first = 0
        self._last = 0
        #: Tasks whose end was not heard yet.
        self.open: dict[TaskId, F] = {}
        #: Nodes that nobody here holds any more. Appended to by any thread, without the lock.
        self.released: deque[TaskId] = deque()
        #: Tasks and bytes asked for and not acknowledged.
        self.window_tasks = 0
        self.window_bytes = 0
        #: Why the controller takes no more for now, "" if it does: see the message Hold.
        self.hold = ""
        #: The highest node that the controller has confirmed.
        self.accepted_node = TaskId(0)
        self._asked: list[_Asked] = []
        #: What `_weigh` looked at last, and how heavy it was: one view serves many tasks.
        self._weighed: tuple[ConditionSpec | None, ConditionSpec | None, TaskOptions | None] = (
            None,
            None,
            None,
        )
        self._weight = 0
        #: Tasks to cancel, each once, in order: who asks again and again costs nothing. Whether
        #: only those that have not begun.
        self._cancelled: dict[TaskId, tuple[bool, bool]] = {}
        #: Stored values that can't be read, by their tasks, to be told of.
        self._missed: dict[TaskId, str] = {}
        self._questions: dict[int, _Question] = {}
        self._question = 0
        #: Numbers of the questions that were not sent yet.
        self._unsent_questions: list[int] = []
        #: Of the open tasks, those of other clients; those of which we have not said so; whether
        #: our own shall outlive us, and whether that is still to be said.
        self._watched: set[TaskId] = set()
        self._unsent_watches: list[TaskId] = []
        self.kept = self._asks_keep = False
        # The last batch that was made, and the last that was acknowledged.
        self._batch = 0
        self._accepted = 0
        self._unacknowledged: deque[_Unacknowledged] = deque()
        # The last node in any batch; what Releases and Cancels name that are not acknowledged.
        self._sent_node = 0
        self._names = 0
        self._names_max = 2 * wire.window_tasks
        # Digests that the controller holds for us, the one named longest ago first.
        self._known: dict[bytes, None] = {}

    def welcome(self, client: int) -> None:
        """The controller gave us our number: ids can be made from now on."""
        self._first = self._last = client << SEQUENCE_BITS

    # --- asking: under the lock -----------------------------------------------------------------

    def new_node(self) -> TaskId:
        """The id of a new node."""
        self._last += 1
        return TaskId(self._last)

    def submit(
        self,
        function: Function,
        payload: bytes,
        future: F,
        inputs: list[TaskId] | None = None,
        after: ConditionSpec | None = None,
        follow: ConditionSpec | None = None,
        options: TaskOptions | None = None,
        keep: Any = None,
        traceparent: str = "",
    ) -> TaskId:
        """Ask for a task; returns its id. `keep` is held until the controller has the task.

        Raises:
            SerializationError: a condition or an option can't be written; nothing was asked.
        """
        # The hot path: no call but those that it needs.
        size = len(payload) + TASK_BYTES
        if inputs is not None:
            size += _NODE_BYTES * len(inputs)
        if after is not None or follow is not None or options is not None:
            size += self._weigh(after, follow, options)
        if traceparent:
            size += len(traceparent)
        self._last = node = self._last + 1
        spec = TaskSpec(node, 0, payload, inputs, after, follow, options, traceparent)  # type: ignore[arg-type]
        self._asked.append((spec, function, keep, size))
        self.open[node] = future  # type: ignore[index]
        self.window_tasks += 1
        self.window_bytes += size
        return node  # type: ignore[return-value]

    def _weigh(
        self,
        after: ConditionSpec | None,
        follow: ConditionSpec | None,
        options: TaskOptions | None,
    ) -> int:
        """The bytes that these add to a task. They count as its payload does: a thousand tasks
        that each name a hundred thousand others would be a message that no peer takes."""
        last = self._weighed
        if after is not last[0] or follow is not last[1] or options is not last[2]:
            parts = after, follow, options
            self._weight = sum(len(encode(part)[0]) for part in parts if part is not None)
            self._weighed = parts
        return self._weight

    def submit_group(self, members: list[TaskId], keep: Any = None) -> TaskId:
        """Make one node of many tasks; returns its id."""
        node = self.new_node()
        size = _NODE_BYTES * len(members)
        self._asked.append((GroupSpec(node, members), None, keep, size))
        self.window_bytes += size
        return node

    @property
    def is_kept(self) -> bool:
        """Whether the controller has it in hand that our tasks outlive us."""
        return self.kept and not self._asks_keep and not self._unacknowledged

    @property
    def is_full(self) -> bool:
        """Whether `submit` waits: for acknowledgements, or because the controller said so."""
        wire = self._wire
        return (
            self.hold != ""
            or self.window_tasks >= wire.window_tasks
            or self.window_bytes >= wire.window_bytes
        )

    def cancel(
        self, tasks: list[TaskId], queued_only: bool = False, downstream: bool = False
    ) -> None:
        """Ask that `tasks` do not run: see the message Cancel."""
        cancelled = self._cancelled
        for task in tasks:  # the stronger wishes count
            was_queued_only, was_downstream = cancelled.get(task, (True, False))
            cancelled[task] = (queued_only and was_queued_only, downstream or was_downstream)

    def miss(self, task: TaskId, name: str, again: F) -> F:
        """Say that the value `name` of a task that succeeded can't be read, and wait for its end
        anew. Returns who waits for that: `again`, or who did so before."""
        waiting = self.open.setdefault(task, again)
        self._missed[task] = name
        return waiting

    def ask(
        self,
        what: str,
        node: TaskId | None,
        answered: Callable[[m.Answer], None],
        tasks: TaskQuery | None = None,
    ) -> int:
        """Put a question; `answered` is called once, with the answer. Returns its number."""
        return self._put(m.Ask(self._question + 1, what, node, tasks), answered)

    def order(
        self,
        what: str,
        engine: EngineId | None,
        count: int,
        answered: Callable[[m.Answer], None],
        limit: tuple[str, str] = ("", ""),
        scale: tuple[int, float] = (0, 0.0),
        task: TaskId | None = None,
    ) -> int:
        """Say what is to be done with the cluster: see the message Order; else as `ask`."""
        number = self._question + 1
        return self._put(m.Order(number, what, engine, count, *limit, *scale, task), answered)

    def _put(self, message: m.Ask | m.Order, answered: Callable[[m.Answer], None]) -> int:
        self._question = message.number
        self._questions[message.number] = _Question(message, answered)
        self._unsent_questions.append(message.number)
        return message.number

    def watch(self, node: TaskId, future: F) -> F:
        """Have `future` told how the task of another client ends; returns the future that is told,
        which is another one if that task was watched before."""
        watched = self.open.setdefault(node, future)
        if watched is future:
            self._watched.add(node)
            self._unsent_watches.append(node)
        return watched

    def keep(self) -> None:
        """Ask that all that was asked for outlives this client: certain once `is_kept`. Nothing is
        released from now on."""
        self._asks_keep = self._asks_keep or not self.kept
        self.kept = True

    def forget_question(self, number: int) -> None:
        """Nobody waits for the answer any more."""
        self._questions.pop(number, None)

    @property
    def has_waiting(self) -> bool:
        """Whether something waits to be sent. Releases alone do not count: they may wait."""
        return bool(
            self._asked
            or self._cancelled
            or self._unsent_questions
            or self._unsent_watches
            or self._missed
            or self._asks_keep
        )

    # --- sending: under the lock ----------------------------------------------------------------

    def take(self) -> Taken:
        """Everything that waits, in a state from which `messages` can make batches.

        While many Releases are not acknowledged the next ones wait: they are kept, too.
        """
        released = self.released
        room = max(0, self._names_max - self._names)
        if self.kept:
            released.clear()
        # Before `asked`: rule 3.
        nodes = [released.popleft() for _ in range(min(len(released), room))]
        watches, self._unsent_watches = self._unsent_watches, []
        cancelled, self._cancelled = self._cancelled, {}
        unsent, self._unsent_questions = self._unsent_questions, []
        asked, self._asked = self._asked, []
        missed, self._missed = self._missed, {}
        told = [m.Missed(task, name) for task, name in missed.items()]
        asks = self._asks(unsent)
        return Taken(asked, cancelled, asks, nodes, told, watches, self._asks_keep)

    def _asks(self, numbers: Iterable[int]) -> list[m.Ask | m.Order]:
        """The questions of these numbers that are still open."""
        questions = self._questions
        return [questions[number].message for number in numbers if number in questions]

    # --- sending: the io thread alone, without the lock -----------------------------------------

    def messages(self, taken: Taken) -> list[Outgoing]:
        """The messages for what was taken, in the order in which they must be sent."""
        out: list[Outgoing] = []
        batch = BatchWriter(self._wire)
        last = 0
        asked = taken.asked
        # A signal handler that submits while `submit` runs may swap two neighbours.
        if any(asked[i][0].id > asked[i + 1][0].id for i in range(len(asked) - 1)):
            asked.sort(key=lambda item: item[0].id)
        for spec, function, keep, size in asked:
            if batch.is_full or (function is None and batch.tasks):
                self._close(batch, last, out)
                batch = BatchWriter(self._wire)
            if keep is not None:
                batch.keep.append(keep)
            last = spec.id
            batch.window_bytes += size
            if function is None:
                batch.groups.append(spec)  # type: ignore[arg-type]
            else:
                batch.add(spec, function, self._known)  # type: ignore[arg-type]
        step = self._wire.batch_tasks_max * 4
        released = taken.released
        if (batch.tasks or batch.groups) and not taken.cancelled and len(released) <= step:
            batch.released, released = released, []
        if batch.tasks or batch.groups:
            self._close(batch, last, out)
        for wish in dict.fromkeys(taken.cancelled.values()):
            wished = [task for task, its_wish in taken.cancelled.items() if its_wish == wish]
            for start in range(0, len(wished), step):
                tasks = wished[start : start + step]
                out.append(self._naming(m.Cancel(self._batch + 1, tasks, *wish), len(tasks)))
        if taken.keeps:
            out.append(self._naming(m.Keep(self._batch + 1), 0))
            self._asks_keep = False  # not earlier: see is_kept
        out.extend(self._watches(taken.watches))
        out.extend((ask, ()) for ask in taken.asks)
        out.extend((missed, ()) for missed in taken.missed)
        for start in range(0, len(released), step):
            out.append(self._release(released[start : start + step], []))
        return out

    def _watches(self, nodes: list[TaskId]) -> list[Outgoing]:
        return [
            (m.Watch(nodes[start : start + RESUMED_TASKS_MAX]), ())
            for start in range(0, len(nodes), RESUMED_TASKS_MAX)
        ]

    def _release(self, nodes: list[TaskId], functions: list[bytes]) -> Outgoing:
        release = m.Release(self._batch + 1, nodes, functions)
        return self._naming(release, len(nodes) + len(functions))

    def _naming(self, message: m.Release | m.Cancel | m.Keep, names: int) -> Outgoing:
        """The next batch, which names so many nodes and functions."""
        self._batch += 1
        self._names += names
        outgoing: Outgoing = (message, ())
        self._unacknowledged.append(_Unacknowledged(self._batch, outgoing, names=names))
        return outgoing

    def _close(self, batch: BatchWriter, last: int, out: list[Outgoing]) -> None:
        self._batch += 1
        self._sent_node = last
        self._names += len(batch.released)
        outgoing: Outgoing = (batch.message(self._batch), batch.large)
        self._unacknowledged.append(
            _Unacknowledged(
                self._batch,
                outgoing,
                tasks=len(batch.tasks),
                bytes=batch.window_bytes,
                last_node=last,
                names=len(batch.released),
                keep=batch.keep,
            )
        )
        out.append(outgoing)
        # After the batch that named them, and before any that would declare them anew.
        excess = len(self._known) - self._functions_known_max
        if excess > 0:
            evicted = list(self._known)[:excess]
            for digest in evicted:
                del self._known[digest]
            out.append(self._release([], evicted))

    # --- hearing: under the lock ----------------------------------------------------------------

    def accepted(self, batch: int) -> None:
        """All batches up to `batch` are in the scheduler's hands: the window opens."""
        unacknowledged = self._unacknowledged
        while unacknowledged and unacknowledged[0].number <= batch:
            done = unacknowledged.popleft()
            self._accepted = done.number
            self.window_tasks -= done.tasks
            self.window_bytes -= done.bytes
            self._names -= done.names
            if done.last_node:
                self.accepted_node = TaskId(done.last_node)

    def resend(self, accepted: int) -> list[Outgoing]:
        """We are back, and the controller has our batches up to `accepted`: those above, to be
        sent again in this order, before anything else.

        Raises:
            ConnectionLost: it has forgotten batches that it had acknowledged.
            ProtocolError: it has more than we ever sent.
        """
        if accepted > self._batch:
            raise ProtocolError(
                f"the controller has batch {accepted} of this client, which sent {self._batch}"
            )
        if accepted < self._accepted:
            raise ConnectionLost(
                f"the controller came back without the batches {accepted + 1} to "
                f"{self._accepted} of this client, which it had acknowledged"
            )
        self.accepted(accepted)
        return [batch.outgoing for batch in self._unacknowledged]

    def resume_messages(self) -> list[Outgoing]:
        """What the controller has to be told and asked again, after `resend`: whose ends we have
        not heard, and what it did not answer. Not what was never sent: that still waits."""
        sent = self._sent_node
        unsaid = set(self._unsent_watches)
        self._watched &= self.open.keys()
        tasks = [node for node in self.open if node <= sent and node not in self._watched]
        watches = [node for node in self.open if node in self._watched and node not in unsaid]
        out: list[Outgoing] = [
            (m.Resume(tasks[start : start + RESUMED_TASKS_MAX]), ())
            for start in range(0, len(tasks), RESUMED_TASKS_MAX)
        ]
        out.extend(self._watches(watches))
        unsent = set(self._unsent_questions)
        sent_asks = self._asks(n for n in self._questions if n not in unsent)
        out.extend((ask, ()) for ask in sent_asks if isinstance(ask, m.Ask))
        return out

    def lost_orders(self) -> list[tuple[int, Callable[[m.Answer], None]]]:
        """Orders that were sent over a connection that was lost: what became of them is not known.
        They are forgotten here."""
        unsent = set(self._unsent_questions)
        lost = [
            (number, question.answered)
            for number, question in self._questions.items()
            if isinstance(question.message, m.Order) and number not in unsent
        ]
        for number, _ in lost:
            del self._questions[number]
        return lost

    def answered(self, answer: m.Answer) -> Callable[[m.Answer], None] | None:
        """Who asked what `answer` answers; None if nobody waits for it any more."""
        question = self._questions.pop(answer.number, None)
        return None if question is None else question.answered

    def take_questions(self) -> list[Callable[[m.Answer], None]]:
        """Who waits for any answer: for when none will come."""
        waiting = [question.answered for question in self._questions.values()]
        self._questions.clear()
        return waiting

    def statistics(self) -> SessionStatistics:
        """A snapshot of the conversation."""
        return SessionStatistics(
            len(self.open),
            self.window_tasks,
            self.window_bytes,
            len(self._questions),
            len(self._known),
            len(self._unacknowledged),
            self._names,
        )


@dataclass(slots=True)
class Taken:
    """What waited to be sent when it was looked at, in the order in which it is sent."""

    asked: list[_Asked]
    #: By task, whether only if it has not begun, and whether all downstream of it, too.
    cancelled: dict[TaskId, tuple[bool, bool]]
    asks: list[m.Ask | m.Order]
    released: list[TaskId]
    missed: list[m.Missed]
    #: Tasks of others, whose ends are wanted; and whether ours shall outlive us.
    watches: list[TaskId] = field(default_factory=list)
    keeps: bool = False
