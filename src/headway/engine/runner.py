"""Runs one task: function, arguments, call, result; and says how it ended.

Rule 1: nothing that a task does by raising ends the engine: every BaseException becomes an
outcome. The one exception is SIGTERM, which makes the engine end: the task then has no outcome,
and the nanny reports that it was running. Rule 2: the user's code (unpickling counts: it
imports and calls) runs inside the gate, and nothing else does. Rule 3: a run that was to be
interrupted before it ended has no result, also if it returned one: what a function returns that
was interrupted half-way must not be taken for its value, nor reach the tasks that depend on it.

What this file must not know: sockets, threads, how outcomes travel.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from headway import current
from headway.core.events import (
    INPUT_LOST,
    OVERRAN,
    RAISED,
    RAN,
    REFUSED,
    STOPPED,
    EngineId,
    ErrorInfo,
    Outcome,
    Value,
    format_task_id,
)
from headway.engine import descendants, spans
from headway.engine.keeper import InputsLost, Keeper
from headway.engine.status import INTERRUPT_OVERRAN
from headway.errors import SerializationError
from headway.wire import payload as wire_payload

if TYPE_CHECKING:
    from headway.engine.gate import Gate
    from headway.engine.output import Output
    from headway.engine.queue import Assigned
    from headway.wire.messages import Assignment

#: Weight of the newest run in a function's mean run time: a change shows after a few runs.
_MEAN_WEIGHT = 0.2

#: Frames of the engine at the outer end of a task's traceback.
_OWN_FRAMES = 1


class Function:
    """A function under its digest: as sent, then as loaded, and how long it usually runs."""

    __slots__ = ("_payload", "call", "digest", "name", "run_mean_s")

    def __init__(self, digest: bytes, payload: bytes | None) -> None:
        """`payload` is None for one that the controller names but never sent."""
        self.digest = digest
        self.name = f"function {digest.hex()[:8]}"
        #: The function itself, once loaded.
        self.call: Callable[..., Any] | None = None
        #: Infinite until it has run: what is not known is taken to be long.
        self.run_mean_s = float("inf")
        self._payload = payload

    def load(self) -> Callable[..., Any]:
        """The function itself. Raises whatever unpickling it raises, each time anew."""
        if self._payload is None:
            raise SerializationError(
                f"the function with digest {self.digest.hex()} was never sent to this engine"
            )
        call = wire_payload.load_function(self._payload)
        self.name = wire_payload.name_of(call)
        self.call = call
        self._payload = None  # not needed any more
        return call


def _learn(function: Function, run_s: float) -> None:
    """A run of `function` took so long: its mean leans on the recent."""
    mean_s = function.run_mean_s
    is_first = mean_s == float("inf")
    function.run_mean_s = run_s if is_first else mean_s + _MEAN_WEIGHT * (run_s - mean_s)


class Runner:
    """Runs tasks, in the main thread, one at a time."""

    def __init__(
        self,
        gate: Gate,
        output: Output,
        keeper: Keeper,
        frame_bytes_max: int,
        announce_deadline: Callable[[float, float], None],
    ) -> None:
        """`keeper` reads and writes what does not travel.

        `announce_deadline(now_s, deadline_s)` lets the nanny know of a run's time limit."""
        self._gate = gate
        self._status = gate.status
        self._output = output
        self._keeper = keeper
        self._frame_bytes_max = frame_bytes_max
        self._announce_deadline = announce_deadline
        #: Which engine this is, once it was welcomed.
        self.engine = EngineId(0)

    def run(self, item: Assigned) -> Outcome:
        """Run the task and say how it ended.

        Raises:
            SystemExit: SIGTERM came while it ran; the status file still calls it running.
        """
        assignment, function = item
        gate = self._gate
        self._output.task = task = current.task = assignment.task
        current.attempt = assignment.attempt
        started_at_s = time.time()
        if assignment.run_timeout_s is None:
            self._status.begin(task, started_at_s)
        else:
            self._begin_limited(assignment, started_at_s)
        began_s = time.perf_counter()
        error: BaseException | None = None
        result: Value = b""
        span = None
        try:
            try:
                gate.enter(item)
                call = function.call or function.load()
                # The codec has put every payload in its place: no index is left here.
                inputs: Any = assignment.inputs
                if inputs is not None:
                    inputs = self._keeper.read(inputs)
                args, kwargs = wire_payload.load_arguments(
                    cast("bytes", assignment.payload), inputs
                )
                if assignment.traceparent:
                    span = spans.begin(assignment, function.name, self.engine, started_at_s)
                value = call(*args, **kwargs)
                if current.submitted:
                    current.settle_submitted()
                if value is not None:
                    result = self._keeper.dump(value, assignment, function.name)
            finally:
                try:
                    if span is not None:
                        span.end(sys.exception(), bool(gate.interrupted))
                finally:
                    gate.leave()
        except BaseException as raised:
            if gate.terminated:  # also where the task made an error of its own of it
                raise SystemExit from None
            error = raised
        run_s = time.perf_counter() - began_s
        outcome = Outcome(task, assignment.attempt, RAN, b"", started_at_s, run_s)
        if gate.interrupted:
            # Also where the task made an error of its own of our KeyboardInterrupt, or a result.
            outcome.status = OVERRAN if gate.interrupted == INTERRUPT_OVERRAN else STOPPED
            self._keeper.forget(result)
            # What it has started, and not ended as it was interrupted, must not go on either.
            descendants.end_own(since_s=time.monotonic() - run_s)
        elif error is None:
            outcome.payload = result
            _learn(function, run_s)
        elif isinstance(error, InputsLost):
            outcome.status = INPUT_LOST
            outcome.lost, outcome.error = error.names, ErrorInfo([], str(error))
        else:
            self._tell_raised(outcome, error)
        del error  # its traceback holds this frame: a cycle that would keep the arguments
        self._status.end()
        self._output.task = None
        current.task = 0
        current.submitted.clear()
        return outcome

    def _begin_limited(self, assignment: Assignment, started_at_s: float) -> None:
        """Begin a run with a time limit: the nanny has to know when to look."""
        now_s = time.monotonic()
        deadline_s = now_s + (assignment.run_timeout_s or 0.0)
        self._status.begin(assignment.task, started_at_s, deadline_s)
        self._announce_deadline(now_s, deadline_s)

    def _tell_raised(self, outcome: Outcome, error: BaseException) -> None:
        """Write into `outcome` that the run ended with `error`."""
        try:
            payload, info = wire_payload.dump_exception(error, skip_frames=_OWN_FRAMES)
        except BaseException as second:  # its __str__ or __reduce__ raised SystemExit, say
            text = (
                f"task {format_task_id(outcome.task)} raised a {type(error).__qualname__} that "
                f"could not be described: doing so raised {type(second).__qualname__}"
            )
            payload, info = wire_payload.dump_exception(SerializationError(text))
        # A functional dependency. By name, so that one of IPython.parallel's counts as well;
        # not by isinstance: a subclass is an answer about some other task's dependencies.
        if type(error).__name__ == "UnmetDependency":
            outcome.status, outcome.error = REFUSED, info
        elif len(payload) > self._frame_bytes_max:
            self._tell_raised(
                outcome,
                SerializationError(
                    f"the {type(error).__qualname__} that the task raised takes {len(payload):,} "
                    f"bytes when pickled, and at most {self._frame_bytes_max:,} may travel"
                ),
            )
        else:
            outcome.status, outcome.payload, outcome.error = RAISED, payload, info


def stopped_outcome(assignment: Assignment) -> Outcome:
    """The outcome of a task that was dropped before it began."""
    return Outcome(assignment.task, assignment.attempt, STOPPED, b"")
