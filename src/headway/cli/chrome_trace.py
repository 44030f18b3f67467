"""Spans of work as a Chrome trace: JSON that Perfetto (ui.perfetto.dev) opens.

One track for each engine, one slice for each span. The format is the "Trace Event Format":
complete events (`ph` X) with times in microseconds, and metadata events (`ph` M) that name the
tracks. Pure: it writes no file and knows no tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: The trace has one "process", the cluster; its "threads" are the engines.
_CLUSTER = 1


@dataclass(frozen=True, slots=True)
class Span:
    """One run of one task: what it is, where it ran, when it began, and what it took.

    `kind` colours and filters; `started_at_s` is a wall clock that all engines share.
    """

    name: str
    kind: str
    task: str
    engine: str
    pid: int
    started_at_s: float
    run_s: float


def chrome_trace(spans: Iterable[Span]) -> dict[str, Any]:
    """The trace of `spans`, ready for `json.dump`. Time starts with the first span."""
    ordered = sorted(spans, key=lambda span: span.started_at_s)
    tracks = _tracks(ordered)
    origin_s = ordered[0].started_at_s if ordered else 0.0
    events: list[dict[str, Any]] = [_metadata("process_name", 0, name="headway")]
    for engine, (track, pid) in tracks.items():
        events.append(_metadata("thread_name", track, name=f"engine {engine} (pid {pid})"))
        events.append(_metadata("thread_sort_index", track, sort_index=track))
    events += [
        {
            "name": span.name,
            "cat": span.kind,
            "ph": "X",
            "ts": round((span.started_at_s - origin_s) * 1e6, 3),
            "dur": round(span.run_s * 1e6, 3),
            "pid": _CLUSTER,
            "tid": tracks[span.engine][0],
            "args": {"task": span.task, "kind": span.kind},
        }
        for span in ordered
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _tracks(spans: Iterable[Span]) -> dict[str, tuple[int, int]]:
    """The track of each engine, from 1 in the order of their names, and its process id."""
    pids = {span.engine: span.pid for span in spans}
    ordered = sorted(pids, key=lambda engine: (len(engine), engine))  # e2 before e10
    return {engine: (track, pids[engine]) for track, engine in enumerate(ordered, 1)}


def _metadata(what: str, track: int, **args: str | int) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": _CLUSTER, "tid": track, "args": args}
