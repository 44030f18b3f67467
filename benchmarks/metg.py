"""How small may tasks be? METG(50 %), and the whole curve: efficiency against task duration.

    python benchmarks/metg.py [--quick] [--peers all] [--json FILE] [--plot FILE.png]

After Task Bench (Slaughter et al., SC 2020). Graphs of `--width` columns and many steps, of tasks
that keep a core busy for a while, shorter and shorter. The useful work that a system gets through
in a second, as a share of what as many processes as it has engines get through where nothing
schedules them (measured in the same run, in turn), is its efficiency. Two figures for each graph,
in microseconds, both where the efficiency falls below one half (interpolated between two runs):

  METG(50 %)   the grain as Task Bench has it: wall time x engines / tasks, overhead included
  duration     what a task itself takes: about half of that

A `>` before a figure says that a system did not reach one half even with the longest tasks, a `<`
that it still did with the shortest.

Of step t, column i depends, in the step before, on

  trivial   nothing
  stencil   i - 1, i, i + 1
  fft       i, i - d, i + d; d doubles from step to step, and begins anew at the width
  tree      i // 2; the first steps have 1, 2, 4 ... columns
  random    each of i - 2 ... i + 2 with a chance of one half: always the same
"""

from __future__ import annotations

import math
import statistics
import time
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import peers
import suite
from kernels import loops_a_second, no_op, spin, work_for
from timing import figure, say

GRAPHS = ("trivial", "stencil", "fft", "tree", "random")
DURATIONS_US = (100_000, 30_000, 10_000, 3_000, 1_000, 300, 100, 30, 10)
QUICK_US = (10_000, 1_000, 100)
EFFICIENCY = 0.5


class Run(NamedTuple):
    """One run of a graph with tasks of one duration."""

    duration_us: float
    #: Wall time x engines / tasks: what Task Bench calls the granularity.
    grain_us: float
    efficiency: float


