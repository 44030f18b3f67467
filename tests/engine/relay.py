"""A relay between a controller's socket and its peers, which loses what the test wants lost.

It passes bytes on, and knows a connection by the identity in its handshake. One thread; what the
test asks for has happened when the call returns.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time

#: The handshake of ZeroMQ, with the identity in it, is shorter.
HEAD_BYTES = 1_000
WAIT_S = 20.0


class Connection:
    """One peer's connection, and ours to the controller for it."""

    def __init__(self, peer, target):
        self.peer = peer
        self.controller = socket.socket(socket.AF_UNIX)
        self.controller.connect(str(target))
        self.head = b""
        #: Nothing is passed on any more; how many bytes the peer has said since.
        self.is_held = False
        self.held_bytes = 0

    @property
    def kind(self):
        """nanny, commands or results; "" if its handshake has yet to come."""
        if b"nanny-" in self.head:
            return "nanny"
        if b"engine-" in self.head:
            return "results" if b"/out" in self.head else "commands"
        return ""


class Relay:
    """Listens at `path`, and connects whoever comes with `target`."""

    def __init__(self, path, target):
        self.path = path
        self.target = target
        self.connections = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._is_closed = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self):
        with self._lock:
            self._is_closed = True
        self._thread.join()
        for connection in list(self.connections):
            self._drop(connection)
        self._listener.close()
        self._selector.close()

    def hold(self, kind):
        """From now on, what is said on connections of that kind gets lost, both ways."""
        with self._lock:
            found = self._of(kind)
            assert found, f"no connection for {kind}"
            for connection in found:
                connection.is_held = True

    def wait_held(self, kind):
        """Something was said on a connection of that kind, and is held."""
        deadline_s = time.monotonic() + WAIT_S
        while not any(connection.held_bytes for connection in self._of(kind)):
            assert time.monotonic() < deadline_s, f"nothing was said on {kind}"
            time.sleep(0.001)

    def cut(self, kind):
        """End the connections of that kind, if there are any."""
        with self._lock:
            for connection in self._of(kind):
                self._drop(connection)

    def _of(self, kind):
        return [connection for connection in self.connections if connection.kind == kind]

    def _run(self):
        while True:
            ready = self._selector.select(0.01)
            with self._lock:
                if self._is_closed:
                    return
                for key, _ in ready:
                    self._on_readable(key)

    def _on_readable(self, key):
        if key.fileobj is self._listener:
            self._accept()
            return
        connection = key.data
        if connection not in self.connections:
            return  # it was dropped in this very turn
        source = key.fileobj
        target = connection.controller if source is connection.peer else connection.peer
        try:
            data = source.recv(1 << 16)
            if source is connection.peer:
                connection.head = (connection.head + data)[:HEAD_BYTES]
                connection.held_bytes += len(data) * connection.is_held
            if data and not connection.is_held:
                target.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(connection)

    def _accept(self):
        peer, _ = self._listener.accept()
        try:
            connection = Connection(peer, self.target)
        except OSError:  # the controller is away
            peer.close()
            return
        self.connections.append(connection)
        for end in (connection.peer, connection.controller):
            self._selector.register(end, selectors.EVENT_READ, connection)

    def _drop(self, connection):
        self.connections.remove(connection)
        for end in (connection.peer, connection.controller):
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            end.close()
