"""A store's answer to other hosts: a thread of the nanny that sends values, piece by piece.

It has a socket of its own, so that a large value never stands before a heartbeat: local, or TCP
with CURVE, as everything else (wire/endpoint.py). It answers whoever has the cluster's key, and
from the store's directories alone. It runs no code of users, and remembers nothing: what is asked
for is opened, read and closed, which costs little beside a piece.

What this file must not know: which values are needed, and the controller.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket as net
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator

from headway.config import WireConfig
from headway.errors import ProtocolError
from headway.values import pieces
from headway.values.store import Store
from headway.wire.endpoint import ConnectionInfo, Keys, bind_router, start_authenticator

_SOCKET_FILE = ".values.sock"
#: A question has a name and two numbers.
_ASK_BYTES_MAX = 4096


class ValueServer:
    """Serves one store, to those who can connect to the cluster. Must be closed.

    Parameters:
        store: whose values are sent.
        info: the cluster's; where its sockets are local, ours is as well.

    Raises:
        StartError: no socket can be bound.
    """

    def __init__(self, store: Store, info: ConnectionInfo, wire: WireConfig) -> None:
        self._store = store
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        #: With which others make sure that it is us.
        self.key: str | None = None
        self._wake_reader, self._wake_writer = net.socketpair()
        try:
            keys = self._make_keys(info)
            where = _where(info, store.directories[-1])
            limits = replace(wire, frame_bytes_max=_ASK_BYTES_MAX)
            self._router, self.address = bind_router(self._context, where, keys, limits)
        except BaseException:
            self._close_rest()
            raise
        self._thread = threading.Thread(target=self._run, name="headway-values", daemon=True)
        self._thread.start()

    def _make_keys(self, info: ConnectionInfo) -> Keys | None:
        if not (info.client_public and info.client_secret):
            return None
        public, secret = (key.decode() for key in zmq.curve_keypair())
        keys = Keys(public, secret, info.client_public, info.client_secret)
        self._authenticator = start_authenticator(self._context, keys)
        self.key = public
        return keys

    def close(self) -> None:
        """Answer nobody any more."""
        self._wake_writer.close()
        self._thread.join()
        self._close_rest()

    def _close_rest(self) -> None:
        if self._authenticator is not None:
            self._authenticator.stop()
        self._wake_reader.close()
        self._wake_writer.close()
        self._context.term()

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        # They are the main thread's.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD})
        try:
            self._serve()
        except BaseException:  # a bug of ours: values of this host are out of reach for others
            sys.stderr.write(f"the store serves no more: {traceback.format_exc()}")
        finally:
            self._router.close(linger=0)

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._wake_reader, zmq.POLLIN)
        while self._wake_reader.fileno() not in (ready := dict(poller.poll())):
            if self._router in ready:
                identity, *frames = self._router.recv_multipart()
                # Who asks garbage is not answered.
                with contextlib.suppress(ProtocolError):
                    self._answer(identity, pieces.decode_ask(frames))

    def _answer(self, identity: bytes, asked: pieces.AskPiece) -> None:
        data = b""
        total = 0
        error = ""
        try:
            path = self._store.find(asked.name)
            if path is None:
                error = f"the store has no value {asked.name}"
            else:
                data, total = _read(path, asked)
        except OSError as failure:
            error = f"the value {asked.name} can't be read: {failure.strerror}"
        piece = pieces.Piece(asked.name, asked.offset, total, error)
        try:
            self._router.send_multipart([identity, pieces.encode(piece), data], copy=False)
        except zmq.ZMQError as failure:
            if failure.errno != zmq.EHOSTUNREACH:  # it has gone meanwhile
                raise


def _read(path: Path, asked: pieces.AskPiece) -> tuple[bytes, int]:
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), asked.size, asked.offset), os.fstat(file.fileno()).st_size


def _where(info: ConnectionInfo, directory: Path) -> str:
    """Where to bind: beside the values; or on the way by which this host reaches the controller,
    by which others reach this host as well."""
    if info.address.startswith("ipc://"):
        return f"ipc://{directory / _SOCKET_FILE}"
    host, _, port = info.address.removeprefix("tcp://").rpartition(":")
    with net.socket(net.AF_INET, net.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        return f"tcp://{probe.getsockname()[0]}"
