"""A relay between a socket and its peers, on which a test breaks connections as networks do.

It passes bytes on, both ways, and knows nothing of what they mean but the identity in a ZeroMQ
handshake without keys, by which it tells connections apart (`Connection.kind`). One thread, which
never blocks: an end that does not read holds up its own connection alone. What is asked for has
happened when the call returns.

Up is from who connected to the target, down is back.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections import deque

#: The handshake of ZeroMQ, with the identity in it, is shorter; and a hello fits, for `replay`.
HEAD_BYTES = 4_000
WAIT_S = 20.0
#: What is kept for one end that does not read; then the other one has to wait.
_FLOW_BYTES_MAX = 1 << 20
_CHUNK_BYTES = 1 << 16

UP, DOWN = "up", "down"
BOTH = (UP, DOWN)


class Flow:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        #: What came is lost; how many bytes so far.
        self.is_lossy = False
        self.lost_bytes = 0
        #: Nothing is read or written until it is let go again.
        self.is_stalled = False
        #: Each piece is passed on so much later.
        self.delay_s = 0.0
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._waiting_bytes = 0

    @property
    def wants_to_read(self) -> bool:
        return not self.is_stalled and self._waiting_bytes < _FLOW_BYTES_MAX

    def due_s(self) -> float | None:
        """When the next piece may be passed on; None if none waits."""
        return self._waiting[0][0] if self._waiting and not self.is_stalled else None

    def take_in(self, data: bytes, now_s: float) -> None:
        if self.is_lossy:
            self.lost_bytes += len(data)
            return
        self._waiting.append((now_s + self.delay_s, data))
        self._waiting_bytes += len(data)

    def pass_on(self, now_s: float) -> None:
        """Write what is due, as far as the end takes it."""
        while self._waiting and not self.is_stalled and self._waiting[0][0] <= now_s:
            due_s, data = self._waiting[0]
            try:
                sent = self.sink.send(data)
            except BlockingIOError:
                return
            self._waiting_bytes -= sent
            if sent == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = (due_s, data[sent:])


class Connection:
    """One peer's connection (`near`), and ours to the target for it (`far`)."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        near.setblocking(False)
        far.setblocking(False)
        self.near = near
        self.far = far
        self.up = Flow(near, far)
        self.down = Flow(far, near)
        #: The first that the peer said.
        self.head = b""

    @property
    def flows(self) -> tuple[Flow, Flow]:
        return (self.up, self.down)

    @property
    def kind(self) -> str:
        """client, nanny, commands or results; "" if that can't be told (yet)."""
        if b"client-" in self.head:
            return "client"
        if b"nanny-" in self.head:
            return "nanny"
        if b"engine-" in self.head:
            return "results" if b"/out" in self.head else "commands"
        return ""


