"""A client's connection, as every thread of the program sees it: the door to the io thread.

Any thread puts what it wants into the session, under `lock`, and wakes the io thread if it
sleeps. While that works, nobody need wake it: it looks again before it sleeps, so batches form
by themselves.

Once something is over (closed, controller gone, no engine starts), `refusal` says why; it is
written once, every open future ends with it, and so does whatever is asked later.

What this file must not know: ZeroMQ, and what a task's payload means.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket as net
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from headway import errors
from headway.client import forks, nesting
from headway.client.batch_writer import Function
from headway.client.chaos import ChaosThread
from headway.client.futures import KIND_CONNECTION, Again, Future, exception_of, settle
from headway.client.io import IoThread
from headway.client.presence import Presence
from headway.client.session import Session
from headway.client.spawn import ControllerProcess
from headway.config import ValuesConfig, WireConfig
from headway.core.events import (
    ConditionSpec,
    EngineId,
    StoredValue,
    TaskId,
    TaskOptions,
    format_task_id,
)
from headway.core.listing import TaskQuery
from headway.core.problems import KIND_CANCELLED, Problem
from headway.core.states import TaskState
from headway.values.reading import Reader
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo

_log = logging.getLogger("headway.client")

#: How long `close` waits for the thread: stopping a cluster, and then some. Only a user's
#: callback that does not return makes it longer.
_JOIN_S = 15.0

#: When a `submit` has waited for so long since the controller takes no more, it is said why; and
#: so long after that again.
_HELD_SAID_AFTER_S = 1.0
_HELD_SAID_EVERY_S = 60.0

#: How long a thread that was started takes to begin at most.
_BEGIN_S = 1.0

#: A question that the controller has not answered by then is given up. One that is put while the
#: controller is away waits for it, but not longer.
ANSWER_S = 30.0


class Link:
    """A client's connection to its controller; what any thread may do with it."""

    def __init__(
        self,
        info: ConnectionInfo,
        process: ControllerProcess | None,
        *,
        wire: WireConfig,
        want_output: bool,
        timeout_s: float,
    ) -> None:
        self.info = info
        self.process = process
        self.wire = wire
        self.want_output = want_output
        self.timeout_s = timeout_s
        #: The engine that this process is, if it is one of this cluster.
        self.host = nesting.host_of(info.address)
        self.session: Session[Future[Any]] = nesting.session_for(self, wire)
        #: Reads what does not travel; and the futures that have such a value, for `hold_values`.
        self.reader = Reader(info, ValuesConfig(), wire)
        self.stored: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        #: Written by the io thread alone.
        self.presence = Presence(info.address, wire.heartbeat_timeout_s)
        #: Reentrant: a signal handler or a finalizer may submit at any point.
        self.lock = threading.RLock()
        #: Told when the window opens.
        self.room = threading.Condition(self.lock)
        #: Why it is over; None while it is not. Written once.
        self.refusal: Problem | None = None
        self.is_forked = False
        #: Whether `submit` waits while the window is full. If not, who submits does.
        self.waits_for_room = True
        #: From the welcome on: the cluster's own name, and this client's number.
        self.cluster = info.cluster
        self.number = 0
        self.welcomed = threading.Event()
        #: Set by the io thread when it is about to sleep, so that it is woken only then.
        self.is_asleep = False
        self.is_stopping = False
        #: Set by the io thread when it begins; and when everything is closed.
        self.began = threading.Event()
        self.ended = threading.Event()
        self.wake_reader, self._wake_writer = net.socketpair()
        self.wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._thread = threading.Thread(
            target=IoThread(self).run, name="headway-client", daemon=True
        )
        self._is_started = False
        #: Who does harm to this cluster, and watches what comes of it; None for nobody.
        self.chaos: ChaosThread | None = None
        #: Not before this time is it said again that `submit` waits.
        self._held_said_at = 0.0
        #: To be said to the controller: see `shut_down`.
        self.shutdown: m.Shutdown | None = None

    def start(self) -> None:
        """Start the thread. Not in `__init__`: where Ctrl-C comes right after it, the caller has
        to know of this object, to close it. Call `close` also if this raises anything."""
        forks.register(self)
        try:
            self._is_started = True
            self._thread.start()
        except BaseException:  # no more threads are allowed; or Ctrl-C, and it began or never will
            self._is_started = self.began.wait(_BEGIN_S)
            raise

    # --- any thread -----------------------------------------------------------------------------

    @property
    def is_io_thread(self) -> bool:
        """Whether the caller is this thread: a callback. It must not wait for itself."""
        return threading.current_thread() is self._thread

    def wait_welcomed(self) -> None:
        """Wait until the controller let us in.

        Raises:
            ConnectionLost, ProtocolError, StartError: it did not, in the given time.
        """
        self.welcomed.wait()  # the thread sets it at its deadline at the latest
        self.check_open()

    def check_open(self) -> None:
        """Raise what this connection ended with, if it has."""
        if self.refusal is not None:
            raise exception_of(self.refusal)

    def submit(
        self,
        function: Function,
        payload: bytes,
        future: Future[Any],
        inputs: list[TaskId] | None = None,
        after: ConditionSpec | None = None,
        follow: ConditionSpec | None = None,
        options: TaskOptions | None = None,
        keep: Any = None,
        traceparent: str = "",
    ) -> None:
        """Ask for a task; waits while the window is full, unless this is a callback."""
        session = self.session
        if session.is_full and self.waits_for_room:
            self.wait_for_room()
        with self.lock:
            if self.refusal is not None:
                self.check_open()
            future.node = session.submit(
                function, payload, future, inputs, after, follow, options, keep, traceparent
            )
        if self.is_asleep:
            self._wake()

    def new_node(self) -> TaskId:
        """An id for a task that fails before it is asked for."""
        with self.lock:
            self.check_open()
            return self.session.new_node()

    def submit_group(self, members: list[TaskId], keep: Any) -> TaskId:
        """Make one node of many tasks. Sent before whatever is submitted after it."""
        with self.lock:
            self.check_open()
            node = self.session.submit_group(members, keep)
        self._wake()
        return node

    def cancel(self, tasks: list[TaskId], queued_only: bool, downstream: bool) -> None:
        """Ask that `tasks` do not run: see the message Cancel."""
        with self.lock:
            self.check_open()
            self.session.cancel(tasks, queued_only, downstream)
        self._wake()

    def ask_again(self, future: Future[Any], value: StoredValue, why: str) -> Future[Any]:
        """The value of `future`, which is done, can't be read, for the reason `why`. Returns who
        waits for its task to have run again.

        Raises:
            ValueLost: nobody can be asked.
        """
        if self.is_io_thread:
            raise errors.ValueLost(f"{why}. In a callback it can't be waited for to be made again")
        with self.lock:
            if self.refusal is not None:
                raise errors.ValueLost(f"{why}. It can't be made again: {self.refusal.text}")
            again = self.session.miss(future.node, value.name, Again(future))
        self._wake()
        return again

    def hold_values(self) -> None:
        """The cluster's end is near, and the stores go with it: hold on to what can be read here,
        so that futures that are done have their results also then."""
        for future in list(self.stored):
            future.hold_value()
        self.stored.clear()

    @property
    def is_away(self) -> bool:
        """Whether the controller can't be asked just now: it is away, and may come back."""
        return self.number != 0 and not self.presence.is_here

    def watch(self, node: TaskId, future: Future[Any]) -> Future[Any]:
        """Have `future`, or the one that is returned, told how a task of another client ends."""
        with self.lock:
            self.check_open()
            watched = self.session.watch(node, future)
        self._wake()
        return watched

    def keep(self, timeout_s: float) -> None:
        """Have it in hand that what was asked for outlives this client.

        Raises:
            ConnectionLost: the connection ended, or the controller did not say so in time.
        """
        self.check_may_wait("that tasks outlive this client")
        with self.room:
            self.check_open()
            self.session.keep()
            self._wake()
            self.room.wait_for(lambda: self.session.is_kept or self.refusal, timeout_s)
            self.check_open()
            if not self.session.is_kept:
                raise errors.ConnectionLost(
                    f"the controller did not say within {timeout_s:g} s that it keeps the tasks"
                )

    def shut_down(self, keep_tasks: bool) -> None:
        """Ask the controller to stop the cluster. It says goodbye when it does."""
        with self.lock:
            self.check_open()
            self.shutdown = m.Shutdown(keep_tasks)
        self._wake()

    def order(
        self,
        what: str,
        engine: EngineId | None = None,
        count: int = 0,
        limit: tuple[str, str] = ("", ""),
        scale: tuple[int, float] = (0, 0.0),
        task: TaskId | None = None,
    ) -> Any:
        """Say what is to be done with the cluster (see the message Order); raises as `ask` does.

        Parameters:
            limit: a tag, and its limit.
            scale: with `count` at most, how many engines there are to be at least, and after
                how many idle seconds one is given back.
        """
        order = self.session.order

        def put_it(put: Callable[[m.Answer], None]) -> int:
            return order(what, engine, count, put, limit, scale, task)

        return self._ask(what, put_it, ANSWER_S)

    def ask(
        self,
        what: str,
        node: TaskId | None = None,
        timeout_s: float = ANSWER_S,
        tasks: TaskQuery | None = None,
    ) -> Any:
        """The body of the controller's answer.

        Raises:
            HeadwayError: it could not answer, in its words, or the connection ended.
            ConnectionLost: there was no answer within `timeout_s`.
            RuntimeError: this is a callback, which would wait for itself.
        """
        return self._ask(what, lambda put: self.session.ask(what, node, put, tasks), timeout_s)

    def _ask(
        self, what: str, put_it: Callable[[Callable[[m.Answer], None]], int], timeout_s: float
    ) -> Any:
        self.check_may_wait("this question")
        arrived = threading.Event()
        answers: list[m.Answer] = []

        def put(answer: m.Answer) -> None:
            answers.append(answer)
            arrived.set()

        with self.lock:
            self.check_open()
            number = put_it(put)
        self._wake()
        try:
            if not arrived.wait(timeout_s):
                why = f": {self.presence.absence()}" if self.is_away else ""
                raise errors.ConnectionLost(
                    f"there was no answer to {what!r} within {timeout_s:.3g} s{why}"
                )
        finally:
            with self.lock:
                self.session.forget_question(number)
        if answers[0].error:
            self.check_open()
            raise errors.HeadwayError(answers[0].error)
        return answers[0].body

    def check_may_wait(self, what: str) -> None:
        """Raise if waiting for `what` here would wait forever."""
        if self.is_forked:
            self.check_open()
        if self.is_io_thread:
            raise RuntimeError(
                f"{what} can't be waited for in a callback: it would wait for itself"
            )

    def wait_accepted(self, node: TaskId) -> None:
        """Wait until the controller has heard of `node`, which was submitted here."""
        with self.room:
            while self.session.accepted_node < node and self.refusal is None:
                if self.is_io_thread:
                    return
                self.room.wait(1.0)

    def wait_for_room(self) -> None:
        """Wait while the window is full; not in a callback, which would wait for itself."""
        if self.is_io_thread:
            return
        with self.room:
            began_at = time.monotonic()
            while self.session.is_full and self.refusal is None:
                self.room.wait(1.0)  # a bound, so that nothing missed is missed for long
                self._say_held(time.monotonic(), began_at)

    def _say_held(self, now: float, began_at: float) -> None:
        """Tell the user why `submit` waits, if it does so for long."""
        hold = self.session.hold
        if hold and now - began_at >= _HELD_SAID_AFTER_S and now >= self._held_said_at:
            self._held_said_at = now + _HELD_SAID_EVERY_S
            _log.warning("submit waits until tasks have ended: %s", hold)

    def _wake(self) -> None:
        self.is_asleep = False
        with contextlib.suppress(OSError):  # full: awake anyway; closed: nobody to wake
            self._wake_writer.send(b"\0")

    def request_stop(self) -> None:
        """Let the thread stop everything, and do not wait: for finalizers, and callbacks."""
        self.is_stopping = True
        self._wake()

    def close(self) -> None:
        """Stop, and wait until the sockets are closed and an embedded cluster has ended."""
        if self.is_forked:
            return
        if not self._is_started:
            forks.closed(self)
            self.close_wakers()
            return
        self.request_stop()
        if self.is_io_thread:
            return
        # Not `join`: where Ctrl-C interrupts that, the thread counts as ended from then on.
        if not self.ended.wait(_JOIN_S):
            _log.warning("a callback of a future has kept close() waiting for %g s", _JOIN_S)
            self.refuse(Problem(KIND_CONNECTION, "the client was closed"))
            if self.process is not None:
                self.process.stop()

    def refuse(self, problem: Problem) -> None:
        """It is over: open futures and questions end with `problem`, and so does what comes."""
        with self.lock:
            if self.refusal is None:
                self.refusal = problem
            open_futures = list(self.session.open.items())
            self.session.open.clear()
            questions = self.session.take_questions()
            self.room.notify_all()
        settle([(future, _unfinished(node, problem)) for node, future in open_futures])
        for answered in questions:
            answered(m.Answer(0, error=problem.text))
        self.welcomed.set()

    def close_wakers(self) -> None:
        """Nobody need be woken any more."""
        self._wake_writer.close()
        self.wake_reader.close()

    def after_fork(self) -> None:
        """In a fork's child: this connection is the parent's."""
        self.is_forked = True
        self.lock = threading.RLock()  # the old one may be held by a thread that is not here
        self.room = threading.Condition(self.lock)
        self.welcomed.set()
        self.refusal = Problem(
            KIND_CONNECTION,
            f"this Client belongs to the parent process (pid {os.getppid()}), and a fork can't "
            "use it: make a new Client here",
        )
        self.close_wakers()
        if self.process is not None:
            self.process.forget()


def _unfinished(node: TaskId, problem: Problem) -> m.Result:
    """The end of a task whose own end will never be heard."""
    cancelled = problem.kind == KIND_CANCELLED
    text = f"task {format_task_id(node)} was not finished: {problem.text}"
    return m.Result(
        node,
        TaskState.CANCELLED if cancelled else TaskState.LOST,
        problem=Problem(problem.kind, text),
    )