def upstream(graph: str, step: int, column: int, width: int) -> list[int]:
    """The columns of the step before that a task depends on."""
    if step == 0 or graph == "trivial":
        return []
    if graph == "stencil":
        found = [column - 1, column, column + 1]
    elif graph == "fft":
        rounds = max(1, (width - 1).bit_length())
        distance = 1 << ((step - 1) % rounds)
        found = [column, column - distance, column + distance]
    elif graph == "tree":
        found = [column // 2]
    else:
        rng = Random(step * width + column)
        found = [column + near for near in range(-2, 3) if rng.getrandbits(1)]
    return [one for one in found if 0 <= one < columns(graph, step - 1, width)]


def columns(graph: str, step: int, width: int) -> int:
    """How many columns a step has."""
    return min(1 << min(step, 30), width) if graph == "tree" else width


def wall_s(peer: peers.Peer, graph: str, width: int, tasks: int, loops: int) -> tuple[float, int]:
    """Seconds that a graph of about so many tasks takes, and how many there were."""
    submit = peer.submit
    handles: list[Any] = []
    above: list[Any] = []
    step = 0
    start = time.perf_counter()
    while len(handles) < tasks:
        above = [
            submit(spin, loops, *[above[n] for n in upstream(graph, step, column, width)])
            for column in range(columns(graph, step, width))
        ]
        handles += above
        step += 1
    peer.results(handles)
    return time.perf_counter() - start, len(handles)


def peak(pool: peers.Peer, engines: int, duration_s: float, loops: int) -> float:
    """Loops a second of so many processes that nothing schedules."""
    handles = [pool.submit(work_for, duration_s, loops) for _ in range(engines)]
    return float(sum(pool.results(handles)))


def curve(
    peer: peers.Peer,
    graph: str,
    args: Any,
    loops_per_us: float,
    peak_loops_s: float,
) -> list[Run]:
    """A run for each duration, from the longest to the shortest.

    Each has as many tasks as fill the budget, judged by the one before: a shorter task takes no
    longer.
    """
    runs: list[Run] = []
    wall_us = 0.0
    for duration_us in args.durations_us:
        expected_us = max(duration_us / args.engines, min(wall_us, 10_000) if runs else 0.0)
        tasks = int(args.budget_s * 1e6 / expected_us)
        tasks = max(2 * args.width, min(tasks, args.tasks))
        loops = max(1, round(duration_us * loops_per_us))
        took_s, done = wall_s(peer, graph, args.width, tasks, loops)
        wall_us = took_s * 1e6 / done
        useful = done * loops / took_s / peak_loops_s
        runs.append(Run(duration_us, wall_us * args.engines, useful))
    return runs


def threshold(runs: list[Run], efficiency: float = EFFICIENCY) -> tuple[float, float, str]:
    """Grain and duration (µs) at which the efficiency falls to so much, and "", ">" or "<".

    Between the shortest tasks that keep it and the next shorter ones, on logarithmic axes: what a
    bad moment does to longer ones does not count.
    """
    ordered = sorted(runs)
    if ordered[0].efficiency >= efficiency:
        return ordered[0].grain_us, ordered[0].duration_us, "<"
    for below, above in pairwise(ordered):
        if above.efficiency >= efficiency:
            high, low, at = map(math.log, (above.efficiency, below.efficiency, efficiency))
            share = (high - at) / (high - low)
            grain = _between(above.grain_us, below.grain_us, share)
            return grain, _between(above.duration_us, below.duration_us, share), ""
    return ordered[-1].grain_us, ordered[-1].duration_us, ">"


def _between(first: float, second: float, share: float) -> float:
    return math.exp(math.log(first) + share * (math.log(second) - math.log(first)))


def measure_graph(
    graph: str, running: dict[str, peers.Peer], pool: peers.Peer, args: Any, loops_per_us: float
) -> dict[str, list[list[Run]]]:
    """Contestant -> its curves, repetition by repetition."""
    curves: dict[str, list[list[Run]]] = {name: [] for name in running}
    for repetition in range(args.repetitions):
        # One for all of them: a bad moment must not favour anybody.
        best = max(
            peak(pool, args.engines, args.peak_s, round(loops_per_us * 100)) for _ in range(2)
        )
        for name, peer in running.items():
            say(f"metg {graph} {repetition + 1}/{args.repetitions}: {name}")
            curves[name].append(curve(peer, graph, args, loops_per_us, best))
    return curves


def add_thresholds(report: suite.Report, graph: str, curves: dict[str, list[list[Run]]]) -> None:
    """The two figures of a graph, and what bounds them."""
    found = {name: [threshold(runs) for runs in of_one] for name, of_one in curves.items()}
    bounds = {name: "".join(sorted({mark for *_, mark in of})) for name, of in found.items()}
    grains = {name: [grain for grain, _, _ in of_one] for name, of_one in found.items()}
    durations = {name: [duration for _, duration, _ in of_one] for name, of_one in found.items()}
    for key, title, figures in (
        ("metg", "METG(50 %)", grains),
        ("duration", "task duration at an efficiency of 50 %", durations),
    ):
        report.add(
            suite.Measure(
                f"{key}_{graph}",
                f"{title}, {graph}",
                "µs",
                figures,
                more_is_better=False,
                facts={"bounds": bounds},
            )
        )
    if any(bounds.values()):
        marks = ", ".join(f"{name} {mark}" for name, mark in bounds.items() if mark)
        print(f"  only a bound: {marks} (> did not reach one half, < was never below)")


def print_curve(graph: str, curves: dict[str, list[list[Run]]]) -> None:
    """Efficiency by duration: medians, in percent."""
    print(f"\nefficiency by task duration, {graph} (%; medians)")
    for name, of_one in curves.items():
        cells = []
        for runs in zip(*of_one, strict=True):
            share = statistics.median(run.efficiency for run in runs)
            cells.append(f"{figure(runs[0].duration_us)} µs: {share * 100:.0f}")
        print(f"  {name:<20}{'   '.join(cells)}", flush=True)


def plot_curves(path: Path, curves: dict[str, dict[str, list[list[Run]]]]) -> None:
    """One picture for each graph: efficiency against duration."""
    plt = suite.matplotlib()
    size = (4.2 * len(curves), 3.6)
    drawing, axes = plt.subplots(1, len(curves), figsize=size, squeeze=False, layout="constrained")
    for axis, (graph, of_graph) in zip(axes[0], curves.items(), strict=True):
        draw_curves(axis, {name: median_curve(runs) for name, runs in of_graph.items()})
        axis.set_title(graph, fontsize=9)
    axes[0][0].legend(fontsize=7)
    drawing.savefig(path, dpi=120)
    plt.close(drawing)


def median_curve(of_one: list[list[Run]]) -> list[tuple[float, float]]:
    """Duration and median efficiency."""
    return [
        (runs[0][0], statistics.median(run[2] for run in runs))
        for runs in zip(*of_one, strict=True)
    ]


def draw_curves(axis: Any, curves: dict[str, list[tuple[float, float]]]) -> None:
    """Efficiency against duration, and the line at one half."""
    for name, points in curves.items():
        xs, ys = zip(*points, strict=True)
        axis.plot(xs, [y * 100 for y in ys], marker="o", ms=3, label=name, color=suite.colour(name))
    axis.axhline(EFFICIENCY * 100, color="grey", lw=0.8, ls=":")
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("task duration (µs)", fontsize=8)
    axis.set_ylabel("efficiency (%)", fontsize=8)
    axis.tick_params(labelsize=8)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--width", type=int, default=8, help="columns of a graph; default 8")
    made.add_argument("--graphs", default=None, help="default: all; with --quick: stencil,tree")
    made.add_argument("--durations-us", default=None, help="µs, with commas between them")
    made.add_argument("--tasks", type=int, default=20_000, help="in a run, at most")
    made.add_argument("--budget-s", type=float, help="of a run, about; default 1; 0.2 with --quick")
    made.set_defaults(peak_s=None)
    args = suite.parse(made, argv)
    args.budget_s = args.budget_s or (0.2 if args.quick else 1.0)
    args.peak_s = min(0.5, args.budget_s)
    durations = (
        map(float, args.durations_us.split(","))
        if args.durations_us
        else (QUICK_US if args.quick else DURATIONS_US)
    )
    args.durations_us = sorted(durations, reverse=True)
    chosen = (args.graphs or ("stencil,tree" if args.quick else ",".join(GRAPHS))).split(",")
    if unknown := set(chosen) - set(GRAPHS):
        made.error(f"--graphs {', '.join(sorted(unknown))}: known are {', '.join(GRAPHS)}")
    report = suite.Report("metg", args)
    loops_per_us = loops_a_second() / 1e6
    all_curves = {}
    with peers.opened(args.names, args.engines) as running:
        for peer in running.values():
            peer.results([peer.submit(no_op) for _ in range(20)])
        pool = peers.Pool(args.engines)
        try:
            for graph in chosen:
                curves = measure_graph(graph, running, pool, args, loops_per_us)
                add_thresholds(report, graph, curves)
                print_curve(graph, curves)
                all_curves[graph] = curves
        finally:
            pool.close()
    report.extra["curves"] = all_curves
    report.extra["fields"] = Run._fields
    report.plot = lambda path: plot_curves(path, all_curves)
    report.finish()


if __name__ == "__main__":
    suite.main(main)
