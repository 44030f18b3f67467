"""A trace in the Trace Event Format: JSON that Perfetto (ui.perfetto.dev) opens.

Hosts are its processes and engines their threads, the latter numbered as engines are. Each attempt
is a slice (`ph` X), each dependency an arrow (`s` to `f`), and how many tasks wait, are ready and
run is a counter (`C`). Times are microseconds. Arrows and counts are bounded, since a browser has
to draw them; what was left out is said in `otherData`.

What this file must not know: files, clusters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headway.traces.model import Attempt, TraceData, TracedTask
from headway.traces.phases import runs_by_engine

#: The process of what is no engine's: the counts.
_CLUSTER = 1
#: So many arrows, and so many points of the counter, are drawn at most.
ARROWS_MAX = 200_000
POINTS_MAX = 20_000
#: The format's unit is the microsecond, and its fractions are rounded to nanoseconds.
_NS_S = 1e-9

Event = dict[str, Any]


def chrome_trace(trace: TraceData) -> dict[str, Any]:
    """`trace`, ready to be written as JSON."""
    hosts = {engine.id: engine.host for engine in trace.engines}
    pids = {engine.id: engine.pid for engine in trace.engines}
    runs = dict(runs_by_engine(trace.tasks))
    processes = {
        host: number
        for number, host in enumerate(dict.fromkeys(hosts.get(e, "") for e in runs), _CLUSTER + 1)
    }
    places = {
        engine: (processes[hosts.get(engine, "")], number) for number, engine in enumerate(runs, 1)
    }
    events = [_metadata("process_name", _CLUSTER, 0, name="cluster")]
    for host, process in processes.items():
        name = f"host {host}" if host else "engines"
        events.append(_metadata("process_name", process, 0, name=name))
    for engine, (process, thread) in places.items():
        name = f"engine {engine}" + (f" (pid {pids[engine]})" if pids.get(engine) else "")
        events.append(_metadata("thread_name", process, thread, name=name))
        events.append(_metadata("thread_sort_index", process, thread, sort_index=thread))
    slices: dict[tuple[str, int], Event] = {}
    for engine, its in runs.items():
        for key, drawn in _slices(its, places[engine]):
            slices[key] = drawn
    body = sorted([*slices.values(), *_counts(trace)], key=lambda event: event["ts"])
    arrows, more = _arrows(trace, slices)
    return {
        "traceEvents": events + body + arrows,
        "displayTimeUnit": "ms",
        "otherData": {
            "began_at_s": trace.began_at_s,
            "notes": [*trace.notes, *([f"{more:,} more arrows are not drawn"] if more else [])],
        },
    }


def _metadata(what: str, process: int, thread: int, **args: str | int) -> Event:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": args}


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _slices(
    runs: list[tuple[TracedTask, Attempt]], place: tuple[int, int]
) -> Iterator[tuple[tuple[str, int], Event]]:
    """What ran on one engine, none above another: its two clocks, of the wall for the beginning
    and a finer one for how long it took, may differ by some microseconds."""
    for number, (task, attempt) in enumerate(runs):
        ended_s = max(attempt.ended_s, attempt.started_s + _NS_S)
        if number + 1 < len(runs):
            ended_s = min(ended_s, runs[number + 1][1].started_s)
        begin_us = _us(attempt.started_s)
        yield (
            (task.id, attempt.number),
            {
                "name": task.name or task.id,
                "cat": attempt.end,
                "ph": "X",
                "ts": begin_us,
                "dur": max(0.0, round(_us(ended_s) - begin_us, 3)),
                "pid": place[0],
                "tid": place[1],
                "args": {
                    "task": task.id,
                    "label": task.name,
                    "state": task.state,
                    "attempt": attempt.number,
                    "ended": attempt.end,
                    "waited_ms": round((attempt.started_s - attempt.assigned_s) * 1e3, 6),
                },
            },
        )


def _arrows(trace: TraceData, slices: dict[tuple[str, int], Event]) -> tuple[list[Event], int]:
    """From the last run of each upstream to the first of its dependent; and how many more there
    are than are drawn. One is drawn backwards by none: what its dependent did not wait for (any of
    them sufficed) has none."""
    last = {task.id: task.attempts[-1] for task in trace.tasks if task.attempts}
    found: list[Event] = []
    drawn = more = 0
    for task in trace.tasks:
        if not task.attempts:
            continue
        target = slices[task.id, task.attempts[0].number]
        for upstream in task.upstreams:
            if upstream not in last:
                continue
            source = slices[upstream, last[upstream].number]
            # Inside of its slice, by which the arrow is bound to it: just before the end.
            leaves = round(max(source["ts"], source["ts"] + source["dur"] - 0.001), 3)
            if leaves > target["ts"]:
                continue
            if drawn == ARROWS_MAX:
                more += 1
                continue
            drawn += 1
            both = {"name": "dependency", "cat": "dependency", "id": drawn}
            for event, phase, at in ((source, "s", leaves), (target, "f", target["ts"])):
                arrow = {**both, "ph": phase, "ts": at, "pid": event["pid"], "tid": event["tid"]}
                found.append(arrow if phase == "s" else {**arrow, "bp": "e"})
    return found, more


def _counts(trace: TraceData) -> Iterator[Event]:
    """How many tasks wait for others, are ready, and are on engines: at each change, or fewer."""
    waiting, ready, on_engines = 0, 1, 2
    changes: list[tuple[float, int, int]] = []
    for task in trace.tasks:
        submitted_s = task.submitted_s
        if task.ready_s is None or not task.attempts:
            if submitted_s is not None:
                changes += [(submitted_s, waiting, 1), (task.ended_s, waiting, -1)]
            continue
        if submitted_s is not None and task.ready_s > submitted_s:
            changes += [(submitted_s, waiting, 1), (task.ready_s, waiting, -1)]
        since_s = task.ready_s
        for attempt in task.attempts:
            at_s = max(attempt.assigned_s, since_s)
            changes += [(since_s, ready, 1), (at_s, ready, -1)]
            changes += [(at_s, on_engines, 1), (attempt.heard_s, on_engines, -1)]
            since_s = attempt.heard_s
    changes.sort()
    apart_s = trace.span_s / POINTS_MAX
    counts = [0, 0, 0]
    said_s = -apart_s
    for number, (at_s, which, change) in enumerate(changes):
        counts[which] += change
        is_last = number + 1 == len(changes)
        if not is_last and (changes[number + 1][0] == at_s or at_s - said_s < apart_s):
            continue
        said_s = at_s
        yield {
            "name": "tasks",
            "ph": "C",
            "ts": _us(at_s),
            "pid": _CLUSTER,
            "tid": 0,
            "args": dict(zip(("waiting", "ready", "on engines"), counts, strict=True)),
        }
