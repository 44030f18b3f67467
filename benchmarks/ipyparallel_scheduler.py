"""The task scheduler of an IPython cluster: ipyparallel's own and headway's, beside each other.

    python benchmarks/ipyparallel_scheduler.py --quick
    python benchmarks/ipyparallel_scheduler.py --repetitions 5 --json scheduler.json

Each scheduler runs in a process of its own, as a controller starts it, between stand-ins for the
Hub, the engines and a client, which answer at once over real sockets with signed messages
(ipyparallel_stand_ins.py). So the scheduler is measured, not the kernels of the engines: see
ipyparallel_end_to_end.py for these. The stand-ins share the machine with the scheduler and are
often what is waited for; the scheduler's own rate is tasks by its CPU seconds.

  rate      independent tasks on 4 engines, by wall clock and by CPU seconds
  queue     CPU microseconds a task, while 10^2 to 10^5 tasks wait: independent tasks and a chain
            on 2 engines, all tasks for one of 2 engines, 20 wide layers on 40 engines
  memory    bytes of the scheduler's memory a waiting and a finished task

Every task must be answered once, and the Hub must hear of it three times; if not, it fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipyparallel_stand_ins import HEADWAY, STOCK, Cluster, msg_id, request
from timing import in_turn, print_table

CONTESTANTS = {"ipyparallel": STOCK, "headway": HEADWAY}
ENGINES = {"independent": 2, "chain": 2, "targeted": 2, "layered": 40}
WIDTH = 20
#: No single phase may take longer; a stock queue has a budget of its own.
PHASE_TIMEOUT_S = 300.0


def tasks_of(shape: str, count: int, uuids: list[str], start: int = 0) -> list[list[bytes]]:
    """The requests of `count` tasks, numbered from `start`."""
    requests = []
    for n in range(start, start + count):
        after: list[str] = []
        if shape == "chain" and n > start:
            after = [msg_id(n - 1)]
        elif shape == "layered" and n >= start + WIDTH:
            first = n - WIDTH - (n - start) % WIDTH
            after = [msg_id(first + (n + k) % WIDTH) for k in (0, 1)]
        targets = uuids[:1] if shape == "targeted" else []
        requests.append(request(n, after, targets))
    return requests


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def checked(cluster: Cluster, count: int) -> None:
    """All `count` tasks were answered once, well, and reported."""
    progress = cluster.progress
    cluster.until(lambda: progress.reported >= count, PHASE_TIMEOUT_S)
    found = (progress.answered, progress.failed, progress.taken_in, progress.sent)
    if found != (count, 0, count, count) or progress.reported != count:
        raise RuntimeError(f"{count} tasks: {progress}")


def rate(where: str, hwm: int, count: int) -> tuple[float, float]:
    """Tasks a second by wall clock, and by the scheduler's CPU seconds."""
    with Cluster(where, 4, hwm=hwm) as cluster:
        requests = tasks_of("independent", count, cluster.uuids)
        began_at, cpu_s = time.monotonic(), cluster.cpu_s()
        cluster.submit(requests)
        cluster.until(lambda: cluster.progress.answered == count, PHASE_TIMEOUT_S)
        wall_s, cpu_s = time.monotonic() - began_at, cluster.cpu_s() - cpu_s
        checked(cluster, count)
    return count / wall_s, count / max(cpu_s, 0.01)


def queue_cost(where: str, shape: str, count: int, budget_s: float) -> tuple[float, int]:
    """CPU microseconds a task while `count` were waiting, and how many ended in the budget.

    The engines hold their first answers until all tasks have come.
    """
    with Cluster(where, ENGINES[shape], hwm=1) as cluster:
        requests = tasks_of(shape, count, cluster.uuids)
        progress = cluster.progress
        cluster.hold = True
        cluster.submit(requests)
        if not cluster.until(lambda: progress.taken_in == count, PHASE_TIMEOUT_S):
            raise RuntimeError(f"{where}: {progress}")
        cpu_s = cluster.cpu_s()
        cluster.release()
        if cluster.until(lambda: progress.answered == count, budget_s):
            cpu_s = cluster.cpu_s() - cpu_s
            checked(cluster, count)
            return cpu_s / count * 1e6, count
        cpu_s = cluster.cpu_s() - cpu_s
        return cpu_s / max(progress.answered, 1) * 1e6, progress.answered


