"""What the benchmarks of the suite share: their options, the form of their figures, their plots.

A benchmark makes a `Report`, adds a `Measure` for each thing that it has measured, and the report
prints it, and writes it as JSON and as a picture where that was asked for. The form of the JSON is
what table.py and charts.py read: under the benchmark's name, a list of measures, each with the
figures of every contestant, repetition by repetition.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import peers
from timing import figure as number
from timing import in_turn, machine, print_beside, print_table, write_json

import headway

#: Every contestant that is measured is compared with this one, where it takes part.
BASE = peers.Headway.name


@dataclass
class Measure:
    """One thing that was measured of several contestants."""

    #: A name for programs, such as "independent"; and a title for people.
    key: str
    title: str
    unit: str
    figures: dict[str, list[float]]
    #: Whether a larger figure is the better one.
    more_is_better: bool = True
    #: The contestant that the others are compared with.
    base: str = BASE
    #: Whatever else is needed to read it: numbers of tasks, sizes ...
    facts: dict[str, Any] = field(default_factory=dict)


class Report:
    """Collects, prints and writes the figures of one benchmark."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.name = name
        self.args = args
        self.measures: list[Measure] = []
        #: What else belongs into the JSON; and how to draw it, if not as bars.
        self.extra: dict[str, Any] = {}
        self.plot: Callable[[Path], None] = lambda path: plot_bars(path, self.measures)

    def add(self, measure: Measure) -> None:
        """Keep a measure, and print it now."""
        self.measures.append(measure)
        title, unit, figures = measure.title, measure.unit, measure.figures
        if measure.base == BASE and BASE in figures:
            print_beside(title, unit, figures, BASE)
        else:
            base = measure.base if measure.base in figures else next(iter(figures))
            print_table(title, unit, figures, base)

    def finish(self) -> None:
        """Write what was asked for."""
        if self.args.json:
            self.args.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.args.json, self.name, self.as_dict())
        if self.args.plot:
            self.args.plot.parent.mkdir(parents=True, exist_ok=True)
            self.plot(self.args.plot)

    def as_dict(self) -> dict[str, Any]:
        """All that was measured, and how."""
        return {
            "headway": headway.__version__,
            "engines": self.args.engines,
            "quick": self.args.quick,
            "not_installed": self.args.missing,
            "measures": [asdict(measure) for measure in self.measures],
            **self.extra,
        }


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all have."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    made.add_argument("--repetitions", type=int, help="default 5; 1 with --quick")
    made.add_argument("--engines", type=int, default=2, help="of each system; default 2")
    made.add_argument(
        "--peers",
        default=",".join(peers.OURS_AND_STDLIB),
        help="systems to measure, with commas between them, or all; default: %(default)s",
    )
    made.add_argument("--json", type=Path, help="write all figures there")
    made.add_argument("--plot", type=Path, help="draw them there, as PNG (needs matplotlib)")
    return made


def parse(made: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for. `names` are the systems to measure, `missing` those not installed.

    Says at once what is missing, also for the picture at the end.
    """
    args = made.parse_args(argv)
    args.repetitions = args.repetitions or (1 if args.quick else 5)
    if args.engines < 1 or args.repetitions < 1:
        made.error("--engines and --repetitions must be at least 1")
    try:
        args.names, args.missing = peers.chosen(args.peers)
    except ValueError as error:
        made.error(str(error))
    if args.plot:
        matplotlib()
    print(f"headway {headway.__version__}, {machine()}, {args.engines} engines")
    if args.missing:
        print(f"not installed here, and not measured: {', '.join(args.missing)}")
    return args


def only(args: argparse.Namespace, names: Sequence[str], why: str) -> list[str]:
    """Those of the systems asked for that this question is about; says who is left out."""
    left_out = [name for name in args.names if name not in names]
    if left_out:
        print(f"not measured here: {', '.join(left_out)}: {why}")
    return [name for name in args.names if name in names]


def main(benchmark: Callable[[], None]) -> None:
    """Run a benchmark as a program: what it has started ends with it, also on Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        benchmark()
    except KeyboardInterrupt:
        sys.exit(130)


# --- measuring ----------------------------------------------------------------------------------


def sized(run: Callable[[int], float], pilot: int, budget_s: float, most: int) -> int:
    """How many tasks `run(count)` gets through in about `budget_s`, by a first look at `pilot`.

    Systems differ by a factor of a hundred: with one number for all, some would be measured for
    a blink and others for minutes. `run` returns tasks a second.
    """
    rate = max(run(pilot), run(pilot))  # the first one also warms up
    return max(pilot, min(most, int(rate * budget_s)))


def rates_in_turn(
    runs: Mapping[str, Callable[[int], float]],
    repetitions: int,
    *,
    pilot: int,
    budget_s: float,
    most: int,
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Tasks a second of each contestant, repetition by repetition; and tasks in a run of each."""
    counts = {name: sized(run, pilot, budget_s, most) for name, run in runs.items()}
    contestants = {name: _fixed(run, counts[name]) for name, run in runs.items()}
    # `sized` has warmed them up.
    return in_turn(contestants, repetitions, warm_up=False), counts


def _fixed(run: Callable[[int], float], count: int) -> Callable[[], float]:
    return lambda: run(count)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def rss_bytes(pid: int) -> int:
    """The memory of a process that is its own: shared pages are counted by their share."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no Pss")


def below(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for something that nobody announces.

    Raises:
        TimeoutError: it did not come.
    """
    deadline_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_at:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)


# --- pictures -----------------------------------------------------------------------------------


def matplotlib() -> Any:
    """matplotlib's pyplot, without a display.

    Raises:
        SystemExit: it is not installed; says what to do.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        sys.exit(f"pictures need matplotlib ({error}): pip install 'headway[bench]'")


def colour(name: str) -> str:
    """Each system has one colour in all pictures."""
    order = list(peers.PEERS)
    return f"C{order.index(name)}" if name in order else "grey"


def plot_bars(path: Path, measures: Sequence[Measure]) -> None:
    """A row of bars for each measure: medians, with lines from the least to the greatest."""
    plt = matplotlib()
    heights = [0.6 + 0.32 * len(measure.figures) for measure in measures]
    figure, axes = plt.subplots(
        len(measures), 1, figsize=(8, sum(heights) + 0.5), squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for axis, measure in zip(axes[:, 0], measures, strict=True):
        bars(axis, measure.figures)
        axis.set_title(f"{measure.title} ({measure.unit})", fontsize=9, loc="left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def bars(axis: Any, figures: Mapping[str, Sequence[float]]) -> None:
    """Horizontal bars on a logarithmic axis, with the numbers beside them."""
    names = list(figures)
    medians = [statistics.median(figures[name]) for name in names]
    errors = [
        [m - min(figures[n]) for n, m in zip(names, medians, strict=True)],
        [max(figures[n]) - m for n, m in zip(names, medians, strict=True)],
    ]
    drawn = axis.barh(names, medians, xerr=errors, color=[colour(n) for n in names], height=0.7)
    axis.bar_label(drawn, [f" {number(median)}" for median in medians], fontsize=8)
    axis.invert_yaxis()
    if min(medians) > 0:
        axis.set_xscale("log")
        axis.set_xlim(min(medians) / 2, max(medians) * 4)  # room for the numbers
    axis.tick_params(labelsize=8)
