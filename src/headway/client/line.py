"""A client's connections to its controller, one after another.

Each is a socket of its own. ZeroMQ would connect the same one again by itself, and then first
send what it had not got rid of before, of which the beginning may be lost; but the first thing
that a controller hears on a connection must be a hello.

What this file must not know: messages, tasks, and when a controller is given up.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import zmq

from headway.config import WireConfig
from headway.errors import ConnectionLost
from headway.wire.codec import Buffer
from headway.wire.endpoint import ConnectionInfo, Monitor, connect_once

#: Between two attempts: at first, and doubled up to this. So whoever returns has everybody back
#: within a second, and one that is away costs little.
_PAUSE_S = 0.05
_PAUSE_MAX_S = 1.0

#: While there is so much to hear that nobody sleeps, the connection is looked at so often: a look
#: costs microseconds, and a turn little more.
_LOOK_S = 0.01


class Line:
    """A connection, or attempts at one. Used by the io thread alone; must be closed."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        info: ConnectionInfo,
        wire: WireConfig,
        poller: zmq.Poller,
    ) -> None:
        """Begin to connect. What there is to be heard wakes `poller`.

        Raises:
            ConnectionLost: nobody listens there, where that can be seen at once; or a socket
                can't be made.
        """
        self._context = context
        self._info = info
        self._wire = wire
        self._poller = poller
        #: Our own random name: the same on each connection.
        self.token = uuid.uuid4().hex
        self._dealer: zmq.Socket[bytes] | None = None
        self._monitor: Monitor | None = None
        #: Whether there is a connection; whether one, or an attempt at one, has ended, and what
        #: came on it is still to be received; why we were not let in the last time, or None.
        self.is_connected = False
        self.has_ended = False
        self.failure: str | None = None
        self._broken = 0
        self._pause_s = _PAUSE_S
        self._connect_at = self._look_at = 0.0
        self._connect(must_listen=True)

    def _connect(self, must_listen: bool) -> None:
        self._dealer, self._monitor = connect_once(
            self._context,
            self._info,
            b"client-" + self.token.encode(),
            self._wire,
            must_listen=must_listen,
            broken=self._broken,
        )
        self._poller.register(self._dealer, zmq.POLLIN)
        self._poller.register(self._monitor.socket, zmq.POLLIN)

    def look(self, now: float) -> bool:
        """See what has become of the connection. Never waits. True if there is a new one."""
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_S
        monitor = self._monitor
        if monitor is None:
            if now >= self._connect_at:
                self._try_again(now)
            return False
        failure = monitor.handshake_failure()
        was_connected, self.is_connected = self.is_connected, monitor.is_connected
        self.has_ended = monitor.has_ended
        self._broken = monitor.broken
        if self.is_connected and not was_connected:
            self.failure = None
            self._pause_s = _PAUSE_S
            return True
        self.failure = failure or self.failure
        return False

    def on_readable(self, source: object) -> None:
        """The poller found `source`, which may be none of ours, to be readable."""
        if self._monitor is not None and source is self._monitor.socket:
            self._look_at = 0.0

    def _try_again(self, now: float) -> None:
        self._connect_at = now + self._pause_s
        self._pause_s = min(self._pause_s * 2, _PAUSE_MAX_S)
        try:
            self._connect(must_listen=False)
        except ConnectionLost as error:  # no descriptors, for instance: they may come back
            self.failure = str(error)

    def drop(self) -> None:
        """Let the connection go, with all that was not received or sent; then comes another."""
        self._close(0)

    def receive(self) -> list[bytes] | None:
        """The frames of the next message; None if none has come."""
        if self._dealer is None:
            return None
        # Not by trying: an exception costs more, and that lets go of the GIL.
        if not int(self._dealer.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return None
        return self._dealer.recv_multipart(zmq.NOBLOCK)

    def send(self, frames: Sequence[Buffer]) -> None:
        """Send one message; it is lost if there is no connection. Never waits."""
        if self._dealer is None:
            return
        try:
            # The socket has no limit of its own (see endpoint.py), and no reason to block, but
            # when its connection has ended. Large frames are handed over, not copied; for small
            # ones a copy is cheaper.
            self._dealer.send_multipart(frames, zmq.NOBLOCK, copy=len(frames) == 1)
        except zmq.Again:
            return

    def close(self, at_once: bool) -> None:
        """Close for good. What was said last has a moment to leave (see endpoint.py), unless
        nobody is there to hear it."""
        self._close(0 if at_once else None)

    def _close(self, linger_ms: int | None) -> None:
        monitor, self._monitor = self._monitor, None
        dealer, self._dealer = self._dealer, None
        self.is_connected = self.has_ended = False
        self._look_at = 0.0
        if monitor is not None:
            self._poller.unregister(monitor.socket)
            monitor.close()  # first: see Monitor
        if dealer is not None:
            self._poller.unregister(dealer)
            dealer.close(linger_ms)
