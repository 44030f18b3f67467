"""The sockets on which a cluster's processes talk, their keys, and who may connect.

Rule 1: whoever may talk to a controller may make its engines run anything. So its socket is
either in a directory of mode 0700 (`ipc://`), or behind CURVE with keys (`tcp://`). There is
no third way, not even on loopback.
Rule 2: sockets never drop messages and never block the sender: flow is controlled by credit
and acknowledgement, above. An owner closes its sockets; `LINGER` bounds how long that takes.

It is also the door to `wire.connection`: connection files, and the directories of clusters.
What this file must not know: messages, tasks, pickles.
"""

from __future__ import annotations

import contextlib
import os
import socket as net
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator

from headway.config import WireConfig
from headway.errors import ConnectionLost, StartError
from headway.wire.connection import (
    CONNECTION_FILE,
    JOURNAL_FILE,
    LOGS_DIR,
    SOCKET_FILE,
    SOCKET_PATH_BYTES_MAX,
    ConnectionInfo,
    adopt_cluster_dir,
    check_private,
    cluster_dir,
    find_connection_file,
    left_journal,
    make_cluster_dir,
    read_connection_file,
    remove_cluster_dir,
    remove_connection_file,
    running_clusters,
    runtime_root,
    write_connection_file,
)

__all__ = [
    "CONNECTION_FILE",
    "JOURNAL_FILE",
    "LOGS_DIR",
    "SOCKET_FILE",
    "SOCKET_PATH_BYTES_MAX",
    "ConnectionInfo",
    "Keys",
    "Monitor",
    "adopt_cluster_dir",
    "bind_router",
    "cluster_dir",
    "connect_dealer",
    "connect_once",
    "find_connection_file",
    "left_journal",
    "make_cluster_dir",
    "make_keys",
    "read_connection_file",
    "remove_cluster_dir",
    "remove_connection_file",
    "running_clusters",
    "runtime_root",
    "start_authenticator",
    "write_connection_file",
]

_NO_KEYS = "Loopback TCP needs CURVE too: any user of the host can connect to it"


@dataclass(frozen=True)
class Keys:
    """The CURVE keys of one cluster, in Z85: the controller's pair, and that of all its peers."""

    server_public: str
    server_secret: str = field(repr=False)
    client_public: str
    client_secret: str = field(repr=False)


def make_keys() -> Keys:
    """New keys, for a new cluster."""
    server_public, server_secret = zmq.curve_keypair()
    client_public, client_secret = zmq.curve_keypair()
    return Keys(
        server_public.decode(),
        server_secret.decode(),
        client_public.decode(),
        client_secret.decode(),
    )


#: A connection that is not let in within this is closed: above any pause of a busy host.
_HANDSHAKE_MS = 10_000
#: How long closing a socket waits for what was sent last (a Bye, the last results).
_LINGER_MS = 500
#: A peer tries again after this long, then twice as long, and so on to the maximum.
_RECONNECT_MS = 50
_RECONNECT_MAX_MS = 1_000
#: Never, nearly. Not -1: ZeroMQ then throws away what had come and was not yet received, such as
#: the goodbye of a controller that closes its connections right after it.
_RECONNECT_NEVER_MS = 86_400_000
#: An attempt at a host that does not answer ends by then: the system would try ever more rarely.
_CONNECT_TIMEOUT_MS = 3_000
#: Messages that the controller takes in from one peer before that peer's TCP has to wait.
_ROUTER_RECEIVE_HWM = 1_000
#: Engines of a large cluster all connect at once; more are refused, and come again.
_BACKLOG = 1_024
#: What CURVE adds to each frame on its way: a name, a nonce, flags, and a check of what is inside.
_CURVE_BYTES = 8 + 8 + 1 + 16
#: The name under which the controller's sockets ask who may connect.
_ZAP_DOMAIN = "headway"


