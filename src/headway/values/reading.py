"""Reading a stored value: where it lies, on its own host; else fetched from its store.

Whether a value's host is ours is not asked: a file that is at its path, is ours and has its name in
it, is it, wherever that file system comes from. What is fetched goes into memory of its own, once:
nothing passes through the controller.

What this file must not know: what is in a pickle, tasks, futures.
"""

from __future__ import annotations

import mmap
import uuid
from collections import deque

import zmq

from headway.config import ValuesConfig, WireConfig
from headway.core.events import StoredValue
from headway.errors import ConnectionLost, HeadwayError, ValueLost
from headway.values import files, pieces
from headway.values.layout import take_apart
from headway.wire.endpoint import ConnectionInfo, Monitor, connect_once


class Reader:
    """Reads values for one process; may be used by any of its threads.

    Parameters:
        info: the cluster's, whose keys open its stores.
        own_store: the one of this very host, of which nothing need be fetched; "" if there is none.
    """

    def __init__(
        self, info: ConnectionInfo, config: ValuesConfig, wire: WireConfig, own_store: str = ""
    ) -> None:
        self._info = info
        self._config = config
        self._wire = wire
        self._own_store = own_store

    def read(self, value: StoredValue) -> list[memoryview]:
        """The pickle of `value`, and its buffers. Nobody can write to them.

        Raises:
            ValueLost: it is nowhere, damaged, or can't be reached; the message says which.
        """
        return take_apart(value.name, self.map_here(value) or self._fetch(value))

    def map_here(self, value: StoredValue) -> memoryview | None:
        """The file of `value`, if it can be read in place; None if it is not on this host.

        Raises:
            ValueLost: it was here, and is gone; or what is there is not fit to be read.
        """
        try:
            return files.map_file(value.path)
        except FileNotFoundError:
            if value.store == self._own_store or not value.address:
                raise ValueLost(
                    f"the value {value.name} ({value.size:,} bytes) is gone from {value.path} "
                    f"on {value.host}"
                ) from None
            return None

    def _fetch(self, value: StoredValue) -> memoryview:
        address, key = value.address, value.key
        info = ConnectionInfo(
            self._info.cluster,
            address,
            key,
            self._info.client_public if key else None,
            self._info.client_secret if key else None,
        )
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            identity = f"reader-{uuid.uuid4().hex}".encode()
            socket, monitor = connect_once(context, info, identity, self._wire, must_listen=True)
            try:
                return self._receive(value, socket, monitor)
            finally:
                monitor.close()
                socket.close(linger=0)
        except ConnectionLost as error:
            raise ValueLost(_out_of_reach(value, str(error))) from None
        finally:
            context.term()

    def _receive(
        self, value: StoredValue, socket: zmq.Socket[bytes], monitor: Monitor
    ) -> memoryview:
        size, chunk = value.size, self._config.chunk_bytes
        buffer = mmap.mmap(-1, max(size, 1))
        into = memoryview(buffer)
        to_ask = deque(range(0, size, chunk))
        asked: set[int] = set()
        while to_ask or asked:
            while to_ask and len(asked) < self._config.chunks_ahead:
                offset = to_ask.popleft()
                asked.add(offset)
                ask = pieces.AskPiece(value.name, offset, min(chunk, size - offset))
                socket.send(pieces.encode(ask), zmq.NOBLOCK)
            piece, data = self._next_piece(value, socket, monitor)
            end = min(piece.offset + chunk, size)
            if piece.error:
                raise ValueLost(f"{piece.error}: it was on {value.host}")
            fits = data.nbytes == end - piece.offset
            if piece.total != size or piece.offset not in asked or not fits:
                raise ValueLost(
                    f"the store of {value.host} sent {data.nbytes:,} bytes at {piece.offset:,} of "
                    f"the value {value.name}, of {piece.total:,} in all, and not of {size:,}"
                )
            asked.remove(piece.offset)
            into[piece.offset : end] = data
        return into.toreadonly()[:size]

    def _next_piece(
        self, value: StoredValue, socket: zmq.Socket[bytes], monitor: Monitor
    ) -> tuple[pieces.Piece, memoryview]:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(monitor.socket, zmq.POLLIN)
        timeout_s = self._config.fetch_timeout_s
        while True:
            ready = dict(poller.poll(int(timeout_s * 1000)))
            if socket in ready:
                head, *rest = socket.recv_multipart(copy=False)
                try:
                    piece = pieces.decode_piece(head.buffer)
                except HeadwayError as error:
                    raise ValueLost(_out_of_reach(value, str(error))) from None
                return piece, rest[0].buffer if rest else memoryview(b"")
            if not ready:
                why = f"it has sent nothing for {timeout_s:g} s"
                raise ValueLost(_out_of_reach(value, why))
            monitor.look()
            if monitor.has_ended:
                why = monitor.handshake_failure() or "nobody listens there, or no more"
                raise ValueLost(_out_of_reach(value, why))


def _out_of_reach(value: StoredValue, why: str) -> str:
    return (
        f"the value {value.name} ({value.size:,} bytes) on {value.host} is out of reach at "
        f"{value.address}: {why}"
    )
