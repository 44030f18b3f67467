"""A scripted controller: a ROUTER in a thread that runs tasks by itself, or does as it is told.

It speaks the real wire to real clients, so that these can be tested without engines. What a
test does not script it does as a controller would: it welcomes, accepts, and runs each task in
the order of its submission, unless `hold` is set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from headway.config import WireConfig
from headway.core.events import TaskId, TaskSpec, format_task_id
from headway.core.problems import KIND_CANCELLED, KIND_INVALID, KIND_RAISED, Problem
from headway.core.states import TaskState
from headway.wire import codec, payload
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo, bind_router, write_connection_file

DEADLINE_S = 10.0


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """The first true value of `condition()`; fails after DEADLINE_S."""
    deadline_at = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_at:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"{what} did not come true within {DEADLINE_S} s")


class FakeController:
    """Runs until `stop`. `heard` has every message, in order, of the one or more clients."""

    def __init__(
        self,
        directory: Path,
        *,
        version: int = m.VERSION,
        refuse: str = "",
        mute: bool = False,
        hold: bool = False,
        instant: bool = False,
        ping_s: float = 0.05,
        heartbeat_timeout_s: float = 15.0,
        cluster: str = "fake",
    ) -> None:
        self.directory = directory
        self.heard: list[Any] = []
        self.hold = hold
        self.instant = instant
        self.accepting = True
        self.pinging = True
        self.states: dict[TaskId, str] = {}
        self.results: dict[TaskId, bytes] = {}
        self.functions: dict[bytes, Any] = {}
        self.script: dict[TaskId, m.Result] = {}
        self._version = version
        self._refuse = refuse
        self._mute = mute
        self._ping_s = ping_s
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._cluster = cluster
        self._outgoing: list[tuple[Any, bytes | None]] = []
        self._identities: list[bytes] = []
        self._stopping = False
        self._context = zmq.Context()
        address = f"ipc://{directory / 'controller.sock'}"
        self._router, address = bind_router(self._context, address, None, WireConfig())
        self.path = directory / "connection.json"
        write_connection_file(self.path, ConnectionInfo(cluster, address))
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fake-controller")
        self._thread.start()

    # --- for tests ------------------------------------------------------------------------------

    def of_type(self, kind: type) -> list[Any]:
        """The messages of one class that were heard."""
        return [message for message in list(self.heard) if isinstance(message, kind)]

    def tasks(self) -> list[TaskSpec]:
        """Every task that was submitted, in order."""
        return [task for submit in self.of_type(m.Submit) for task in submit.tasks]

    def say(self, message: Any) -> None:
        """Send a message to all clients."""
        self._outgoing.append((message, None))

    def say_result(self, result: m.Result) -> None:
        self.say(m.Results([result]))

    def release_held(self) -> None:
        """Run what was held, and hold no more."""
        self._outgoing.append((None, None))

    def stop(self) -> None:
        self._stopping = True
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self.error = error
        finally:
            self._router.close(linger=0)
            self._context.term()

    def _loop(self) -> None:
        self._decoders: dict[bytes, codec.Decoder[Any]] = {}
        self._held: list[tuple[bytes, m.Submit]] = []
        pinged_at = time.monotonic()
        while not self._stopping:
            if self._router.poll(2 if not self.instant else 50):
                while True:
                    try:
                        identity, *frames = self._router.recv_multipart(zmq.NOBLOCK)
                    except zmq.Again:
                        break
                    self._hear(identity, frames)
            while self._outgoing:
                message, to = self._outgoing.pop(0)
                if message is None:
                    held, self._held, self.hold = self._held, [], False
                    for identity, submit in held:
                        self._run_tasks(identity, submit)
                else:
                    for identity in [to] if to else self._identities:
                        self._send(identity, message)
            if self.pinging and time.monotonic() - pinged_at > self._ping_s:
                pinged_at = time.monotonic()
                for identity in self._identities:
                    self._send(identity, m.Ping())

    def _send(self, identity: bytes, message: Any) -> None:
        try:
            self._router.send_multipart([identity, *codec.encode(message)])
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise

    def _hear(self, identity: bytes, frames: list[bytes]) -> None:
        if self._mute:
            return
        if identity not in self._decoders:
            self._decoders[identity] = codec.from_client()
        message = self._decoders[identity].decode(frames)
        if not self.instant:
            self.heard.append(message)
        if isinstance(message, m.ClientHello):
            self._welcome(identity)
        elif isinstance(message, m.Submit):
            self._submitted(identity, message)
        elif isinstance(message, m.Cancel):
            self._cancel(identity, message)
        elif isinstance(message, m.Ask):
            self._send(identity, self._answer(message))

    def _welcome(self, identity: bytes) -> None:
        if self._refuse:
            self._send(identity, m.Refused(self._refuse))
            return
        self._identities.append(identity)
        number = len(self._identities)
        self._send(
            identity,
            m.Welcome(
                self._version, self._cluster, 1, number, self._ping_s, self._heartbeat_timeout_s
            ),
        )

    def _submitted(self, identity: bytes, submit: m.Submit) -> None:
        if self.accepting:
            self._send(identity, m.Accepted(submit.batch))
        if self.instant:
            results = [m.Result(t.id, TaskState.SUCCEEDED, b"", 0) for t in submit.tasks]
            self._send(identity, m.Results(results))
            return
        for digest, data in submit.new_functions.items():
            self.functions[digest] = payload.load_function(data)
        for task in submit.tasks:
            self.states[task.id] = "waiting"
        if self.hold:
            self._held.append((identity, submit))
        else:
            self._run_tasks(identity, submit)

    def _run_tasks(self, identity: bytes, submit: m.Submit) -> None:
        results = []
        for task in submit.tasks:
            if self.states.get(task.id) != "cancelled":
                results.append(self._run_one(task, self.functions[submit.functions[task.function]]))
        self._send(identity, m.Results(results))

    def _run_one(self, task: TaskSpec, function: Callable[..., Any]) -> m.Result:
        if task.id in self.script:
            result = self.script[task.id]
        elif any(i not in self.results for i in task.inputs or []):
            problem = Problem(KIND_INVALID, "an input is unknown")
            result = m.Result(task.id, TaskState.IMPOSSIBLE, problem=problem)
        else:
            result = self._call(task, function)
        self.states[task.id] = TaskState(result.state).name.lower()
        return result

    def _call(self, task: TaskSpec, function: Callable[..., Any]) -> m.Result:
        assert isinstance(task.payload, bytes)
        try:
            inputs = [self.results[i] for i in task.inputs or []]
            args, kwargs = payload.load_arguments(task.payload, inputs)
            data = payload.dump_result(function(*args, **kwargs), "f")
        except Exception as error:
            pickled, info = payload.dump_exception(error)
            return m.Result(
                task.id, TaskState.FAILED, pickled, 0, Problem(KIND_RAISED, info.message)
            )
        self.results[task.id] = data
        return m.Result(task.id, TaskState.SUCCEEDED, data, 0)

    def _cancel(self, identity: bytes, cancel: m.Cancel) -> None:
        for task in cancel.tasks:
            if self.states.get(task) == "waiting":
                self.states[task] = "cancelled"
                problem = Problem(KIND_CANCELLED, f"task {format_task_id(task)} was cancelled")
                result = m.Result(task, TaskState.CANCELLED, problem=problem)
                self._send(identity, m.Results([result]))

    def _answer(self, ask: m.Ask) -> m.Answer:
        if ask.what == "engines":
            row: dict[str, object] = {"id": "e0", "number": 0, "host": "here", "pid": 7, "load": 1}
            return m.Answer(ask.number, [row])
        if ask.what == "statistics":
            return m.Answer(ask.number, {"tasks": len(self.states)})
        if ask.node is None:
            return m.Answer(ask.number, error=f"no such question: {ask.what!r}")
        if ask.what == "explain":
            return m.Answer(ask.number, {"text": f"task {format_task_id(ask.node)} is fine"})
        return m.Answer(ask.number, {"state": self.states.get(ask.node, "unknown")})
