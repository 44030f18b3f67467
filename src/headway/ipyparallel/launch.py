"""Starts a scheduler as the controller of an IPython cluster does: sockets, keys, logging.

`launch_scheduler` binds the two ports that clients and engines connect to, connects to the Hub's
three, and serves until it is interrupted. The scheme `pure` is no scheduler at all, but ZMQ's own
device: it is here for comparison.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import zmq
from tornado.ioloop import IOLoop
from traitlets.config import Config
from zmq.devices import monitored_queue

from ipyparallel import util

#: What the scheduler's sockets are called towards the engines, whose one ROUTER is connected to
#: several schedulers: two of one name would collide.
_IDENTITY = "task"
#: Of every socket: a connection that idles is not forgotten by a firewall on its way, and one whose
#: other end has vanished is noticed after five minutes.
_KEEPALIVE = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 60,
    zmq.TCP_KEEPALIVE_INTVL: 30,
    zmq.TCP_KEEPALIVE_CNT: 8,
}
#: Towards engines: one whose connection broke without a sign notices, and connects again. While
#: one message is transferred nothing else is heard, hence the long time. Not towards clients: one
#: that is suspended for an hour would lose its results.
_HEARTBEATS = {
    zmq.HEARTBEAT_IVL: 60_000,
    zmq.HEARTBEAT_TIMEOUT: 600_000,
    zmq.HEARTBEAT_TTL: 600_000,
}


def launch_scheduler(
    in_addr: str,
    out_addr: str,
    mon_addr: str,
    not_addr: str,
    reg_addr: str,
    config: dict[str, Any] | Config | None = None,
    logname: str = "root",
    log_url: str | None = None,
    loglevel: int = logging.DEBUG,
    identity: str | bytes = _IDENTITY,
    in_thread: bool = False,
    curve_secretkey: bytes | None = None,
    curve_publickey: bytes | None = None,
) -> Any:
    """Start a task scheduler, and serve until it is interrupted.

    Parameters:
        in_addr, out_addr: URLs to bind, for clients and for engines.
        mon_addr, not_addr, reg_addr: the Hub's URLs to connect to: its monitor, its
            notifications, its registration.
        config: traitlets configuration: TaskScheduler.hwm, .scheme_name, Session.key ...
        logname, log_url, loglevel: where to log; log_url is a PUB address, None is stderr.
        identity: the prefix of the two bound sockets' identities.
        in_thread: use the context and the event loop of the caller, and return at once.
        curve_secretkey, curve_publickey: the controller's pair of keys; None is no CURVE.

    Returns:
        With in_thread, the TaskScheduler; with the scheme `pure`, the thread that it runs in, until
        the context is terminated. Otherwise None, after an interrupt (Ctrl-C).
    """
    config = Config(config or {})
    context = zmq.Context.instance() if in_thread else zmq.Context()
    log = _logger(logname, context, log_url, loglevel)
    name = identity if isinstance(identity, bytes) else identity.encode()
    keys = {"curve_secretkey": curve_secretkey, "curve_publickey": curve_publickey}
    sockets = _Sockets(context, keys)
    if config.TaskScheduler.get("scheme_name") == "pure":
        return _start_pure(sockets, in_addr, out_addr, mon_addr, name, log, in_thread)

    from headway.ipyparallel.scheduler import TaskScheduler

    loop = IOLoop.current() if in_thread else IOLoop(make_current=False)
    control_addr = config.TaskScheduler.get("control_addr", "")
    scheduler = TaskScheduler(
        client_stream=sockets.bound(zmq.ROUTER, in_addr, name + b"_in"),
        engine_stream=sockets.bound(zmq.ROUTER, out_addr, name + b"_out", _HEARTBEATS),
        mon_stream=sockets.connected(zmq.PUB, mon_addr),
        notifier_stream=sockets.connected(zmq.SUB, not_addr),
        query_stream=sockets.connected(zmq.DEALER, reg_addr),
        control_stream=sockets.connected(zmq.DEALER, control_addr) if control_addr else None,
        loop=loop,
        log=log,
        config=config,
    )
    scheduler.start()
    if in_thread:
        return scheduler
    try:
        loop.start()
    except KeyboardInterrupt:
        log.critical("interrupted, exiting")
    finally:
        scheduler.close()
        loop.close()
        context.destroy(linger=0)
    return None


class _Sockets:
    """Makes sockets without limits, with the cluster's keys."""

    def __init__(self, context: zmq.Context[Any], keys: dict[str, bytes | None]) -> None:
        self._context = context
        self._keys = keys

    def _socket(self, kind: int, options: dict[Any, int]) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self._context.socket(kind)
        socket.set_hwm(0)
        for option, value in {**_KEEPALIVE, **options}.items():
            socket.setsockopt(option, value)
        return socket

    def bound(
        self, kind: int, url: str, identity: bytes, options: dict[Any, int] | None = None
    ) -> zmq.Socket[Any]:
        socket = self._socket(kind, options or {})
        socket.setsockopt(zmq.IDENTITY, identity)
        util.bind(socket, url, curve_secretkey=self._keys["curve_secretkey"])
        return socket

    def connected(self, kind: int, url: str) -> zmq.Socket[Any]:
        socket = self._socket(kind, {})
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        util.connect(socket, url, curve_serverkey=self._keys["curve_publickey"], **self._keys)
        return socket


def _start_pure(
    sockets: _Sockets,
    in_addr: str,
    out_addr: str,
    mon_addr: str,
    name: bytes,
    log: logging.Logger,
    in_thread: bool,
) -> threading.Thread | None:
    """ZMQ's own queue: tasks go to engines in turn, whatever they ask for."""
    log.warning("using the pure ZMQ task scheduler: no dependencies, targets, retries or timeouts")
    ends = [
        sockets.bound(zmq.ROUTER, in_addr, name + b"_in"),
        sockets.bound(zmq.DEALER, out_addr, name + b"_out", _HEARTBEATS),
        sockets.connected(zmq.PUB, mon_addr),
    ]
    if in_thread:
        thread = threading.Thread(target=_serve_pure, args=(ends,), name="pure", daemon=True)
        thread.start()
        return thread
    try:
        _serve_pure(ends)
    except KeyboardInterrupt:
        log.critical("interrupted, exiting")
    return None


def _serve_pure(ends: list[zmq.Socket[Any]]) -> None:
    try:
        monitored_queue(*ends, b"intask", b"outtask")
    except zmq.ContextTerminated:
        pass
    finally:
        for socket in ends:
            socket.close(linger=0)


def _logger(
    logname: str, context: zmq.Context[Any], log_url: str | None, loglevel: int
) -> logging.Logger:
    """The logger of that name, with a handler of ipyparallel's."""
    if log_url:
        util.connect_logger(logname, context, log_url, root="scheduler", loglevel=loglevel)
    else:
        util.local_logger(logname, loglevel)
    return logging.getLogger(logname)