class Relay:
    """Listens at `listen`, and connects whoever comes with `target`; a context manager.

    Parameters:
        target: ipc://PATH or tcp://HOST:PORT.
        listen: the same; port 0 is one that is free. Default: TCP on loopback.
    """

    def __init__(self, target: str, listen: str = "tcp://127.0.0.1:0") -> None:
        self.target = target
        self._listener, self.address = _listen(listen)
        self.connections: list[Connection] = []
        #: Whoever comes is turned away.
        self._is_refusing = False
        #: What each new connection begins with.
        self._delay_s = 0.0
        #: Opened by us alone, or left open by `forget`.
        self._alone: list[socket.socket] = []
        self._lock = threading.Lock()
        self._woken, self._waker = os.pipe()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._wake()
        self._thread.join(WAIT_S)
        for connection in list(self.connections):
            self._drop(connection)
        for end in (*self._alone, self._listener):
            end.close()
        if self.address.startswith("ipc://"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address.removeprefix("ipc://"))
        os.close(self._woken)
        os.close(self._waker)

    # --- what may happen to connections ----------------------------------------------------------

    def hold(self, kind: str | None = None, directions: tuple[str, ...] = BOTH) -> None:
        """What travels on the connections that there are is lost from now on, and no end can
        tell. New ones work."""
        with self._lock:
            found = self._of(kind)
            assert found or kind is None, f"no connection for {kind}"
            for connection in found:
                for direction in directions:
                    getattr(connection, direction).is_lossy = True

    def held_bytes(self, kind: str | None = None, directions: tuple[str, ...] = BOTH) -> int:
        """How much was lost on the connections that there are."""
        with self._lock:
            found = self._of(kind)
            return sum(getattr(c, direction).lost_bytes for c in found for direction in directions)

    def wait_held(self, kind: str | None = None) -> None:
        """A peer said something that is lost."""
        deadline_s = time.monotonic() + WAIT_S
        while not self.held_bytes(kind, (UP,)):
            assert time.monotonic() < deadline_s, f"nothing was said on {kind}"
            time.sleep(0.001)

    def stall(self, directions: tuple[str, ...] = BOTH) -> None:
        """Nothing is passed on in these directions, and nothing lost, until `resume`."""
        with self._changing():
            for connection in self.connections:
                for direction in directions:
                    getattr(connection, direction).is_stalled = True

    def resume(self) -> None:
        """End what `stall`, `delay`, and `refuse` began."""
        with self._changing():
            self._is_refusing, self._delay_s = False, 0.0
            for connection in self.connections:
                for flow in connection.flows:
                    flow.is_stalled, flow.delay_s = False, 0.0

    def delay(self, delay_s: float) -> None:
        """Everything comes so much later, on new connections too."""
        with self._changing():
            self._delay_s = delay_s
            for connection in self.connections:
                for flow in connection.flows:
                    flow.delay_s = delay_s

    def cut(self, kind: str | None = None) -> int:
        """Close the connections that there are, at both ends; how many. New ones work."""
        with self._changing():
            found = self._of(kind)
            for connection in found:
                self._drop(connection)
            return len(found)

    def refuse(self) -> None:
        """Close all connections, and turn away new ones."""
        with self._changing():
            self._is_refusing = True
            for connection in list(self.connections):
                self._drop(connection)

    def forget(self) -> None:
        """Close all connections towards those who connected, and leave the target's open: it can't
        tell that nobody is there any more."""
        with self._changing():
            for connection in list(self.connections):
                self._alone.append(connection.far)
                self.connections.remove(connection)
                connection.near.close()

    # --- connections of our own ------------------------------------------------------------------

    def replay(self) -> int:
        """Say again, on connections of our own, the first that each peer said; how many. They
        stay open until `hang_up`, and nothing more is said on them."""
        with self._lock:
            heads = [connection.head for connection in self.connections if connection.head]
        return sum(self._say_alone(head) for head in heads)

    def open_half(self, count: int) -> int:
        """Connect to the target, and say nothing, or the beginning of a greeting; how many."""
        greeting = b"\xff" + bytes(8) + b"\x7f\x03"
        return sum(self._say_alone(greeting[: n % (len(greeting) + 1)]) for n in range(count))

    def hang_up(self) -> None:
        """Close what `replay`, `open_half` and `forget` have left open."""
        with self._lock:
            alone, self._alone = self._alone, []
        for end in alone:
            end.close()

    def _say_alone(self, data: bytes) -> bool:
        end = _connect(self.target)
        if end is None:
            return False
        with contextlib.suppress(OSError):
            end.sendall(data)
        with self._lock:
            self._alone.append(end)
        return True

    # --- the thread ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self):
        with self._lock:
            yield
        self._wake()

    def _wake(self) -> None:
        os.write(self._waker, b"!")

    def _of(self, kind: str | None) -> list[Connection]:
        return [found for found in self.connections if kind is None or found.kind == kind]

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._is_closed:
                    return
                poll, wait_ms = self._interests(time.monotonic())
            ready = dict(poll.poll(wait_ms))
            with self._lock:
                if self._woken in ready:
                    os.read(self._woken, _CHUNK_BYTES)
                if self._listener.fileno() in ready:
                    self._accept()
                now_s = time.monotonic()
                for connection in list(self.connections):
                    if not self._serve(connection, ready, now_s):
                        self._drop(connection)

    def _interests(self, now_s: float) -> tuple[select.poll, int]:
        """What to wait for, and for how long at most."""
        events = {self._woken: select.POLLIN, self._listener.fileno(): select.POLLIN}
        wait_s = 1.0
        for connection in self.connections:
            for flow in connection.flows:
                if flow.wants_to_read:
                    events[flow.source.fileno()] = (
                        events.get(flow.source.fileno(), 0) | select.POLLIN
                    )
                due_s = flow.due_s()
                if due_s is not None and due_s <= now_s:
                    events[flow.sink.fileno()] = events.get(flow.sink.fileno(), 0) | select.POLLOUT
                elif due_s is not None:
                    wait_s = min(wait_s, due_s - now_s)
        poll = select.poll()
        for fd, wanted in events.items():
            poll.register(fd, wanted)
        return poll, int(wait_s * 1000) + 1

    def _serve(self, connection: Connection, ready: dict[int, int], now_s: float) -> bool:
        """Pass on what there is; False if the connection has ended."""
        try:
            for flow in connection.flows:
                if flow.source.fileno() in ready and flow.wants_to_read:
                    try:
                        data = flow.source.recv(_CHUNK_BYTES)
                    except BlockingIOError:
                        data = None
                    if data == b"":
                        return False
                    if data:
                        if flow is connection.up:
                            connection.head = (connection.head + data)[:HEAD_BYTES]
                        flow.take_in(data, now_s)
                flow.pass_on(now_s)
        except OSError:
            return False
        return True

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = None if self._is_refusing else _connect(self.target)
        if far is None:  # the target is away
            near.close()
            return
        connection = Connection(near, far)
        for flow in connection.flows:
            flow.delay_s = self._delay_s
        self.connections.append(connection)

    def _drop(self, connection: Connection) -> None:
        self.connections.remove(connection)
        connection.near.close()
        connection.far.close()


def _listen(address: str) -> tuple[socket.socket, str]:
    if address.startswith("ipc://"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address.removeprefix("ipc://"))
        listener.listen(256)
        return listener, address
    host, _, port = address.removeprefix("tcp://").partition(":")
    listener = socket.create_server((host, int(port)), backlog=256)
    return listener, f"tcp://{host}:{listener.getsockname()[1]}"


def _connect(address: str) -> socket.socket | None:
    """A connection to `address`; None if nobody takes it."""
    is_local = address.startswith("ipc://")
    end = socket.socket(socket.AF_UNIX if is_local else socket.AF_INET)
    end.settimeout(1.0)  # a full backlog
    try:
        if is_local:
            end.connect(address.removeprefix("ipc://"))
        else:
            host, _, port = address.removeprefix("tcp://").partition(":")
            end.connect((host, int(port)))
    except OSError:
        end.close()
        return None
    return end
