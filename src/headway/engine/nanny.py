"""The nanny: the process beside the engines of one host. `python -m headway.engine.nanny`.

It runs no user code and one thread, so that it always answers. It starts engines, sees at once
how one ended, replaces it, interrupts or kills on request, forwards what is written to their
file descriptors, and sends heartbeats that no task can stop. The rules are in supervise.py;
here is what drives them: one loop that waits for everything at once.

It ends, and its engines with it: by a Bye or the silence of the controller, by SIGTERM, or when
the process that started it is gone (lifeline.py).

What this file must not know: tasks, and how an engine runs them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket as net
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import zmq

from headway.config import EngineConfig, WireConfig
from headway.engine.handshake import say_hello
from headway.engine.starter import EngineCommand
from headway.engine.supervise import Supervisor
from headway.errors import HeadwayError, ProtocolError, StartError
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import connect_dealer, read_connection_file

_STDIN = 0
#: A loop never waits longer, so that it notices that its parent has changed.
_WAIT_MAX_S = 1.0
#: Messages taken from the controller in one turn.
_MESSAGES_A_TURN = 100


@dataclass(frozen=True, slots=True)
class NannyOptions:
    """What the nanny's command line says."""

    connection: Path
    engines: int
    resources: dict[str, float] = field(default_factory=dict)
    sys_path: Sequence[str] = ()
    cwd: Path | None = None
    #: The interpreter of the engines, with its arguments. It must exec, not fork.
    engine_command: Sequence[str] = (sys.executable,)
    #: False for one that was started by hand: its stdin means nothing.
    has_lifeline: bool = True
    config: EngineConfig = field(default_factory=EngineConfig)


class Nanny:
    """One nanny, from its hello to its end. Must be closed."""

    def __init__(self, options: NannyOptions, wire: WireConfig) -> None:
        """Take the signals, and introduce ourselves.

        Raises:
            HeadwayError: the controller can't be reached, or refused.
        """
        self._options = options
        self._token = uuid.uuid4().hex
        self._parent_pid = os.getppid()
        self._heard_at_s = 0.0
        self._refusal: str | None = None
        self._decoder = codec.to_nanny()
        info = read_connection_file(options.connection)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = connect_dealer(
                self._context, info, f"nanny-{self._token}".encode(), wire
            )
            try:
                hello = m.NannyHello(m.VERSION, self._token, os.getpid(), net.gethostname())
                lifeline_fd = _STDIN if options.has_lifeline else None
                self._welcome = say_hello(
                    self._socket, hello, self._decoder, wire.heartbeat_timeout_s, lifeline_fd
                )
            except BaseException:
                self._socket.close(linger=0)
                raise
        except BaseException:
            self._context.term()
            raise
        self._supervisor = Supervisor(self._engine_command(), options.config, self._send)
        self._signals = _Signals()

    def close(self) -> None:
        """Give back sockets and signals. The engines must have ended: see `run`."""
        self._supervisor.close()
        self._signals.close()
        self._socket.close()
        self._context.term()

    def run(self) -> None:
        """Start the engines, and look after them until the end of all.

        Raises:
            StartError: the controller does not talk to us any more; the engines have ended.
            ProtocolError: what it says is no message; the engines have ended.
        """
        try:
            for _ in range(self._options.engines):
                self._supervisor.start(time.monotonic())
            reason = self._loop()
        except ProtocolError as error:
            self._end_engines(str(error))
            raise
        except BaseException:  # a bug of ours: it must not leave engines behind
            self._end_engines("the nanny failed")
            raise
        self._end_engines(reason)
        self._send(m.Bye(reason))
        if self._refusal is not None:
            raise StartError(f"the controller refused: {self._refusal}")

    def _engine_command(self) -> EngineCommand:
        options = self._options
        arguments = [
            *("--connection", str(options.connection.absolute())),
            *("--nanny", self._token),
            *("--resources", json.dumps(options.resources)),
            *("--sys-path", json.dumps(list(options.sys_path))),
        ]
        cwd = str(options.cwd.absolute()) if options.cwd is not None else None
        return EngineCommand(options.engine_command, arguments, os.environ, cwd)

    # --- the loop --------------------------------------------------------------------------------

    def _loop(self) -> str:
        """Look after the engines; the reason for which that ends."""
        heartbeat_at_s = 0.0
        self._heard_at_s = 0.0
        while True:
            now_s = time.monotonic()
            self._supervisor.on_time(now_s)
            if now_s >= heartbeat_at_s:
                self._send(m.Heartbeat(self._supervisor.vitals()))
                heartbeat_at_s = now_s + self._welcome.heartbeat_s
            reason = self._turn(heartbeat_at_s)
            if reason is not None:
                return reason

    def _turn(self, until_s: float) -> str | None:
        """Wait until something happens, and see to it; a reason to end, if that is what it is."""
        now_s = time.monotonic()
        engine_fds = self._supervisor.fds(now_s)
        waited_for: list[tuple[Any, int]] = [(fd, zmq.POLLIN) for fd in engine_fds]
        waited_for += [(self._socket, zmq.POLLIN), (self._signals.fd, zmq.POLLIN)]
        if self._options.has_lifeline:
            waited_for.append((_STDIN, zmq.POLLIN))
        until_s = min(until_s, self._supervisor.next_due_s(now_s), now_s + _WAIT_MAX_S)
        # One more than rounded down, or the last millisecond is spent in a spin.
        wait_ms = max(0, int((until_s - now_s) * 1000) + 1)
        ready = [which for which, _ in zmq.zmq_poll(waited_for, wait_ms)]
        now_s = time.monotonic()
        for which in ready:
            if which in engine_fds:
                self._supervisor.on_readable(engine_fds[which], which, now_s)
        if self._signals.fd in ready:
            numbers = self._signals.take()
            self._supervisor.on_children_changed(now_s)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                return "the nanny was told to stop"
        if _STDIN in ready and not os.read(_STDIN, 4096):
            return "the process that started the nanny is gone"
        if self._options.has_lifeline and os.getppid() != self._parent_pid:
            return "the process that started the nanny is gone"
        if self._socket in ready:
            return self._hear(now_s)
        if self._heard_at_s and now_s > self._heard_at_s + self._welcome.heartbeat_timeout_s:
            return f"the controller was silent for {self._welcome.heartbeat_timeout_s:g} s"
        return None

    def _hear(self, now_s: float) -> str | None:
        """Take in what the controller has sent; a reason to end, if that is what it said."""
        for _ in range(_MESSAGES_A_TURN):
            if not self._socket.poll(0):
                break
            message = self._decoder.decode(self._socket.recv_multipart())
            if isinstance(message, m.Ping) or self._heard_at_s:
                # Its silence counts from its first Ping: one that sends none is not missed.
                self._heard_at_s = now_s
            if isinstance(message, m.StopEngine):
                self._supervisor.stop_engine(message.token, message.reason, message.restart, now_s)
            elif isinstance(message, m.InterruptTasks):
                self._supervisor.stop_tasks(message.token, message.tasks)
            elif isinstance(message, m.Bye):
                return message.reason or "the cluster stopped"
            elif isinstance(message, m.Refused):
                self._refusal = message.reason
                return message.reason
        return None

    def _end_engines(self, reason: str) -> None:
        """Stop all engines, and wait until each has ended: a little above the grace at most."""
        self._supervisor.stop_all(reason, time.monotonic())
        while len(self._supervisor):
            now_s = time.monotonic()
            self._supervisor.on_time(now_s)
            due_s = min(self._supervisor.next_due_s(now_s), now_s + _WAIT_MAX_S)
            engine_fds = self._supervisor.fds(now_s)
            waited_for = [(fd, zmq.POLLIN) for fd in (*engine_fds, self._signals.fd)]
            for fd, _ in zmq.zmq_poll(waited_for, max(0, int((due_s - now_s) * 1000) + 1)):
                if fd in engine_fds:
                    self._supervisor.on_readable(engine_fds[fd], fd, now_s)
            self._signals.take()
            self._supervisor.on_children_changed(time.monotonic())

    def _send(self, message: m.FromNanny) -> None:
        # Never waits: see rule 2 of wire/endpoint.py.
        self._socket.send_multipart(codec.encode(message))


