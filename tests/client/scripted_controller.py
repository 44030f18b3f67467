"""A scripted controller: a ROUTER in a thread that runs tasks by itself, or does as it is told.

It speaks the real wire to real clients, so that these can be tested without engines. What a
test does not script it does as a controller would: it welcomes, accepts, and runs each task in
the order of its submission, unless `hold` is set. It takes in each batch once, and in order: that
it is sent so is not for each test to check.

It can be killed, and come back: with all that it had taken in, as a controller with a journal.
What it hears while it is `deaf` goes down with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from headway.config import WireConfig
from headway.core.events import TaskId, TaskSpec, format_task_id
from headway.core.problems import KIND_CANCELLED, KIND_INVALID, KIND_LOST, KIND_RAISED, Problem
from headway.core.states import TaskState
from headway.wire import codec, payload
from headway.wire import messages as m
from headway.wire.endpoint import (
    ConnectionInfo,
    bind_router,
    make_keys,
    start_authenticator,
    write_connection_file,
)

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


@dataclass(slots=True)
class Known:
    """A client: its number, the last of its batches that was taken in, and its last hello."""

    number: int
    batch: int = 0
    nth: int = 0


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
        tcp: bool = False,
        ping_s: float = 0.05,
        heartbeat_timeout_s: float = 15.0,
        reconnect_s: float = 0.0,
        cluster: str = "fake",
    ) -> None:
        self.directory = directory
        self.heard: list[Any] = []
        self.hold = hold
        self.instant = instant
        #: Whether what is taken in is acknowledged; whether anything is taken in at all; whether
        #: hellos are answered.
        self.accepting = True
        self.deaf = False
        self.welcoming = True
        self.pinging = True
        self.epoch = 1
        self.cluster = cluster
        self.refuse = refuse
        self.states: dict[TaskId, str] = {}
        self.results: dict[TaskId, bytes] = {}
        self.ends: dict[TaskId, m.Result] = {}
        self.functions: dict[bytes, Any] = {}
        self.script: dict[TaskId, m.Result] = {}
        #: Those that it knows, by identity; it speaks to those that have said hello.
        self.clients: dict[bytes, Known] = {}
        self._here: list[bytes] = []
        self._version = version
        self._mute = mute
        self._ping_s = ping_s
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._reconnect_s = reconnect_s
        self._outgoing: list[Any] = []
        self._stopping = False
        self._keys = make_keys() if tcp else None
        self.address = "tcp://127.0.0.1" if tcp else f"ipc://{directory / 'controller.sock'}"
        self._authenticator: ThreadAuthenticator | None = None
        self._bind()
        self.path = directory / "connection.json"
        keys = self._keys
        write_connection_file(
            self.path,
            ConnectionInfo(
                cluster,
                self.address,
                keys.server_public if keys else None,
                keys.client_public if keys else None,
                keys.client_secret if keys else None,
            ),
        )
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
        self._outgoing.append(message)

    def say_result(self, result: m.Result) -> None:
        self.say(m.Results([result]))

    def release_held(self) -> None:
        """Run what was held, and hold no more."""
        self._outgoing.append(self._run_held)

    def be_killed(self, linger_ms: int = 0) -> None:
        """End all connections without a word, as after `kill -9`; what was taken in stays.

        With `linger_ms`, what was said before arrives.
        """
        self._in_thread(lambda: self._end_connections(linger_ms))

    def come_back(self, epoch: int = 2) -> None:
        """A new controller, at the same address."""
        self.deaf = False
        self.epoch = epoch
        self._in_thread(self._bind)

    def break_connections(self) -> None:
        """Lose the connections, and be there again at once: no controller ended."""

        def rebind() -> None:
            self._end_connections()
            self._bind()

        self._in_thread(rebind)

    def _in_thread(self, do: Callable[[], None]) -> None:
        done = threading.Event()
        self._outgoing.append(lambda: (do(), done.set()))
        assert done.wait(DEADLINE_S)

    def stop(self) -> None:
        self._stopping = True
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    # --- the thread -----------------------------------------------------------------------------

    def _bind(self) -> None:
        self._context = zmq.Context()
        if self._keys is not None:
            self._authenticator = start_authenticator(self._context, self._keys)
        self._router: zmq.Socket[bytes] | None
        self._router, self.address = bind_router(
            self._context, self.address, self._keys, WireConfig()
        )

    def _end_connections(self, linger_ms: int = 0) -> None:
        if self._router is None:
            return
        self._router.close(linger=linger_ms)
        self._router = None
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.term()
        self._here.clear()

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self.error = error
        finally:
            self._end_connections()

    def _loop(self) -> None:
        self._decoder = codec.from_client()
        self._held: list[tuple[bytes, m.Submit]] = []
        pinged_at = time.monotonic()
        while not self._stopping:
            if self._router is None:
                time.sleep(0.002)
            elif self._router.poll(2 if not self.instant else 50):
                self._take_in(self._router)
            while self._outgoing:
                message = self._outgoing.pop(0)
                if callable(message):
                    message()
                else:
                    for identity in self._here:
                        self._send(identity, message)
            if self.pinging and time.monotonic() - pinged_at > self._ping_s:
                pinged_at = time.monotonic()
                for identity in self._here:
                    self._send(identity, m.Ping())

    def _take_in(self, router: zmq.Socket[bytes]) -> None:
        while True:
            try:
                identity, *frames = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._hear(identity, frames)

    def _send(self, identity: bytes, message: Any) -> None:
        if self._router is None:
            return
        try:
            self._router.send_multipart([identity, *codec.encode(message)])
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise

    def _hear(self, identity: bytes, frames: list[bytes]) -> None:
        if self._mute:
            return
        message = self._decoder.decode(frames)
        if not self.instant:
            self.heard.append(message)
        if isinstance(message, m.ClientHello):
            self._welcome(identity, message)
        elif identity not in self._here:
            self._send(identity, m.WhoAreYou())
        elif self.deaf:
            pass
        elif isinstance(message, m.Submit | m.Release | m.Cancel):
            self._batch(identity, message)
        elif isinstance(message, m.Resume):
            self._send(identity, m.Results([*map(self._end_of, self._ended(message.tasks))]))
        elif isinstance(message, m.Ask):
            self._send(identity, self._answer(message))

    def _welcome(self, identity: bytes, hello: m.ClientHello) -> None:
        if self.refuse:
            self._send(identity, m.Refused(self.refuse))
            return
        known = self.clients.setdefault(identity, Known(len(self.clients) + 1))
        assert hello.nth > known.nth, f"hello {hello.nth} after hello {known.nth}"
        known.nth = hello.nth
        if not self.welcoming:
            return
        if identity not in self._here:
            self._here.append(identity)
        self._send(
            identity,
            m.Welcome(
                self._version,
                self.cluster,
                self.epoch,
                known.number,
                self._ping_s,
                self._heartbeat_timeout_s,
                known.batch,
                self._reconnect_s,
                hello.nth,
            ),
        )

    def _batch(self, identity: bytes, batch: m.Submit | m.Release | m.Cancel) -> None:
        known = self.clients[identity]
        assert batch.batch == known.batch + 1, f"batch {batch.batch} after batch {known.batch}"
        known.batch += 1
        if self.accepting:
            self._send(identity, m.Accepted(batch.batch))
        if isinstance(batch, m.Submit):
            self._submitted(identity, batch)
        elif isinstance(batch, m.Cancel):
            self._cancel(identity, batch)

    def _ended(self, tasks: list[TaskId]) -> list[TaskId]:
        """Those of `tasks` that have an end: the others wait, or run."""
        return [task for task in tasks if task in self.ends or task not in self.states]

    def _end_of(self, task: TaskId) -> m.Result:
        problem = Problem(KIND_LOST, f"task {format_task_id(task)} is not known any more")
        return self.ends.get(task) or m.Result(task, TaskState.LOST, problem=problem)

    def _submitted(self, identity: bytes, submit: m.Submit) -> None:
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

    def _run_held(self) -> None:
        held, self._held, self.hold = self._held, [], False
        for identity, submit in held:
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
        self.ends[task.id] = result
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
                self.ends[task] = result
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
