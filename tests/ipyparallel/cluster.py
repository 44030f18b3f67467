"""The rest of a cluster on real TCP sockets: a Hub, engines and a client that a test plays, around
a scheduler that `launch_scheduler` starts, in this process or in one of its own.

Everything is signed by a real Session, or, with CURVE, not signed, as ipyparallel has it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket as sockets
import time
from collections.abc import Callable
from typing import Any

import zmq
from jupyter_client.session import Session

from headway.ipyparallel.scheduler import launch_scheduler
from ipyparallel import util

DEADLINE_S = 60.0
KEY = b"the key of this cluster"


def free_address() -> str:
    """An address on which nobody listens."""
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


class Cluster:
    """All peers of one scheduler; a context manager. The scheduler is for the test to start.

    Parameters:
        curve: encrypt with CURVE, rather than sign.
        hub: start with a Hub that is there.
        traits: settings of the scheduler.
    """

    def __init__(self, curve: bool = False, hub: bool = True, **traits: Any) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self._sockets: list[zmq.Socket[Any]] = []
        self._public, self._secret = zmq.curve_keypair() if curve else (None, None)
        key = b"" if curve else KEY
        self.session, self.hub_session = Session(key=key), Session(key=key)
        names = ("in_addr", "out_addr", "mon_addr", "not_addr", "reg_addr")
        self.addresses = {name: free_address() for name in names}
        self.arguments: dict[str, Any] = {
            **self.addresses,
            "config": {"Session": {"key": key, "packer": "json"}, "TaskScheduler": traits},
            "curve_publickey": self._public,
            "curve_secretkey": self._secret,
        }
        self.engines: dict[str, list[bytes]] = {}
        self.monitored: list[tuple[str, str]] = []
        self._engine_sockets: dict[str, zmq.Socket[Any]] = {}
        self._process: multiprocessing.process.BaseProcess | None = None
        self._has_hub = False
        if hub:
            self.start_hub()
        self._client = self._connected(zmq.DEALER, "in_addr", b"client")
        self.replies: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join(DEADLINE_S)
        for socket in self._sockets:
            socket.close(linger=0)
        self.context.term()

    # --- the scheduler --------------------------------------------------------------------------

    def start_process(self) -> None:
        """Start the scheduler as a controller does: in a process of its own."""
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=launch_scheduler, kwargs=self.arguments, daemon=True)
        self._process.start()

    def interrupt_process(self) -> int | None:
        """Ctrl-C; returns the exit code."""
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGINT)
        self._process.join(DEADLINE_S)
        return self._process.exitcode

    # --- the Hub --------------------------------------------------------------------------------

    def start_hub(self) -> None:
        """The Hub is there from now on."""
        self._has_hub = True
        self._monitor = self._bound(zmq.SUB, "mon_addr")
        self._notifier = self._bound(zmq.PUB, "not_addr")
        self._query = self._bound(zmq.ROUTER, "reg_addr")

    def stop_hub(self) -> None:
        """And no more."""
        self._has_hub = False
        for socket in (self._monitor, self._notifier, self._query):
            self._sockets.remove(socket)
            socket.close(linger=0)

    def _answer_queries(self) -> None:
        while self._query.poll(0):
            route, *frames = self._query.recv_multipart()
            request = self.hub_session.deserialize(frames[1:])
            engines = {str(n): uuid for n, uuid in enumerate(self.engines)}
            content = {"status": "ok", "engines": engines}
            reply = self.session.msg("connection_reply", content, parent=request)
            self._query.send_multipart([route, *self.session.serialize(reply)])

    def _hear(self) -> None:
        while self._monitor.poll(0):
            topic, *frames = self._monitor.recv_multipart()
            _, rest = self.hub_session.feed_identities(frames)
            message = self.hub_session.deserialize(rest)
            of = {"intask": "header", "outtask": "parent_header", "tracktask": "content"}
            self.monitored.append((topic.decode(), message[of[topic.decode()]]["msg_id"]))

    # --- engines and the client -----------------------------------------------------------------

    def engine(self, uuid: str, address: str = "") -> None:
        """An engine connects, and registers. It answers what it is sent with "result"."""
        socket = self._socket(zmq.ROUTER)
        socket.setsockopt(zmq.IDENTITY, uuid.encode())
        self._connect(socket, address or self.addresses["out_addr"])
        self._engine_sockets[uuid] = socket
        self.engines[uuid] = []
        message = self.session.msg("registration_notification", {"id": 0, "uuid": uuid})
        self._notifier.send_multipart(self.session.serialize(message))

    def _run(self, uuid: str, socket: zmq.Socket[Any]) -> None:
        while socket.poll(0):
            frames = socket.recv_multipart()
            idents, rest = self.session.feed_identities(frames)
            request = self.session.deserialize(rest, content=False)
            kind = request["header"]["msg_type"].replace("_request", "_reply")
            if kind == "apply_reply":
                self.engines[uuid].append(request["header"]["msg_id"])
            metadata = {"status": "ok", "engine": uuid, "dependencies_met": True}
            reply = self.session.msg(
                kind, {"status": "ok"}, parent=request["header"], metadata=metadata
            )
            frames = self.session.serialize(reply, ident=idents)
            socket.send_multipart([*frames, b"result"])

    def submit(self, **metadata: Any) -> str:
        """The client submits a task. Returns its msg_id."""
        message = self.session.msg("apply_request", metadata=metadata)
        self._client.send_multipart([*self.session.serialize(message), b"function"])
        return str(message["header"]["msg_id"])

    def _take_replies(self) -> None:
        while self._client.poll(0):
            _, rest = self.session.feed_identities(self._client.recv_multipart())
            message = self.session.deserialize(rest)
            assert message["parent_header"]["msg_id"] not in self.replies
            self.replies[message["parent_header"]["msg_id"]] = message["content"]

    # --- life -----------------------------------------------------------------------------------

    def step(self) -> None:
        """All peers do what there is to do."""
        if self._has_hub:
            self._answer_queries()
            self._hear()
        for uuid, socket in self._engine_sockets.items():
            self._run(uuid, socket)
        self._take_replies()

    def until(self, condition: Callable[[], Any]) -> None:
        """The peers live on until `condition()` is true."""
        give_up_at_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < give_up_at_s, "it did not come true"
            self.step()
            self._client.poll(2)

    async def until_here(self, condition: Callable[[], Any]) -> None:
        """The same, where the scheduler is in this thread."""
        give_up_at_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < give_up_at_s, "it did not come true"
            self.step()
            await asyncio.sleep(0.002)

    # --- sockets --------------------------------------------------------------------------------

    def _socket(self, kind: int) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self.context.socket(kind)
        socket.set_hwm(0)
        self._sockets.append(socket)
        return socket

    def _bound(self, kind: int, name: str) -> zmq.Socket[Any]:
        socket = self._socket(kind)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        util.bind(socket, self.addresses[name], curve_secretkey=self._secret)
        return socket

    def _connected(self, kind: int, name: str, identity: bytes) -> zmq.Socket[Any]:
        socket = self._socket(kind)
        socket.setsockopt(zmq.IDENTITY, identity)
        self._connect(socket, self.addresses[name])
        return socket

    def _connect(self, socket: zmq.Socket[Any], address: str) -> None:
        util.connect(socket, address, curve_serverkey=self._public)
