"""What this client asked of its controller, what it was told, and what is still open.

Rule 1: pure. No socket, thread, lock or clock: io.py holds a lock around the methods that
say so, and sends what `take_messages` returns, in that order, on one connection.
Rule 2: nodes enter the stream in the order of their ids, since the controller takes a node at
or below the last one for a duplicate.
Rule 3: a Release never overtakes a Submit that names its node: what was released is looked at
before what was submitted, and sent after it.

What this file must not know: what a payload means, and what a future is. `open` maps the id of
a task to whatever its maker put there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from headway.config import WireConfig
from headway.core.events import (
    SEQUENCE_BITS,
    ConditionSpec,
    GroupSpec,
    TaskId,
    TaskOptions,
    TaskSpec,
)
from headway.wire import messages as m
from headway.wire.codec import Batch, Buffer

F = TypeVar("F")

#: Functions that the controller is asked to remember for this client.
FUNCTIONS_KNOWN_MAX = 512

#: About what a task costs on the wire beside its payload; also bounds tasks without one.
TASK_BYTES = 48


class Function:
    """A pickled function, by its digest."""

    __slots__ = ("digest", "payload")

    def __init__(self, digest: bytes, payload: bytes) -> None:
        self.digest = digest
        self.payload = payload

    def __repr__(self) -> str:
        return f"<Function {self.digest.hex()[:8]} {len(self.payload)} bytes>"


#: A message, and the large payloads that travel beside it.
Outgoing = tuple[Any, Sequence[Buffer]]


@dataclass(slots=True)
class _Unacknowledged:
    """A batch on its way: what it counts in the window, and what must live until it arrives."""

    number: int
    tasks: int
    bytes: int
    last_node: TaskId
    keep: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """A snapshot: tasks open, tasks and bytes in the window, questions open."""

    open_tasks: int
    window_tasks: int
    window_bytes: int
    questions: int
    functions_known: int


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
        #: The highest node that the controller has confirmed.
        self.accepted_node = TaskId(0)
        self._asked: list[tuple[TaskSpec | GroupSpec, Function | None, Any]] = []
        self._controls: list[m.Cancel | m.Ask] = []
        self._questions: dict[int, Callable[[m.Answer], None]] = {}
        self._question = 0
        self._batch = 0
        self._unacknowledged: deque[_Unacknowledged] = deque()
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
    ) -> TaskId:
        """Ask for a task; returns its id. `keep` is held until the controller has the task."""
        # The hot path: no call but those that it needs.
        self._last = node = self._last + 1
        spec = TaskSpec(node, 0, payload, inputs, after, follow, options)  # type: ignore[arg-type]
        self._asked.append((spec, function, keep))
        self.open[node] = future  # type: ignore[index]
        self.window_tasks += 1
        self.window_bytes += len(payload) + TASK_BYTES
        return node  # type: ignore[return-value]

    def submit_group(self, members: list[TaskId], keep: Any = None) -> TaskId:
        """Make one node of many tasks; returns its id."""
        node = self.new_node()
        self._asked.append((GroupSpec(node, members), None, keep))
        return node

    @property
    def is_full(self) -> bool:
        """Whether the window is full: `submit` waits for acknowledgements."""
        wire = self._wire
        return self.window_tasks >= wire.window_tasks or self.window_bytes >= wire.window_bytes

    def cancel(self, tasks: list[TaskId], downstream: bool = False) -> None:
        """Ask that `tasks` do not run; `downstream`: nor what depends on them."""
        self._controls.append(m.Cancel(tasks, downstream))

    def ask(self, what: str, node: TaskId | None, answered: Callable[[m.Answer], None]) -> int:
        """Put a question; `answered` is called once, with the answer. Returns its number."""
        self._question += 1
        self._questions[self._question] = answered
        self._controls.append(m.Ask(self._question, what, node))
        return self._question

    def forget_question(self, number: int) -> None:
        """Nobody waits for the answer any more."""
        self._questions.pop(number, None)

    @property
    def has_waiting(self) -> bool:
        """Whether something waits to be sent. Releases alone do not count: they may wait."""
        return bool(self._asked or self._controls)

    # --- sending: under the lock ----------------------------------------------------------------

    def take(self) -> Taken:
        """Everything that waits, in a state from which `messages` can make batches."""
        released = self.released
        nodes = [released.popleft() for _ in range(len(released))]  # before `asked`: rule 3
        controls, self._controls = self._controls, []
        asked, self._asked = self._asked, []
        return Taken(asked, controls, nodes)

    # --- sending: the io thread alone, without the lock -----------------------------------------

    def messages(self, taken: Taken) -> list[Outgoing]:
        """The messages for what was taken, in the order in which they must be sent."""
        out: list[Outgoing] = []
        batch = _BatchWriter(self._wire)
        last = 0
        asked = taken.asked
        # A signal handler that submits while `submit` runs may swap two neighbours.
        if any(asked[i][0].id > asked[i + 1][0].id for i in range(len(asked) - 1)):
            asked.sort(key=lambda item: item[0].id)
        for spec, function, keep in asked:
            if batch.is_full or (function is None and batch.tasks):
                self._close(batch, last, out)
                batch = _BatchWriter(self._wire)
            if keep is not None:
                batch.keep.append(keep)
            last = spec.id
            if function is None:
                batch.groups.append(spec)  # type: ignore[arg-type]
            else:
                batch.add(spec, function, self._known)  # type: ignore[arg-type]
        if batch.tasks or batch.groups:
            self._close(batch, last, out)
        out.extend((control, ()) for control in taken.controls)
        step = self._wire.batch_tasks_max * 4
        for start in range(0, len(taken.released), step):
            out.append((m.Release(taken.released[start : start + step]), ()))
        return out

    def _close(self, batch: _BatchWriter, last: int, out: list[Outgoing]) -> None:
        self._batch += 1
        self._unacknowledged.append(
            _Unacknowledged(
                self._batch, len(batch.tasks), batch.task_bytes, TaskId(last), batch.keep
            )
        )
        out.append((batch.message(self._batch), batch.large))
        # After the batch that named them, and before any that would declare them anew.
        excess = len(self._known) - self._functions_known_max
        if excess > 0:
            evicted = list(self._known)[:excess]
            for digest in evicted:
                del self._known[digest]
            out.append((m.Release([], evicted), ()))

    # --- hearing: under the lock ----------------------------------------------------------------

    def accepted(self, batch: int) -> None:
        """All batches up to `batch` are in the scheduler's hands: the window opens."""
        unacknowledged = self._unacknowledged
        while unacknowledged and unacknowledged[0].number <= batch:
            done = unacknowledged.popleft()
            self.window_tasks -= done.tasks
            self.window_bytes -= done.bytes
            self.accepted_node = done.last_node

    def answered(self, answer: m.Answer) -> Callable[[m.Answer], None] | None:
        """Who asked what `answer` answers; None if nobody waits for it any more."""
        return self._questions.pop(answer.number, None)

    def take_questions(self) -> list[Callable[[m.Answer], None]]:
        """Who waits for any answer: for when none will come."""
        waiting = list(self._questions.values())
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
        )


