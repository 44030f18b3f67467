"""A TCP connection that can break in each of the ways in which a network breaks one."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Proxy:
    """Listens at `address`, and passes on what comes to `target`, both ways; a context manager.

    Parameters:
        target: a tcp:// address.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._lock = threading.Lock()
        #: near end (who connected) -> far end, and back.
        self._other: dict[socket.socket, socket.socket] = {}
        self._near: set[socket.socket] = set()
        self._frozen: set[socket.socket] = set()
        self._swallowed = 0
        self._ends = False
        self._left_open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        self._wake.send(b"x")
        self._thread.join(60)
        ends = [*self._other, *self._left_open, self._listener, self._wake, self._woken]
        for end in ends:
            end.close()
        self._selector.close()

    def freeze(self) -> None:
        """What travels on the connections that there are is lost from now on, both ways, and no end
        can tell. New ones work."""
        with self._lock:
            self._frozen, self._swallowed = set(self._other), 0

    def has_swallowed(self) -> bool:
        """Whether anything was lost since then."""
        return self._swallowed > 0

    def cut(self) -> None:
        """Close all connections, at both ends. New ones work."""
        with self._lock:
            for end in list(self._other):
                self._drop(end)

    def forget(self) -> None:
        """Close all connections towards those who connected, and leave the target's open: it can't
        tell that nobody is there any more."""
        with self._lock:
            for end in list(self._near):
                self._left_open.append(self._other[end])
                self._selector.unregister(self._other[end])
                del self._other[self._other[end]]
                self._close(end)

    def _serve(self) -> None:
        while not self._ends:
            for key, _ in self._selector.select():
                end = key.fileobj
                assert isinstance(end, socket.socket)
                with self._lock:
                    if end is self._listener:
                        self._accept()
                    elif end in self._other:
                        self._pass_on(end)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(self._target)
        self._near.add(near)
        for end, other in ((near, far), (far, near)):
            self._other[end] = other
            self._selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        try:
            data = end.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._drop(end)
        elif end in self._frozen:
            self._swallowed += len(data)
        else:
            with contextlib.suppress(OSError):
                self._other[end].sendall(data)

    def _drop(self, end: socket.socket) -> None:
        other = self._other.get(end)
        self._close(end)
        if other in self._other:
            self._close(other)

    def _close(self, end: socket.socket) -> None:
        if self._other.pop(end, None) is not None:
            self._selector.unregister(end)
        self._near.discard(end)
        self._frozen.discard(end)
        end.close()
