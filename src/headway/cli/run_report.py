"""What `headway run` says of a flow before it runs, and after.

What this file must not know: clusters, and how a flow is run.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headway.cli import show
from headway.cli.run_compare import Compared
from headway.cli.run_going import Ended
from headway.client.chaos import ChaosReport
from headway.flows.plan import Plan, Shell
from headway.tally.model import Progress
from headway.tally.words import ends_in_words, rate_text, span
from headway.wire.connection import LOG_SUFFIXES

#: So many failed tasks are shown, and lines of what each said; labels of a level.
_BAD_MAX = 20
_LINES_MAX = 6
_LABELS_MAX = 8


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run went. `logs` is where what commands printed lies, if not in the cluster."""

    run: str
    flow: str
    progress: Progress
    bad: Sequence[Ended]
    file: Path
    record: Path | None
    logs: Path | None
    cluster: str | None
    is_cut: bool
    chaos: ChaosReport | None
    compared: Compared | None


def dry_run(plan: Plan, kept: Container[str], as_json: bool) -> None:
    """The graph: its levels, and the critical path where times are known."""
    levels = plan.levels()
    path_s = plan.critical_path_s()
    counts = [Counter(task.label for task in level) for level in levels]
    kept_count = sum(task.id in kept for task in plan.tasks)
    if as_json:
        show.say_json(
            {
                "flow": plan.name,
                "source": plan.source,
                "tasks": len(plan.tasks),
                "edges": plan.edges,
                "kept": kept_count,
                "critical_path_s": path_s,
                "levels": [dict(each) for each in counts],
                "notes": list(plan.notes),
            }
        )
        return
    show.say(
        f"{plan.name}: {len(plan.tasks):,} tasks, {plan.edges:,} dependencies, "
        f"{len(levels):,} levels"
    )
    rows = [(number, f"{each.total():,}", _labels(each)) for number, each in enumerate(counts, 1)]
    show.console().print(show.table([">level", ">tasks", "label"], rows))
    if path_s is not None:
        work_s = sum(task.runtime_s or 0.0 for task in plan.tasks)
        show.say(f"critical path {path_s:,.3f} s, all work {work_s:,.3f} s")
    if kept_count:
        rest = len(plan.tasks) - kept_count
        show.say(f"{kept_count:,} are kept from the run before, {rest:,} run")
    for note in plan.notes:
        show.say(f"note: {note}")


def _labels(counts: Counter[str]) -> str:
    shown = [
        label if count == 1 else f"{label} x {count:,}"
        for label, count in counts.most_common(_LABELS_MAX)
    ]
    rest = len(counts) - len(shown)
    return ", ".join([*shown, *([f"and {rest:,} more"] if rest else [])])


def say_end(end: RunEnd, as_json: bool) -> None:
    """How it went, what failed and why, and what to do next."""
    if as_json:
        show.say_json(_as_json(end))
        return
    if end.bad:
        _say_bad(end)
    if end.chaos is not None:
        show.say(str(end.chaos))
        right = end.chaos.is_right and not end.chaos.unfinished
        show.say("each task ended once" if right else "NOT RIGHT: see above")
        _say_compared(end.compared)
    told = end.progress
    open_ = told.total - told.ended
    cut = f", {open_:,} not ended" if open_ else ""
    rate = f", {rate_text(told.rate)}" if told.ended and told.rate is not None else ""
    took = f"{span(told.elapsed_s)}{rate}"
    show.say(f"run {end.run}: {told.total:,} tasks, {took}: {ends_in_words(told)}{cut}")
    if end.is_cut:
        sys.stderr.write("headway: interrupted; what had not ended was cancelled\n")
    if end.bad or end.is_cut:
        hint_to_resume(end.file, end.run, end.record)


def _say_compared(compared: Compared | None) -> None:
    if compared is None:
        show.say("not compared with a run without trouble: --compare does that")
        return
    for text in compared.differences[:_BAD_MAX]:
        show.say(f"DIFFERENT: {text}")
    count = len(compared.differences)
    if count > _BAD_MAX:
        show.say(f"and {count - _BAD_MAX:,} more")
    if count:
        show.say("(what depends on time or chance is different without trouble as well)")
    else:
        show.say(f"all {compared.tasks:,} tasks came to the same as without trouble")


def _say_bad(end: RunEnd) -> None:
    # Of what only could not run, the cause is shown already.
    causes = [each for each in end.bad if each.state != "impossible"] or list(end.bad)
    if end.is_cut:
        causes = [each for each in causes if each.state != "cancelled"]
    for each in causes[:_BAD_MAX]:
        node = f" ({each.node})" if each.node else ""
        show.say(f"{each.task.id}{node} {each.state}, {each.task.place}:")
        lines = each.why.splitlines()
        for line in lines[:_LINES_MAX]:
            show.say(f"    {line}")
        if hint := _hint(end, each):
            show.say(f"    {hint}")
    if len(causes) > _BAD_MAX:
        show.say(f"and {len(causes) - _BAD_MAX:,} more")


def _hint(end: RunEnd, bad: Ended) -> str:
    if not bad.node:
        return ""
    if end.logs is None:
        option = f" --cluster {shlex.quote(end.cluster)}" if end.cluster else ""
        verb = "logs" if isinstance(bad.task.work, Shell) else "explain"
        return f"see: headway {verb}{option} {bad.node}"
    files = [end.logs / f"{bad.node}{suffix}" for suffix in reversed(LOG_SUFFIXES)]
    said = [path for path in files if path.is_file() and path.stat().st_size]
    return f"see: {said[0]}" if said else ""


def _as_json(end: RunEnd) -> dict[str, Any]:
    return {
        "run": end.run,
        "flow": end.flow,
        "tasks": end.progress.total,
        "states": end.progress.ends,
        "took_s": end.progress.elapsed_s,
        "interrupted": end.is_cut,
        "logs": str(end.logs) if end.logs is not None else None,
        "failed": [
            {"task": each.task.id, "id": each.node, "state": each.state, "why": each.why}
            for each in end.bad
        ],
        "chaos": {**asdict(end.chaos), "is_right": end.chaos.is_right} if end.chaos else None,
        "compared": asdict(end.compared) if end.compared is not None else None,
    }


def hint_to_resume(file: Path, run: str, record: Path | None) -> None:
    """How to go on, on stderr."""
    option = f" --record {shlex.quote(str(record))}" if record is not None else ""
    command = f"headway run {shlex.quote(str(file))} --resume {run}{option}"
    sys.stderr.write(f"run what is left with: {command}\n")
