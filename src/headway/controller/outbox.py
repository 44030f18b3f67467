"""Commands of the scheduler, and answers of the controller, as messages: few and large.

The controller puts in what it has to say during one turn of its loop; `flush` sends one message
to each peer (more only where a batch would grow too large), in the order of the commands for
that peer. A peer that can't be reached is reported to the controller, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from operator import itemgetter
from typing import Any, cast

from msgspec import structs

from headway.config import WireConfig
from headway.controller.peers import ClientPeer, EnginePeer, Peer, Peers
from headway.controller.watchers import Watchers
from headway.core.commands import (
    Assign,
    Command,
    Deliver,
    DropFunction,
    DropValue,
    Forgotten,
    Recall,
    StopTask,
)
from headway.core.events import NO_STORE, ClientId, EngineId, StoredValue, StoreId, TaskId, Value
from headway.core.records import Task
from headway.core.states import TaskState
from headway.core.words import name_of
from headway.wire import messages as m
from headway.wire.codec import INLINE_SUM_MAX, Batch, Buffer, encode

#: At most what these take in a message beside their payloads: an assignment with the digest of
#: its function, one more input of it, a result.
_TASK_BYTES = 64
_INPUT_BYTES = 5
_RESULT_BYTES = 32
#: And a reference to a value that is kept in a store.
_STORED_BYTES = 256

#: For an input that is being made again: no engine can read it, and says so.
_NOWHERE = StoredValue(NO_STORE, "", 0)

#: Sends frames to an identity; False if nobody is there.
Send = Callable[[bytes, list[Buffer]], bool]


class Outbox:
    """What is to be sent at the end of this turn."""

    def __init__(self, peers: Peers, wire: WireConfig, send: Send) -> None:
        self._peers = peers
        self._wire = wire
        self._send = send
        # Below `frame_bytes_max`, so that a first frame is, but for that of one enormous task.
        self._batch_bytes = min(wire.batch_bytes, wire.frame_bytes_max)
        self._inline_sum_max = min(INLINE_SUM_MAX, wire.frame_bytes_max // 2)
        self._inline_bytes_max = min(wire.inline_bytes_max, self._inline_sum_max)
        self._assigned: dict[EngineId, list[Task]] = {}
        self._recalled: dict[EngineId, list[TaskId]] = {}
        self._stopped: dict[EngineId, list[TaskId]] = {}
        self._delivered: dict[ClientId, list[Deliver]] = {}
        self._dropped: dict[StoreId, list[str]] = {}
        self._said: list[tuple[Peer, Any]] = []
        #: Welcomes: the first thing that a peer hears, before any task or output.
        self._greetings: list[tuple[Peer, Any]] = []
        #: What was printed, and what was dropped of it.
        self._printed: list[tuple[Peer, Any]] = []
        #: Whose batches were taken in, up to which, and they do not know yet; and when they are
        #: told at the latest.
        self._accepted: dict[Peer, int] = {}
        self.accept_at_s = inf
        #: Peers that could not be reached.
        self.unreachable: list[Peer] = []
        #: Tasks that no message can carry, and why.
        self.unsendable: list[tuple[Task, str]] = []
        #: Who else is told of the end of a task.
        self.watchers = Watchers()
        #: Whether the hosts share large values: then any nanny can remove those of another.
        self.shares_values = False
        #: What is kept no more of what clients left behind.
        self.forgotten: list[TaskId] = []
        #: Of what was delivered in this turn, what ended otherwise than well.
        self.troubled: list[Deliver] = []

    def say(self, peer: Peer, message: Any) -> None:
        """Send `message`, which has no large payloads, after what was delivered before it."""
        self._said.append((peer, message))

    def greet(self, peer: Peer, welcome: m.Welcome) -> None:
        """Send `welcome` before anything else."""
        self._greetings.append((peer, welcome))

    def show(self, client: ClientPeer, output: m.Output | m.Notice) -> None:
        """Send what was printed, before the results of the tasks that printed it."""
        self._printed.append((client, output))

    def accept(self, peer: ClientPeer | EnginePeer, batch: int, now: float) -> None:
        """Let `peer` know soon that its batches up to `batch` were taken in: with the next
        message that can say so, or by itself."""
        if not self._accepted:
            self.accept_at_s = now + self._wire.accept_after_s
        self._accepted[peer] = batch

    def go_on(self, client: ClientPeer) -> None:
        """`client` has heard results: send those that had to wait for that."""
        if client.undelivered.waiting:
            self._delivered.setdefault(client.number, [])

    def stop(self, engine: EngineId, tasks: list[TaskId]) -> None:
        """Ask an engine again to stop `tasks`."""
        self._stopped.setdefault(engine, []).extend(tasks)

    def put(self, commands: list[Command]) -> None:
        """Take the scheduler's commands."""
        for command in commands:
            if isinstance(command, Assign):
                self._assigned.setdefault(command.engine, []).append(command.task)
            elif isinstance(command, Deliver):
                self._delivered.setdefault(command.client, []).append(command)
                if command.problem is not None:
                    self.troubled.append(command)
                if self.watchers.by_task:
                    self._tell_watchers(command)
            elif isinstance(command, Recall):
                self._recalled.setdefault(command.engine, []).extend(command.tasks)
            elif isinstance(command, StopTask):
                self._stopped.setdefault(command.engine, []).append(command.task)
            elif isinstance(command, DropFunction):
                self._drop_function(command.digest)
            elif isinstance(command, Forgotten):
                self.forgotten.append(command.node)
            elif isinstance(command, DropValue):
                self._dropped.setdefault(command.store, []).append(command.name)

    def drop_values(self, store: StoreId, names: list[str]) -> None:
        """Have a store remove values that nobody will ask for."""
        self._dropped.setdefault(store, []).extend(names)

    def _tell_watchers(self, told: Deliver) -> None:
        for client in self.watchers.take(told.task):
            peer = self._peers.clients.get(client)
            if peer is not None:
                peer.watched.discard(told.task)
            if client != told.client:
                self._delivered.setdefault(client, []).append(structs.replace(told, client=client))

    def flush(self, now: float) -> None:
        """Send all of it; acknowledgements by themselves only where it is time."""
        self._flush_said(self._greetings)
        self._flush_said(self._printed)
        for engine, tasks in self._assigned.items():
            self._send_assigned(self._peers.engines.get(engine), tasks)
        for engine, ids in self._recalled.items():
            self._send_to(self._peers.engines.get(engine), m.GiveBack(ids))
        for engine, ids in self._stopped.items():
            self._send_stop(self._peers.engines.get(engine), ids)
        for number, deliveries in self._delivered.items():
            client = self._peers.clients.get(number)
            if client is not None and client.is_here:
                self._send_results(client, deliveries)
        for store, names in self._dropped.items():
            self._send_dropped(store, names)
        if now >= self.accept_at_s:
            self._said += [(peer, m.Accepted(batch)) for peer, batch in self._accepted.items()]
            self._accepted.clear()
        if not self._accepted:
            self.accept_at_s = inf
        self._flush_said(self._said)
        self._assigned.clear()
        self._recalled.clear()
        self._stopped.clear()
        self._delivered.clear()
        self._dropped.clear()

    def flush_notices(self) -> None:
        """Send what is said to people, and nothing else of this turn."""
        notices = [(peer, said) for peer, said in self._said if isinstance(said, m.Notice)]
        self._said = [(peer, said) for peer, said in self._said if not isinstance(said, m.Notice)]
        self._flush_said(notices)

    def _flush_said(self, said: list[tuple[Peer, Any]]) -> None:
        for peer, message in said:
            if self._peers.find(peer.identity) is peer:  # it may have gone in this very turn
                self._send_to(peer, message)
        said.clear()

    def _drop_function(self, digest: bytes) -> None:
        for engine in self._peers.engines.values():
            if digest in engine.functions:
                engine.functions.discard(digest)
                engine.dropped_functions.append(digest)

    def _send_stop(self, engine: EnginePeer | None, ids: list[TaskId]) -> None:
        """Stop tasks: softly by their engine; and by its nanny, which can make sure of it."""
        if engine is None:
            return
        self._send_to(engine, m.StopTasks(ids))
        nanny = self._peers.nannies.get(engine.hello.nanny)
        self._send_to(nanny, m.InterruptTasks(engine.hello.token, ids))

    def _send_assigned(self, engine: EnginePeer | None, tasks: list[Task]) -> None:
        if engine is None or not engine.is_here:
            # It left in this very turn, and the scheduler has placed its tasks anew; or it is
            # away, and what it has not got is taken back when it returns.
            return
        start = 0
        while start < len(tasks):
            accepted = self._accepted.pop(engine, 0)
            message = m.Assigned([], [], {}, engine.dropped_functions, accepted)
            engine.dropped_functions = []
            start, has_large = self._gather_assigned(engine, message, tasks, start)
            if message.tasks or message.dropped_functions or accepted:
                large = self._place_large(message) if has_large else ()
                self._send_frames(engine, encode(message, large))

    def _gather_assigned(
        self, engine: EnginePeer, message: m.Assigned, tasks: list[Task], start: int
    ) -> tuple[int, bool]:
        """Add tasks to `message`, from number `start` on, until it is large enough.

        Returns the number of the first that is left over, and whether some payload may have to
        travel in a frame of its own.
        """
        # The hot path: once for each task. The payloads are put into their places afterwards.
        has_large = False
        indexes: dict[bytes, int] = {}
        size = 0
        for number in range(start, len(tasks)):
            task = tasks[number]
            function = task.function
            if function is None or task.engine != engine.number:
                continue  # it ended, or moved on, in this very turn
            digest = function.digest
            cost = _TASK_BYTES + len(task.payload)
            if digest not in engine.functions:
                cost += len(function.payload)
            inputs: list[Value | int] | None = None
            if task.inputs is not None:
                inputs = [_value_of(node) for node in task.inputs]
                cost += sum(map(_size_of, inputs)) + _INPUT_BYTES * len(inputs)  # type: ignore[arg-type]
            if task.traceparent:
                cost += len(task.traceparent) + len(task.options.label)
            if size and size + cost > self._batch_bytes:
                return number, has_large or size > self._inline_sum_max
            if cost > self._wire.frame_bytes_max and (why := self._too_large(task)):
                self.unsendable.append((task, why))
                continue
            size += cost
            has_large |= cost > self._inline_bytes_max
            index = indexes.get(digest)
            if index is None:
                index = indexes[digest] = len(message.functions)
                message.functions.append(digest)
                if digest not in engine.functions:
                    engine.functions.add(digest)
                    message.new_functions[digest] = function.payload
            run_timeout_s = task.options.run_timeout_s
            assignment = m.Assignment(
                task.id, task.attempt, index, task.payload, inputs, run_timeout_s
            )
            if task.traceparent:
                assignment.traceparent = task.traceparent
                assignment.label = task.options.label
            message.tasks.append(assignment)
        return len(tasks), has_large or size > self._inline_sum_max

    def _place_large(self, message: m.Assigned) -> list[Buffer]:
        """Put payloads into frames of their own, in the order in which the codec takes them."""
        batch = Batch(self._inline_bytes_max, self._inline_sum_max)
        functions: dict[bytes, Any] = message.new_functions
        for digest, payload in functions.items():
            functions[digest] = batch.place(payload)
        for task in message.tasks:
            task.payload = batch.place(cast("bytes", task.payload))
            if task.inputs is not None:
                values = cast("list[Value]", task.inputs)
                task.inputs = [batch.place_value(value) for value in values]
        return batch.large

    def _too_large(self, task: Task) -> str:
        """Why no message can carry `task`, alone as it may be; "" if one can."""
        limit = self._wire.frame_bytes_max
        inputs = task.inputs or ()
        parts = [("its arguments", len(task.payload))]
        if task.function is not None:
            parts.append(("its function", len(task.function.payload)))
        parts += [
            (f"its input, the result of {name_of(node)},", _size_of(_value_of(node)))
            for node in inputs
        ]
        what, size = max(parts, key=itemgetter(1))
        if size <= limit:
            # The rest of the first frame: what is inline in it is bounded by half of the limit.
            what, size = f"the list of its {len(inputs):,} inputs", _INPUT_BYTES * len(inputs)
            if size + _TASK_BYTES <= limit - self._inline_sum_max:
                return ""
        return (
            f"task {name_of(task)} can't be sent to an engine: {what} takes {size:,} bytes, "
            f"and at most {limit:,} may travel in one frame"
        )

    def _send_results(self, client: ClientPeer, deliveries: list[Deliver]) -> None:
        gap = client.unshown.gap()
        if gap:
            self._send_to(client, m.Notice(gap))
        undelivered = client.undelivered
        waiting = undelivered.waiting
        waiting.extend(deliveries)
        while waiting and undelivered.has_room:
            batch = Batch(self._inline_bytes_max, self._inline_sum_max)
            results: list[m.Result] = []
            size = 0
            while waiting and size < self._batch_bytes:
                d = waiting.popleft()
                payload: Value | int | None = d.payload
                size += _RESULT_BYTES
                if type(payload) is bytes:
                    size += len(payload)
                    payload = batch.place(payload)
                elif payload is not None:
                    size += _STORED_BYTES
                if d.problem is not None:  # a text may have the last lines of several engines
                    size += len(d.problem.text) + len(d.problem.root_text)
                results.append(m.Result(d.task, d.state, payload, d.engine, d.problem))
            accepted = self._accepted.pop(client, 0)
            frames = encode(m.Results(results, accepted), batch.large)
            undelivered.sent(sum(map(len, frames)))
            self._send_frames(client, frames)

    def _send_dropped(self, store: StoreId, names: list[str]) -> None:
        nanny = self._peers.nannies.get(store)
        if nanny is not None:  # one that is away says what it has when it returns
            self._send_to(nanny, m.DropValues(names))
        elif self.shares_values:
            self._send_to(self._peers.some_nanny(), m.DropValues(names, store))

    def _send_to(self, peer: Peer | None, message: Any) -> None:
        if peer is not None:
            self._send_frames(peer, encode(message))

    def _send_frames(self, peer: Peer, frames: list[Buffer]) -> None:
        # Who is away is told all that it missed when it returns.
        if peer.is_here and not self._send(peer.identity, frames):
            self.unreachable.append(peer)


def _value_of(node: Task) -> Value:
    """What to send of an upstream, on which a task depends as on a value."""
    if node.result is None or node.state is not TaskState.SUCCEEDED:
        return _NOWHERE if node.lineage is not None else b""
    return node.result


def _size_of(value: Value) -> int:
    """What a result takes in a message."""
    return len(value) if isinstance(value, bytes) else _STORED_BYTES
