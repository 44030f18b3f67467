"""A task's span of OpenTelemetry, while it runs: for tasks that were submitted in a span.

The API alone is used, and only for such tasks. Where it is missing there is no span; where no SDK
was set up in this process, the span is not recorded, but what the task calls finds its context. It
begins once the function was loaded, whose module may be what sets up the SDK.

What this file must not know: how a task is run.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from headway.core.events import EngineId, format_engine_id, format_task_id
from headway.wire.messages import Assignment


@cache
def _has_api() -> bool:
    return find_spec("opentelemetry") is not None and find_spec("opentelemetry.trace") is not None


def begin(
    assignment: Assignment, name: str, engine: EngineId, started_at_s: float
) -> TaskSpan | None:
    """The span of a run that began at `started_at_s` by the wall clock, from now on the current
    one. None where there is no API."""
    return TaskSpan(assignment, name, engine, started_at_s) if _has_api() else None


class TaskSpan:
    """The span of one run. `end` it."""

    def __init__(
        self, assignment: Assignment, name: str, engine: EngineId, started_at_s: float
    ) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        traceparent, _, tracestate = assignment.traceparent.partition(" ")
        carrier = {"traceparent": traceparent, "tracestate": tracestate}
        parent = TraceContextTextMapPropagator().extract(carrier)
        attributes: dict[str, Any] = {
            "headway.task": format_task_id(assignment.task),
            "headway.attempt": assignment.attempt,
            "headway.engine": format_engine_id(engine),
        }
        if assignment.label:
            attributes["headway.label"] = assignment.label
        self._span = trace.get_tracer("headway").start_span(
            assignment.label or name,
            parent,
            trace.SpanKind.CONSUMER,
            attributes,
            start_time=int(started_at_s * 1e9),
        )
        self._token = context.attach(trace.set_span_in_context(self._span, parent))

    def end(self, error: BaseException | None, is_interrupted: bool) -> None:
        """The run has ended, with `error` or well; or it was to be interrupted before."""
        from opentelemetry import context, trace

        context.detach(self._token)
        state = "interrupted" if is_interrupted else "succeeded" if error is None else "failed"
        self._span.set_attribute("headway.state", state)
        if error is not None:
            self._span.record_exception(error)
        if state != "succeeded":
            text = type(error).__name__ if error is not None else state
            self._span.set_status(trace.StatusCode.ERROR, text)
        self._span.end()
