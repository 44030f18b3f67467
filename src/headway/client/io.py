"""The background thread of a client: the one owner of the socket.

It alone sends, hears, settles futures and runs their callbacks. In each turn it hears what has
arrived, sends what waits, and sees to it that the controller and, where that is ours, its
process are alive.

What this file must not know: what a task's payload means.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket as net
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import zmq

from headway import errors
from headway.client import forks
from headway.client.futures import (
    KIND_CONNECTION,
    KIND_INTERNAL,
    KIND_PROTOCOL,
    KIND_START,
    settle,
)
from headway.client.printing import Printer
from headway.client.spawn import ControllerProcess
from headway.core.events import TaskId
from headway.core.problems import KIND_CANCELLED, Problem
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import Monitor, connect_dealer

if TYPE_CHECKING:
    from headway.client.link import Link

_log = logging.getLogger("headway.client")

#: Messages heard in one turn, before what waits is sent.
_HEARD_MAX = 100

#: Seconds between looks at the controller's process, where the system does not tell of its end.
_PROCESS_POLL_S = 0.5


class IoThread:
    """Runs one connection, from the first word to the last."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._heartbeat_s = link.wire.heartbeat_s
        self._heartbeat_timeout_s = link.wire.heartbeat_timeout_s
        self._heard_at = self._sent_at = self._polled_at = self._turned_at = time.monotonic()
        self._printer = Printer(self._label_of)
        #: Outputs shown, of which the controller was not told yet.
        self._shown = 0
        self._decoder = codec.to_client()
        self._dealer: zmq.Socket[bytes] | None = None
        self._on: dict[type, Callable[[Any], None]] = {
            m.Welcome: self._on_welcome,
            m.Refused: self._on_refused,
            m.Accepted: self._on_accepted,
            m.Results: self._on_results,
            m.Answer: self._on_answer,
            m.Output: self._on_output,
            m.Notice: self._on_notice,
            m.Ping: lambda _: None,
            m.Bye: self._on_bye,
        }

    def run(self) -> None:
        """Serve until it is over, then close everything."""
        self._link.began.set()
        context: zmq.Context[zmq.Socket[bytes]] | None = None
        try:
            context = zmq.Context()
            self._serve(context)
        except errors.HeadwayError as error:
            kind = KIND_PROTOCOL if isinstance(error, errors.ProtocolError) else KIND_CONNECTION
            self._link.refuse(Problem(kind, str(error)))
        except BaseException as error:
            _log.exception("the client's io thread failed")
            self._link.refuse(
                Problem(
                    KIND_INTERNAL,
                    f"the client failed: {type(error).__qualname__}: {error}; please report it",
                )
            )
        finally:
            try:
                self._tear_down(context)
            finally:
                self._link.ended.set()

    def _serve(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        link = self._link
        token = uuid.uuid4().hex
        self._dealer = dealer = connect_dealer(
            context, link.info, b"client-" + token.encode(), link.wire
        )
        monitor = Monitor(dealer)
        poller = zmq.Poller()
        poller.register(dealer, zmq.POLLIN)
        poller.register(link.wake_reader.fileno(), zmq.POLLIN)
        poller.register(monitor.socket, zmq.POLLIN)
        if link.process is not None:
            poller.register(link.process.stderr_fd, zmq.POLLIN)
            if link.process.end_fd is not None:
                poller.register(link.process.end_fd, zmq.POLLIN)
        host = net.gethostname()
        self._send(m.ClientHello(m.VERSION, token, os.getpid(), host, link.want_output))
        began_at = time.monotonic()
        try:
            while link.refusal is None and not link.is_stopping:
                heard = self._hear(dealer)
                self._send_waiting()
                self._check_life(heard, monitor, began_at)
                if link.number and not monitor.socket.closed:
                    # ZeroMQ's own reconnects are not for us to hear of.
                    poller.unregister(monitor.socket)
                    monitor.close()
                if not heard:
                    self._sleep(poller)
        finally:
            monitor.close()

    def _hear(self, dealer: zmq.Socket[bytes]) -> bool:
        """Hear what has arrived; whether anything had."""
        heard = 0
        while heard < _HEARD_MAX and self._link.refusal is None:
            try:
                frames = dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            message = self._decoder.decode(frames)
            self._on[type(message)](message)
            heard += 1
        if heard:
            self._heard_at = time.monotonic()
        return heard > 0

    def _send_waiting(self) -> None:
        if self._shown:
            self._send(m.Shown(self._shown))
            self._shown = 0
        session = self._link.session
        if not (session.has_waiting or session.released) or not self._link.number:
            return
        with self._link.lock:
            taken = session.take()
        for message, large in session.messages(taken):
            self._send(message, large)

    def _send(self, message: Any, large: Any = ()) -> None:
        assert self._dealer is not None
        # The socket has no limit of its own (see endpoint.py): it never drops, and has no reason
        # to block, but when a handshake was refused and nobody is there any more: not then either.
        self._dealer.send_multipart(codec.encode(message, large), zmq.NOBLOCK, copy=not large)
        self._sent_at = time.monotonic()

    def _check_life(self, heard: bool, monitor: Monitor, began_at: float) -> None:
        link = self._link
        now = time.monotonic()
        if now - self._turned_at > self._heartbeat_timeout_s / 3:
            # We ourselves were held up (stopped, or by a callback): others get another chance.
            self._heard_at = now
        self._turned_at = now
        if link.process is not None and now - self._polled_at >= _PROCESS_POLL_S:
            self._polled_at = now
            self._check_process(link.process)
        if not link.number:
            failure = monitor.handshake_failure()
            if failure is not None:
                raise errors.ConnectionLost(
                    f"the controller at {link.info.address} refused our key: {failure}"
                )
            if now - began_at > link.timeout_s:
                raise errors.ConnectionLost(
                    f"no controller answered at {link.info.address} within {link.timeout_s:g} s"
                )
            return
        if now - self._sent_at >= self._heartbeat_s:
            self._send(m.Ping())
        # After hearing nothing only: what came while a callback ran counts.
        if not heard and now - self._heard_at > self._heartbeat_timeout_s:
            raise errors.ConnectionLost(
                f"the controller at {link.info.address} has said nothing for "
                f"{now - self._heard_at:.1f} s"
            )

    def _check_process(self, process: ControllerProcess) -> None:
        process.drain_stderr()
        end = process.end_text()
        if end is not None and self._dealer is not None:
            while self._hear(self._dealer):  # its last results and its Bye come first
                if self._link.refusal is not None:
                    return
            raise errors.ConnectionLost(end)

    def _sleep(self, poller: zmq.Poller) -> None:
        link, process = self._link, self._link.process
        wait_s = self._heartbeat_s / 2 if link.number else min(0.1, link.timeout_s)
        link.is_asleep = True
        # Who put something in before this line did not wake us, who does so after it will.
        if link.is_stopping or (link.session.has_waiting and link.number):
            link.is_asleep = False
            return
        ready = poller.poll(int(wait_s * 1000))
        link.is_asleep = False
        for source, _ in ready:
            if source == link.wake_reader.fileno():
                with contextlib.suppress(BlockingIOError):
                    link.wake_reader.recv(4096)
            elif process is None:
                continue
            elif source == process.end_fd:
                self._check_process(process)
            elif source == process.stderr_fd and not process.drain_stderr():
                poller.unregister(source)
                self._polled_at = 0.0  # look at the process now

    # --- what the controller says ---------------------------------------------------------------

    def _on_welcome(self, welcome: m.Welcome) -> None:
        if welcome.version != m.VERSION:
            raise errors.ProtocolError(
                f"the controller at {self._link.info.address} speaks version {welcome.version}, "
                f"and this client version {m.VERSION}"
            )
        if self._link.number:
            raise errors.ProtocolError("the controller sent a second welcome")
        self._link.cluster = welcome.cluster
        self._heartbeat_s = welcome.heartbeat_s
        self._heartbeat_timeout_s = welcome.heartbeat_timeout_s
        self._link.session.welcome(welcome.number)
        self._link.number = welcome.number
        self._link.welcomed.set()

    def _on_refused(self, refused: m.Refused) -> None:
        if not self._link.number:
            raise errors.ProtocolError(f"the controller refused this client: {refused.reason}")
        raise errors.ConnectionLost(f"the controller ended the connection: {refused.reason}")

    def _on_accepted(self, accepted: m.Accepted) -> None:
        with self._link.room:
            self._link.session.accepted(accepted.batch)
            self._link.room.notify_all()

    def _on_results(self, message: m.Results) -> None:
        if self._printer.holds_any:
            for result in message.results:
                self._printer.task_ended(result.task)  # before its result can be seen
        pop = self._link.session.open.pop
        ends = []
        for result in message.results:
            future = pop(result.task, None)
            if future is not None:
                ends.append((future, result))
        settle(ends)

    def _on_answer(self, answer: m.Answer) -> None:
        with self._link.lock:
            answered = self._link.session.answered(answer)
        if answered is not None:
            answered(answer)

    def _on_output(self, output: m.Output) -> None:
        if self._link.want_output:
            self._printer.show(output.lines)
        self._shown += 1

    def _on_notice(self, notice: m.Notice) -> None:
        if notice.fatal:
            self._link.refuse(Problem(KIND_START, notice.text))
        else:
            _log.warning("%s", notice.text)

    def _on_bye(self, bye: m.Bye) -> None:
        reason = f": {bye.reason}" if bye.reason else ""
        raise errors.ConnectionLost(f"the cluster {self._link.cluster} was stopped{reason}")

    def _label_of(self, task: TaskId) -> str | None:
        future = self._link.session.open.get(task)
        return None if future is None else future.label

    # --- the end --------------------------------------------------------------------------------

    def _tear_down(self, context: zmq.Context[zmq.Socket[bytes]] | None) -> None:
        """Close everything, whatever state it is in; the last thing that the thread does."""
        link = self._link
        with link.lock:
            was_open = link.refusal is None
            if was_open:
                link.refusal = Problem(KIND_CONNECTION, "this client was closed")
        if was_open:
            link.refuse(Problem(KIND_CANCELLED, "the client was closed"))
        self._printer.flush()
        with contextlib.ExitStack() as stack:  # each of these, whatever the others raise
            stack.callback(forks.closed, link)
            stack.callback(link.close_wakers)
            if link.process is not None:
                stack.callback(link.process.stop)
            if context is not None:
                stack.callback(context.term)
            if self._dealer is not None:
                # It lingers for a bounded time (see endpoint.py) if there is somebody to hear it.
                stack.callback(self._dealer.close, None if was_open else 0)
                with contextlib.suppress(zmq.Again):  # nobody is there to hear it
                    self._send(m.Shutdown() if link.process is not None else m.Bye("closed"))
