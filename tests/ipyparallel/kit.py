"""A task scheduler between peers that a test plays: a Hub, engines and clients on real sockets.

What comes in is handed to the scheduler's own dispatch methods, signed by a real Session; what it
sends is read from the sockets of those who should get it. Nothing waits for time to pass: the
scheduler's clock can be put forward (`pass_time`), and `until` runs the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import zmq
from jupyter_client.session import Session
from tornado.ioloop import IOLoop
from traitlets.config import Config

from headway.core import invariants
from headway.ipyparallel.scheduler import TaskScheduler

KEY = b"the key of this cluster"
DEADLINE_S = 20.0
_numbers = itertools.count()


class Kit:
    """One scheduler and its peers; a context manager, which closes all of them."""

    def __init__(self, scheduler_class: type[TaskScheduler] = TaskScheduler, **traits: Any) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.loop = IOLoop(make_current=False)
        self.log = logging.getLogger(f"kit.{next(_numbers)}")
        self.records: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.records.append(record.getMessage())  # type: ignore[method-assign]
        self.log.addHandler(handler)
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        config = Config()
        config.Session.key = traits.pop("key", KEY)
        self.session = Session(key=config.Session.key)
        # A session refuses a signature that it has seen, and the Hub sees those of the clients.
        self.hub_session = Session(key=config.Session.key)
        self.sockets: list[zmq.Socket[Any]] = []
        self.hub_monitor = self._bound(zmq.SUB, "mon")
        self.hub_monitor.setsockopt(zmq.SUBSCRIBE, b"")
        self.hub_notifier = self._bound(zmq.PUB, "not")
        self.hub_query = self._bound(zmq.ROUTER, "reg")
        self._ahead_s = 0.0
        has_control = traits.pop("has_control", False)
        self.control = self._bound(zmq.ROUTER, "control")
        self.scheduler = scheduler_class(
            client_stream=self._bound(zmq.ROUTER, "in"),
            engine_stream=self._bound(zmq.ROUTER, "out"),
            mon_stream=self._connected(zmq.PUB, "mon"),
            notifier_stream=self._connected(zmq.SUB, "not"),
            query_stream=self._connected(zmq.DEALER, "reg"),
            control_stream=self._connected(zmq.DEALER, "control") if has_control else None,
            loop=self.loop,
            clock=lambda: time.monotonic() + self._ahead_s,
            log=self.log,
            config=config,
            **traits,
        )
        self.scheduler.start()
        self.clients: dict[bytes, zmq.Socket[Any]] = {}
        self.engines: dict[bytes, zmq.Socket[Any]] = {}
        self.requests: dict[str, SimpleNamespace] = {}
        self._sent: dict[bytes, list[str]] = defaultdict(list)
        self._probes: dict[bytes, list[dict[str, Any]]] = defaultdict(list)
        self._replies: dict[str, list[SimpleNamespace]] = defaultdict(list)
        self.frames_sent: dict[str, list[list[bytes]]] = defaultdict(list)
        self.client(b"client")
        # The monitor's subscription travels as a message: it is there once one came through.
        self._wait_for_monitor()

    def __enter__(self) -> Kit:
        return self

    def __exit__(self, *_: object) -> None:
        self.scheduler.close()
        self.loop.close(all_fds=False)
        for socket in self.sockets:
            socket.close(linger=0)
        self.context.term()

    # --- sockets --------------------------------------------------------------------------------

    def _socket(self, kind: int, identity: bytes = b"") -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self.context.socket(kind)
        socket.set_hwm(0)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        if identity:
            socket.setsockopt(zmq.IDENTITY, identity)
        self.sockets.append(socket)
        return socket

    def _bound(self, kind: int, name: str) -> zmq.Socket[Any]:
        socket = self._socket(kind, b"task_" + name.encode() if kind == zmq.ROUTER else b"")
        socket.bind(f"inproc://{name}")
        return socket

    def _connected(self, kind: int, name: str, identity: bytes = b"") -> zmq.Socket[Any]:
        socket = self._socket(kind, identity)
        socket.connect(f"inproc://{name}")
        return socket

    def _wait_for_monitor(self) -> None:
        def came() -> bool:
            self.scheduler.mon_stream.send(b"probe")
            return bool(self.hub_monitor.poll(0))

        self.until(came)
        while self.hub_monitor.poll(1):
            self.hub_monitor.recv_multipart()

    def until(self, condition: Any) -> None:
        """Run the event loop until `condition()` is true."""

        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        self.loop.run_sync(wait, timeout=DEADLINE_S)

    def pass_time(self, seconds: float) -> None:
        """So much time passes, and what has become due happens."""
        self._ahead_s += seconds
        self.scheduler._desk._turn()

    # --- peers ----------------------------------------------------------------------------------

    def client(self, ident: bytes) -> None:
        """A client connects."""
        self.clients[ident] = self._connected(zmq.DEALER, "in", ident)

    def connect_engine(self, uuid: str) -> None:
        """An engine connects; the Hub does not know it yet."""
        self.engines[uuid.encode()] = self._connected(zmq.ROUTER, "out", uuid.encode())
        # A socket learns of a new peer when it is asked for its events.
        self.scheduler.engine_stream.getsockopt(zmq.EVENTS)

    def engine(self, *uuids: str) -> None:
        """Engines connect, and the Hub tells of them."""
        for uuid in uuids:
            self.connect_engine(uuid)
            self.notify("registration_notification", uuid)

    def notify(self, kind: str, uuid: str) -> None:
        """The Hub tells that an engine came or went."""
        self.scheduler.dispatch_notification(self.message(kind, {"id": 0, "uuid": uuid}))

    def unregister(self, uuid: str) -> None:
        """The Hub tells that an engine is gone."""
        self.notify("unregistration_notification", uuid)

    def asked(self) -> int:
        """How often the Hub was asked for its engines, since this was asked last."""
        count = 0
        while self.hub_query.poll(0):
            _, *frames = self.hub_query.recv_multipart()
            message = self.hub_session.deserialize(frames[1:])
            assert message["header"]["msg_type"] == "connection_request"
            count += 1
        return count

    def hub_answers(self, *uuids: str) -> None:
        """The Hub lists its engines."""
        content = {"status": "ok", "engines": {str(n): uuid for n, uuid in enumerate(uuids)}}
        self.scheduler.dispatch_query_reply(self.message("connection_reply", content))

    def message(self, kind: str, content: dict[str, Any], **fields: Any) -> list[bytes]:
        """A signed message of no one in particular."""
        message = self.session.msg(kind, content=content, **fields)
        return list(self.session.serialize(message))

    # --- tasks ----------------------------------------------------------------------------------

    def request(self, client: bytes = b"client", **metadata: Any) -> tuple[str, list[bytes]]:
        """A task that was not sent yet: its msg_id, and its frames as the scheduler gets them."""
        message = self.session.msg("apply_request", metadata=metadata)
        raw = [client, *self.session.serialize(message), b"function", b"arguments"]
        msg_id = message["header"]["msg_id"]
        self.requests[msg_id] = SimpleNamespace(header=message["header"], client=client)
        return msg_id, raw

    def submit(self, client: bytes = b"client", **metadata: Any) -> str:
        """A client submits a task. Returns its msg_id."""
        msg_id, raw = self.request(client, **metadata)
        self.scheduler.dispatch_submission(raw)
        return msg_id

    def sent(self, uuid: str) -> list[str]:
        """The msg_ids of all tasks that the engine was sent so far, in order."""
        socket = self.engines[uuid.encode()]
        while socket.poll(0):
            frames = socket.recv_multipart()
            idents, rest = self.session.feed_identities(frames)
            message = self.session.deserialize(rest, content=False)
            msg_id = message["header"]["msg_id"]
            if message["header"]["msg_type"] == "kernel_info_request":
                self._probes[uuid.encode()].append(message["header"])
                continue
            self._sent[uuid.encode()].append(msg_id)
            self.frames_sent[msg_id].append(frames)
            assert idents[0] == b"task_out"
        return self._sent[uuid.encode()]

    def answer_probes(self, uuid: str) -> int:
        """The engine answers all probes that it was sent. Returns how many."""
        self.sent(uuid)
        probes = self._probes.pop(uuid.encode(), [])
        for header in probes:
            message = self.session.msg("kernel_info_reply", content={}, parent=header)
            self.scheduler.dispatch_result([uuid.encode(), *self.session.serialize(message)])
        return len(probes)

    def interrupts(self) -> list[str]:
        """The engines that were to be interrupted since this was asked last. Their nannies confirm
        it."""
        interrupted = []
        while self.control.poll(0):
            route, engine, *frames = self.control.recv_multipart()
            message = self.session.deserialize(frames[1:])
            assert message["header"]["msg_type"] == "signal_request"
            assert message["content"] == {"sig": "SIGINT"}
            # So ipyparallel's nanny names its answer.
            reply = self.session.msg("_request", {"status": "ok"}, parent=message["header"])
            self.control.send_multipart([route, engine, *self.session.serialize(reply)])
            interrupted.append(engine.decode())
        return interrupted

    def where(self, msg_id: str) -> list[str]:
        """The engines that were sent the task, one entry for each time."""
        uuids = [uuid.decode() for uuid in self.engines]
        return [uuid for uuid in uuids for sent in self.sent(uuid) if sent == msg_id]

    def at(self, msg_id: str) -> str:
        """The engine that has the task now; "" if none has."""
        job = self.scheduler._desk.bridge.jobs.get(msg_id)
        return job.engine.decode() if job is not None and job.engine is not None else ""

    def reply_of(self, uuid: str, msg_id: str, status: str = "ok", **metadata: Any) -> list[bytes]:
        """What an engine answers, as the scheduler gets it."""
        request = self.requests[msg_id]
        fields = {"status": status, "engine": uuid, "dependencies_met": True, **metadata}
        content: dict[str, Any] = {"status": status}
        if status == "error":
            content |= {"ename": "ZeroDivisionError", "evalue": uuid, "traceback": []}
        message = self.session.msg(
            "apply_reply", content=content, parent=request.header, metadata=fields
        )
        return [uuid.encode(), request.client, *self.session.serialize(message), b"result"]

    def answer(self, uuid: str, msg_id: str, status: str = "ok", **metadata: Any) -> None:
        """An engine answers."""
        self.scheduler.dispatch_result(self.reply_of(uuid, msg_id, status, **metadata))

    def refuse(self, uuid: str, msg_id: str) -> None:
        """An engine does not meet a functional dependency."""
        self.answer(uuid, msg_id, "error", dependencies_met=False)

    def replies(self, msg_id: str) -> list[SimpleNamespace]:
        """All replies to a task that its client got: status, ename, evalue, engine, kind."""
        for socket in self.clients.values():
            while socket.poll(0):
                frames = socket.recv_multipart(copy=True)
                idents, rest = self.session.feed_identities(frames)
                message = self.session.deserialize(rest)
                content = message["content"]
                self._replies[message["parent_header"]["msg_id"]].append(
                    SimpleNamespace(
                        kind=message["header"]["msg_type"],
                        status=content.get("status"),
                        ename=content.get("ename", ""),
                        evalue=content.get("evalue", ""),
                        content=content,
                        metadata=message["metadata"],
                        idents=idents,
                        buffers=message["buffers"],
                    )
                )
        return self._replies[msg_id]

    def outcome(self, msg_id: str) -> str:
        """The one reply to the task: its status, or the name of its error; "" if there is none."""
        replies = self.replies(msg_id)
        assert len(replies) <= 1, f"{msg_id} was answered {len(replies)} times"
        if not replies:
            return ""
        return replies[0].ename or replies[0].status

    def monitored(self) -> list[tuple[str, str]]:
        """What the Hub has heard since it was asked last: topics and msg_ids."""
        heard = []
        while self.hub_monitor.poll(0):
            topic, *frames = self.hub_monitor.recv_multipart()
            if topic == b"probe":
                continue
            _, rest = self.hub_session.feed_identities(frames)
            message = self.hub_session.deserialize(rest)
            of = {
                b"intask": message["header"],
                b"outtask": message["parent_header"],
                b"tracktask": message["content"],
            }[topic]
            heard.append((topic.decode(), of["msg_id"]))
        return heard

    def check(self) -> None:
        """The records of the core agree with each other."""
        invariants.check(self.scheduler._desk.bridge.core, placed=False)
