"""Commands of the scheduler, and answers of the controller, as messages: few and large.

The controller puts in what it has to say during one turn of its loop; `flush` sends one message
to each peer (more only where a batch would grow too large), in the order of the commands for
that peer. A peer that can't be reached is reported to the controller, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headway.config import WireConfig
from headway.controller.peers import ClientPeer, EnginePeer, Peer, Peers
from headway.core.commands import Assign, Command, Deliver, DropFunction, Recall, StopTask
from headway.core.events import ClientId, EngineId, TaskId
from headway.core.records import Task
from headway.wire import messages as m
from headway.wire.codec import Batch, Buffer, encode

#: Sends frames to an identity; False if nobody is there.
Send = Callable[[bytes, list[Buffer]], bool]


class Outbox:
    """What is to be sent at the end of this turn."""

    def __init__(self, peers: Peers, wire: WireConfig, send: Send) -> None:
        self._peers = peers
        self._wire = wire
        self._send = send
        self._assigned: dict[EngineId, list[Task]] = {}
        self._recalled: dict[EngineId, list[TaskId]] = {}
        self._stopped: dict[EngineId, list[TaskId]] = {}
        self._delivered: dict[ClientId, list[Deliver]] = {}
        self._said: list[tuple[Peer, Any]] = []
        #: Peers that could not be reached.
        self.unreachable: list[Peer] = []

    def say(self, peer: Peer, message: Any) -> None:
        """Send `message`, which has no large payloads, after what was delivered before it."""
        self._said.append((peer, message))

    def put(self, commands: list[Command]) -> None:
        """Take the scheduler's commands."""
        for command in commands:
            if isinstance(command, Assign):
                self._assigned.setdefault(command.engine, []).append(command.task)
            elif isinstance(command, Deliver):
                self._delivered.setdefault(command.client, []).append(command)
            elif isinstance(command, Recall):
                self._recalled.setdefault(command.engine, []).extend(command.tasks)
            elif isinstance(command, StopTask):
                self._stopped.setdefault(command.engine, []).append(command.task)
            elif isinstance(command, DropFunction):
                self._drop_function(command.digest)

    def flush(self) -> None:
        """Send all of it."""
        for engine, tasks in self._assigned.items():
            self._send_assigned(self._peers.engines.get(engine), tasks)
        for engine, ids in self._recalled.items():
            self._send_to(self._peers.engines.get(engine), m.GiveBack(ids))
        for engine, ids in self._stopped.items():
            self._send_stop(self._peers.engines.get(engine), ids)
        for number, deliveries in self._delivered.items():
            client = self._peers.clients.get(number)
            if client is not None:
                self._send_results(client, deliveries)
        for peer, message in self._said:
            if self._peers.find(peer.identity) is peer:  # it may have gone in this very turn
                self._send_to(peer, message)
        self._assigned.clear()
        self._recalled.clear()
        self._stopped.clear()
        self._delivered.clear()
        self._said.clear()

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
        if engine is None:
            return  # it left in this very turn: the scheduler has placed its tasks anew
        inline_bytes_max, batch_bytes = self._wire.inline_bytes_max, self._wire.batch_bytes
        start, count = 0, len(tasks)
        while start < count:
            batch = Batch(inline_bytes_max)
            message = m.Assigned([], [], {}, engine.dropped_functions)
            engine.dropped_functions = []
            indexes: dict[bytes, int] = {}
            size = 0
            while start < count and size < batch_bytes:
                task = tasks[start]
                start += 1
                size += self._add_assignment(engine, task, message, indexes, batch)
            self._send_frames(engine, encode(message, batch.large))

    def _add_assignment(
        self,
        engine: EnginePeer,
        task: Task,
        message: m.Assigned,
        indexes: dict[bytes, int],
        batch: Batch,
    ) -> int:
        """Add `task` to `message`. Returns about how many bytes that was."""
        function = task.function
        if function is None or task.engine != engine.number:
            return 0  # it ended, or moved on, in this very turn
        digest = function.digest
        index = indexes.get(digest)
        if index is None:
            index = indexes[digest] = len(message.functions)
            message.functions.append(digest)
            if digest not in engine.functions:
                engine.functions.add(digest)
                message.new_functions[digest] = batch.place(function.payload)
        size = 16 + len(task.payload)
        inputs = None
        if task.inputs is not None:
            inputs = [batch.place(node.result or b"") for node in task.inputs]
            size += sum(len(node.result or b"") for node in task.inputs)
        payload = batch.place(task.payload)
        message.tasks.append(
            m.Assignment(task.id, task.attempt, index, payload, inputs, task.options.run_timeout_s)
        )
        return size

    def _send_results(self, client: ClientPeer, deliveries: list[Deliver]) -> None:
        inline_bytes_max, batch_bytes = self._wire.inline_bytes_max, self._wire.batch_bytes
        start, count = 0, len(deliveries)
        while start < count:
            batch = Batch(inline_bytes_max)
            results: list[m.Result] = []
            size = 0
            while start < count and size < batch_bytes:
                d = deliveries[start]
                start += 1
                payload: bytes | int | None = d.payload
                if d.payload is not None:
                    size += 16 + len(d.payload)
                    payload = batch.place(d.payload)
                else:
                    size += 64
                results.append(m.Result(d.task, d.state, payload, d.engine, d.problem))
            self._send_frames(client, encode(m.Results(results), batch.large))

    def _send_to(self, peer: Peer | None, message: Any) -> None:
        if peer is not None:
            self._send_frames(peer, encode(message))

    def _send_frames(self, peer: Peer, frames: list[Buffer]) -> None:
        if not self._send(peer.identity, frames):
            self.unreachable.append(peer)
