"""Promise: what is written for Perfetto has engines as tracks of their hosts, runs as slices that
do not overlap, dependencies as whole arrows, and counts of tasks; also of clocks that disagree."""

from __future__ import annotations

import json
from random import Random

from headway.traces import chrome
from headway.traces.chrome import chrome_trace
from headway.traces.model import TraceData
from tests.traces.made import DIAMOND, attempt, check_chrome, task, trace


def test_engines_are_tracks_of_their_hosts_and_runs_are_slices():
    data = trace(
        task("a", 0.0, 0.0, attempt("e10", 0.0, 0.5, 1.0, 1.0)),
        task("b", 0.0, 0.0, attempt("e2", 0.0, 0.25, 1.0, 1.0, end="raised"), state="failed"),
        hosts={"e10": "far"},
    )
    written = chrome_trace(data)
    slices = check_chrome(written)

    events = written["traceEvents"]
    tracks = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "thread_name"}
    hosts = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert list(tracks) == ["engine e2 (pid 101)", "engine e10 (pid 100)"]
    assert [hosts[pid] for pid in tracks.values()] == ["host here", "host far"]
    assert [(s["name"], s["ts"], s["dur"]) for s in slices] == [
        ("b", 250_000.0, 750_000.0),
        ("a", 500_000.0, 500_000.0),
    ]
    assert slices[0]["args"] == {
        "task": "b",
        "label": "b",
        "state": "failed",
        "attempt": 1,
        "ended": "raised",
        "waited_ms": 250.0,
    }


def test_each_dependency_is_an_arrow_and_the_queue_is_counted():
    written = json.loads(json.dumps(chrome_trace(DIAMOND)))
    check_chrome(written)

    events = written["traceEvents"]
    assert [e["ph"] for e in events if e["name"] == "dependency"] == ["s", "f", "s", "f"]
    counts = {e["ts"]: e["args"] for e in events if e["ph"] == "C"}
    assert counts[0.0] == {"waiting": 2, "ready": 2, "on engines": 0}
    assert counts[3_250_000.0] == {"waiting": 0, "ready": 2, "on engines": 1}
    assert counts[3_500_000.0] == {"waiting": 0, "ready": 0, "on engines": 3}


def test_a_trace_of_nothing_is_a_trace():
    assert check_chrome(chrome_trace(TraceData(0.0, [], []))) == []


def test_arrows_and_counts_have_a_bound_and_what_is_left_out_is_said(monkeypatch):
    monkeypatch.setattr(chrome, "ARROWS_MAX", 1)
    monkeypatch.setattr(chrome, "POINTS_MAX", 2)
    written = chrome_trace(DIAMOND)
    check_chrome(written)

    assert written["otherData"]["notes"] == ["1 more arrows are not drawn"]
    assert len([e for e in written["traceEvents"] if e["ph"] == "C"]) <= 4


def test_any_trace_is_whole_also_of_clocks_that_disagree():
    rng = Random(11)
    for _ in range(60):
        tasks = []
        free = dict.fromkeys(("e0", "e1", "e2"), 0.0)
        for number in range(rng.randrange(1, 40)):
            ups = rng.sample(tasks, min(len(tasks), rng.randrange(3)))
            ready = max([rng.random(), *(up.ended_s for up in ups)])
            attempts = []
            for nth in range(1 + (rng.random() < 0.2)):
                engine = rng.choice(list(free))
                assigned = ready + rng.random() / 100
                # Up to some microseconds before the one before it had ended.
                started = max(assigned, free[engine] - rng.random() * 5e-6)
                ended = started + rng.choice([0.0, 1e-9, 1e-6, rng.random()])
                free[engine] = ended
                ready = ended + rng.random() / 1000
                facts = {"number": nth + 1, "end": "succeeded"}
                attempts.append(attempt(engine, assigned, started, ended, ready, **facts))
            before = tuple(up.id for up in ups)
            ready = max(0.0, attempts[0].assigned_s - 0.001)
            tasks.append(task(f"t{number}", 0.0, ready, *attempts, after=before))
        slices = check_chrome(chrome_trace(trace(*tasks)))
        assert len(slices) == sum(len(one.attempts) for one in tasks)
