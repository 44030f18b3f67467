"""Light stand-ins for the Hub, the engines and a client of an IPython cluster, on the real wire.

What they send is what the originals would, frame for frame and signed; what they do not do is
run Python in a kernel. A task scheduler, in a process of its own, can't tell the difference, and
its own cost shows. All stand-ins share one loop in this process.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import json
import logging
import multiprocessing
import os
import signal
import socket as sockets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import zmq
from timing import cpu_s

KEY = b"the key of this benchmark"
DELIMITER = b"<IDS|MSG>"
STOCK = "ipyparallel.controller.task_scheduler:TaskScheduler"
HEADWAY = "headway.ipyparallel.scheduler:TaskScheduler"
#: ZMQ's own queue, which both controllers start for the scheme `pure`.
PURE = "pure"
START_TIMEOUT_MS = 30_000
#: The number of the first task that only warms up.
_WARM_UP = 1_000_000_000


def packed(value: Any) -> bytes:
    return json.dumps(value).encode()


def signed(fixed: Sequence[bytes]) -> list[bytes]:
    """Delimiter, signature, and the four dictionaries."""
    digest = hmac.new(KEY, b"".join(fixed), hashlib.sha256).hexdigest().encode()
    return [DELIMITER, digest, *fixed]


def header(msg_id: str, msg_type: str) -> bytes:
    date = "2024-01-01T00:00:00.000000+00:00"
    fields = {"msg_id": msg_id, "msg_type": msg_type, "username": "bench", "session": "bench"}
    return packed({**fields, "date": date, "version": "5.3"})


def condition(ids: Sequence[str]) -> dict[str, Any]:
    """As LoadBalancedView writes it."""
    return {"dependencies": list(ids), "all": True, "success": True, "failure": False}


def request(number: int, after: Sequence[str] = (), targets: Sequence[str] = ()) -> list[bytes]:
    """A task, as a client of ipyparallel sends it: about 1 kB."""
    metadata = {
        "after": condition(after), "follow": condition(()), "timeout": None,
        "targets": list(targets), "retries": 0, "label": None,
    }  # fmt: skip
    fixed = [header(msg_id(number), "apply_request"), b"{}", packed(metadata), b"{}"]
    return [*signed(fixed), b"f" * 300, b"i" * 200, b"a" * 100]


def msg_id(number: int) -> str:
    return f"5f2c1c5e-0b8f4d9a7c6e5d4f3a2b1c0d_4242_{number}"


def _run_scheduler(where: str, addresses: dict[str, str], settings: dict[str, Any]) -> None:
    """The process of a scheduler: started as a controller starts it."""
    # Ctrl-C in a terminal reaches this process too; the benchmark ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = {"Session": {"key": KEY, "packer": "json"}, "TaskScheduler": settings}
    options: dict[str, Any] = {**addresses, "config": config, "loglevel": logging.ERROR}
    if where == PURE:
        from headway.ipyparallel.launch import launch_scheduler as launch

        config["TaskScheduler"] = {"scheme_name": "pure"}
        launch(**options)
        return
    from ipyparallel.controller.scheduler import launch_scheduler

    module, _, name = where.partition(":")
    scheduler_class = getattr(importlib.import_module(module), name)
    launch_scheduler(scheduler_class, **options, identity=b"task")


def _free_address() -> str:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@dataclass
class Progress:
    """What was seen so far."""

    taken_in: int = 0
    sent: int = 0
    reported: int = 0
    answered: int = 0
    failed: int = 0


class Cluster:
    """A scheduler process and the stand-ins around it; a context manager."""

    def __init__(self, where: str, engines: int, **settings: Any) -> None:
        self.progress = Progress()
        #: Whether it is a scheduler: it asks for the engines, and tells where it sends tasks.
        self.schedules = where != PURE
        self.hold = False
        self._held: list[tuple[zmq.Socket[Any], list[bytes]]] = []
        self._seen: set[str] = set()
        self._context: zmq.Context[Any] = zmq.Context()
        self._poller = zmq.Poller()
        addresses = {
            name: _free_address()
            for name in ("in_addr", "out_addr", "mon_addr", "not_addr", "reg_addr")
        }
        self._monitor = self._socket(zmq.SUB)
        self._monitor.setsockopt(zmq.SUBSCRIBE, b"")
        self._monitor.bind(addresses["mon_addr"])
        self._notifier = self._socket(zmq.PUB)
        self._notifier.bind(addresses["not_addr"])
        self._query = self._socket(zmq.ROUTER)
        self._query.bind(addresses["reg_addr"])
        context = multiprocessing.get_context("spawn")
        arguments = (where, addresses, settings)
        self.process = context.Process(target=_run_scheduler, args=arguments, daemon=True)
        self.process.start()
        self._client = self._socket(zmq.DEALER, b"client-of-the-benchmark")
        self._client.connect(addresses["in_addr"])
        self.uuids = [f"engine-{n:04d}-0123456789abcdef0123" for n in range(engines)]
        self._engines = [self._engine(uuid, addresses["out_addr"]) for uuid in self.uuids]
        self._metadata = {
            engine: packed({"status": "ok", "engine": uuid, "dependencies_met": True})
            for engine, uuid in zip(self._engines, self.uuids, strict=True)
        }
        self._reply_header = header("reply_of_an_engine_1", "apply_reply")

    def __enter__(self) -> Cluster:
        if self.schedules:
            self._introduce_engines()
        for peer in (self._monitor, self._client, *self._engines):
            self._poller.register(peer, zmq.POLLIN)
        self._warm_up()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()
        self._context.destroy(linger=0)

    def _socket(self, kind: int, identity: bytes = b"") -> zmq.Socket[Any]:
        peer: zmq.Socket[Any] = self._context.socket(kind)
        peer.set_hwm(0)
        if identity:
            peer.setsockopt(zmq.IDENTITY, identity)
        return peer

    def _engine(self, uuid: str, address: str) -> zmq.Socket[Any]:
        """An engine, once it is connected: before that, the stock scheduler would lose tasks."""
        engine = self._socket(zmq.ROUTER, uuid.encode())
        events = engine.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        engine.connect(address)
        if not events.poll(START_TIMEOUT_MS):
            raise TimeoutError(f"no scheduler listens at {address}")
        engine.disable_monitor()
        events.close(linger=0)
        return engine

    def _introduce_engines(self) -> None:
        if not self._query.poll(START_TIMEOUT_MS):
            raise TimeoutError("the scheduler did not ask for the engines")
        ident, *_ = self._query.recv_multipart()
        content = {"status": "ok", "engines": {str(n): u for n, u in enumerate(self.uuids)}}
        fixed = [header("hub_1_1", "connection_reply"), b"{}", b"{}", packed(content)]
        self._query.send_multipart([ident, *signed(fixed)])

    def _warm_up(self) -> None:
        """Some tasks, until the monitor hears of each: what was published before its
        subscription had come is gone."""
        for n in range(1000):
            self.progress = Progress()
            self.submit([request(_WARM_UP + n)])
            if not self.until(lambda: self.progress.answered == 1, START_TIMEOUT_MS / 1000):
                raise TimeoutError("the first task was not answered")
            self.until(lambda: self.progress.reported == 1, 0.2)
            if n > 100 and self.progress.taken_in == self.progress.reported == 1:
                break
        self.progress = Progress()

    # --- what it costs --------------------------------------------------------------------------

    def cpu_s(self) -> float:
        """CPU seconds of the scheduler process so far."""
        assert self.process.pid is not None
        return cpu_s(self.process.pid)

    def rss_bytes(self) -> int:
        """Resident memory of the scheduler process."""
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # --- work -----------------------------------------------------------------------------------

    def submit(self, requests: Sequence[list[bytes]]) -> None:
        """Send tasks, and keep the other stand-ins going between them."""
        for n, message in enumerate(requests):
            self._client.send_multipart(message)
            if not n % 100:
                self.turn(0)

    def turn(self, timeout_ms: int) -> None:
        """Take in what has come, and answer."""
        for peer, _ in self._poller.poll(timeout_ms):
            if peer is self._monitor:
                self._drain_monitor()
            elif peer is self._client:
                self._drain_client()
            else:
                self._drain_engine(peer)

    def until(self, done: Any, budget_s: float) -> bool:
        """Take turns until `done()`, for at most `budget_s` seconds; whether it is."""
        deadline_at = time.monotonic() + budget_s
        while not done():
            if time.monotonic() > deadline_at:
                return False
            if not self.process.is_alive():
                raise RuntimeError("the scheduler died")
            self.turn(50)
        return True

    def release(self) -> None:
        """Answer what engines held back, and hold no more."""
        self.hold = False
        held, self._held = self._held, []
        for engine, message in held:
            self._answer(engine, message)

    def _drain_monitor(self) -> None:
        counts = {b"intask": 0, b"tracktask": 0, b"outtask": 0}
        try:
            for _ in range(1000):
                topic = self._monitor.recv_multipart(zmq.DONTWAIT)[0]
                counts[topic] += 1
        except zmq.Again:
            pass
        self.progress.taken_in += counts[b"intask"]
        self.progress.sent += counts[b"tracktask"]
        self.progress.reported += counts[b"outtask"]

    def _drain_client(self) -> None:
        try:
            for _ in range(1000):
                frames = self._client.recv_multipart(zmq.DONTWAIT)
                at = frames.index(DELIMITER)
                task = msgspec.json.decode(frames[at + 3])["msg_id"]
                if task in self._seen:
                    raise RuntimeError(f"{task} was answered twice")
                self._seen.add(task)
                self.progress.answered += 1
                if b'"ok"' not in frames[at + 4]:
                    self.progress.failed += 1
        except zmq.Again:
            pass

    def _drain_engine(self, engine: zmq.Socket[Any]) -> None:
        try:
            for _ in range(100):
                message = engine.recv_multipart(zmq.DONTWAIT)
                if self.hold:
                    self._held.append((engine, message))
                else:
                    self._answer(engine, message)
        except zmq.Again:
            pass

    def _answer(self, engine: zmq.Socket[Any], message: list[bytes]) -> None:
        at = message.index(DELIMITER)
        fixed = [self._reply_header, message[at + 2], self._metadata[engine], b'{"status": "ok"}']
        engine.send_multipart([*message[:at], *signed(fixed), b"r" * 100])
