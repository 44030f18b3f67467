"""Promise: a trace has one track for each engine, and each run of a task in its place on it."""

from __future__ import annotations

import json

from headway.cli.chrome_trace import Span, chrome_trace


def span(engine, started_at_s, run_s, name="task"):
    return Span(name, "file", "1-1", engine, 100 + int(engine[1:]), started_at_s, run_s)


def events(trace, phase):
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


def test_each_engine_is_a_named_track_in_the_order_of_their_numbers():
    trace = chrome_trace([span("e10", 5.0, 0.1), span("e2", 6.0, 0.1), span("e10", 7.0, 0.1)])

    names = {e["tid"]: e["args"]["name"] for e in events(trace, "M") if e["name"] == "thread_name"}
    assert names == {1: "engine e2 (pid 102)", 2: "engine e10 (pid 110)"}


def test_each_run_is_a_slice_in_microseconds_since_the_first():
    trace = chrome_trace([span("e0", 1000.5, 0.25, "second"), span("e1", 1000.0, 0.000_01)])

    slices = [(e["tid"], e["ts"], e["dur"]) for e in events(trace, "X")]
    assert slices == [(2, 0.0, 10.0), (1, 500_000.0, 250_000.0)]
    assert events(trace, "X")[1]["name"] == "second"
    assert events(trace, "X")[1]["args"] == {"task": "1-1", "kind": "file"}


def test_a_trace_of_nothing_is_a_trace():
    assert events(json.loads(json.dumps(chrome_trace([]))), "X") == []
