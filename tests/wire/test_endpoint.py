"""The promise of endpoints: who has the cluster's keys, or its directory, talks; nobody else does,
and whoever is not let in, or finds nobody there, learns it at once."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from headway.config import WireConfig
from headway.errors import ConnectionLost, StartError
from headway.wire import connection, endpoint
from headway.wire.endpoint import ConnectionInfo
from tests import relay

WIRE = WireConfig()
DEADLINE_S = 20.0

KEYS = endpoint.make_keys()
OTHER_KEYS = endpoint.make_keys()

INFO = ConnectionInfo(
    cluster="demo",
    address="tcp://127.0.0.1:5555",
    server_key=KEYS.server_public,
    client_public=KEYS.client_public,
    client_secret=KEYS.client_secret,
    pid=1234,
)


# --- sockets ------------------------------------------------------------------------------------


class Net:
    """A controller's ROUTER, and peers; everything is closed at the end."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.peers_context = zmq.Context()
        self.closers: list[Callable[[], Any]] = []

    def authenticate(self, keys: endpoint.Keys = KEYS) -> None:
        self.closers.append(endpoint.start_authenticator(self.context, keys).stop)

    def bind(
        self,
        address: str | None = None,
        keys: endpoint.Keys | None = KEYS,
        wire: WireConfig = WIRE,
    ) -> tuple[zmq.Socket[bytes], ConnectionInfo]:
        router, real = endpoint.bind_router(self.context, address, keys, wire)
        self.closers.append(lambda: router.close(linger=0))
        if keys is None:
            return router, ConnectionInfo("c", real)
        public, secret = keys.client_public, keys.client_secret
        return router, ConnectionInfo("c", real, keys.server_public, public, secret)

    def connect(
        self, info: ConnectionInfo, identity: bytes = b"peer", wire: WireConfig = WIRE
    ) -> zmq.Socket[bytes]:
        dealer = endpoint.connect_dealer(self.peers_context, info, identity, wire)
        self.closers.append(lambda: dealer.close(linger=0))
        return dealer

    def connect_once(
        self, info: ConnectionInfo, identity: bytes = b"peer", **options: Any
    ) -> tuple[zmq.Socket[bytes], endpoint.Monitor]:
        dealer, monitor = endpoint.connect_once(self.peers_context, info, identity, WIRE, **options)
        self.closers += [lambda: dealer.close(linger=0), monitor.close]
        return dealer, monitor

    def connect_without_keys(self, info: ConnectionInfo) -> zmq.Socket[bytes]:
        dealer = self.peers_context.socket(zmq.DEALER)
        self.closers.append(lambda: dealer.close(linger=0))
        dealer.connect(info.address)
        return dealer

    def watch(self, dealer: zmq.Socket[bytes]) -> endpoint.Monitor:
        monitor = endpoint.Monitor(dealer)
        self.closers.append(monitor.close)
        return monitor

    def close(self) -> None:
        for close in reversed(self.closers):
            close()
        self.peers_context.term()
        self.context.term()


@pytest.fixture
def network() -> Iterator[Net]:
    network = Net()
    yield network
    network.close()


def receive(source: zmq.Socket[bytes]) -> list[bytes]:
    assert source.poll(DEADLINE_S * 1000), "nothing came"
    return source.recv_multipart()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def wait_failure(monitor: endpoint.Monitor) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if failure := monitor.handshake_failure():
            return failure
        monitor.socket.poll(100)
    raise AssertionError("the monitor has seen no failure")


def assert_talks(router: zmq.Socket[bytes], dealer: zmq.Socket[bytes], identity: bytes) -> None:
    dealer.send(b"hello")
    assert receive(router) == [identity, b"hello"]
    router.send_multipart([identity, b"welcome", b"frame"])
    assert receive(dealer) == [b"welcome", b"frame"]