@dataclass(slots=True)
class Taken:
    """What waited to be sent when it was looked at: submits, then controls, then releases."""

    asked: list[tuple[TaskSpec | GroupSpec, Function | None, Any]]
    controls: list[m.Cancel | m.Ask]
    released: list[TaskId]


class _BatchWriter:
    """A Submit being written: groups first, then tasks, closed by count or by bytes."""

    def __init__(self, wire: WireConfig) -> None:
        self._payloads = Batch(wire.inline_bytes_max)
        self._inline_bytes_max = wire.inline_bytes_max
        self._tasks_max = wire.batch_tasks_max
        self._bytes_max = wire.batch_bytes
        self._index_of: dict[bytes, int] = {}
        self.groups: list[GroupSpec] = []
        self.tasks: list[TaskSpec] = []
        self.functions: list[bytes] = []
        self.new_functions: dict[bytes, bytes] = {}
        self.keep: list[Any] = []
        #: What the tasks count in the window; and with the functions, what the batch weighs.
        self.task_bytes = 0
        self._bytes = 0

    def add(self, spec: TaskSpec, function: Function, known: dict[bytes, None]) -> None:
        digest = function.digest
        index = self._index_of.get(digest)
        if index is None:
            index = self._index_of[digest] = len(self.functions)
            self.functions.append(digest)
            if digest in known:
                del known[digest]  # it moves to the end: named just now
            else:
                self.new_functions[digest] = function.payload
                self._bytes += len(function.payload)
            known[digest] = None
        spec.function = index
        size = len(spec.payload)  # type: ignore[arg-type]
        self.task_bytes += size + TASK_BYTES
        self.tasks.append(spec)

    @property
    def is_full(self) -> bool:
        return (
            len(self.tasks) >= self._tasks_max or self.task_bytes + self._bytes >= self._bytes_max
        )

    def message(self, number: int) -> m.Submit:
        """The Submit. Large payloads are placed in the order in which the codec takes them."""
        place = self._payloads.place
        new_functions: dict[bytes, bytes | int] = {
            digest: place(payload) for digest, payload in self.new_functions.items()
        }
        inline_bytes_max = self._inline_bytes_max
        for spec in self.tasks:
            if len(spec.payload) > inline_bytes_max:  # type: ignore[arg-type]
                spec.payload = place(spec.payload)  # type: ignore[arg-type]
        return m.Submit(number, self.functions, self.groups, self.tasks, new_functions)

    @property
    def large(self) -> Sequence[Buffer]:
        return self._payloads.large
