"""What an engine tells its controller about tasks: outcomes in batches, and what they printed.

Outcomes travel together while tasks are short, yet none waits for a task that is long. Rule 1:
a batch is sent before a task begins that is not known to be short, or when the batch is old or
large. Rule 2: a flusher thread sends what is old while a task runs that was thought to be
short; it sleeps without a timeout while there is nothing to send. Rule 3: what a task printed
is sent before its outcome.

A task in C code that holds the GIL keeps the flusher from running. By rule 1 little waits then:
what ended before a task that was taken to be short, and what this one printed.

One lock guards batch and socket, so the order of sending is the order of `add`.
What this file must not know: how tasks run, and what the controller sends.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from typing import cast

import zmq

from headway.config import EngineConfig, WireConfig
from headway.core.events import Outcome
from headway.engine.lifeline import die
from headway.engine.output import Output
from headway.engine.runner import Function
from headway.wire import codec
from headway.wire import messages as m

#: Printed text waits this long for more: the pace at which a person can follow it.
_OUTPUT_AFTER_S = 0.1
#: Rounds in which the flusher found nothing to send, until it sleeps for longer.
_IDLE_ROUNDS_MAX = 5


class Results:
    """The sending side of an engine: `add` outcomes, print to `output`. Must be closed."""

    def __init__(self, socket: zmq.Socket[bytes], wire: WireConfig, config: EngineConfig) -> None:
        """`socket` belongs to this object from now on."""
        self.output = Output(self._wake_flusher)
        self._socket = socket
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
            self._pending_bytes += len(cast("bytes", outcome.payload))

    def before(self, function: Function) -> bool:
        """A task with `function` is about to begin: send what must not wait for its end.

        False if it will end so soon that everything may wait for it.
        """
        is_short = function.run_mean_s < self._config.short_task_s
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
            lines = self.output.take()
            if lines:
                self._socket.send_multipart(codec.encode(m.Output(lines)))
            if outcomes:
                self._send(outcomes, outcomes_bytes)

    def close(self) -> None:
        """Send what waits, and close the socket. What is printed later goes to the nanny."""
        self.output.go_direct()
        self.flush()
        with self._lock:
            self._is_closed = True
            self._socket.close()
        self._flusher_sleeps = True
        self._wake_flusher()
        self._flusher.join()

    def _send(self, outcomes: list[Outcome], outcomes_bytes: int) -> None:
        batch = codec.Batch(self._wire.inline_bytes_max)
        if outcomes_bytes > self._wire.inline_bytes_max:  # else none of them can be large
            for outcome in outcomes:
                outcome.payload = batch.place(cast("bytes", outcome.payload))
        frames = codec.encode(m.Outcomes(outcomes), batch.large)
        self._socket.send_multipart(frames, copy=not batch.large)

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
            if not (self._pending or self.output or self._is_closed):
                self._wake.acquire()
            self._flusher_sleeps = False
            idle_rounds = 0
            while idle_rounds < _IDLE_ROUNDS_MAX and not self._is_closed:
                time.sleep(self._config.flush_after_s)
                idle_rounds = 0 if self._flush_if_old() else idle_rounds + 1

    def _flush_if_old(self) -> bool:
        """Send what has waited for long enough. Whether anything waits, or did."""
        has_outcomes, has_output = bool(self._pending), bool(self.output)
        now_s = time.monotonic()
        if not has_output:
            self._output_since_s = now_s
        if (has_outcomes and now_s - self._oldest_s >= self._config.flush_after_s) or (
            now_s - self._output_since_s >= _OUTPUT_AFTER_S
        ):
            self.flush()
            self._output_since_s = now_s
        return has_outcomes or has_output