def bind_router(
    context: zmq.Context[zmq.Socket[bytes]],
    address: str | None,
    keys: Keys | None,
    wire: WireConfig,
) -> tuple[zmq.Socket[bytes], str]:
    """The controller's ROUTER, bound, and the address to give to peers.

    `address` is `ipc://<path>` or `tcp://<host>[:<port>]`; a port that is missing, 0 or `*` is
    chosen by the system. None is TCP on loopback. With `keys`, `start_authenticator` comes first.

    Raises:
        StartError: the address can't be bound, or is `tcp://` and there are no keys.
    """
    address = address or "tcp://127.0.0.1"
    _check_bindable(address, keys)
    router = context.socket(zmq.ROUTER)
    try:
        _set_common_options(router, wire, is_encrypted=keys is not None)
        # A message to a peer that is not there is an error to look at, never silence.
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A peer that comes back while its old connection is still thought alive (its network
        # failed without a FIN) takes its identity over; without this it would not be heard until
        # keepalive has noticed. It lets nobody steal: identities are random and told to no
        # other peer, and whoever can connect at all is trusted with the cluster anyway.
        router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        router.setsockopt(zmq.RCVHWM, _ROUTER_RECEIVE_HWM)
        router.setsockopt(zmq.BACKLOG, _BACKLOG)
        if keys is not None:
            router.setsockopt(zmq.CURVE_SERVER, 1)
            router.setsockopt(zmq.CURVE_SECRETKEY, keys.server_secret.encode())
            router.setsockopt(zmq.ZAP_DOMAIN, _ZAP_DOMAIN.encode())
            # Without an authenticator, nobody gets in, rather than everybody.
            router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        return router, _bind(router, address)
    except BaseException:
        router.close(linger=0)
        raise


def _check_bindable(address: str, keys: Keys | None) -> None:
    """`address` must be of a kind that is safe with these keys."""
    if address.startswith("ipc://"):
        path = Path(address.removeprefix("ipc://"))
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
            raise StartError(
                f"the path of the socket {path} has {len(os.fsencode(path))} bytes, "
                f"at most {SOCKET_PATH_BYTES_MAX} are possible"
            )
        if not path.parent.is_dir():
            raise StartError(f"there is no directory {path.parent} for the socket {path.name}")
        check_private(path.parent)
    elif not address.startswith("tcp://"):
        raise StartError(f"{address!r} is no address: it begins with neither ipc:// nor tcp://")
    elif keys is None:
        raise StartError(f"{address} has no keys. {_NO_KEYS}")


def _bind(router: zmq.Socket[bytes], address: str) -> str:
    """Bind to `address`; the address that peers can connect to."""
    try:
        if address.startswith("ipc://"):
            router.bind(address)
            return address
        host, _, port = address.removeprefix("tcp://").partition(":")
        any_host = host in ("*", "0.0.0.0")
        interface = "0.0.0.0" if any_host else net.gethostbyname(host)
        router.bind(f"tcp://{interface}:{'*' if port in ('', '0') else port}")
    except zmq.ZMQError as error:
        raise StartError(f"can't bind {address}: {_words(error)}") from None
    except (OSError, UnicodeError) as error:  # a host that is not known, or no host's name at all
        raise StartError(f"can't bind {address}: {error}") from None
    real_port = router.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0").rpartition(":")[2]
    return f"tcp://{_own_host() if any_host else host}:{real_port}"


def _words(error: zmq.ZMQError) -> str:
    return zmq.strerror(error.errno or 0)  # str(error) would say the address again


def _own_host() -> str:
    """A name under which other hosts reach this one; loopback where it has none."""
    name = net.gethostname()
    try:
        net.gethostbyname(name)
    except OSError:
        return "127.0.0.1"
    return name


def _set_common_options(socket: zmq.Socket[bytes], wire: WireConfig, *, is_encrypted: bool) -> None:
    socket.setsockopt(zmq.LINGER, _LINGER_MS)
    # Nothing that we send is ever dropped or blocks us: credit and acks bound what is on the way.
    socket.setsockopt(zmq.SNDHWM, 0)
    # A peer that sends a larger frame loses its connection, before the frame is in memory.
    overhead_bytes = _CURVE_BYTES if is_encrypted else 0
    socket.setsockopt(zmq.MAXMSGSIZE, wire.frame_bytes_max + overhead_bytes)
    socket.setsockopt(zmq.IPV6, 0)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    # Ours are the heartbeats that count; these close the connections of hosts that vanished.
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 30)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 10)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)


