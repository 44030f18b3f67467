"""The engine process: a main thread that runs tasks, and a receiver that feeds it.

Two connections, so that each has one owner: *commands* (the hello, and everything that is
received) belongs to whoever has the ears (ears.py): the receiver thread while a task runs, so
that we hear also then, the main thread between short ones; *results* (only sends) belongs to
`Results` and its lock. After a while without tasks nobody looks at anything until one comes.

The controller may be away, at the start or later: who has the ears tries to reach it for as long
as the nanny lets us live, and nothing of that disturbs a task that runs.

The process ends by SIGTERM (from its nanny, or by a Bye), in the main thread and with
everything sent; or at once, if its nanny is gone (lifeline.py), the wire is broken, or the
controller does not want us.

What this file must not know: how one task is run (runner.py), when results travel (results.py),
who hears (ears.py), how a controller that was away is found again (link.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from headway import current
from headway.config import EngineConfig, ValuesConfig, WireConfig
from headway.core.events import EngineId, Outcome, StoreId
from headway.engine import stack
from headway.engine.ears import Ears
from headway.engine.gate import Gate
from headway.engine.keeper import Keeper
from headway.engine.lifeline import die
from headway.engine.line import Route
from headway.engine.link import Link
from headway.engine.output import OutputStream, as_text_io
from headway.engine.queue import Assigned, TaskQueue
from headway.engine.results import Results
from headway.engine.runner import Function, Runner, stopped_outcome
from headway.engine.status import StatusWriter
from headway.engine.waits import Waits
from headway.errors import HeadwayError
from headway.values.reading import Reader
from headway.values.writing import StoreInfo, Writer
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import read_connection_file

#: Between threads that want to run Python. A tenth of a result's longest wait; the default of
#: 5 ms would be all of it, where a task holds the interpreter.
_SWITCH_INTERVAL_S = 0.0005


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the nanny tells an engine that it starts."""

    connection: Path
    nanny: str
    token: str
    status_fd: int
    #: A byte written there makes the nanny look at the status file.
    notify_fd: int
    host: str
    resources: dict[str, float] = field(default_factory=dict)
    #: Where its large results are kept; None for nowhere.
    store: StoreInfo | None = None
    #: When it ends, whatever runs then, by the monotonic clock; None where nobody knows of an end.
    ends_at_s: float | None = None
    #: Who else than the nanny wants it to end is not heard.
    is_patient: bool = False
    #: It was started in place of one that is blocked.
    stands_in: bool = False