class _Signals:
    """SIGCHLD, SIGTERM and SIGINT as bytes to read, so that one loop waits for everything."""

    _NUMBERS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self._old_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._old = {number: signal.signal(number, _ignore) for number in self._NUMBERS}

    def take(self) -> set[int]:
        """The numbers of the signals that came."""
        try:
            return set(os.read(self.fd, 4096))
        except BlockingIOError:
            return set()

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self.fd)
        os.close(self._write_fd)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """A handler must be there, or no byte is written; the byte is all that is wanted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one nanny; the exit code."""
    told = _parser().parse_args(arguments)
    options = NannyOptions(
        connection=told.connection,
        engines=told.engines,
        resources=told.resources,
        sys_path=told.sys_path,
        cwd=told.cwd,
        engine_command=told.engine_command or [sys.executable],
        has_lifeline=not told.no_lifeline,
        config=EngineConfig(**told.config),
    )
    try:
        nanny = Nanny(options, WireConfig())
    except HeadwayError as error:
        sys.stderr.write(f"the nanny can't start: {error}\n")
        return 1
    try:
        nanny.run()
    except HeadwayError as error:
        sys.stderr.write(f"the nanny ends: {error}\n")
        return 1
    finally:
        nanny.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m headway.engine.nanny", description=__doc__)
    add = parser.add_argument
    add("--connection", type=Path, required=True, help="the connection file")
    add("--engines", type=int, required=True, help="how many engines to start")
    add("--resources", type=json.loads, default={}, help="JSON: what each engine has to give")
    add("--sys-path", type=json.loads, default=[], help="JSON: entries for the engines' sys.path")
    add("--cwd", type=Path, help="the engines' working directory")
    add("--config", type=json.loads, default={}, help="JSON: settings of EngineConfig")
    add(
        "--engine-command",
        type=json.loads,
        default=[],
        help="JSON: the interpreter that runs engines, with its arguments",
    )
    add("--no-lifeline", action="store_true", help="run on when stdin or the parent ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