class _OnePeerKey:
    """Lets in whoever proves to have the key that the cluster's peers share."""

    def __init__(self, client_public: str) -> None:
        self._client_public = client_public.encode()

    def callback(self, domain: str, key: bytes) -> bool:
        return key == self._client_public


def start_authenticator(context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> ThreadAuthenticator:
    """Start to decide who may connect to the sockets of `context` that have `keys`.

    One for each context, before `bind_router`; the caller calls its `stop()` after closing them.
    """
    authenticator = ThreadAuthenticator(context)
    authenticator.configure_curve_callback(_ZAP_DOMAIN, _OnePeerKey(keys.client_public))
    authenticator.start()
    return authenticator


def connect_dealer(
    context: zmq.Context[zmq.Socket[bytes]],
    info: ConnectionInfo,
    identity: bytes,
    wire: WireConfig,
) -> zmq.Socket[bytes]:
    """A DEALER that connects, and connects again, to the controller that `info` names.

    It returns at once: whether anybody is there shows when a hello is answered, or in a Monitor.

    Raises:
        ConnectionLost: the address is `ipc://`, and nobody listens there; or it is `tcp://` and
            `info` has no keys.
    """
    _check_listening(info)
    with _new_dealer(context, info, identity, wire) as dealer:
        dealer.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        dealer.connect(info.address)
    return dealer


def connect_once(
    context: zmq.Context[zmq.Socket[bytes]],
    info: ConnectionInfo,
    identity: bytes,
    wire: WireConfig,
    *,
    must_listen: bool = False,
    broken: int = 0,
) -> tuple[zmq.Socket[bytes], Monitor]:
    """A DEALER for one connection, and its Monitor, which has missed nothing and tells its end.

    When that has come, what was received before can still be read; then close both, the Monitor
    first.

    Parameters:
        must_listen: raise if nobody listens at an `ipc://` address; else the Monitor tells.
        broken: how many handshakes in a row were broken off before.

    Raises:
        ConnectionLost: see `connect_dealer`; or there are no descriptors for a socket.
    """
    if must_listen:
        _check_listening(info)
    with _new_dealer(context, info, identity, wire) as dealer:
        dealer.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_NEVER_MS)
        monitor = Monitor(dealer, tells_ends=True, broken=broken)
        try:
            dealer.connect(info.address)
        except BaseException:
            monitor.close()
            raise
    return dealer, monitor


@contextlib.contextmanager
def _new_dealer(
    context: zmq.Context[zmq.Socket[bytes]],
    info: ConnectionInfo,
    identity: bytes,
    wire: WireConfig,
) -> Iterator[zmq.Socket[bytes]]:
    """A DEALER with all options, but those about connecting again. It is closed on errors."""
    has_keys = bool(info.server_key and info.client_public and info.client_secret)
    if not info.address.startswith("ipc://") and not has_keys:
        raise ConnectionLost(f"there are no keys for {info.address}. {_NO_KEYS}")
    with contextlib.ExitStack() as undo:
        try:
            dealer = context.socket(zmq.DEALER)
            undo.callback(dealer.close, linger=0)
            _set_common_options(dealer, wire, is_encrypted=has_keys)
            dealer.setsockopt(zmq.IDENTITY, identity)
            # What was sent to us waits in our memory, not in the controller's.
            dealer.setsockopt(zmq.RCVHWM, 0)
            dealer.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS)
            if info.server_key and info.client_public and info.client_secret:
                dealer.setsockopt(zmq.CURVE_SERVERKEY, info.server_key.encode())
                dealer.setsockopt(zmq.CURVE_PUBLICKEY, info.client_public.encode())
                dealer.setsockopt(zmq.CURVE_SECRETKEY, info.client_secret.encode())
            yield dealer
        except zmq.ContextTerminated:  # we end ourselves
            raise
        except zmq.ZMQError as error:
            raise ConnectionLost(f"can't connect to {info.address}: {_words(error)}") from None
        undo.pop_all()


