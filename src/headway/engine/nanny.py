"""The nanny: the process beside the engines of one host. `python -m headway.engine.nanny`.

It runs no user code, and one thread for all of this, so that it always answers; a second one sends
large values to other hosts (values/server.py). It starts engines, sees at once
how one ended, replaces it, interrupts or kills on request, forwards what is written to their
file descriptors, and sends heartbeats that no task can stop. The rules are in supervise.py;
here is what drives them: one loop that waits for everything at once.

It ends, and its engines with it: by a Bye of the controller, or when that does not want us; when
the controller was away for longer than it said we should wait (patience.py); by SIGTERM, or at the
end of its time, when its engines have had some time to end what they run (leaving.py); or, if it
has a lifeline, when the process that started it is gone (lifeline.py).

What this file must not know: tasks, and how an engine runs them.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket as net
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zmq

from headway.config import EngineConfig, WireConfig
from headway.engine.handshake import wait_welcome
from headway.engine.leaving import NEVER_S, Leaving
from headway.engine.line import Route
from headway.engine.link import Link
from headway.engine.patience import Patience
from headway.engine.reports import Reports
from headway.engine.signal_pipe import SignalPipe
from headway.engine.starter import EngineCommand
from headway.engine.storekeeper import Storekeeper
from headway.engine.supervise import Supervisor
from headway.errors import ConnectionLost, HeadwayError
from headway.logbook import FORMATS, OFF, Event, note, open_log
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import read_connection_file

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
    #: False for one that was started by hand, or that survives its controller: its stdin, and who
    #: its parent is, mean nothing.
    has_lifeline: bool = True
    #: Its lifeline is that of the process that started its parent, which it survives.
    is_orphan: bool = False
    #: After so long it ends, whatever runs there; None for never.
    lifetime_s: float | None = None
    #: For how long what runs may go on when it is told to end, or at the end of its time.
    drain_s: float = 0.0
    config: EngineConfig = field(default_factory=EngineConfig)


class Nanny:
    """One nanny, from its hello to its end. Must be closed."""

    def __init__(self, options: NannyOptions, wire: WireConfig) -> None:
        """Introduce ourselves, and take the signals.

        Raises:
            HeadwayError: the controller can't be reached, or refused.
        """
        self._options = options
        self._token = uuid.uuid4().hex
        self._parent_pid = os.getppid()
        self._lifeline_ended = False
        self._is_alone = False
        self._heartbeat_at_s = 0.0
        self._heartbeat_s = wire.heartbeat_s
        self._patience = Patience()
        lifetime_s = options.lifetime_s
        self._ends_at_s = NEVER_S if lifetime_s is None else time.monotonic() + lifetime_s
        self._leaving = Leaving(options.drain_s, self._ends_at_s)
        self._reports = Reports(lambda message: self._link.say(message))
        info = read_connection_file(options.connection)
        self._keeper = keeper = Storekeeper(self._token, info, wire)
        self._supervisor = Supervisor(
            self._engine_command(), options.config, self._reports.say, keeper.engine_ended
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            route = Route(self._context, info, f"nanny-{self._token}".encode(), wire)
            self._link: Link[m.ToNanny] = Link(
                route,
                codec.to_nanny(),
                self._make_hello,
                self._on_leave,
                self._on_welcome,
                must_listen=True,
            )
            try:
                lifeline_fd = _STDIN if options.has_lifeline else None
                wait_welcome(self._link, wire.heartbeat_timeout_s, lifeline_fd)
            except BaseException:
                self._link.close()
                raise
        except BaseException:
            self._context.term()
            keeper.close()
            raise
        self._signals = SignalPipe()

    def close(self) -> None:
        """Give back sockets and signals. The engines must have ended: see `run`."""
        self._supervisor.close()
        self._signals.close()
        self._link.close()
        self._context.term()
        self._keeper.close()

    def run(self) -> None:
        """Start the engines, and look after them until the end of all.

        Raises:
            StartError: the controller does not talk to us any more.
            ConnectionLost: it was away for too long, or is that of another cluster.
            ProtocolError: what it says is no message.
            In each case, the engines have ended.
        """
        engines = self._options.engines
        note(Event.NANNY_STARTED, host=net.gethostname(), pid=os.getpid(), engines=engines)
        try:
            for _ in range(engines):
                self._supervisor.start(time.monotonic())
            reason = self._loop()
        except HeadwayError as error:
            note(Event.NANNY_FAILED, why=str(error))
            self._end_engines(str(error))
            raise
        except BaseException as error:  # a bug of ours: it must not leave engines behind
            note(Event.NANNY_FAILED, why=f"{type(error).__name__}: {error}")
            self._end_engines("the nanny failed")
            raise
        self._end_engines(reason)
        note(Event.NANNY_STOPPED, why=reason)
        self._link.say(m.Bye(reason))

    # --- the controller --------------------------------------------------------------------------

    def _make_hello(self, cluster: str, nth: int) -> m.NannyHello:
        living = [vitals.token for vitals in self._supervisor.vitals()]
        died = self._reports.died()
        host = net.gethostname()
        return m.NannyHello(m.VERSION, self._token, os.getpid(), host, cluster, living, died, nth)

    def _on_leave(self) -> None:
        if not self._is_alone:
            self._is_alone = True
            note(Event.CONTROLLER_AWAY, why=self._link.failure or "the connection was lost")
        self._patience.on_lost(time.monotonic())
        self._reports.leave()

    def _on_welcome(self, welcome: m.Welcome) -> None:
        if self._is_alone:
            self._is_alone = False
            note(Event.CONTROLLER_BACK)
        self._patience.on_welcome(welcome, time.monotonic())
        self._reports.resume()
        self._keeper.share(welcome.value_store, welcome.cluster, time.monotonic())
        self._keeper.take_stock(time.monotonic())
        self._heartbeat_s = welcome.heartbeat_s
        self._heartbeat_at_s = 0.0

    def _engine_command(self) -> EngineCommand:
        options = self._options
        arguments = [
            *("--connection", str(options.connection.absolute())),
            *("--nanny", self._token),
            *("--resources", json.dumps(options.resources)),
            *("--sys-path", json.dumps(list(options.sys_path))),
        ]
        if options.drain_s:
            arguments.append("--patient")
        if self._ends_at_s < NEVER_S:
            arguments += ["--ends-at", str(self._ends_at_s)]
        if self._keeper.info is not None:
            arguments += ["--store", msgspec.json.encode(self._keeper.info).decode()]
        cwd = str(options.cwd.absolute()) if options.cwd is not None else None
        return EngineCommand(options.engine_command, arguments, os.environ, cwd)

    # --- the loop --------------------------------------------------------------------------------

    def _loop(self) -> str:
        """Look after the engines; the reason for which that ends.

        Raises:
            HeadwayError: see `run`.
        """
        while True:
            now_s = time.monotonic()
            if self._leaving.look(now_s):
                self._leave()
            self._supervisor.on_time(now_s)
            if now_s >= self._heartbeat_at_s:
                self._heartbeat_at_s = now_s + self._heartbeat_s
                if self._link.is_welcome:
                    self._link.say(m.Heartbeat(self._supervisor.vitals(), self._leaving.reason))
                    for stock in self._keeper.stock(now_s):
                        self._link.say(stock)
            reason = self._turn()
            if reason is not None:
                return reason
            if self._leaving.reason and not len(self._supervisor):
                return self._leaving.reason
            if self._leaving.is_over(time.monotonic()):
                return self._leaving.reason

    def _turn(self) -> str | None:
        """Wait until something happens, and see to it; a reason to end, if that is what it is."""
        now_s = time.monotonic()
        engine_fds = self._supervisor.fds(now_s)
        waited_for = [*engine_fds, *self._link.fds(), self._signals.fd]
        if self._options.has_lifeline and not self._lifeline_ended:
            waited_for.append(_STDIN)
        due_s = min(self._heartbeat_at_s, self._supervisor.next_due_s(now_s), self._link.due_s())
        due_s = min(due_s, self._leaving.due_s())
        ready = _poll(waited_for, due_s - now_s)
        now_s = time.monotonic()
        for which in ready:
            if which in engine_fds:
                self._supervisor.on_readable(engine_fds[which], which, now_s)
        if self._signals.fd in ready:
            numbers = self._signals.take()
            self._supervisor.on_children_changed(now_s)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                if not self._options.drain_s:
                    return "the nanny was told to stop"
                self._order_leave("the nanny was told to stop", now_s, signal.SIGINT in numbers)
        if _STDIN in ready and not os.read(_STDIN, 4096):
            if not self._options.drain_s:
                return "the process that started the nanny is gone"
            self._lifeline_ended = True
            self._order_leave("the process that started the nanny is gone", now_s)
        may_survive = self._options.is_orphan or not self._options.has_lifeline
        if not may_survive and os.getppid() != self._parent_pid:
            return "the process that started the nanny is gone"
        return self._hear(now_s) or self._miss_controller(now_s)

    def _order_leave(self, reason: str, now_s: float, is_urgent: bool = False) -> None:
        self._leaving.order(reason, now_s, is_urgent=is_urgent)
        self._leave()

    def _leave(self) -> None:
        """Start no more engines, and have the controller drain those that are here."""
        note(Event.NANNY_DRAINS, why=self._leaving.reason, drain_s=self._options.drain_s)
        self._supervisor.start_no_more(self._leaving.reason)
        self._heartbeat_at_s = 0.0

    def _hear(self, now_s: float) -> str | None:
        """Take in what the controller has sent; a reason to end, if that is what it said."""
        for _ in range(_MESSAGES_A_TURN):
            message = self._link.hear(now_s)
            if message is None:
                break
            self._patience.on_message(message, now_s)
            if isinstance(message, m.StopEngine):
                self._supervisor.stop_engine(message.token, message.reason, message.restart, now_s)
            elif isinstance(message, m.StartEngines):
                for _ in range(message.count):
                    self._supervisor.start(now_s, stands_in=message.stand_ins)
            elif isinstance(message, m.InterruptTasks):
                self._supervisor.stop_tasks(message.token, message.tasks)
            elif isinstance(message, m.DropValues):
                self._keeper.drop(message.values, message.store)
            elif isinstance(message, m.TakeStock):
                self._keeper.take_stock_of(message.store)
            elif isinstance(message, m.Bye):
                return message.reason or "the cluster stopped"
        return None

    def _miss_controller(self, now_s: float) -> str | None:
        """Try another connection if the controller is silent; a reason to end if that ends us.

        Raises:
            ConnectionLost: it was away for too long.
        """
        patience = self._patience
        if patience.is_silent(now_s):
            if not patience.reconnect_s:
                return patience.silence()
            self._link.drop_line(now_s)
        if patience.is_over(now_s):
            failure = self._link.failure
            raise ConnectionLost(patience.absence() + (f" ({failure})" if failure else ""))
        return None

    def _end_engines(self, reason: str) -> None:
        """Stop all engines, and wait until each has ended: a little above the grace at most."""
        self._supervisor.stop_all(reason, time.monotonic())
        while len(self._supervisor):
            now_s = time.monotonic()
            self._supervisor.on_time(now_s)
            due_s = self._supervisor.next_due_s(now_s)
            engine_fds = self._supervisor.fds(now_s)
            for fd in _poll([*engine_fds, self._signals.fd], due_s - now_s):
                if fd in engine_fds:
                    self._supervisor.on_readable(engine_fds[fd], fd, now_s)
            self._signals.take()
            self._supervisor.on_children_changed(time.monotonic())


def _poll(fds: Sequence[int], wait_s: float) -> list[int]:
    """Those of `fds` that are readable, once one is, or after `wait_s` (but see above)."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    # One more than rounded down, or the last millisecond is spent in a spin.
    wait_ms = max(0, int(min(wait_s, _WAIT_MAX_S) * 1000) + 1)
    return [fd for fd, _ in poll.poll(wait_ms)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one nanny; the exit code."""
    told = _parser().parse_args(arguments)
    open_log(told.log_format)
    options = NannyOptions(
        connection=told.connection,
        engines=told.engines,
        resources=told.resources,
        sys_path=told.sys_path,
        cwd=told.cwd,
        engine_command=told.engine_command or [sys.executable],
        has_lifeline=not told.no_lifeline,
        is_orphan=told.orphan,
        lifetime_s=told.lifetime,
        drain_s=told.drain,
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
    add("--lifetime", type=float, help="end after so many seconds, whatever runs")
    add("--drain", type=float, default=0.0, help="seconds that what runs has to end")
    add("--log-format", choices=FORMATS, default=OFF, help="of the log, on stderr")
    add("--orphan", action="store_true", help="run on when the parent ends, but stdin does not")
    add("--no-lifeline", action="store_true", help="run on when stdin or the parent ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