@pytest.fixture
def socket_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of a cluster, made as clusters make theirs; its path is short."""
    with tempfile.TemporaryDirectory(prefix="hw-", dir="/tmp") as root:
        monkeypatch.setattr(connection, "_roots", lambda: [Path(root)])
        path = endpoint.make_cluster_dir("demo")
        yield path
        endpoint.remove_cluster_dir(path)


def test_peers_talk_over_ipc_in_a_private_directory(network, socket_dir):
    router, info = network.bind(f"ipc://{socket_dir}/controller.sock", keys=None)
    assert_talks(router, network.connect(info, b"client-1"), b"client-1")
    assert_talks(router, network.connect(info, b"engine-1/out"), b"engine-1/out")


def test_a_socket_in_a_directory_open_to_others_is_refused(network, tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(StartError, match="has mode 0755, so others can look into it"):
        network.bind(f"ipc://{tmp_path}/controller.sock", keys=None)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ipc:///no/such/dir/x.sock", "there is no directory /no/such/dir for the socket x.sock"),
        ("ipc:///" + "x" * 200, "has 201 bytes, at most 103 are possible"),
        ("udp://127.0.0.1", "begins with neither ipc:// nor tcp://"),
        ("127.0.0.1:5555", "begins with neither ipc:// nor tcp://"),
        ("tcp://127.0.0.1:port", "can't bind tcp://127.0.0.1:port: Invalid argument"),
    ],
)
def test_an_address_that_cannot_be_bound_says_why(network, address, words):
    with pytest.raises(StartError, match=words):
        network.bind(address)


def test_a_host_that_is_not_known_says_so(network, monkeypatch):
    def unknown(name: str) -> str:
        raise OSError(f"{name}: Name or service not known")

    monkeypatch.setattr("socket.gethostbyname", unknown)
    with pytest.raises(StartError, match=r"can't bind tcp://nohost:1: nohost: Name or service"):
        network.bind("tcp://nohost:1")


def test_a_port_that_is_taken_says_so(network):
    network.authenticate()
    _, info = network.bind()
    with pytest.raises(StartError, match=f"can't bind {info.address}: Address already in use"):
        network.bind(info.address)


@pytest.mark.parametrize("address", [None, "tcp://127.0.0.1", "tcp://0.0.0.0:5555"])
def test_tcp_without_keys_is_refused(network, address):
    with pytest.raises(StartError, match=r"has no keys. Loopback TCP needs CURVE too"):
        network.bind(address, keys=None)
    with pytest.raises(ConnectionLost, match=r"no keys for tcp://127.0.0.1:1. Loopback TCP needs"):
        network.connect(ConnectionInfo("c", "tcp://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (None, "127.0.0.1"),
        ("tcp://127.0.0.1", "127.0.0.1"),
        ("tcp://127.0.0.1:0", "127.0.0.1"),
        ("tcp://127.0.0.1:*", "127.0.0.1"),
        ("tcp://localhost:0", "localhost"),
    ],
)
def test_without_a_port_the_real_one_is_told(network, address, host):
    network.authenticate()
    router, info = network.bind(address)
    name, port = info.address.removeprefix("tcp://").split(":")
    assert name == host
    assert int(port) > 0
    assert_talks(router, network.connect(info), b"peer")


def test_bound_to_every_interface_the_address_has_a_name_that_others_can_use(network):
    network.authenticate()
    router, info = network.bind("tcp://*:0")
    assert "0.0.0.0" not in info.address
    assert "*" not in info.address
    assert_talks(router, network.connect(info), b"peer")


def test_a_message_to_nobody_is_an_error(network, socket_dir):
    router, _ = network.bind(f"ipc://{socket_dir}/controller.sock", keys=None)
    with pytest.raises(zmq.ZMQError) as raised:
        router.send_multipart([b"nobody", b"hello"])
    assert raised.value.errno == zmq.EHOSTUNREACH


def test_a_peer_that_comes_back_before_it_was_missed_is_heard(network, socket_dir):
    # Given a peer whose connection the controller still believes in
    router, info = network.bind(f"ipc://{socket_dir}/controller.sock", keys=None)
    first = network.connect(info, b"peer")
    assert_talks(router, first, b"peer")
    # When it connects again under its identity
    second = network.connect(info, b"peer")
    # Then what it says arrives, and what it is sent too
    assert_talks(router, second, b"peer")


# --- CURVE --------------------------------------------------------------------------------------


def test_a_peer_with_the_clusters_keys_is_let_in_and_no_failure_is_told(network):
    network.authenticate()
    router, info = network.bind()
    dealer = network.connect(info)
    monitor = network.watch(dealer)
    assert_talks(router, dealer, b"peer")
    assert monitor.handshake_failure() is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"client_public": OTHER_KEYS.client_public, "client_secret": OTHER_KEYS.client_secret},
            "wrong key: the controller does not know ours",
        ),
        ({"server_key": OTHER_KEYS.server_public}, "3 handshakes in a row were broken off"),
        ({"client_secret": OTHER_KEYS.client_secret}, "3 handshakes in a row were broken off"),
    ],
    ids=["unknown client key", "wrong server key", "keys that are no pair"],
)
def test_a_peer_with_a_wrong_key_gets_nothing_and_learns_that(network, changes, words):
    # Given a controller
    network.authenticate()
    router, info = network.bind()
    # When a peer with a wrong key speaks
    intruder = network.connect(dataclasses.replace(info, **changes), b"intruder")
    monitor = network.watch(intruder)
    intruder.send(b"hello")
    # Then it is told, long before any timeout
    assert words in wait_failure(monitor)
    # And others are heard, and it is not: neither hears anything of the other
    assert_talks(router, network.connect(info, b"peer"), b"peer")
    assert not router.poll(0)
    assert not intruder.poll(0)


def test_a_peer_without_keys_gets_nothing_and_learns_that(network):
    network.authenticate()
    router, info = network.bind()
    intruder = network.connect_without_keys(info)
    monitor = network.watch(intruder)
    intruder.send(b"hello")
    assert wait_failure(monitor)
    assert_talks(router, network.connect(info), b"peer")
    assert not router.poll(0)


def test_a_handshake_that_was_recorded_and_is_said_again_gets_nothing(network):
    # Given a peer that was let in, and somebody who has recorded all that it said
    network.authenticate()
    router, info = network.bind()
    with relay.Relay(info.address) as recorder:
        dealer = network.connect(dataclasses.replace(info, address=recorder.address))
        assert_talks(router, dealer, b"peer")
        said = recorder.connections[0].head
        # When that is said again, beginning with another connection's
        heard = _heard_after(info.address, said)
        # Then the connection is closed without having been let in, and nobody notices
        assert b"READY" not in heard
        assert len(heard) < len(said)
        assert b"peer" not in said, "the identity is readable: this is not encrypted"
        assert not router.poll(0)
        assert_talks(router, dealer, b"peer")


def _heard_after(address: str, said: bytes) -> bytes:
    """All that comes on a connection of its own, on which that was said, until it is closed."""
    host, _, port = address.removeprefix("tcp://").partition(":")
    heard = b""
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as end:
        end.sendall(said)
        with contextlib.suppress(ConnectionResetError):  # some of what was said is not read
            while data := end.recv(4096):
                heard += data
    return heard


def test_without_an_authenticator_nobody_is_let_in(network):
    router, info = network.bind()
    dealer = network.connect(info)
    monitor = network.watch(dealer)
    dealer.send(b"hello")
    assert wait_failure(monitor)
    assert not router.poll(0)


def test_what_talks_there_but_is_no_controller_is_told(network):
    # Given something else with a ZeroMQ socket at the controller's address
    stranger = network.context.socket(zmq.ROUTER)
    network.closers.append(lambda: stranger.close(linger=0))
    port = stranger.bind_to_random_port("tcp://127.0.0.1")
    # When a peer connects there
    monitor = network.watch(
        network.connect(dataclasses.replace(INFO, address=f"tcp://127.0.0.1:{port}"))
    )
    # Then it learns that
    assert wait_failure(monitor)


def test_nobody_there_is_no_failure_of_the_handshake(network):
    # Given a port that is taken, so that nobody else gets it, and on which nobody listens
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        # When a peer tries to connect there
        monitor = network.watch(network.connect(dataclasses.replace(INFO, address=address)))
        # Then it is not told of wrong keys
        assert not monitor.socket.poll(100)
        assert monitor.handshake_failure() is None


def test_a_monitor_may_be_closed_twice_and_after_its_dealer(network):
    dealer = network.connect(INFO)
    monitor = endpoint.Monitor(dealer)
    dealer.close(linger=0)
    monitor.close()
    monitor.close()
    assert monitor.handshake_failure() is None


def test_keys_are_new_each_time():
    keys = [dataclasses.astuple(endpoint.make_keys()) for _ in range(2)]
    assert len({key for pair in keys for key in pair}) == 8
    assert {len(key) for pair in keys for key in pair} == {40}


# --- connections that are lost ------------------------------------------------------------------


def wait_connection(monitor: endpoint.Monitor) -> None:
    def is_there() -> bool:
        monitor.look()
        return monitor.is_connected

    wait_until(is_there)


def wait_end(monitor: endpoint.Monitor) -> None:
    def has_ended() -> bool:
        monitor.look()
        return monitor.has_ended

    wait_until(has_ended)


@pytest.fixture(params=["ipc", "tcp"])
def cluster_at(request, network, socket_dir) -> tuple[str, endpoint.Keys | None]:
    """The address of a cluster, and its keys: each time it binds, it is that."""
    if request.param == "ipc":
        return f"ipc://{socket_dir / 'controller.sock'}", None
    network.authenticate()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}", KEYS


def test_the_monitor_of_one_connection_has_missed_nothing(network, cluster_at):
    # Given a controller that answers as fast as it can
    router, info = network.bind(*cluster_at)
    for n in range(20):
        dealer, monitor = network.connect_once(info, b"peer%d" % n)
        # When it is heard
        assert_talks(router, dealer, b"peer%d" % n)
        # Then the monitor knows of the connection
        monitor.look()
        assert (monitor.is_connected, monitor.has_ended) == (True, False)
        assert monitor.handshake_failure() is None


def test_what_came_before_the_end_of_a_connection_can_be_received_after_it(network, cluster_at):
    router, info = network.bind(*cluster_at)
    dealer, monitor = network.connect_once(info)
    assert_talks(router, dealer, b"peer")
    # When the controller says much, and ends
    words = [b"%d" % n for n in range(1000)]
    for word in words:
        router.send_multipart([b"peer", word])
    router.close(linger=DEADLINE_S * 1000)
    wait_end(monitor)
    # Then all of it has come
    assert [dealer.recv(zmq.NOBLOCK) for _ in words] == words


def test_what_was_not_sent_on_one_connection_is_not_sent_on_the_next(network, cluster_at):
    # Given a peer that goes on sending when its controller has ended
    router, info = network.bind(*cluster_at)
    dealer, monitor = network.connect_once(info)
    assert_talks(router, dealer, b"peer")
    router.close(linger=0)
    wait_end(monitor)
    dealer.send(b"too late")
    # When another controller is there, and the peer begins another connection
    router, _ = network.bind(*cluster_at)
    monitor.close()
    dealer.close(linger=0)
    dealer, _ = network.connect_once(info)
    # Then that is what this one hears of
    assert_talks(router, dealer, b"peer")


def test_an_attempt_that_meets_nobody_ends(network, cluster_at):
    router, info = network.bind(*cluster_at)
    router.close(linger=0)
    _, monitor = network.connect_once(info)
    wait_end(monitor)
    assert not monitor.is_connected
    assert monitor.handshake_failure() is None


def test_broken_handshakes_are_counted_from_one_connection_to_the_next(network):
    network.authenticate()
    _, info = network.bind()
    info = dataclasses.replace(info, server_key=OTHER_KEYS.server_public)
    broken, failures = 0, []
    for _ in range(3):
        _, monitor = network.connect_once(info, broken=broken)
        wait_end(monitor)
        broken = monitor.broken
        failures.append(monitor.handshake_failure())
    assert failures[:2] == [None, None]
    assert "3 handshakes in a row" in failures[2]


def test_an_attempt_at_a_local_cluster_that_is_gone_raises_if_it_is_told_to(network, socket_dir):
    info = ConnectionInfo("demo", f"ipc://{socket_dir / 'controller.sock'}")
    with pytest.raises(ConnectionLost, match="the cluster demo is gone: no socket at"):
        network.connect_once(info, must_listen=True)


# --- limits, and clusters that are gone ---------------------------------------------------------


def test_a_frame_of_just_the_size_that_may_travel_arrives_also_encrypted(network):
    network.authenticate()
    small = dataclasses.replace(WIRE, frame_bytes_max=1_000)
    router, info = network.bind(wire=small)
    dealer = network.connect(info, b"peer", wire=small)
    assert_talks(router, dealer, b"peer")
    dealer.send(b"x" * 1_000)
    assert receive(router) == [b"peer", b"x" * 1_000]
    router.send_multipart([b"peer", b"y" * 1_000])
    assert receive(dealer) == [b"y" * 1_000]


def test_a_frame_that_is_too_large_costs_its_sender_the_connection_and_nothing_else(network):
    # Given a controller that takes small frames, and two peers
    network.authenticate()
    small = dataclasses.replace(WIRE, frame_bytes_max=1_000)
    router, info = network.bind(wire=small)
    good, bad = network.connect(info, b"good"), network.connect(info, b"bad")
    for dealer, identity in ((good, b"good"), (bad, b"bad")):
        assert_talks(router, dealer, identity)
    # When one of them sends a large one
    monitor = bad.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    network.closers += [monitor.close, bad.disable_monitor]
    bad.send(b"x" * 1_001)
    # Then it is disconnected, the frame never arrives, and the other one is served
    receive(monitor)
    assert_talks(router, good, b"good")
    assert not router.poll(0)


def test_a_cluster_that_is_gone_is_told_at_once_over_ipc(network, socket_dir):
    info = ConnectionInfo("demo", f"ipc://{socket_dir}/controller.sock")
    with pytest.raises(ConnectionLost, match="the cluster demo is gone: no socket at /"):
        network.connect(info)


def test_a_socket_that_a_killed_controller_left_is_told_at_once(network, socket_dir):
    # Given a socket's file at which nobody listens any more
    path = socket_dir / "controller.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    # When a peer would connect there
    with pytest.raises(ConnectionLost, match="demo is gone: nobody listens at /"):
        network.connect(ConnectionInfo("demo", f"ipc://{path}"))


def test_an_address_that_is_none_is_told(network):
    with pytest.raises(ConnectionLost, match=r"can't connect to tcp://127.0.0.1:nonsense: "):
        network.connect(dataclasses.replace(INFO, address="tcp://127.0.0.1:nonsense"))
    with pytest.raises(ConnectionLost, match="can't connect to"):
        network.connect(dataclasses.replace(INFO, server_key="x" * 39))
    with pytest.raises(ConnectionLost, match=r"can't connect to tcp://127.0.0.1:nonsense: "):
        network.connect_once(dataclasses.replace(INFO, address="tcp://127.0.0.1:nonsense"))


def test_a_controller_that_starts_later_at_its_address_is_found(network, socket_dir):
    # Given a peer of a controller that ended
    address = f"ipc://{socket_dir}/controller.sock"
    router, info = network.bind(address, keys=None)
    dealer = network.connect(info)
    assert_talks(router, dealer, b"peer")
    router.close(linger=0)
    # When another one is bound there
    router, _ = network.bind(address, keys=None)

    # Then the peer comes by itself. (What it said into the old connection may be lost.)
    def is_heard() -> bool:
        dealer.send(b"hello again")
        return bool(router.poll(100))

    wait_until(is_heard)
    assert receive(router) == [b"peer", b"hello again"]