def _check_listening(info: ConnectionInfo) -> None:
    """Raise ConnectionLost if nobody listens at the address, where that can be seen: at a Unix
    socket.

    ZeroMQ would try again for ever, without a word. A controller that was killed leaves the
    file behind, so it is not enough that it is there.
    """
    if not info.address.startswith("ipc://"):
        return
    cluster, path = info.cluster, info.address.removeprefix("ipc://")
    if not os.path.exists(path):
        raise ConnectionLost(f"the cluster {cluster} is gone: no socket at {path}")
    with net.socket(net.AF_UNIX) as probe:
        probe.setblocking(False)  # a busy controller with a full backlog listens all the same
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            raise ConnectionLost(
                f"the cluster {cluster} is gone: nobody listens at {path}"
            ) from None
        except OSError:
            return  # whatever else it is, ZeroMQ meets it too, and tries again


#: A handshake that just broke off may have met a controller that was ending: three in a row
#: (within a second) are no accident.
_BROKEN_HANDSHAKES_MAX = 3

_EVENT = struct.Struct("=Hi")  # of a monitor's message: the event, its value


class Monitor:
    """Tells what becomes of a dealer's connection: ZeroMQ by itself says nothing.

    Make it before the dealer connects (`connect_once`), or it may miss that it did. Use it in the
    dealer's thread, and close it before the dealer: ZeroMQ waits for ever to tell a monitor that
    is gone of the dealer's end. `socket` becomes readable when there is news.
    """

    def __init__(
        self, dealer: zmq.Socket[bytes], *, tells_ends: bool = False, broken: int = 0
    ) -> None:
        """`tells_ends`: hear also of the end of a connection, and of attempts at one.

        `broken` is that of the dealer before, for one that is used for one connection.
        """
        self._dealer = dealer
        self._failure: str | None = None
        #: How many handshakes in a row have been broken off.
        self.broken = broken
        #: Whether there is a connection that we were let in on: as of the last `look`.
        self.is_connected = False
        #: Whether a connection, or an attempt at one, has ended.
        self.has_ended = False
        events = (
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )
        if tells_ends:
            events |= zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
        # A name of our own: pyzmq's is made from a file descriptor, which is soon used again.
        self.socket = dealer.get_monitor_socket(events, f"inproc://monitor-{uuid.uuid4().hex}")
        self.socket.setsockopt(zmq.LINGER, 0)

    def handshake_failure(self) -> str | None:
        """Why the controller did not let us in, in words; None if it did, or has not yet said.

        Never waits.
        """
        self.look()
        return self._failure

    def look(self) -> None:
        """Hear the news. Never waits."""
        while not self.socket.closed and int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event, value = _EVENT.unpack(self.socket.recv_multipart()[0])
            self._hear(event, value)

    def _hear(self, event: int, value: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.broken, self._failure = 0, None
            self.is_connected = True
        elif event in (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED):
            self.is_connected = False
            self.has_ended = True
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._failure = f"wrong key: the controller does not know ours (status {value})"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._failure = f"what answers there is no controller of ours (error {value:#x})"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self.broken += 1
            if self.broken >= _BROKEN_HANDSHAKES_MAX:
                # Whose key is another says nothing more, and neither does a network.
                self._failure = (
                    f"{self.broken} handshakes in a row were broken off: its key is not that of "
                    "our connection file, which may be of a cluster that was there before; or the "
                    "network between breaks connections"
                )

    def close(self) -> None:
        """Stop watching. Closing twice is no error."""
        if not self.socket.closed:
            if not self._dealer.closed:
                self._dealer.disable_monitor()
            self.socket.close()
