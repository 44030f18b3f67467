"""What an engine tells its controller about tasks: outcomes in batches, and what they printed.

Outcomes travel together while tasks are short, yet none waits for a task that is long. Rule 1:
a batch is sent before a task begins that is not known to be short, or when the batch is old or
large. Rule 2: a flusher thread sends what is old while a task runs that was thought to be
short; it sleeps without a timeout while there is nothing to send. Rule 3: what a task printed
is sent before its outcome. Rule 4: a batch is kept until it is accepted. While the controller is
away (at first it is), batches are closed as always, and not sent; each welcome begins a new
connection, with all that were not accepted. What was printed is sent once, and lost if it was
under way when a connection was.

A task in C code that holds the GIL keeps the flusher from running. By rule 1 little waits then:
what ended before a task that was taken to be short, and what this one printed.

One lock guards batch and connection, so the order of sending is the order of `add`.
What this file must not know: how tasks run, and what the controller sends.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Sequence
from typing import cast

from headway.config import EngineConfig, WireConfig
from headway.core.events import Outcome, Value
from headway.engine.lifeline import die
from headway.engine.line import Line, Route
from headway.engine.output import Output
from headway.engine.runner import Function
from headway.engine.unaccepted import Unaccepted
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.codec import Buffer

#: Printed text waits this long for more: the pace at which a person can follow it.
_OUTPUT_AFTER_S = 0.1
#: Rounds in which the flusher found nothing to send, until it sleeps for longer.
_IDLE_ROUNDS_MAX = 5


class Results:
    """The sending side of an engine: `add` outcomes, print to `output`. Must be closed."""

    def __init__(self, route: Route, wire: WireConfig, config: EngineConfig) -> None:
        """`route` is that of the connection for results, which is made with each welcome."""
        self.output = Output(self._wake_flusher)
        self.output.keep(True)
        self._route = route
        self._line: Line | None = None
        #: The controller is away: nothing is sent.
        self._is_away = True
        self._unaccepted = Unaccepted()
        #: The last word on whether the run that goes on waits; None if it never did.
        self._standing: m.Blocked | m.Unblocked | None = None
        self._wire = wire
        self._config = config
        self._lock = threading.Lock()
        self._pending: list[Outcome] = []
        self._pending_bytes = 0
        self._oldest_s = 0.0
        self._output_since_s = 0.0
        self._is_closed = False
        # A lock as the cheapest thing to wait for: released to wake the flusher.
        self._wake = threading.Lock()
        self._wake.acquire()
        self._flusher_sleeps = False
        self._flusher = threading.Thread(
            target=self._flush_late, name="headway-flusher", daemon=True
        )
        self._flusher.start()

    def add(self, outcome: Outcome) -> None:
        """Take one outcome, to be sent soon: with the next `before`, or `flush`."""
        with self._lock:
            if not self._pending:
                self._oldest_s = time.monotonic()
            self._pending.append(outcome)
            if isinstance(outcome.payload, bytes):
                self._pending_bytes += len(outcome.payload)

    def is_short(self, function: Function) -> bool:
        """Whether tasks with `function` are known to end soon."""
        return function.run_mean_s < self._config.short_task_s

    def before(self, function: Function) -> bool:
        """A task with `function` is about to begin: send what must not wait for its end.

        False if it will end so soon that everything may wait for it.
        """
        is_short = self.is_short(function)
        if not self._pending:
            return not is_short
        if (
            is_short
            and time.monotonic() - self._oldest_s < self._config.flush_after_s
            and self._pending_bytes < self._wire.batch_bytes
            and len(self._pending) < self._wire.batch_tasks_max
        ):
            self._wake_flusher()
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Send everything that waits, now."""
        with self._lock:
            if self._is_closed:
                return
            # Outcomes first: what is printed from here on belongs to none of them.
            outcomes, self._pending = self._pending, []
            outcomes_bytes, self._pending_bytes = self._pending_bytes, 0
            self._send_output()
            if outcomes:
                frames = self._close_batch(outcomes, outcomes_bytes)
                self._send(frames)

    def say_standing(self, message: m.Blocked | m.Unblocked) -> None:
        """Say how the run that goes on stands, after the outcomes before it; and again with each
        welcome: what is said last counts."""
        self.flush()
        with self._lock:
            self._standing = message
            self._send(codec.encode(message))

    def close(self) -> None:
        """Send what waits. What is printed later goes to the nanny. `close_connection` follows."""
        self.output.go_direct()
        self.flush()
        with self._lock:
            self._is_closed = True
        self._flusher_sleeps = True
        self._wake_flusher()
        self._flusher.join()

    def _close_batch(self, outcomes: list[Outcome], outcomes_bytes: int) -> Sequence[Buffer]:
        """Make the next batch; its frames."""
        batch = codec.Batch(self._wire.inline_bytes_max)
        if outcomes_bytes > self._wire.inline_bytes_max:  # else none of them can be large
            for outcome in outcomes:
                outcome.payload = batch.place_value(cast("Value", outcome.payload))
        number = self._unaccepted.last + 1
        frames = codec.encode(m.Outcomes(number, outcomes), batch.large)
        self._unaccepted.add(frames)
        return frames

    def _send_output(self) -> None:
        lines = [] if self._is_away else self.output.take()
        if lines:
            self._send(codec.encode(m.Output(lines)))

    def _send(self, frames: Sequence[Buffer]) -> None:
        if not self._is_away and self._line is not None and not self._line.send(frames):
            self._is_away = True  # the receiver will see it too, and say hello
            self.output.keep(True)

    # --- the receiver thread ---------------------------------------------------------------------

    def leave(self) -> None:
        """The controller is away: nothing is sent until `resume`."""
        with self._lock:
            self._is_away = True
            self.output.keep(True)

    def resume(self, accepted: int) -> None:
        """The controller knows us, and has our batches up to `accepted`: send the others.

        Raises:
            ConnectionLost: no connection can be made, for want of descriptors, say.
            ProtocolError: see Unaccepted.resume.
        """
        with self._lock:
            self._unaccepted.resume(accepted)
            if self._line is not None:
                self._line.close()
                self._line = None
            if self._is_closed:
                return
            self._line = self._route.connect()
            self._is_away = False
            self.output.keep(False)
            self._send_output()  # of tasks whose outcomes follow: see rule 3
            for frames in self._unaccepted:
                self._send(frames)
            if self._standing is not None:
                self._send(codec.encode(self._standing))
        self._wake_flusher()

    def accept(self, batch: int) -> None:
        """The controller has our batches up to `batch`."""
        if batch != self._unaccepted.accepted:  # changed by this thread alone
            with self._lock:
                self._unaccepted.accept(batch)

    def held(self) -> list[m.Held]:
        """The attempts whose outcomes were not accepted, sent or not."""
        with self._lock:
            pending = [m.Held(outcome.task, outcome.attempt) for outcome in self._pending]
            return self._unaccepted.held() + pending

    def fds(self) -> tuple[int, ...]:
        """Readable when `has_lost_connection` may have changed."""
        return self._line.fds[1:] if self._line is not None else ()

    def has_lost_connection(self) -> bool:
        """Whether the connection has ended since this was last asked. Then we are away."""
        line = self._line
        if line is None:
            return False
        line.monitor.look()
        if not line.monitor.has_ended:
            return False
        self.leave()
        with self._lock:
            line.close()
            self._line = None
        return True

    def close_connection(self) -> None:
        """Give the sockets back; what was sent last has a moment to leave. After `close`."""
        if self._line is not None:
            self._line.close(at_once=False)

    # --- the flusher thread ----------------------------------------------------------------------

    def _wake_flusher(self) -> None:
        if self._flusher_sleeps:
            self._flusher_sleeps = False
            with contextlib.suppress(RuntimeError):  # somebody else was as fast
                self._wake.release()

    def _flush_late(self) -> None:
        try:
            self._flush_until_closed()
        except BaseException:  # a bug of ours: results would wait for hours, and nobody know
            die(f"the engine ends: its flusher failed\n{traceback.format_exc()}")

    def _flush_until_closed(self) -> None:
        while not self._is_closed:
            self._flusher_sleeps = True
            if not (self._pending or self._has_output() or self._is_closed):
                self._wake.acquire()
            self._flusher_sleeps = False
            idle_rounds = 0
            while idle_rounds < _IDLE_ROUNDS_MAX and not self._is_closed:
                time.sleep(self._config.flush_after_s)
                idle_rounds = 0 if self._flush_if_old() else idle_rounds + 1

    def _has_output(self) -> bool:
        """Whether there is text that can be sent."""
        return bool(self.output) and not self._is_away

    def _flush_if_old(self) -> bool:
        """Send what has waited for long enough. Whether anything waits, or did."""
        has_outcomes = bool(self._pending)
        has_output = self._has_output()
        now_s = time.monotonic()
        if not has_output:
            self._output_since_s = now_s
        if (has_outcomes and now_s - self._oldest_s >= self._config.flush_after_s) or (
            now_s - self._output_since_s >= _OUTPUT_AFTER_S
        ):
            self.flush()
            self._output_since_s = now_s
        return has_outcomes or has_output