def memory(where: str, count: int) -> tuple[float, float]:
    """Bytes a waiting task, and bytes a finished one."""
    with Cluster(where, 2, hwm=1) as cluster:
        progress = cluster.progress

        def run(start: int, n: int) -> None:
            cluster.submit(tasks_of("independent", n, cluster.uuids, start))
            if not cluster.until(lambda: progress.answered == start + n, PHASE_TIMEOUT_S):
                raise RuntimeError(f"{where}: {progress}")

        run(0, count // 10)
        before = cluster.rss_bytes()
        for part in range(10):  # in parts, so that few wait at a time
            run(count // 10 * (part + 1), count // 10)
        finished = (cluster.rss_bytes() - before) / (count // 10 * 10)
        cluster.hold = True
        before, start = cluster.rss_bytes(), progress.answered
        cluster.submit(tasks_of("independent", count // 10, cluster.uuids, start))
        cluster.until(lambda: progress.taken_in == start + count // 10, PHASE_TIMEOUT_S)
        waiting = (cluster.rss_bytes() - before) / (count // 10)
    return waiting, finished


def measure_rate(args: argparse.Namespace, results: dict[str, Any]) -> None:
    for hwm in (1, 8):
        walls: dict[str, list[float]] = {name: [] for name in CONTESTANTS}

        def contest(
            where: str, name: str, hwm: int = hwm, walls: dict[str, list[float]] = walls
        ) -> Callable[[], float]:
            def run() -> float:
                say(f"rate, hwm={hwm}: {name}")
                wall, cpu = rate(where, hwm, args.tasks)
                walls[name].append(wall)
                return cpu

            return run

        contestants = {name: contest(where, name) for name, where in CONTESTANTS.items()}
        cpus = in_turn(contestants, args.repetitions)
        walls = {name: values[1:] for name, values in walls.items()}
        title = f"{args.tasks:,} independent tasks, 4 engines, hwm={hwm}"
        print_table(f"{title}: the scheduler's own rate", "tasks/CPU s", cpus, "ipyparallel")
        print_table(f"{title}: with the stand-ins", "tasks/s", walls, "ipyparallel")
        results[f"rate_hwm_{hwm}"] = {"tasks_per_cpu_s": cpus, "tasks_per_s": walls}


def measure_queue(args: argparse.Namespace, results: dict[str, Any]) -> None:
    print(
        f"\nCPU microseconds a task, while so many wait (median of {args.repetitions}; ipyparallel "
        f"once, and where it did not end within {args.budget_s:g} s, with how many it did)"
    )
    for shape in ENGINES:
        for name, where in CONTESTANTS.items():
            cells, costs = [], []
            for count in args.lengths:
                say(f"queue: {shape}, {count:,} tasks, {name}")
                stock = where == STOCK
                budget_s = args.budget_s if stock else PHASE_TIMEOUT_S
                runs = [
                    queue_cost(where, shape, count, budget_s)
                    for _ in range(1 if stock else args.repetitions)
                ]
                cost = statistics.median(run[0] for run in runs)
                done = min(run[1] for run in runs)
                costs.append(cost)
                cut = "" if done == count else f" ({done:,} done)"
                cells.append(f"{count:,}: {cost:,.0f}{cut}")
                results.setdefault(f"queue_{shape}", {}).setdefault(name, {})[count] = runs
                if done < count:
                    break
            ratio = f"{max(costs) / min(costs):.2f}x from least to greatest"
            print(f"  {shape:<12} {name:<12} {'   '.join(cells)}   {ratio}")


def measure_memory(args: argparse.Namespace, results: dict[str, Any]) -> None:
    print(f"\nbytes of the scheduler's memory a task (RSS, {args.tasks * 5:,} tasks of 1 kB)")
    for name, where in CONTESTANTS.items():
        say(f"memory: {name}")
        waiting, finished = memory(where, args.tasks * 5)
        print(f"  {name:<12} waiting {waiting:,.0f}, finished {finished:,.0f}")
        results.setdefault("memory", {})[name] = {"waiting": waiting, "finished": finished}


def main() -> None:
    """Measure what was asked for, print it, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--budget-s", type=float, default=30.0, help="of ipyparallel for a queue")
    parser.add_argument("--only", choices=["rate", "queue", "memory"])
    parser.add_argument("--json", type=Path, help="write all figures there")
    args = parser.parse_args()
    args.tasks, args.lengths = 20_000, [100, 10_000, 100_000]
    if args.quick:
        args.tasks, args.lengths, args.repetitions = 3_000, [100, 1_000], 1
    results: dict[str, Any] = {}
    measures = {"rate": measure_rate, "queue": measure_queue, "memory": measure_memory}
    for name, measure in measures.items():
        if args.only in (None, name):
            measure(args, results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
