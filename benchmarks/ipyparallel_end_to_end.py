"""Real IPython clusters: ipyparallel's task scheduler and headway's, beside each other.

    python benchmarks/ipyparallel_end_to_end.py --quick
    python benchmarks/ipyparallel_end_to_end.py --engines 4 --repetitions 5 --json figures.json

Two clusters of ipyparallel's own controllers, engines and clients, which differ in the process that
schedules tasks. Both are up all the time, and take turns with no-op tasks through a
LoadBalancedView:

  independent   tasks a second, from the first apply_async until the client has the last result
  layered       the same for layers of 20, of which each task is `after` two of the layer before
  round trip    one task there and back, nothing else under way

and where the CPU time of a task goes: client, task scheduler, Hub and relays, engines. A kernel
and a client of ipyparallel do far more for a task than either scheduler, so that the ratios
here are those which a program sees, and not those of the schedulers: for these see
ipyparallel_scheduler.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ipyparallel_real_clusters import TASK_SCHEDULER, RealCluster
from timing import cpu_s, in_turn, machine, print_table, say, write_json

import headway
import ipyparallel as ipp

#: Name of a contestant -> launcher of its controller.
CONTESTANTS = {"ipyparallel": "local", "headway": "headway"}
CLIENT = "client"
WIDTH = 20
#: For all results of a run: more is a hang.
RESULTS_TIMEOUT_S = 600


def no_op() -> None:
    """Nothing."""


class Run(NamedTuple):
    """What a run of some tasks took."""

    wall_s: float
    #: Part of the cluster -> CPU seconds.
    cpu_s: dict[str, float]


def independent(view: Any, tasks: int) -> list[Any]:
    """Submit `tasks` of them."""
    return [view.apply_async(no_op) for _ in range(tasks)]


def layered(view: Any, tasks: int) -> list[Any]:
    """Submit layers of WIDTH, of which each task is after two of the layer before."""
    layer = independent(view, WIDTH)
    results = list(layer)
    for _ in range(tasks // WIDTH - 1):
        above, layer = layer, []
        for n in range(WIDTH):
            with view.temp_flags(after=[above[n], above[n - 1]]):
                layer.append(view.apply_async(no_op))
        results += layer
    return results


def run(cluster: RealCluster, submit: Callable[[Any, int], list[Any]], tasks: int) -> Run:
    """Submit, wait for all results, and then until the cluster has nothing left to do."""
    cluster.until_quiet()
    view = cluster.client.load_balanced_view()
    before, client_s, began_at = cluster.cpu_s(), cpu_s(os.getpid()), time.monotonic()
    results = submit(view, tasks)
    for result in results:
        result.get(timeout=RESULTS_TIMEOUT_S)
    wall_s = time.monotonic() - began_at
    spent = {CLIENT: cpu_s(os.getpid()) - client_s}
    cluster.until_quiet()
    spent |= {part: after - before[part] for part, after in cluster.cpu_s().items()}
    # The client keeps all results: with them, each run would be dearer than the last.
    cluster.client.purge_local_results("all")
    return Run(wall_s, spent)


def round_trip(cluster: RealCluster, trips: int) -> float:
    """Milliseconds for one task, there and back, the median of `trips`."""
    cluster.until_quiet()
    view = cluster.client.load_balanced_view()
    times = []
    for _ in range(trips):
        began_at = time.perf_counter()
        view.apply_sync(no_op)
        times.append(time.perf_counter() - began_at)
    cluster.client.purge_local_results("all")
    return statistics.median(times) * 1e3


def saying(text: str, measure: Callable[[], Any]) -> Any:
    """Measure, and say so before."""
    say(text)
    return measure()


def print_parts(title: str, runs: Mapping[str, list[Run]], tasks: int) -> None:
    """Where the CPU time of a task went: medians."""
    print(f"\n{title}: CPU time (µs a task; medians)")
    for name, of_one in runs.items():
        cells = [
            f"{part} {statistics.median(run.cpu_s[part] for run in of_one) / tasks * 1e6:,.0f}"
            for part in of_one[0].cpu_s
        ]
        print(f"  {name:<20}{'   '.join(cells)}", flush=True)


def measure_tasks(
    clusters: Mapping[str, RealCluster], args: argparse.Namespace, results: dict[str, Any]
) -> None:
    """Tasks a second, and what they cost."""
    for title, submit in (
        ("independent tasks", independent),
        (f"tasks in layers of {WIDTH}, each after two", layered),
    ):
        tasks = args.tasks // WIDTH * WIDTH
        title = f"{tasks:,} {title}"
        contestants = {
            name: partial(saying, f"{title}: {name}", partial(run, cluster, submit, tasks))
            for name, cluster in clusters.items()
        }
        runs: dict[str, list[Run]] = in_turn(contestants, args.repetitions)
        rates = {name: [tasks / run.wall_s for run in runs[name]] for name in runs}
        scheduler_us = {
            name: [run.cpu_s[TASK_SCHEDULER] / tasks * 1e6 for run in runs[name]] for name in runs
        }
        print_table(title, "tasks/s", rates, "ipyparallel")
        print_table(f"{title}: the scheduler's CPU time", "µs a task", scheduler_us, "ipyparallel")
        print_parts(title, runs, tasks)
        results[submit.__name__] = {
            "tasks": tasks,
            **{name: [run._asdict() for run in runs[name]] for name in runs},
        }


def measure_round_trip(
    clusters: Mapping[str, RealCluster], args: argparse.Namespace, results: dict[str, Any]
) -> None:
    """One task at a time."""
    contestants = {
        name: partial(saying, f"round trip: {name}", partial(round_trip, cluster, args.trips))
        for name, cluster in clusters.items()
    }
    times: dict[str, list[float]] = in_turn(contestants, args.repetitions)
    print_table(f"round trip of one task, the median of {args.trips}", "ms", times, "ipyparallel")
    results["round_trip_ms"] = times


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--engines", type=int, default=2, help="of each cluster; default 2")
    parser.add_argument("--hwm", type=int, default=1, help="tasks an engine has; default 1")
    parser.add_argument("--repetitions", type=int, help="default 5; 2 with --quick")
    parser.add_argument("--tasks", type=int, help="default 2000; 400 with --quick")
    parser.add_argument("--trips", type=int, help="default 200; 50 with --quick")
    parser.add_argument("--json", type=Path, help="write all figures there")
    args = parser.parse_args()
    args.repetitions = args.repetitions or (2 if args.quick else 5)
    args.tasks = args.tasks or (400 if args.quick else 2_000)
    args.trips = args.trips or (50 if args.quick else 200)
    if args.tasks < WIDTH:
        parser.error(f"--tasks {args.tasks} is less than one layer of {WIDTH}")
    return args


def main() -> None:
    """Start both, measure, print, and stop both whatever happens."""
    args = arguments()
    results: dict[str, Any] = {"engines": args.engines, "hwm": args.hwm}
    with contextlib.ExitStack() as stack:
        clusters = {}
        for name, controller in CONTESTANTS.items():
            say(f"starting a cluster with the scheduler of {name} ...")
            clusters[name] = stack.enter_context(RealCluster(controller, args.engines, args.hwm))
        print(
            f"real clusters: ipyparallel {ipp.__version__}, headway {headway.__version__}, "
            f"{machine()}, {args.engines} engines each, hwm={args.hwm}"
        )
        measure_tasks(clusters, args, results)
        measure_round_trip(clusters, args, results)
        say("stopping the clusters ...")
    if args.json:
        write_json(args.json, "end_to_end", results)


if __name__ == "__main__":
    # As Ctrl-C: the clusters are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except KeyboardInterrupt:
        say("interrupted; the clusters are stopped")
        sys.exit(130)
