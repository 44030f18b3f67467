"""Peers that speak garbage, another version, or without a key: refused, and nobody else notices."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import uuid

import msgspec
import pytest
import zmq

import headway
from headway import errors
from headway.config import WireConfig
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import connect_dealer, read_connection_file

WIRE = WireConfig()


class Peer:
    """A connection that says whatever a test wants."""

    def __init__(self, client: headway.Client) -> None:
        self.context = zmq.Context()
        info = read_connection_file(client.connection_file)
        identity = f"client-{uuid.uuid4().hex}".encode()
        self.socket = connect_dealer(self.context, info, identity, WIRE)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close(linger=0)
        self.context.term()

    def say(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def hear(self, within_s: float = 20.0) -> object:
        """The next message but for pings; None if nothing comes."""
        decoder = codec.to_client()
        while self.socket.poll(int(within_s * 1000)):
            message = decoder.decode(self.socket.recv_multipart())
            if not isinstance(message, m.Ping):
                return message
        return None

    def join(self) -> m.Welcome:
        self.say(*codec.encode(m.ClientHello(m.VERSION, uuid.uuid4().hex)))
        welcome = self.hear()
        assert isinstance(welcome, m.Welcome)
        return welcome


def assert_unharmed(client: headway.Client) -> None:
    """The cluster goes on as if nothing had been."""
    assert client.gather(client.map(abs, range(-20, 0)), timeout=30) == list(range(20, 0, -1))


@pytest.mark.parametrize(
    "frames",
    [
        [b"garbage"],
        [b""],
        [b"\xc1" * 100],
        [msgspec.msgpack.encode({"type": "client-hello"})],
        [msgspec.msgpack.encode(m.ClientHello(m.VERSION, "s"))[:-3]],
        [msgspec.msgpack.encode(m.ClientHello(m.VERSION, "s")), b"extra"],
    ],
    ids=["text", "empty", "never-used", "no-fields", "truncated", "extra-frame"],
)
def test_what_is_no_hello_is_refused_with_a_reason(client, frames):
    with Peer(client) as peer:
        peer.say(*frames)
        answer = peer.hear()
        assert isinstance(answer, m.Refused)
        assert "hello" in answer.reason
    assert_unharmed(client)


def test_a_peer_of_another_version_is_refused_naming_both(client):
    with Peer(client) as peer:
        peer.say(*codec.encode(m.ClientHello(m.VERSION + 1, "s")))
        answer = peer.hear()
        assert isinstance(answer, m.Refused)
        assert str(m.VERSION + 1) in answer.reason
        assert str(m.VERSION) in answer.reason


@pytest.mark.parametrize(
    "message",
    [
        m.Submit(1, [b"f" * 16], [], []),
        m.Outcomes(1, []),
        m.Heartbeat([]),
    ],
    ids=["unknown-function", "engines-word", "nannys-word"],
)
def test_a_welcomed_peer_that_breaks_the_protocol_loses_its_connection_alone(client, message):
    with Peer(client) as peer:
        peer.join()
        peer.say(*codec.encode(message))
        assert isinstance(peer.hear(), m.Refused)
        peer.say(*codec.encode(m.Ask(1, "engines")))
        assert peer.hear(within_s=0.3) is None
    assert_unharmed(client)


def test_a_peer_that_says_something_else_before_its_hello_is_asked_who_it_is(client):
    with Peer(client) as peer:
        peer.say(*codec.encode(m.Ping()))
        assert isinstance(peer.hear(), m.WhoAreYou)
        assert isinstance(peer.join(), m.Welcome)
    assert_unharmed(client)


def test_a_peer_whose_batches_have_a_gap_is_asked_to_say_hello_again(client):
    with Peer(client) as peer:
        peer.join()
        peer.say(*codec.encode(m.Submit(7, [], [], [])))
        assert isinstance(peer.hear(), m.WhoAreYou)
    assert_unharmed(client)


def test_a_task_that_depends_on_itself_or_on_a_later_one_is_invalid(client):
    from headway.core.events import ClientId, ConditionSpec, TaskSpec, task_id

    with Peer(client) as peer:
        number = ClientId(peer.join().number)
        digest = b"d" * 16
        ids = [task_id(number, n) for n in (1, 2)]
        specs = [TaskSpec(i, 0, b"", after=ConditionSpec([i])) for i in ids]
        specs[0].after = ConditionSpec([ids[0], ids[1]])
        peer.say(*codec.encode(m.Submit(1, [digest], [], specs, {digest: b"never run"})))
        ended: list[m.Result] = []
        while len(ended) < 2:
            message = peer.hear()
            assert message is not None
            if isinstance(message, m.Results):
                ended += message.results
        assert [r.problem.kind for r in ended if r.problem] == ["invalid"] * 2
        assert "it is the task itself" in ended[0].problem.text
    assert_unharmed(client)


def test_an_unknown_question_is_answered_by_an_error(client):
    with Peer(client) as peer:
        peer.join()
        peer.say(*codec.encode(m.Ask(1, "the meaning of life")))
        answer = peer.hear()
        assert isinstance(answer, m.Answer)
        assert "the meaning of life" in answer.error


# --- clusters on TCP -----------------------------------------------------------------------------


@pytest.fixture
def tcp_cluster(tmp_path, nothing_left):
    """A cluster on loopback TCP, started as `headway start` does; its connection file."""
    path = tmp_path / "cluster" / "connection.json"
    settings = {"engines": 1, "listen": "tcp://127.0.0.1:0", "connection": str(path)}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "headway.controller"),
            *("--embedded", "--settings", json.dumps(settings)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert json.loads(process.stdout.readline()) == {"connection": str(path)}
    yield path
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()
    assert not path.exists()


def test_a_cluster_on_tcp_serves_who_has_its_connection_file(tcp_cluster):
    assert stat.S_IMODE(os.stat(tcp_cluster).st_mode) == 0o600
    with headway.Client(tcp_cluster) as client:
        assert client.submit(abs, -2).result(timeout=30) == 2


def test_a_wrong_key_gets_nothing_and_is_told_so(tcp_cluster):
    facts = json.loads(tcp_cluster.read_text())
    public, secret = (key.decode() for key in zmq.curve_keypair())
    wrong = tcp_cluster.with_name("wrong.json")
    wrong.write_text(json.dumps({**facts, "client_public": public, "client_secret": secret}))
    with pytest.raises(errors.ConnectionLost, match="key"):
        headway.Client(wrong, timeout_s=20)
    without = {k: None if k.endswith(("key", "public", "secret")) else v for k, v in facts.items()}
    wrong.write_text(json.dumps(without))
    with pytest.raises(errors.ConnectionLost, match="key"):
        headway.Client(wrong, timeout_s=20)
    with headway.Client(tcp_cluster) as client:
        assert_unharmed(client)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', "\x00\x01"])
def test_a_connection_file_that_is_none_says_so(tmp_path, text):
    path = tmp_path / "connection.json"
    path.write_text(text)
    with pytest.raises(errors.ConnectionFileError, match=str(path)):
        headway.Client(path)


def test_a_missing_connection_file_says_so(tmp_path):
    with pytest.raises(errors.ConnectionFileError, match="headway start"):
        headway.Client(tmp_path / "nowhere.json")
