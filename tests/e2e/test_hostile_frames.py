"""Promise: whoever was let in and then sends frames that are no messages loses its connection,
and what it had with it; nobody else notices."""

from __future__ import annotations

import socket
import struct
import uuid
from collections.abc import Iterator

import msgspec
import pytest

import headway
from headway.config import WireConfig
from headway.core.events import ClientId, TaskOptions, TaskSpec, task_id
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import read_connection_file
from tests.e2e.conftest import DEADLINE_S, wait_until
from tests.e2e.test_hostile_peers import Peer, assert_unharmed

DIGEST = b"d" * 16
SUBMIT = codec.encode(m.Submit(1, [DIGEST], [], [TaskSpec(1 << 40 | 1, 0, b"x")], {DIGEST: b"f"}))

#: What each of them is not: one message that a client may send.
FRAMES: dict[str, list[bytes]] = {
    "text": [b"garbage"],
    "nothing": [b""],
    "no-msgpack": [b"\xc1" * 1_000],
    "cut": [bytes(SUBMIT[0])[:-5]],
    "half": [bytes(SUBMIT[0])[: len(SUBMIT[0]) // 2]],
    "doubled": [bytes(SUBMIT[0]) * 2],
    "deep": [b"\x91" * 100_000],
    "four-billion-entries": [b"\xdd\xff\xff\xff\xff"],
    "four-billion-bytes": [b"\xc6\xff\xff\xff\xff"],
    "payload-that-is-missing": [
        msgspec.msgpack.encode(m.Submit(1, [DIGEST], [], [], {DIGEST: 0})),
    ],
    "payload-of-nothing": [msgspec.msgpack.encode(m.Ping()), b"extra"],
    "other-types": [msgspec.msgpack.encode({"type": "cancel", "tasks": "all"})],
    "beyond-64-bits": [b"\x82\xa4type\xa6cancel\xa5tasks\x91\xcb\x7f\xef\xff\xff\xff\xff\xff\xff"],
}


def clients_of(client: headway.Client) -> int:
    return int(client.statistics()["clients"])


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
def test_a_client_that_sends_no_message_is_told_why_and_its_tasks_go(client, frames):
    before = client.statistics()
    with Peer(client) as peer:
        # Given a client that was let in, with a task that waits
        number = ClientId(peer.join().number)
        waits = TaskSpec(task_id(number, 1), 0, b"", options=TaskOptions(resources={"x": 1}))
        peer.say(*codec.encode(m.Submit(1, [DIGEST], [], [waits], {DIGEST: b"never run"})))
        assert peer.hear() == m.Accepted(1)
        # When it sends something else than a message
        peer.say(*frames)
        # Then it is told so, heard no more, and forgotten with its task
        assert isinstance(peer.hear(), m.Refused)
        peer.say(*codec.encode(m.Ask(1, "engines")))
        wait_until(lambda: client.statistics()["clients"] == before["clients"], "it to be gone")
        assert peer.hear(within_s=0.0) is None
        assert client.statistics()["tasks"]["ready"] == before["tasks"]["ready"]
    assert client.statistics()["engines"] == before["engines"]
    assert_unharmed(client)


@pytest.mark.parametrize("frames", [[b"garbage"], [b"\x91" * 100_000], [b""]])
def test_the_tasks_of_an_engine_that_sends_no_message_run_elsewhere(client, frames):
    engines = {engine.id for engine in client.engines()}
    with Peer(client) as peer:
        # Given an engine that joined, and was given some of the tasks
        token = uuid.uuid4().hex
        peer.say(*codec.encode(m.EngineHello(m.VERSION, token, "nobody", 1, "elsewhere", {"x": 1})))
        assert isinstance(codec.to_engine().decode(peer.socket.recv_multipart()), m.Welcome)
        (joined,) = {engine.id for engine in client.engines()} - engines
        futures = client.options(targets=[joined, *engines]).map(abs, range(-100, 0))
        while not isinstance(codec.to_engine().decode(peer.socket.recv_multipart()), m.Assigned):
            pass
        # When it sends something else than a message
        peer.say(*frames)
        # Then they run on the others
        assert client.gather(futures, timeout=DEADLINE_S) == list(range(100, 0, -1))
    assert {engine.id for engine in client.engines()} == engines


#: Of a process of this host that has ended: else it might come back, and would be waited for.
HELLO = m.ClientHello(m.VERSION, "raw", 1 << 22, socket.gethostname())


class RawPeer:
    """Speaks ZMTP by hand (RFC 23), so that it can announce a frame that it never sends."""

    def __init__(self, client: headway.Client) -> None:
        address = read_connection_file(client.connection_file).address
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(address.removeprefix("ipc://"))
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
        identity = f"client-{uuid.uuid4().hex}".encode()
        ready = b"\x05READY" + self._property(b"Socket-Type", b"DEALER")
        ready += self._property(b"Identity", identity)
        self.socket.sendall(greeting + b"\x04" + bytes([len(ready)]) + ready)
        self._read(64)
        self.hear()  # its READY

    @staticmethod
    def _property(name: bytes, value: bytes) -> bytes:
        return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value

    def say(self, frame: bytes) -> None:
        self.socket.sendall(b"\x02" + struct.pack(">Q", len(frame)) + frame)

    def announce(self, size: int) -> None:
        """The head of a frame, and the first of its bytes."""
        self.socket.sendall(b"\x02" + struct.pack(">Q", size) + b"x" * 1_000)

    def hear(self) -> bytes:
        flags = self._read(1)[0]
        (size,) = struct.unpack(">Q", self._read(8)) if flags & 2 else self._read(1)
        return self._read(size)

    def is_cut_off(self) -> bool:
        """Whether the other end closes the connection; fails if it does not in time."""
        try:
            while self.socket.recv(1 << 16):
                pass  # signs of life that were on their way
        except ConnectionError:
            pass
        return True

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the controller closed the connection"
            data += more
        return data


@pytest.fixture
def raw_peer(client: headway.Client) -> Iterator[RawPeer]:
    peer = RawPeer(client)
    yield peer
    peer.socket.close()


@pytest.mark.parametrize("size", [WireConfig().frame_bytes_max + 1, (1 << 63) - 1])
def test_a_frame_above_the_limit_costs_the_connection_before_it_is_there(client, raw_peer, size):
    before = clients_of(client)
    # Given a client that was let in
    raw_peer.say(bytes(codec.encode(HELLO)[0]))
    assert isinstance(codec.to_client().decode([raw_peer.hear()]), m.Welcome)
    assert clients_of(client) == before + 1
    # When it announces a frame that is too large
    raw_peer.announce(size)
    # Then its connection is closed, and the controller forgets it
    assert raw_peer.is_cut_off()
    wait_until(lambda: clients_of(client) == before, "the client to be forgotten")
    assert_unharmed(client)


def test_a_connection_that_breaks_in_the_middle_of_a_frame_is_a_client_that_left(client, raw_peer):
    before = clients_of(client)
    raw_peer.say(bytes(codec.encode(HELLO)[0]))
    assert isinstance(codec.to_client().decode([raw_peer.hear()]), m.Welcome)
    raw_peer.announce(5_000)
    raw_peer.socket.close()
    wait_until(lambda: clients_of(client) == before, "the client to be forgotten")
    assert_unharmed(client)
