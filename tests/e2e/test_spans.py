"""Promise: a task that is submitted in a span of OpenTelemetry runs in a span that is its child,
also after its controller was killed; who does not use it pays and imports nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import headway

trace = pytest.importorskip("opentelemetry.trace")
pytest.importorskip("opentelemetry.sdk.trace")

#: A span's context: its trace and itself.
Ids = tuple[int, int]


def ids_of(span: Any) -> Ids:
    context = span.get_span_context()
    return context.trace_id, context.span_id


@pytest.fixture(scope="module")
def tracer() -> Any:
    """Of a provider of our own: the process-wide one may be set but once."""
    from opentelemetry.sdk.trace import TracerProvider

    return TracerProvider().get_tracer("test")


def set_up() -> None:
    """On an engine, once: keep spans where tasks find them."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider = TracerProvider()
    provider.exporter = exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def current() -> tuple[Ids, str]:
    from opentelemetry import trace

    span = trace.get_current_span()
    return ids_of(span), span.get_span_context().trace_state.to_header()


def fail() -> None:
    raise ValueError("as it was to")


def ended() -> list[dict[str, Any]]:
    """The spans that have ended on this engine, since this was asked."""
    from opentelemetry import trace

    exporter = trace.get_tracer_provider().exporter
    spans = exporter.get_finished_spans()
    exporter.clear()
    return [
        {
            "name": span.name,
            "ids": ids_of(span),
            "parent": (span.parent.trace_id, span.parent.span_id),
            "attributes": dict(span.attributes),
            "status": span.status.status_code.name,
            "events": [dict(event.attributes) for event in span.events],
            "took": span.end_time - span.start_time,
        }
        for span in spans
    ]


@pytest.fixture(scope="module")
def one() -> Iterator[headway.Client]:
    with headway.Client(engines=1, durability="normal") as client:
        client.submit(set_up).result()
        yield client


def test_a_task_runs_in_a_span_that_is_a_child_of_its_submitters(one: headway.Client, tracer: Any):
    with tracer.start_as_current_span("outer") as span:
        future = one.options(label="the task").submit(current)
        plain = one.submit(current)
    ids, _ = future.result()
    plain.result()

    [told, other] = one.submit(ended).result()
    assert told["name"] == "the task"
    assert other["name"] == "current"
    assert told["ids"] == ids
    assert told["parent"] == other["parent"] == ids_of(span)
    assert ids[0] == ids_of(span)[0]
    assert told["attributes"] == {
        "headway.task": future.id,
        "headway.label": "the task",
        "headway.attempt": 1,
        "headway.engine": "e0",
        "headway.state": "succeeded",
    }
    assert told["status"] == "UNSET"
    assert told["took"] >= 0


def test_what_a_task_raises_is_recorded_for_each_attempt(one: headway.Client, tracer: Any):
    with tracer.start_as_current_span("outer"):
        future = one.options(retries=1).submit(fail)
    with pytest.raises(ValueError, match="as it was to"):
        future.result()

    spans = one.submit(ended).result()
    assert [span["attributes"]["headway.attempt"] for span in spans] == [1, 2]
    for span in spans:
        assert span["attributes"]["headway.state"] == "failed"
        assert span["status"] == "ERROR"
        assert span["events"][0]["exception.message"] == "as it was to"


def test_outside_of_a_span_there_is_none(one: headway.Client):
    (ids, _) = one.submit(current).result()
    assert ids == (0, 0)
    assert one.submit(ended).result() == []


def test_the_tracestate_travels_along_and_survives_the_controller(one: headway.Client):
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

    context = SpanContext(7, 8, False, TraceFlags(1), TraceState([("vendor", "told")]))
    first = one.options(label="first")
    with trace.use_span(NonRecordingSpan(context)):
        slow = first.submit(nap)
        future = one.options(after=slow).submit(current)
    os.kill(one._link.process.pid, signal.SIGKILL)

    (ids, state) = future.result()
    assert ids[0] == 7
    assert state == "vendor=told"
    assert {span["parent"] for span in one.submit(ended).result()} == {(7, 8)}


def nap() -> None:
    import time

    time.sleep(0.2)


def test_who_does_not_use_it_imports_nothing(one: headway.Client):
    script = (
        "import sys, headway\n"
        f"with headway.Client({str(one.connection_file)!r}) as client:\n"
        "    client.submit(pow, 2, 3).result()\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
