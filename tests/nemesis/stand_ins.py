"""Many clients and engines on the real wire, played in one thread of one process.

A stand-in client is the real session of a client, on a socket; a stand-in engine ends whatever it
is given at once. What is not played: processes, pickles, and waiting.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import zmq

from headway.client.batch_writer import Function
from headway.client.session import Session
from headway.config import WireConfig
from headway.core.events import RAN, Outcome, TaskId, TaskOptions
from headway.core.states import TaskState
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo, connect_dealer

WIRE = WireConfig()
_PING_S = 2.0
_FUNCTION = Function(b"digest-of-a-func", b"function")
#: Engines come and go: that a task was there is no reason to give it up.
_OPTIONS = TaskOptions(crash_limit=1_000)


class StandInEngine:
    """Ends each task at once, with its own id as the result."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._token = uuid.uuid4().hex
        self.socket = crowd.connect(self, b"engine-" + self._token.encode())
        self._decoder = codec.to_engine()
        self._batch = 0
        self.is_welcome = False
        self.say(m.EngineHello(m.VERSION, self._token, "nobody", os.getpid(), "elsewhere", {}))

    def say(self, message: Any) -> None:
        self.socket.send_multipart(codec.encode(message))

    def hear(self, frames: list[bytes]) -> None:
        message = self._decoder.decode(frames)
        if isinstance(message, m.Welcome):
            self.is_welcome = True
        elif isinstance(message, m.Assigned) and message.tasks:
            self._batch += 1
            ended = [Outcome(t.task, t.attempt, RAN, b"%d" % t.task) for t in message.tasks]
            self.say(m.Outcomes(self._batch, ended))
        elif isinstance(message, m.GiveBack):
            self.say(m.Returned([]))
        elif isinstance(message, m.Refused):
            # This process had too little of the machine, and the engine was silent for too long.
            self._crowd.given_up += 1
            self._crowd.disconnect(self)

    def leave(self) -> None:
        """Say goodbye; what it was given meanwhile is another's."""
        if not self.socket.closed:
            self.say(m.Bye())
            self._crowd.disconnect(self)


class StandInClient:
    """Submits `count` tasks, a few at a time, and hears how each ended."""

    def __init__(self, crowd: Crowd, count: int) -> None:
        self._crowd = crowd
        self._token = uuid.uuid4().hex
        self.socket = crowd.connect(self, b"client-" + self._token.encode())
        self._decoder = codec.to_client()
        self.session: Session[None] = Session(WIRE)
        self.tasks = self._left = count
        self._heard = 0
        self.is_welcome = False
        #: Ends that were right; ends of tasks that had ended or were never submitted; failures.
        self.succeeded = self.repeated = self.failed = 0
        self.say(m.ClientHello(m.VERSION, self._token, 0, "elsewhere", False))

    def say(self, message: Any, large: Any = ()) -> None:
        self.socket.send_multipart(codec.encode(message, large))

    @property
    def is_done(self) -> bool:
        return not self._left and not self.session.open and not self.session.window_tasks

    def hear(self, frames: list[bytes]) -> None:
        message = self._decoder.decode(frames)
        if isinstance(message, m.Welcome):
            self.is_welcome = True
            self.session.welcome(message.number)
        elif isinstance(message, m.Accepted):
            self.session.accepted(message.batch)
        elif isinstance(message, m.Hold):
            self.session.hold = message.why
        elif isinstance(message, m.Results):
            self._on_results(message)
        elif isinstance(message, m.Refused | m.Bye):
            raise RuntimeError(f"a client is over: {message}")

    def _on_results(self, message: m.Results) -> None:
        for result in message.results:
            if result.task not in self.session.open:
                self.repeated += 1
                continue
            del self.session.open[result.task]
            right = result.state == TaskState.SUCCEEDED and result.payload == b"%d" % result.task
            self.succeeded += right
            self.failed += not right
            self.session.released.append(TaskId(result.task))
        self._heard += 1
        if self._heard >= m.HEARD_MESSAGES:
            self.say(m.Heard(self._heard))
            self._heard = 0

    def go_on(self, at_a_time: int) -> None:
        """Submit some more, if there is room; and say what waits to be said."""
        session = self.session
        if self.is_welcome and self._left and not session.is_full:
            for _ in range(min(self._left, at_a_time)):
                self._left -= 1
                session.submit(_FUNCTION, b"arguments", None, options=_OPTIONS)
        if session.has_waiting or session.released:
            for message, large in session.messages(session.take()):
                self.say(message, large)

    def leave(self) -> None:
        """Say goodbye."""
        self.say(m.Bye())
        self._crowd.disconnect(self)


class Crowd:
    """Stand-ins, in one thread. Must be closed."""

    def __init__(self, info: ConnectionInfo) -> None:
        self._info = info
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 20_000)
        self._poller = zmq.Poller()
        self._members: dict[zmq.Socket[bytes], StandInEngine | StandInClient] = {}
        self._leaving: list[zmq.Socket[bytes]] = []
        self._ping_at_s = 0.0
        #: Engines that the controller took for dead, wrongly.
        self.given_up = 0

    def connect(self, member: StandInEngine | StandInClient, identity: bytes) -> Any:
        socket = connect_dealer(self._context, self._info, identity, WIRE)
        self._members[socket] = member
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def disconnect(self, member: StandInEngine | StandInClient) -> None:
        del self._members[member.socket]
        self._poller.unregister(member.socket)
        member.socket.close()  # the goodbye has a moment to leave

    @property
    def members(self) -> Iterable[StandInEngine | StandInClient]:
        return list(self._members.values())

    def play(self, until: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Let everybody hear and speak, until something is so."""
        deadline_at = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > deadline_at:
                raise TimeoutError(f"waited {timeout_s:g} s for {what}")
            self._give_signs_of_life()
            for socket, _ in self._poller.poll(100):
                self._give_signs_of_life()  # a round of thousands takes long on a busy machine
                member = self._members[socket]
                while not socket.closed and socket.poll(0):
                    member.hear(socket.recv_multipart())

    def _give_signs_of_life(self) -> None:
        now = time.monotonic()
        if now > self._ping_at_s:
            self._ping_at_s = now + _PING_S
            for member in self.members:
                member.say(m.Ping())

    def close(self) -> None:
        for member in self.members:
            self.disconnect(member)
        self._context.destroy(linger=0)
