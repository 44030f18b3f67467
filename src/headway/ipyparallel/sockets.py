"""Sockets that are read until they are empty, and written without detours.

Whoever starts a scheduler hands it ZMQStreams, whose callbacks cost more than the scheduling. A
`Channel` takes the socket of such a stream over. Its file descriptor signals edges alone, and a
send may swallow one, so whoever is done with a turn asks `readable` of each channel before it
sleeps.

pyzmq's own methods for messages of several parts are loops in Python over a method in Python
over the one in C; here the one in C is called. A frame is received as bytes, which are cheaper to
look at and to send on; a large one as zmq.Frame, which is sent on without a copy.
"""

from __future__ import annotations

import errno
import struct
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import zmq
import zmq.backend
from tornado.ioloop import IOLoop

from headway.ipyparallel.frames import Frame, as_bytes

_SEND: Any = zmq.backend.Socket.send
_RECV: Any = zmq.backend.Socket.recv
_GET: Any = zmq.backend.Socket.get
_SNDMORE = int(zmq.SNDMORE)
_DONTWAIT = int(zmq.DONTWAIT)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)
#: A frame of more bytes is not copied: from here on that costs more than a zmq.Frame does.
COPIED_MAX = 16_384
#: In its place: no frame is copied.
NONE_COPIED = -1


class Unroutable(Exception):
    """No peer of that identity is connected."""


class Channel:
    """One socket.

    Parameters:
        stream: a ZMQStream, which is not used any more, or a plain socket.
        loop: calls `on_readable` when something may have come.
        on_readable: None for a socket that is never read. The descriptor of such a one stays
            readable once a peer has subscribed, and would keep the loop busy for nothing.
        copied_max: frames of more bytes are received as zmq.Frame; NONE_COPIED for all of them.
    """

    def __init__(
        self,
        stream: Any,
        loop: IOLoop,
        on_readable: Callable[[], None] | None = None,
        copied_max: int = COPIED_MAX,
    ) -> None:
        self.socket: zmq.Socket[Any] = getattr(stream, "socket", stream)
        self._copied_max = copied_max
        self._send = _SEND.__get__(self.socket)
        self._receive = _RECV.__get__(self.socket)
        self._loop = loop
        if stream is not self.socket:
            stream.on_recv(None)
            loop.remove_handler(self.socket)
        self._read = on_readable is not None
        if on_readable is not None:
            loop.add_handler(self.socket, lambda socket, events: on_readable(), loop.READ)

    def route_strictly(self) -> None:
        """For a ROUTER: from now on a message to nobody raises Unroutable, and a peer that comes
        back takes the place of its old connection, which may look alive for long after it broke.
        """
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)

    @property
    def address(self) -> str:
        """Where it is bound, or connected to."""
        return self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")

    @property
    def readable(self) -> bool:
        """Whether a message waits."""
        return bool(_GET(self.socket, _EVENTS) & _POLLIN)

    @property
    def writable(self) -> bool:
        """Whether a message can be sent without waiting."""
        return bool(_GET(self.socket, _EVENTS) & _POLLOUT)

    def receive(self) -> list[Frame] | None:
        """The next message, None if none waits."""
        receive, copied_max = self._receive, self._copied_max
        try:
            frame = receive(_DONTWAIT, False)
        except zmq.Again:
            return None
        message = [frame.bytes if len(frame) <= copied_max else frame]
        while frame.more:
            frame = receive(0, False)
            message.append(frame.bytes if len(frame) <= copied_max else frame)
        return message

    def send(self, message: Sequence[Frame]) -> None:
        """Send all frames: there are at least two.

        Raises:
            Unroutable: see `route_strictly`. Nothing was sent.
        """
        # pyzmq copies bytes, and no zmq.Frame.
        send = self._send
        first, *middle, last = message
        try:
            send(first, _SNDMORE)
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise Unroutable from None
            raise
        for frame in middle:
            send(frame, _SNDMORE)
        send(last)

    def close(self) -> None:
        """Leave the loop and close the socket."""
        if self._read:
            self._loop.remove_handler(self.socket)
        self.socket.close(linger=0)


_EVENT = struct.Struct("=Hi")  # of a monitor's message: the event, its value


class Watch:
    """Tells of what happens to the connections of a channel.

    Parameters:
        channel: of any transport; inproc has no connections to tell of.
        events: which of zmq's EVENT_ constants.
        on_event: called with each.
    """

    def __init__(
        self, channel: Channel, loop: IOLoop, events: int, on_event: Callable[[int], None]
    ) -> None:
        self._watched = channel
        self._on_event = on_event
        # A name of our own: pyzmq's is made from a file descriptor, which is soon used again.
        name = f"inproc://watch-{uuid.uuid4().hex}"
        monitor = channel.socket.get_monitor_socket(events, name)
        self._channel = Channel(monitor, loop, self._read)
        # Until it was found empty once, its descriptor signals nothing.
        self._read()

    def _read(self) -> None:
        while (message := self._channel.receive()) is not None:
            event, _ = _EVENT.unpack(as_bytes(message[0]))
            self._on_event(event)

    def close(self) -> None:
        """Watch no more; before the channel is closed."""
        if not self._watched.socket.closed:
            self._watched.socket.disable_monitor()
        self._channel.close()
