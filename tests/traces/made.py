"""Traces made by hand, and what any file for Perfetto must keep to."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from headway.traces.model import Attempt, TraceData, TracedEngine, TracedTask


def attempt(
    engine: str, assigned_s: float, started_s: float, ended_s: float, heard_s: float, **more: Any
) -> Attempt:
    facts = {"number": 1, "end": "succeeded", **more}
    return Attempt(
        engine=engine,
        assigned_s=assigned_s,
        started_s=started_s,
        ended_s=ended_s,
        heard_s=heard_s,
        **facts,
    )


def task(
    name: str,
    submitted_s: float | None,
    ready_s: float | None,
    *attempts: Attempt,
    after: tuple[str, ...] = (),
    state: str = "succeeded",
    ended_s: float | None = None,
) -> TracedTask:
    """The last of `after` is the one that made it ready."""
    end_s = attempts[-1].heard_s if ended_s is None else ended_s
    last = after[-1] if after else ""
    return TracedTask(
        name, name[:1], state, submitted_s, ready_s, end_s, list(after), last, list(attempts)
    )


def trace(*tasks: TracedTask, hosts: dict[str, str] | None = None) -> TraceData:
    engines = dict.fromkeys(each.engine for one in tasks for each in one.attempts)
    known = [
        TracedEngine(engine, (hosts or {}).get(engine, "here"), 100 + n)
        for n, engine in enumerate(engines)
    ]
    return TraceData(1_000_000.0, list(tasks), known)


#: a on e0 from 1 to 3; b after it, on e0, from 4 to 8; c beside it on e1, behind d.
DIAMOND = trace(
    task("a", 0.0, 0.0, attempt("e0", 0.5, 1.0, 3.0, 3.25)),
    task("d", 0.0, 0.0, attempt("e1", 0.5, 1.0, 5.0, 5.25)),
    task("b", 0.0, 3.25, attempt("e0", 3.5, 4.0, 8.0, 8.5), after=("a",)),
    task("c", 0.0, 3.25, attempt("e1", 3.5, 5.5, 6.0, 6.5), after=("a",)),
)


def check_chrome(written: dict[str, Any]) -> list[dict[str, Any]]:
    """A file for Perfetto is whole: slices of one track do not overlap, times are in order and not
    negative, each arrow has one beginning and one end, each inside of its slice, and none goes
    back in time. Its slices, in order."""
    events = written["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    timed = [event for event in events if event["ph"] in "XC"]
    assert [e["ts"] for e in timed] == sorted(e["ts"] for e in timed)
    assert all(event["ts"] >= 0 for event in events if event["ph"] != "M")
    tracks: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for each in slices:
        assert each["dur"] >= 0
        tracks.setdefault((each["pid"], each["tid"]), []).append(each)
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert named == tracks.keys()
    assert {e["pid"] for e in events if e["name"] == "process_name"} >= {p for p, _ in tracks}
    for its in tracks.values():
        for one, following in pairwise(its):
            assert round(one["ts"] + one["dur"], 3) <= following["ts"]
    arrows: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        if event["ph"] in "sf":
            arrows.setdefault(event["id"], []).append(event)
            inside = [
                each
                for each in tracks[event["pid"], event["tid"]]
                if each["ts"] <= event["ts"] <= round(each["ts"] + each["dur"], 3)
            ]
            assert inside, event
    for begin, end in arrows.values():
        assert (begin["ph"], end["ph"], end["bp"]) == ("s", "f", "e")
        assert begin["ts"] <= end["ts"]
    counts = [event["args"] for event in events if event["ph"] == "C"]
    assert all(number >= 0 for count in counts for number in count.values())
    if counts:
        assert set(counts[-1].values()) == {0}
    return slices
