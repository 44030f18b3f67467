"""`headway simulate`: a flow that was recorded, in virtual time, under each of some choices.

Reads the flow, replays it for every combination, and shows what each came to. What this file must
not know: how a replay goes, and how a plot is drawn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from headway.cli.simulate_tables import show, show_plot
from headway.cli.start import parse_hwm
from headway.collector import tune_garbage_collection
from headway.controller.journal_reader import SQLITE_MAGIC
from headway.core.schemes import load_scheme
from headway.flows.flow import Flow
from headway.flows.wfformat import read_wfformat
from headway.sim.journal_flow import read_journal_flow
from headway.sim.replay_flow import Choice, Circumstances, Replay, replay
from headway.traces.gantt import Bar, gantt_svg

#: More engines than any cluster of ours was tried with.
ENGINES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What `headway simulate` was asked for. Each text of the lists may hold several values, with
    commas between them. `row` counts from 1; None is the best."""

    flow: Path
    engines: list[str]
    hwm: list[str]
    scheme: list[str]
    circumstances: Circumstances = field(default_factory=Circumstances)
    plot: Path | None = None
    row: int | None = None
    as_json: bool = False


def read_flow(path: Path) -> Flow:
    """The flow in a journal or a WfFormat file, whichever it is.

    Raises:
        FlowError, JournalError: it is neither, or something is wrong with it.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        is_journal = file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    return read_journal_flow(path) if is_journal else read_wfformat(path)


def choices_of(options: SimulateOptions) -> list[Choice]:
    """Every combination of what was chosen, in the order in which it was given.

    Raises:
        ValueError: a value is not of its form, or there is no such scheme.
    """
    if any(":" in text for text in options.scheme):
        sys.path.insert(0, os.getcwd())  # a scheme of the user's
    engines = _each(options.engines, parse_engines)
    hwms = _each(options.hwm, parse_hwm)
    schemes = _each(options.scheme, lambda text: load_scheme(text)[0])
    return [Choice(*choice) for choice in product(engines, hwms, schemes)]


def parse_engines(text: str) -> int:
    """A number of engines.

    Raises:
        ValueError: it is none.
    """
    if text.isdecimal() and 1 <= int(text) <= ENGINES_MAX:
        return int(text)
    raise ValueError(f"--engines {text}: expected a number from 1 to {ENGINES_MAX:,}")


T = TypeVar("T")


def _each(texts: Iterable[str], parse: Callable[[str], T]) -> list[T]:
    """The values in `texts`, each once."""
    values = [parse(part.strip()) for text in texts for part in text.split(",")]
    return list(dict.fromkeys(values))


def run(options: SimulateOptions, console: Console) -> None:
    """Replay, and show what came of it."""
    choices = choices_of(options)
    row = options.row
    if row is not None and not 1 <= row <= len(choices):
        raise ValueError(f"--row {row}: there are rows 1 to {len(choices)}")
    if options.plot is not None:
        _require_writable(options.plot)
    tune_garbage_collection()
    flow = read_flow(options.flow)
    replays, shown = _replay_all(flow, choices, options)
    best = _best(replays)
    if options.as_json:
        sys.stdout.buffer.write(msgspec.json.encode(_as_json(flow, options, replays, best)) + b"\n")
    else:
        show(flow, replays, best, console)
        show_plot(replays[shown], shown + 1, console)
    if options.plot is not None:
        options.plot.write_text(_drawn(flow, replays[shown]), encoding="utf-8")
        if not options.as_json:
            console.print(f"plot of row {shown + 1}: {options.plot}", soft_wrap=True)


def _require_writable(path: Path) -> None:
    """Before the work is done, not after it.

    Raises:
        OSError: there is no such folder, or nothing can be written there.
    """
    is_new = not path.exists()
    with path.open("ab"):
        pass
    if is_new:
        path.unlink()


def _best(replays: list[Replay]) -> int:
    """The row with the shortest makespan; of equals that with the fewest engines, then the
    first."""
    return min(
        range(len(replays)), key=lambda n: (replays[n].makespan_s, replays[n].choice.engines)
    )


def _replay_all(
    flow: Flow, choices: list[Choice], options: SimulateOptions
) -> tuple[list[Replay], int]:
    """What each choice came to, and which is to be plotted: the others are kept without their
    runs, of which there may be a million."""
    replays: list[Replay] = []
    shown = 0
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} tasks"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with progress:
        total = len(flow.tasks) * len(choices)
        bar = progress.add_task("simulating", total=total)
        for number, choice in enumerate(choices):
            done = number * len(flow.tasks)

            def on_progress(ended: int, done: int = done) -> None:
                progress.update(bar, completed=done + ended)

            replays.append(replay(flow, choice, options.circumstances, on_progress))
            shown = options.row - 1 if options.row is not None else _best(replays)
            replays = [r if n == shown else replace(r, runs=[]) for n, r in enumerate(replays)]
    return replays, shown


def _as_json(
    flow: Flow, options: SimulateOptions, replays: list[Replay], best: int
) -> dict[str, Any]:
    rows = [
        {
            "engines": one.choice.engines,
            "hwm": one.choice.hwm,
            "scheme": one.choice.scheme,
            "makespan_s": one.makespan_s,
            "utilisation": one.utilisation,
            "bound_s": one.bound_s,
            "ratio": one.ratio,  # written as null if it is infinite
            "recalled": one.recalled,
            "failed_runs": one.failed,
            "scheme_failure": one.scheme_failure,
        }
        for one in replays
    ]
    circumstances = options.circumstances
    return {
        "flow": {
            "name": flow.name,
            "source": flow.source,
            "tasks": len(flow.tasks),
            "edges": flow.edges,
            "work_s": flow.work_s(),
            "critical_path_s": flow.critical_path_s(),
            "notes": flow.notes,
        },
        "circumstances": {
            "overhead_s": circumstances.overhead_s,
            "scale": circumstances.scale,
            "seed": circumstances.seed,
            "failures": circumstances.failures,
        },
        "rows": rows,
        "best": best,
    }


def _drawn(flow: Flow, shown: Replay) -> str:
    bars = [
        Bar(run.engine, run.began_s, run.ended_s, flow.tasks[run.task].name, run.has_failed)
        for run in shown.runs
    ]
    choice = shown.choice
    title = (
        f"{flow.name}: {choice.engines:,} engines, hwm {choice.hwm}, {choice.scheme}: "
        f"{shown.makespan_s:,.3f} s, {shown.utilisation:.1%} busy"
    )
    return gantt_svg(title, choice.engines, shown.makespan_s, bars)
