"""`headway trace`: what ran, as a file for Perfetto, and where its time went, as tables.

What this file must not know: how a trace is put together, and what is drawn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from headway.cli import show, which
from headway.cli.run_record import default_root, read_trace_of
from headway.cli.show import seconds
from headway.client import traced
from headway.traces.chrome import chrome_trace
from headway.traces.critical import CriticalPath, critical_path
from headway.traces.model import TraceData
from headway.traces.phases import PHASES
from headway.traces.select import select
from headway.traces.summary import Summary, summary

_ID = re.compile(r"\d+-\d+")
#: Engines that are listed one by one.
_ENGINES_MAX = 32


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What `headway trace` was asked for."""

    what: tuple[str, ...]
    labels: tuple[str, ...]
    output: Path | None
    steps: int
    cluster: str | None
    record: Path | None
    as_json: bool


def run(options: TraceOptions) -> None:
    """Find the trace, write it, and show what is in it.

    Raises:
        ValueError: it was asked for a run and for tasks at once.
        FlowError: there is no such run, or it has no trace.
        HeadwayError, OSError: the cluster can't be asked; the file can't be written.
    """
    trace = _find(options)
    if options.labels:
        trace = select(trace, lambda task: _has_label(task.name, options.labels))
    if not trace.tasks:
        wanted = f" with label {' or '.join(options.labels)}" if options.labels else ""
        raise ValueError(f"no task{wanted} has ended that is in this trace")
    path, figures = critical_path(trace), summary(trace)
    if options.output is not None:
        options.output.write_text(json.dumps(chrome_trace(trace)), encoding="utf-8")
    if options.as_json:
        show.say_json(
            {
                "began_at_s": trace.began_at_s,
                "summary": figures.as_dict(),
                "critical_path": path.as_dict(),
                "notes": trace.notes,
                "output": str(options.output) if options.output is not None else None,
            }
        )
        return
    console = show.console()
    say_summary(figures, console)
    say_path(path, options.steps, console)
    for note in trace.notes:
        show.say(f"note: {note}")
    if options.output is not None:
        show.say(f"{options.output}: open it on https://ui.perfetto.dev")


def _find(options: TraceOptions) -> TraceData:
    runs = [each for each in options.what if not _ID.fullmatch(each)]
    if runs:
        if len(options.what) > 1 or options.cluster is not None:
            raise ValueError(f"{runs[0]} is a run: it is shown by itself, and not of a cluster")
        return read_trace_of(options.record or default_root(), runs[0])
    with which.connect(options.cluster) as client:
        link = client._link
        wanted = traced.nodes_of(link, options.what)
        data = traced.read_trace(link)
    return traced.named(data, wanted) if wanted else select(data, lambda task: True)


def _has_label(name: str, labels: Sequence[str]) -> bool:
    """Whether it is one of `labels`, or that of a task in an array, which has its number too."""
    return name in labels or name.partition(" [")[0] in labels


# --- what is said --------------------------------------------------------------------------------


def say_summary(figures: Summary, console: Console) -> None:
    """How many tasks ended how, where their time went, and that of the engines."""
    count = sum(figures.states.values())
    ends = ", ".join(f"{number:,} {state}" for state, number in sorted(figures.states.items()))
    retries = f", {figures.attempts:,} attempts" if figures.attempts != count else ""
    console.print(f"{count:,} tasks in {seconds(figures.took_s)}: {ends}{retries}")
    total_s = sum(phase.total_s for phase in figures.phases.values())
    console.print()
    console.print(
        show.table(
            ["tasks were", ">all", ">share", ">mean", ">most", ">tasks", "that is"],
            [
                (
                    name,
                    seconds(phase.total_s),
                    f"{phase.total_s / total_s:.1%}" if total_s else "",
                    seconds(phase.mean_s),
                    seconds(phase.most_s),
                    f"{phase.tasks:,}",
                    PHASES[name],
                )
                for name, phase in figures.phases.items()
            ],
        )
    )
    console.print()
    console.print(
        show.table(["engine", "host", ">runs", ">busy", ">idle", ">used"], _engines(figures))
    )
    console.print(
        f"engines idle: {seconds(figures.idle_s)}, of which {seconds(figures.starved_s)} since no "
        "task could run"
    )


def _engines(figures: Summary) -> Iterator[Sequence[object]]:
    for each in figures.engines[:_ENGINES_MAX]:
        used = f"{each.busy_s / each.there_s:.1%}" if each.there_s else ""
        idle = seconds(each.idle_s)
        yield each.id, each.host, f"{each.attempts:,}", seconds(each.busy_s), idle, used
    count = len(figures.engines)
    yield (
        f"all {count:,}" if count > 1 else "all",
        "",
        f"{figures.attempts:,}",
        seconds(figures.busy_s),
        seconds(figures.idle_s),
        f"{figures.utilisation:.1%}",
    )


def say_path(path: CriticalPath, steps_max: int, console: Console) -> None:
    """The critical path, its last steps if there are many."""
    if not path.steps:
        return
    waits = ", ".join(f"{what} {seconds(s)}" for what, s in path.waited_s.items() if s)
    console.print()
    console.print(
        f"critical path: {len(path.steps):,} tasks in {seconds(path.took_s)}, of which they ran "
        f"{seconds(path.run_s)}{f' ({waits})' if waits else ''}"
    )
    steps = path.steps[-steps_max:]
    if len(steps) < len(path.steps):
        console.print(f"its last {len(steps):,} tasks:")
    console.print(
        show.table(
            ["task", "label", "state", "engine", ">at", ">queue", ">behind", ">transfer", ">run",
             ">report"],
            [
                (
                    step.id,
                    step.name,
                    step.state,
                    step.engine,
                    seconds(step.ready_s),
                    seconds(step.queue_s),
                    seconds(step.behind_s),
                    seconds(step.transfer_s),
                    seconds(step.run_s),
                    seconds(step.report_s),
                )
                for step in steps
            ],
        )
    )  # fmt: skip
    console.print(
        f"the chain of dependencies that ran longest: {len(path.chain):,} tasks, "
        f"{seconds(path.chain_s)}; no number of engines makes it shorter"
    )
