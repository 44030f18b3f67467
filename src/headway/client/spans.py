"""The span of OpenTelemetry in which a task is submitted, as text that travels with it.

The task's own span is begun on its engine, as a child of that one (engine/spans.py). None is made
here: from submission to result it would say no more than both of them do, and cost each task as
much as its submission. Nothing is imported unless the program has imported the API: who has not,
has no span.

What this file must not know: tasks.
"""

from __future__ import annotations

from headway.core.events import TRACEPARENT_CHARS_MAX

#: The module whose presence says that there may be a span.
API = "opentelemetry.trace"


def current() -> str:
    """The current span, as a traceparent, and after a space its tracestate; "" for none."""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    text = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    state = context.trace_state.to_header()
    # Longer ones may be dropped, and not cut: so the standard has it.
    return f"{text} {state}" if state and len(state) < TRACEPARENT_CHARS_MAX - len(text) else text
