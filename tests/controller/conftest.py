"""A controller with a real ROUTER and raw peers, all in this process and this thread.

    controller.turn(until=lambda: ...)    # turns of the loop, at a clock that the test moves
    client = controller.client()          # welcomed; `hear` takes turns until something comes

Nothing runs by itself: a message is heard when the test takes a turn.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
import zmq
from msgspec import structs

from headway.config import SchedulerConfig, WireConfig
from headway.controller.books import Books, Clock
from headway.controller.ledger import Ledger
from headway.controller.loop import Controller
from headway.core import events as ev
from headway.core.events import EngineId, TaskId, TaskOptions, TaskSpec
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo, bind_router, connect_dealer

DEADLINE_S = 10.0
#: Its clock stands still unless a test moves it: acknowledgements do not wait.
WIRE = WireConfig(accept_after_s=0.0)
CLUSTER = "cluster-name"
DIGEST = b"digest-of-a-func"

T = TypeVar("T")


class Peer:
    """A connection that says what a test wants; `number` is what its Welcome said."""

    def __init__(self, kit: Kit, identity: bytes, decoder: codec.Decoder[Any]) -> None:
        self.kit = kit
        self.identity = identity
        self.number = 0
        self._decoder = decoder
        #: The last batch, of all connections of this peer.
        self.batches = [0]
        self._nodes = 0
        self.socket = connect_dealer(kit.context, kit.info, identity, WIRE)
        kit.sockets.append(self.socket)

    def say(self, *messages: Any) -> None:
        """Send `messages`. A batch with number 0 gets the next."""
        for message in messages:
            if getattr(message, "batch", None) == 0:
                self.batches[0] += 1
                message = structs.replace(message, batch=self.batches[0])
            self.socket.send_multipart(codec.encode(message))

    def hear(self, kind: type[T], *, also: Sequence[type] = ()) -> T:
        """The next message, which is a `kind`; Pings, what is said of batches, and what is of a
        kind in `also`, aside."""
        while True:
            self.kit.turn(until=lambda: self.socket.poll(0))
            message = self._decoder.decode(self.socket.recv_multipart())
            aside = (m.Ping, *([m.Accepted] if kind is not m.Accepted else []), *also)
            if not isinstance(message, aside):
                assert isinstance(message, kind), message
                return message

    def heard_all(self) -> list[Any]:
        """Everything that comes until the controller answered a question of another client."""
        self.kit.settle()
        heard = []
        while self.socket.poll(0):
            heard.append(self._decoder.decode(self.socket.recv_multipart()))
        return heard

    # --- as a client ---------------------------------------------------------------------------

    def submit(self, count: int = 1, **options: Any) -> list[TaskId]:
        """Submit tasks as one batch, and wait until they are accepted."""
        specs = [self.spec(**options) for _ in range(count)]
        self.submit_specs(specs)
        clients = self.kit.controller._books.ledger.clients
        self.kit.turn(until=lambda: clients[ev.ClientId(self.number)].batch == self.batches[0])
        return [spec.id for spec in specs]

    def spec(self, **options: Any) -> TaskSpec:
        self._nodes += 1
        node = ev.task_id(ev.ClientId(self.number), self._nodes)
        return TaskSpec(node, 0, b"arguments", options=TaskOptions(**options) if options else None)

    def submit_specs(self, specs: list[TaskSpec], batch: int | None = None) -> None:
        self.batches[0] = self.batches[0] + 1 if batch is None else batch
        self.say(m.Submit(self.batches[0], [DIGEST], [], specs, {DIGEST: b"function"}))


class Kit:
    """The controller, its clock, and its peers."""

    def __init__(
        self,
        directory: Path,
        wire: WireConfig = WIRE,
        scheduler: SchedulerConfig = SchedulerConfig(),  # noqa: B008 - frozen
        **limits: Any,
    ) -> None:
        self.wire = wire
        self.context = zmq.Context()
        self.sockets: list[zmq.Socket[bytes]] = []
        router, address = bind_router(self.context, f"ipc://{directory / 's'}", None, wire)
        self.info = ConnectionInfo(cluster="test", address=address)
        books = Books(Ledger(scheduler, Random(0)), Clock(), is_kept=False)
        self.controller = Controller(router, CLUSTER, books, wire, **limits)
        self.router = router
        self.now = 1_000.0

    def close(self) -> None:
        for socket in self.sockets:
            socket.close(linger=0)
        self.router.close(linger=0)
        self.context.term()

    def turn(self, after_s: float = 0.0, until: Callable[[], Any] | None = None) -> None:
        """One turn, `after_s` later; then as many as it takes."""
        self.now += after_s
        self.controller._turn(self.now)
        deadline_at = time.monotonic() + DEADLINE_S
        while until is not None and not until():
            assert time.monotonic() < deadline_at, "it did not come true"
            self.router.poll(5)
            self.controller._turn(self.now)

    def settle(self) -> None:
        """Until all that was said before is heard, and answered."""
        judge = self.client(want_output=False)
        judge.say(m.Ask(1, "engines"))
        judge.hear(m.Answer, also=[m.Notice])
        judge.say(m.Bye())
        self.turn(until=lambda: judge.number not in self.controller.peers.clients)

    def peer(self, role: str, decoder: codec.Decoder[Any], identity: bytes | None = None) -> Peer:
        return Peer(self, identity or f"{role}-{uuid.uuid4().hex}".encode(), decoder)

    def client(self, *, pid: int = 0, host: str = "", want_output: bool = True) -> Peer:
        client = self.peer("client", codec.to_client())
        client.say(m.ClientHello(m.VERSION, "session", pid, host, want_output))
        client.number = client.hear(m.Welcome).number
        return client

    def nanny(self, token: str = "nanny-token") -> Peer:
        nanny = self.peer("nanny", codec.to_nanny())
        nanny.say(m.NannyHello(m.VERSION, token, 1, "elsewhere"))
        nanny.hear(m.Welcome)
        return nanny

    def engine(self, token: str = "engine-token", nanny: str = "nanny-token") -> Peer:
        engine = self.peer("engine", codec.to_engine())
        engine.say(m.EngineHello(m.VERSION, token, nanny, 1, "elsewhere", {}))
        engine.number = engine.hear(m.Welcome).number
        return engine

    def results_of(self, engine: Peer) -> Peer:
        """The engine's second connection."""
        results = self.peer("", codec.to_engine(), engine.identity + b"/out")
        results.batches = engine.batches
        return results

    def has_engine(self, engine: Peer) -> bool:
        return EngineId(engine.number) in self.controller.scheduler.engines

    def has_client(self, client: Peer) -> bool:
        return ev.ClientId(client.number) in self.controller.scheduler.clients


@pytest.fixture
def start_kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Kit]]:
    """Makes a Kit with settings of its own."""
    kits: list[Kit] = []

    def start(**settings: Any) -> Kit:
        kits.append(Kit(tmp_path_factory.mktemp("c"), **settings))
        return kits[-1]

    yield start
    for kit in kits:
        kit.close()


@pytest.fixture
def kit(start_kit: Callable[..., Kit]) -> Kit:
    return start_kit()


def ran(assigned: m.Assigned, index: int = 0, payload: bytes = b"result") -> m.Outcomes:
    """The outcome of a task that was assigned: its function returned."""
    task = assigned.tasks[index]
    return m.Outcomes(0, [ev.Outcome(task.task, task.attempt, ev.RAN, payload)])
