"""The task scheduler of an IPython cluster: ipyparallel's own and headway's, beside each other.

    python benchmarks/ipyparallel_scheduler.py --quick
    python benchmarks/ipyparallel_scheduler.py --repetitions 5 --json figures.json

Each scheduler runs in a process of its own, as a controller starts it, between stand-ins for the
Hub, the engines and a client, which answer at once over real sockets with signed messages
(ipyparallel_stand_ins.py). So the scheduler is measured, not the kernels of the engines: see
ipyparallel_end_to_end.py for these. The stand-ins share the machine with the scheduler and are
often what is waited for; the scheduler's own rate is tasks by its CPU seconds.

  rate      independent tasks on 4 and on 40 engines, by wall clock and by CPU seconds; also
            through ZMQ's own queue (the scheme `pure`), which schedules nothing
  accept    submissions until the monitor has heard of each, while the engines hold their answers
  queue     CPU microseconds a task, while 10^2 to 10^5 tasks wait: independent tasks and a chain
            on 2 engines, all tasks for one of 2 engines, 20 wide layers on 40 engines
  memory    bytes of the scheduler's memory a waiting and a finished task

At last come the criteria, wanted and measured (ipyparallel_criteria.py). Every task must be
answered once, and the Hub must hear of it three times; if not, the benchmark fails.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ipyparallel_criteria import growth, print_criteria
from ipyparallel_stand_ins import HEADWAY, PURE, STOCK, Cluster, msg_id, request
from timing import in_turn, machine, print_table, say, write_json

CONTESTANTS = {"ipyparallel": STOCK, "headway": HEADWAY}
#: Engines and hwm of the rates.
RATES = ((4, 1), (4, 8), (40, 1))
#: Shape of a queue -> engines.
ENGINES = {"independent": 2, "chain": 2, "targeted": 2, "layered": 40}
WIDTH = 20
#: A queue that is shorter is worked off several times, to this many tasks: a run of 100 tasks is
#: over before its CPU time can be told from the noise.
TASKS_MIN = 5_000
#: Tasks that are under way at once where finished ones are counted.
AT_A_TIME = 50
#: No single phase may take longer; a stock queue has a budget of its own.
PHASE_TIMEOUT_S = 300.0


class Rate(NamedTuple):
    """How fast one run was."""

    tasks_per_s: float
    tasks_per_cpu_s: float


class Drained(NamedTuple):
    """What a queue cost, and how many of its tasks had ended when the budget was spent."""

    us_a_task: float
    ended: int


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


def ended(cluster: Cluster, count: int) -> bool:
    """Whether `count` tasks were answered, and the Hub has heard so: only then is the scheduler
    done with them."""
    return cluster.progress.answered >= count and cluster.progress.reported >= count


def check(cluster: Cluster, count: int) -> None:
    """All `count` tasks were answered once, well, and reported."""
    cluster.until(lambda: ended(cluster, count), PHASE_TIMEOUT_S)
    progress = cluster.progress
    found = (progress.taken_in, progress.answered, progress.reported, progress.failed)
    sent = count if cluster.schedules else 0
    if found != (count, count, count, 0) or progress.sent != sent:
        raise RuntimeError(f"{count} tasks: {progress}")


def rate(where: str, engines: int, hwm: int, count: int) -> Rate:
    """Independent tasks, from the first submission to the last answer."""
    with Cluster(where, engines, hwm=hwm) as cluster:
        requests = tasks_of("independent", count, cluster.uuids)
        began_at, cpu_s = time.monotonic(), cluster.cpu_s()
        cluster.submit(requests)
        cluster.until(lambda: cluster.progress.answered == count, PHASE_TIMEOUT_S)
        wall_s = time.monotonic() - began_at
        check(cluster, count)
        return Rate(count / wall_s, count / (cluster.cpu_s() - cpu_s))


def accept_rate(where: str, engines: int, count: int) -> Rate:
    """Submissions, from the first until the monitor has heard of the last, while the engines
    hold their answers: all but one task an engine come to wait in the scheduler."""
    with Cluster(where, engines, hwm=1) as cluster:
        requests = tasks_of("independent", count, cluster.uuids)
        cluster.hold = True
        began_at, cpu_s = time.monotonic(), cluster.cpu_s()
        cluster.submit(requests)
        cluster.until(lambda: cluster.progress.taken_in == count, PHASE_TIMEOUT_S)
        wall_s, cpu_s = time.monotonic() - began_at, cluster.cpu_s() - cpu_s
        cluster.release()
        check(cluster, count)
        return Rate(count / wall_s, count / cpu_s)


def queue_cost(where: str, shape: str, count: int, budget_s: float) -> Drained:
    """What a task costs from when `count` wait until all have ended, or the budget is spent.

    The engines hold their first answers until all tasks have come. Short queues are filled and
    worked off again, in the same cluster, until they make TASKS_MIN tasks.
    """
    with Cluster(where, ENGINES[shape], hwm=1) as cluster:
        progress = cluster.progress
        spent_s, total = 0.0, 0
        for start in range(0, max(count, TASKS_MIN), count):
            total = start + count
            requests = tasks_of(shape, count, cluster.uuids, start)
            cluster.hold = True
            cluster.submit(requests)
            if not cluster.until(lambda n=total: progress.taken_in == n, PHASE_TIMEOUT_S):
                raise RuntimeError(f"{where}: {progress}")
            before_s = cluster.cpu_s()
            cluster.release()
            in_time = cluster.until(lambda n=total: ended(cluster, n), budget_s - spent_s)
            spent_s += cluster.cpu_s() - before_s
            if not in_time:
                return Drained(spent_s / max(progress.answered, 1) * 1e6, progress.answered - start)
        check(cluster, total)
        return Drained(spent_s / total * 1e6, count)


def waiting_bytes(where: str, count: int) -> float:
    """Bytes of memory a task that waits, in a scheduler that has had no other work: one that has
    would put them where others have been."""
    with Cluster(where, 2, hwm=1) as cluster:
        cluster.hold = True
        before = cluster.rss_bytes()
        cluster.submit(tasks_of("independent", count, cluster.uuids))
        if not cluster.until(lambda: cluster.progress.taken_in == count, PHASE_TIMEOUT_S):
            raise RuntimeError(f"{where}: {cluster.progress}")
        return (cluster.rss_bytes() - before) / count


def finished_bytes(where: str, count: int) -> float:
    """Bytes of memory that a finished task leaves. Few wait at a time, so that what those took
    for a while is not counted."""
    with Cluster(where, 2, hwm=1) as cluster:
        before = first = 0
        for start in range(0, count, AT_A_TIME):
            if not before and start >= count // 10:
                before, first = cluster.rss_bytes(), start
            cluster.submit(tasks_of("independent", AT_A_TIME, cluster.uuids, start))
            total = start + AT_A_TIME
            if not cluster.until(lambda n=total: ended(cluster, n), PHASE_TIMEOUT_S):
                raise RuntimeError(f"{where}: {cluster.progress}")
        return (cluster.rss_bytes() - before) / (total - first)


def print_rates(
    title: str, what: str, contestants: Mapping[str, Callable[[], Rate]], repetitions: int
) -> dict[str, Any]:
    """Run the contestants in turn and print two tables; the figures of each."""

    def saying(name: str, run: Callable[[], Rate]) -> Rate:
        say(f"{title}: {name}")
        return run()

    runs = in_turn({n: partial(saying, n, run) for n, run in contestants.items()}, repetitions)
    walls = {name: [run.tasks_per_s for run in runs[name]] for name in runs}
    cpus = {name: [run.tasks_per_cpu_s for run in runs[name]] for name in runs}
    print_table(f"{title}: the scheduler's own", f"{what}/CPU s", cpus, "ipyparallel")
    print_table(f"{title}: with the stand-ins", f"{what}/s", walls, "ipyparallel")
    return {"tasks_per_s": walls, "tasks_per_cpu_s": cpus}


def measure_rate(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Independent tasks; ZMQ's own queue knows no hwm, and is there for comparison."""
    for engines, hwm in RATES:
        contestants = {
            name: partial(rate, where, engines, hwm, args.tasks)
            for name, where in {**CONTESTANTS, "pure ZMQ, no hwm": PURE}.items()
        }
        title = f"{args.tasks:,} independent tasks, {engines} engines, hwm={hwm}"
        figures = print_rates(title, "tasks", contestants, args.repetitions)
        results.setdefault("rate", []).append({"engines": engines, "hwm": hwm, **figures})


