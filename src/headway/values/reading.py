"""Reading a stored value: where it lies, on its own host; else fetched from its store, or from the
place that hosts share.

Whether a value's host is ours is not asked: a file that is at its path, is ours and has its name in
it, is it, wherever that file system comes from. What is fetched goes into memory of its own, once,
and never through the controller. An engine keeps the last ones, within a bound: the tasks of one
`map` often share an input.

What this file must not know: what is in a pickle, tasks, futures.
"""

from __future__ import annotations

import mmap
import threading
import uuid
from collections import OrderedDict, deque

import zmq

from headway.config import ValuesConfig, WireConfig
from headway.core.events import StoredValue
from headway.errors import ConnectionLost, HeadwayError, ValueLost
from headway.values import files, pieces
from headway.values.layout import take_apart
from headway.values.shared import read_url
from headway.wire.endpoint import ConnectionInfo, Monitor, connect_once


class Reader:
    """Reads values for one process; may be used by any of its threads.

    Parameters:
        info: the cluster's, whose keys open its stores.
        own_store: the one of this very host, of which nothing need be fetched; "" if there is none.
        kept_bytes_max: what is kept of values that were fetched, the last ones, to be read again.
    """

    def __init__(
        self,
        info: ConnectionInfo,
        config: ValuesConfig,
        wire: WireConfig,
        own_store: str = "",
        kept_bytes_max: int = 0,
    ) -> None:
        self._info = info
        self._config = config
        self._wire = wire
        self._own_store = own_store
        self._kept_bytes_max = kept_bytes_max
        self._kept: OrderedDict[tuple[str, str], memoryview] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def read(self, value: StoredValue) -> list[memoryview]:
        """The pickle of `value`, and its buffers. Nobody can write to them.

        Raises:
            ValueLost: it is nowhere, damaged, or can't be reached; the message says which.
        """
        data = self._find_kept(value)
        if data is None:
            data = self.map_here(value)
        if data is None:
            is_url = _is_url(value)
            data = read_url(value.path, value.size) if is_url else self._fetch(value)
            self._keep(value, data)
        return take_apart(value.name, data)

    def _find_kept(self, value: StoredValue) -> memoryview | None:
        with self._lock:
            data = self._kept.get((value.store, value.name))
            if data is not None:
                self._kept.move_to_end((value.store, value.name))
            return data

    def _keep(self, value: StoredValue, data: memoryview) -> None:
        if data.nbytes > self._kept_bytes_max:
            return
        with self._lock:
            if self._kept.setdefault((value.store, value.name), data) is data:
                self._kept_bytes += data.nbytes
            while self._kept_bytes > self._kept_bytes_max:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.nbytes

    def map_here(self, value: StoredValue, may_copy: bool = True) -> memoryview | None:
        """The file of `value`, if it can be read in place; None if it is not on this host, or with
        `may_copy` false, if it would be copied.

        Raises:
            ValueLost: it was here, and is gone; or what is there is not fit to be read.
        """
        if _is_url(value):
            return None
        try:
            return files.map_file(value.path, may_copy)
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


def _is_url(value: StoredValue) -> bool:
    """Whether it is in a shared place that is no directory."""
    return "://" in value.path


def _out_of_reach(value: StoredValue, why: str) -> str:
    return (
        f"the value {value.name} ({value.size:,} bytes) on {value.host} is out of reach at "
        f"{value.address}: {why}"
    )
