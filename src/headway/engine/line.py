"""One connection to the controller: a DEALER that is used until its connection ends.

ZeroMQ would connect again by itself, and then first say what it had not got rid of before. Of
that the beginning may be lost, and the controller must hear a hello first. So a line is one
connection: when it has ended, what had come on it is received, it is closed, and its owner makes
another one.

What this file must not know: messages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import zmq

from headway.config import WireConfig
from headway.wire.codec import Buffer
from headway.wire.endpoint import ConnectionInfo, Monitor, connect_once


@dataclass(frozen=True, slots=True)
class Route:
    """Where the controller is, and as whom we connect."""

    context: zmq.Context[zmq.Socket[bytes]]
    info: ConnectionInfo
    identity: bytes
    wire: WireConfig

    def connect(self, *, must_listen: bool = False, broken: int = 0) -> Line:
        """Begin to connect.

        Parameters:
            must_listen: raise if nobody listens there, where that can be seen at once.
            broken: how many handshakes before this one were broken off.

        Raises:
            ConnectionLost: a socket can't be made, or nobody listens.
        """
        socket, monitor = connect_once(
            self.context,
            self.info,
            self.identity,
            self.wire,
            must_listen=must_listen,
            broken=broken,
        )
        return Line(socket, monitor)

    def with_suffix(self, suffix: bytes) -> Route:
        """The same, for a second connection of ours."""
        return replace(self, identity=self.identity + suffix)


class Line:
    """A connection, or the attempt at one. Must be closed."""

    def __init__(self, socket: zmq.Socket[bytes], monitor: Monitor) -> None:
        self.socket = socket
        self.monitor = monitor
        #: Readable when there may be something new: of what came, and of the connection. Before
        #: waiting for them, `receive` and `monitor.look` must have found nothing.
        self.fds = (int(socket.getsockopt(zmq.FD)), int(monitor.socket.getsockopt(zmq.FD)))

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Send one message, and never wait. False if the connection has ended for good."""
        try:
            # Large frames are handed over, not copied; for small ones a copy is cheaper.
            self.socket.send_multipart(frames, zmq.NOBLOCK, copy=len(frames) == 1)
        except zmq.Again:
            return False
        return True

    def receive(self) -> list[bytes] | None:
        """The frames of the next message; None if none has come."""
        # Not by trying: that lets go of the GIL, and a task of a few microseconds waits for us.
        if not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return None
        return self.socket.recv_multipart(zmq.NOBLOCK)

    def close(self, *, at_once: bool = True) -> None:
        """Give the sockets back; what was not sent is thrown away, or has a moment to leave."""
        # The monitor first: see Monitor. Where the context has ended, nobody is told any more.
        with contextlib.suppress(zmq.ContextTerminated):
            self.monitor.close()
        self.monitor.socket.close()
        self.socket.close(linger=0 if at_once else None)
