"""The background thread of a client: the one owner of the socket.

It alone sends, hears, settles futures and runs their callbacks. In each turn it looks at the
connection, hears what has arrived, sends what waits, and sees to it that the controller and,
where that is ours, its process are alive.

When the connection was lost, or the controller asks who we are, it says hello again. From then
until it is welcomed it sends nothing else, and hears only what decides whether it will be.

What this file must not know: what a task's payload means.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket as net
import time
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
from headway.client.line import Line
from headway.client.printing import Printer
from headway.client.watch import Watch
from headway.core.events import StoredValue, TaskId
from headway.core.problems import KIND_CANCELLED, Problem
from headway.wire import codec
from headway.wire import messages as m

if TYPE_CHECKING:
    from headway.client.link import Link

_log = logging.getLogger("headway.client")

#: Messages heard in one turn, before what waits is sent.
_HEARD_MAX = 100

#: What is heard while the controller is away: all else belongs to what was before.
_HEARD_AWAY = frozenset({m.Welcome, m.Refused, m.WhoAreYou, m.Ping, m.Bye})


class IoThread:
    """Runs one connection, from the first word to the last."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._presence = link.presence
        self._heartbeat_s = link.wire.heartbeat_s
        self._began_at = time.monotonic()
        self._heard_at = self._sent_at = self._turned_at = self._began_at
        self._printer = Printer(self._label_of)
        #: Outputs shown, of which the controller was not told yet.
        self._shown = 0
        #: Messages with results, and their bytes, of which it was not told yet.
        self._heard_results = self._heard_bytes = 0
        self._decoder = codec.to_client()
        self._poller = zmq.Poller()
        self._line: Line | None = None
        self._on: dict[type, Callable[[Any], None]] = {
            m.Welcome: self._on_welcome,
            m.WhoAreYou: lambda _: self._say_hello(),
            m.Refused: self._on_refused,
            m.Accepted: self._on_accepted,
            m.Hold: self._on_hold,
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
        self._poller.register(link.wake_reader.fileno(), zmq.POLLIN)
        watch = Watch(link.process, self._poller) if link.process is not None else None
        self._line = line = Line(context, link.info, link.wire, self._poller)
        while link.refusal is None and not link.is_stopping:
            self._look_at(line)
            heard = self._hear(line)
            self._send_waiting()
            self._check_life(line, heard)
            if watch is not None:
                self._check_process(watch, line)
            if heard < _HEARD_MAX:
                self._sleep(line, watch)

    # --- hearing and sending --------------------------------------------------------------------

    def _hear(self, line: Line) -> int:
        """Hear what has arrived; how many messages. As many as _HEARD_MAX: there may be more."""
        heard = 0
        while heard < _HEARD_MAX and self._link.refusal is None:
            frames = line.receive()
            if frames is None:
                break
            message = self._decoder.decode(frames)
            kind = type(message)
            if kind is m.Results:
                self._heard_results += 1
                self._heard_bytes += sum(map(len, frames))
            if self._presence.is_here or kind in _HEARD_AWAY:
                self._on[kind](message)
            heard += 1
        if heard:
            self._heard_at = time.monotonic()
        return heard

    def _send_waiting(self) -> None:
        if not self._presence.is_here:
            return
        if self._shown:
            self._send(m.Shown(self._shown))
            self._shown = 0
        if self._heard_results >= m.HEARD_MESSAGES or self._heard_bytes >= m.HEARD_BYTES:
            self._send(m.Heard(self._heard_results))
            self._heard_results = self._heard_bytes = 0
        if self._link.shutdown is not None:
            self._send(self._link.shutdown)
            self._link.shutdown = None
        session = self._link.session
        if not (session.has_waiting or session.released):
            return
        with self._link.lock:
            taken = session.take()
        for message, large in session.messages(taken):
            self._send(message, large)

    def _send(self, message: Any, large: Any = ()) -> None:
        assert self._line is not None
        self._line.send(codec.encode(message, large))
        self._sent_at = time.monotonic()

    def _say_hello(self) -> None:
        link = self._link
        assert self._line is not None
        hello = m.ClientHello(
            m.VERSION,
            self._line.token,
            os.getpid(),
            net.gethostname(),
            link.want_output,
            link.cluster if link.number else "",
            self._presence.hello(),
            link.host.token if link.host is not None else "",
        )
        self._send(hello)

    # --- whether the controller is there --------------------------------------------------------

    def _look_at(self, line: Line) -> None:
        if line.look(time.monotonic()):
            self._say_hello()
        elif line.has_ended:
            self._lose(line)

    def _lose(self, line: Line) -> None:
        """The connection has ended, or is as good as lost: let it go."""
        while self._link.refusal is None and self._hear(line):
            pass  # the last results, or a Bye
        line.drop()
        if self._presence.is_here:
            self._presence.leave(time.monotonic() - self._heard_at)

    def _check_life(self, line: Line, heard: int) -> None:
        presence = self._presence
        now = time.monotonic()
        passed_s = now - self._turned_at
        self._turned_at = now
        if passed_s > presence.heartbeat_timeout_s / 3:
            # We ourselves were held up (stopped, or by a callback): others get another chance.
            self._heard_at = now
        presence.pass_time(passed_s)
        if not self._link.number:
            self._check_first_welcome(now, line.failure)
        elif presence.is_here:
            if now - self._sent_at >= self._heartbeat_s:
                self._send(m.Ping())
            # After hearing nothing only: what came while a callback ran counts.
            if not heard and now - self._heard_at > presence.heartbeat_timeout_s:
                self._lose(line)
        if presence.is_given_up and self._link.number:
            why = f" ({line.failure})" if line.failure else ""
            raise errors.ConnectionLost(f"{presence.end()}{why}")
        if presence.is_to_be_announced:
            presence.is_announced = True
            _log.warning("%s", presence.absence())

    def _check_first_welcome(self, now: float, failure: str | None) -> None:
        info, timeout_s = self._link.info, self._link.timeout_s
        if failure is not None:
            raise errors.ConnectionLost(
                f"the controller at {info.address} can't be reached: {failure}"
            )
        if now - self._began_at > timeout_s:
            raise errors.ConnectionLost(
                f"no controller answered at {info.address} within {timeout_s:g} s"
            )

    def _check_process(self, watch: Watch, line: Line) -> None:
        link = self._link
        if not watch.has_ended(time.monotonic()):
            return
        self._lose(line)
        if link.refusal is None and not link.is_stopping:
            watch.restart(time.monotonic())
            self._presence.leave()
            self._presence.is_announced = True  # by the watch

    def _sleep(self, line: Line, watch: Watch | None) -> None:
        link, is_here = self._link, self._presence.is_here
        wait_s = self._heartbeat_s / 2 if is_here else min(0.1, link.timeout_s)
        link.is_asleep = True
        # Who put something in before this line did not wake us, who does so after it will.
        has_waiting = link.session.has_waiting or link.shutdown is not None
        if link.is_stopping or (has_waiting and is_here):
            link.is_asleep = False
            return
        ready = self._poller.poll(int(wait_s * 1000))
        link.is_asleep = False
        for source, _ in ready:
            if source == link.wake_reader.fileno():
                with contextlib.suppress(BlockingIOError):
                    link.wake_reader.recv(4096)
                continue
            line.on_readable(source)
            if watch is not None:
                watch.on_readable(source)

    # --- what the controller says ---------------------------------------------------------------

    def _on_welcome(self, welcome: m.Welcome) -> None:
        link = self._link
        if welcome.version != m.VERSION:
            raise errors.ProtocolError(
                f"the controller at {link.info.address} speaks version {welcome.version}, "
                f"and this client version {m.VERSION}"
            )
        was_announced = self._presence.is_announced
        if not self._presence.welcome(welcome):
            return
        self._heartbeat_s = welcome.heartbeat_s
        # The controller counts anew, too.
        self._shown = self._heard_results = self._heard_bytes = 0
        with link.room:
            link.session.hold = ""
            link.room.notify_all()
        if link.number:
            self._come_back(welcome)
            if was_announced:
                where = link.info.address
                _log.warning("the controller at %s is back (epoch %d)", where, welcome.epoch)
        else:
            link.cluster = welcome.cluster
            if link.process is not None:
                link.process.cluster = welcome.cluster
            link.session.welcome(welcome.number)
            link.number = welcome.number
            link.welcomed.set()

    def _come_back(self, welcome: m.Welcome) -> None:
        """Say again what may have been lost, then go on."""
        link = self._link
        if welcome.cluster != link.cluster or welcome.number != link.number:
            raise errors.ConnectionLost(
                f"at {link.info.address} there is now the cluster {welcome.cluster}, in which this "
                f"is client {welcome.number}; its tasks are those of client {link.number} of the "
                f"cluster {link.cluster}, which is gone"
            )
        with link.room:
            again = link.session.resend(welcome.accepted) + link.session.resume_messages()
            link.room.notify_all()
            lost = link.session.lost_orders()
        for message, large in again:
            self._send(message, large)
        for number, answered in lost:
            text = "the connection was lost before the answer came: look at what became of it"
            answered(m.Answer(number, error=text))

    def _on_refused(self, refused: m.Refused) -> None:
        if not self._link.number:
            raise errors.ProtocolError(f"the controller refused this client: {refused.reason}")
        raise errors.ConnectionLost(f"the controller ended the connection: {refused.reason}")

    def _on_accepted(self, accepted: m.Accepted) -> None:
        self._accept(accepted.batch)
        self._presence.progress()

    def _accept(self, batch: int) -> None:
        with self._link.room:
            self._link.session.accepted(batch)
            self._link.room.notify_all()

    def _on_hold(self, hold: m.Hold) -> None:
        with self._link.room:
            self._link.session.hold = hold.why
            self._link.room.notify_all()

    def _on_results(self, message: m.Results) -> None:
        if self._printer.holds_any:
            for result in message.results:
                self._printer.task_ended(result.task)  # before its result can be seen
        if self._link.chaos is not None:
            self._link.chaos.heard(message.results)
        pop = self._link.session.open.pop
        ends = []
        for result in message.results:
            future = pop(result.task, None)
            if future is not None:
                ends.append((future, result))
                if type(result.payload) is StoredValue:
                    self._link.stored.add(future)
        self._presence.progress()
        settle(ends)
        if message.accepted:
            self._accept(message.accepted)

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
        link.hold_values()
        with link.lock:
            was_open = link.refusal is None
            if was_open:
                link.refusal = Problem(KIND_CONNECTION, "this client was closed")
        if was_open:
            if link.session.kept:
                text = "this client left it behind: attach to it by its id"
                link.refuse(Problem(KIND_CONNECTION, text))
            else:
                link.refuse(Problem(KIND_CANCELLED, "the client was closed"))
        self._printer.flush()
        with contextlib.ExitStack() as stack:  # each of these, whatever the others raise
            stack.callback(forks.closed, link)
            stack.callback(link.close_wakers)
            if link.process is not None:
                stack.callback(link.process.stop)
            if context is not None:
                stack.callback(context.term)
            if self._line is not None:
                is_here = self._presence.is_here
                stack.callback(self._line.close, at_once=not (was_open and is_here))
                if is_here:
                    self._send(m.Shutdown() if link.process is not None else m.Bye("closed"))