def measure_accept(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Submissions."""
    for engines in (4, 40):
        contestants = {
            name: partial(accept_rate, where, engines, args.tasks)
            for name, where in CONTESTANTS.items()
        }
        title = f"{args.tasks:,} submissions while {engines} engines are busy"
        figures = print_rates(title, "submissions", contestants, args.repetitions)
        results.setdefault("accept", []).append({"engines": engines, **figures})


def measure_shape(shape: str, args: argparse.Namespace) -> dict[str, dict[int, list[Drained]]]:
    """Contestant -> length of the queue -> its runs.

    The lengths take turns too. A contestant that does not end within its budget goes no further,
    and not there again.
    """
    runs: dict[str, dict[int, list[Drained]]] = {name: {} for name in CONTESTANTS}
    longest = dict.fromkeys(CONTESTANTS, max(args.lengths))
    for repetition in range(args.repetitions):
        for count in args.lengths:
            for name, where in CONTESTANTS.items():
                if count > longest[name]:
                    continue
                say(f"queue {repetition + 1}/{args.repetitions}: {shape}, {count:,} tasks, {name}")
                budget_s = args.budget_s if where == STOCK else PHASE_TIMEOUT_S
                run = queue_cost(where, shape, count, budget_s)
                runs[name].setdefault(count, []).append(run)
                if run.ended < count:
                    longest[name] = max((n for n in args.lengths if n < count), default=0)
    return runs


def measure_queue(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """The cost of a task by the length of the queue."""
    print(
        f"\nCPU microseconds a task, while so many wait (median of {args.repetitions}; where a "
        f"queue did not end within {args.budget_s:g} s: of one run, with how many ended)"
    )
    for shape in ENGINES:
        measured = measure_shape(shape, args)
        results.setdefault("queue", {})[shape] = figures = {}
        for name, by_length in measured.items():
            costs = {n: [run.us_a_task for run in runs] for n, runs in by_length.items()}
            done = {n: min(run.ended for run in runs) for n, runs in by_length.items()}
            figures[name] = {"us_a_task": costs, "ended": done}
            cells = [
                f"{n:,}: {statistics.median(costs[n]):,.0f}"
                + (f" ({done[n]:,} ended)" if done[n] < n else "")
                for n in costs
            ]
            times = f"{growth(costs):.2f} x from least to greatest"
            print(f"  {shape:<12} {name:<12} {'   '.join(cells)}   {times}", flush=True)


def measure_memory(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """What a task leaves in memory."""
    counts = args.tasks, args.tasks * 5
    measures = (
        (f"{counts[0]:,} tasks of 1 kB that wait", "waiting", waiting_bytes, counts[0]),
        (f"{counts[1]:,} tasks of 1 kB that have ended", "finished", finished_bytes, counts[1]),
    )
    for title, what, measure, count in measures:
        runs: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
        for _ in range(args.repetitions):
            for name, where in CONTESTANTS.items():
                say(f"memory: {title}: {name}")
                runs[name].append(measure(where, count))
        print_table(f"{title}: the scheduler's memory", "bytes a task, RSS", runs, "ipyparallel")
        results.setdefault("memory", {})[what] = runs


MEASURES = {
    "rate": measure_rate,
    "accept": measure_accept,
    "queue": measure_queue,
    "memory": measure_memory,
}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--repetitions", type=int, help="default 3; 1 with --quick")
    parser.add_argument("--tasks", type=int, help="of a rate; default 20000; 3000 with --quick")
    parser.add_argument(
        "--lengths", type=int, nargs="+", help="of a queue; 100 10000 100000, quick: 100 1000"
    )
    parser.add_argument("--budget-s", type=float, default=30.0, help="of ipyparallel for a queue")
    parser.add_argument("--only", choices=MEASURES, action="append", help="may be repeated")
    parser.add_argument("--json", type=Path, help="write all figures there")
    args = parser.parse_args()
    args.repetitions = args.repetitions or (1 if args.quick else 3)
    args.tasks = args.tasks or (3_000 if args.quick else 20_000)
    args.lengths = sorted(args.lengths or ([100, 1_000] if args.quick else [100, 10_000, 100_000]))
    if args.tasks < 100 or args.lengths[0] < 1:
        parser.error("--tasks must be at least 100, and each of --lengths at least 1")
    return args


def main() -> None:
    """Measure what was asked for, print it, and write it as JSON where asked."""
    args = arguments()
    results: dict[str, Any] = {}
    print(f"the scheduler between stand-ins; {machine()}")
    for name, measure in MEASURES.items():
        if args.only is None or name in args.only:
            measure(args, results)
    print_criteria(results)
    if args.json:
        write_json(args.json, "scheduler", results)


if __name__ == "__main__":
    # As Ctrl-C: the scheduler's process is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