class EngineProcess:
    """One engine, from its hello to its end. Made and run in the main thread."""

    def __init__(self, options: EngineOptions, config: EngineConfig, wire: WireConfig) -> None:
        """Begin to connect; hellos are said once we `run`.

        Raises:
            HeadwayError: there is no connection file, or it is none.
        """
        self._options = options
        self._status = StatusWriter(options.status_fd)
        os.close(options.status_fd)
        os.set_inheritable(options.notify_fd, False)  # not for what tasks start
        self._look_at_s = 0.0
        self._queue = TaskQueue()
        self._functions: dict[bytes, Function] = {}
        # A lock as the cheapest thing to wait for: released to wake the main thread.
        self._wake = threading.Lock()
        self._wake.acquire()
        self._gate = Gate(self._status, self._wake_main, is_patient=options.is_patient)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        identity = f"engine-{options.token}".encode()
        info = read_connection_file(options.connection)
        route = Route(self._context, info, identity, wire)
        self._results = Results(route.with_suffix(m.RESULTS_SUFFIX), wire, config)
        self._link: Link[m.ToEngine] = Link(
            route, codec.to_engine(), self._make_hello, self._results.leave, self._on_welcome
        )
        self._ears = Ears(self._link, self._results, self._on_message)
        self._waits = Waits(self._results.say_standing)
        current.engine = current.Host(options.token, options.connection, info.address, self._waits)
        values = ValuesConfig()
        store = options.store or StoreInfo(StoreId(options.nanny), [], options.host)
        self._writer = Writer(store, options.token, values)
        keeper = Keeper(
            Reader(
                info,
                values,
                wire,
                own_store=store.store,
                kept_bytes_max=values.fetched_bytes_max,
            ),
            self._writer,
            values,
            wire.frame_bytes_max,
        )
        self._runner = Runner(
            self._gate, self._results.output, keeper, wire.frame_bytes_max, self._announce_deadline
        )

    def run(self) -> None:
        """Run tasks until SIGTERM; then send what is left, and return."""
        self._take_over()
        threading.Thread(target=self._receive, name="headway-receiver", daemon=True).start()
        self._status.set_ready()
        self._notify()
        # SIGTERM, in the middle of a task: the status file says which. Nothing else gets out.
        with contextlib.suppress(SystemExit):
            self._run_tasks()
        self._results.close()
        self._ears.give()
        self._context.term()  # the receiver closes the sockets; what was sent last leaves

    def _run_tasks(self) -> None:
        gate, queue, results, run = self._gate, self._queue, self._results, self._runner.run
        ears = self._ears
        has_run = is_short = False
        while not gate.stopping:
            item = queue.begin()
            if item is None:
                queue.end()
                results.flush()
                if has_run:
                    gate.install()
                    has_run = False
                self._await_tasks(is_short)
                continue
            is_short = results.is_short(item.function)
            if not is_short:
                ears.give()
            # The signals are taken back before a task that may be long, not after each: looking
            # at them costs as much as three short tasks.
            if results.before(item.function) and has_run:
                gate.install()
            results.add(run(item))
            has_run = True
            del item  # or its arguments stay in memory while nothing runs

    def _await_tasks(self, is_short: bool) -> None:
        """Wait until there may be something to run; after a short task with our own ears."""
        if not is_short or not self._hear_until_called():
            self._wake.acquire()

    def _hear_until_called(self) -> bool:
        try:
            return self._ears.hear_until(self._is_called)
        except HeadwayError as error:
            die(f"the engine ends: {error}")

    def _is_called(self) -> bool:
        return len(self._queue) > 0 or self._gate.stopping

    def _take_over(self) -> None:
        """Make the process the engine's: signals, streams, forks."""
        self._gate.install()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        output = self._results.output
        sys.stdout = as_text_io(OutputStream(output, "stdout", 1))
        sys.stderr = as_text_io(OutputStream(output, "stderr", 2))

        def in_child() -> None:
            # A fork of a task has none of our threads, and is not what the nanny means.
            output.go_direct()
            current.engine = None
            stack.write_to_stderr()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

        os.register_at_fork(after_in_child=in_child)

    def _announce_deadline(self, now_s: float, deadline_s: float) -> None:
        """Have the nanny look at `deadline_s`, unless it will look before that anyway."""
        if now_s < self._look_at_s <= deadline_s:
            return
        self._look_at_s = deadline_s
        self._status.set_look_at(deadline_s)
        self._notify()

    def _notify(self) -> None:
        # Full: the nanny has yet to read, and will look. Gone: the lifeline will tell.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._options.notify_fd, b"!")

    def _wake_main(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was woken already
            self._wake.release()
        if self._ears.main_hears:
            self._ears.rouse()

    # --- the receiver thread ---------------------------------------------------------------------

    def _receive(self) -> None:
        # SIGTERM, SIGINT: for the main thread, or a call that blocks there is not cut short.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._ears.listen()
        except zmq.ContextTerminated:
            self._link.close()
            self._results.close_connection()
        except HeadwayError as error:
            die(f"the engine ends: {error}")
        except BaseException:  # a bug of ours: an engine that hears nothing must not stay
            die(f"the engine ends: its receiver failed\n{traceback.format_exc()}")

    def _make_hello(self, cluster: str, nth: int) -> m.EngineHello:
        """A hello, with the attempts that we have: all that are between their assignment and the
        acceptance of their outcome.

        The queue is asked first: an attempt that leaves it meanwhile is in the results by then,
        and only this thread puts any into the queue, or takes acceptances. So none is missed;
        one that is seen twice is said once.
        """
        held = dict.fromkeys([*self._queue.held(), *self._results.held()])
        options = self._options
        ends_at_s = options.ends_at_s
        ends_in_s = None if ends_at_s is None else max(0.0, ends_at_s - time.monotonic())
        return m.EngineHello(
            m.VERSION,
            options.token,
            options.nanny,
            os.getpid(),
            options.host,
            options.resources,
            cluster,
            list(held),
            nth,
            ends_in_s,
            options.stands_in,
        )

    def _on_welcome(self, welcome: m.Welcome) -> None:
        # One that takes us back sends all functions again: some of them may never have come.
        self._functions.clear()
        self._runner.engine = EngineId(welcome.number)
        self._writer.share(welcome.value_store, welcome.cluster)
        self._results.resume(welcome.accepted)

    def _on_message(self, message: m.ToEngine) -> None:
        if isinstance(message, m.Assigned):
            self._results.accept(message.accepted)
            self._on_assigned(message)
        elif isinstance(message, m.Accepted):
            self._results.accept(message.batch)
        elif isinstance(message, m.GiveBack):
            self._link.say(m.Returned(*self._queue.give_back(message.tasks)))
        elif isinstance(message, m.StopTasks):
            self._on_stop_tasks(message)
        elif isinstance(message, m.StopWaiting):
            self._waits.refuse(message.task, message.attempt, message.why)
        elif isinstance(message, m.Bye):
            self._gate.heed_all()
            os.kill(os.getpid(), signal.SIGTERM)
            # A signal that comes just before a thread waits for a lock does not end that wait.
            self._wake_main()

    def _on_assigned(self, message: m.Assigned) -> None:
        # Dropped before new: one that was dropped, and is needed again, comes in one message.
        for digest in message.dropped_functions:
            self._functions.pop(digest, None)
        for digest, payload in message.new_functions.items():
            self._functions[digest] = Function(digest, bytes(payload))
        functions = [
            self._functions.get(digest) or Function(digest, None) for digest in message.functions
        ]
        count = len(functions)
        self._queue.append(
            [
                Assigned(
                    task,
                    functions[task.function] if 0 <= task.function < count else Function(b"", None),
                )
                for task in message.tasks
            ]
        )
        if not self._ears.main_hears:
            self._wake_main()

    def _on_stop_tasks(self, message: m.StopTasks) -> None:
        dropped, begun = self._queue.stop(message.tasks)
        outcomes: list[Outcome] = [stopped_outcome(item.assignment) for item in dropped]
        for outcome in outcomes:
            self._results.add(outcome)
        if outcomes:
            self._results.flush()
        if begun is not None:
            self._gate.stop(begun)
        if message.tasks:
            # Last: whatever of them the nanny does not see running now, will not begin.
            self._status.set_stop_heard(message.tasks[-1])
