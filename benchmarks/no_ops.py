"""What does a task cost? No-op tasks through headway and ProcessPoolExecutor, side by side.

    python benchmarks/no_ops.py [--tasks 20000] [--repetitions 5] [--engines 2]

Three questions: how many independent tasks a second, from the first submit until the last future
is resolved in the client; how many in a layered graph, 50 wide, in which each task depends on two
of the layer before (ProcessPoolExecutor has no dependencies: its client waits for each layer);
and how long one task takes there and back.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait

from timing import in_turn, print_table

import headway

WIDTH = 50


def no_op(*inputs: object) -> None:
    """Nothing, of anything."""


def independent(submit: Callable[..., Future[None]], tasks: int) -> float:
    """Tasks a second, all submitted at once."""
    start = time.perf_counter()
    futures = [submit(no_op) for _ in range(tasks)]
    for future in futures:
        future.result()
    return tasks / (time.perf_counter() - start)


def layered(client: headway.Client, tasks: int) -> float:
    """Tasks a second of the layered graph, submitted at once, dependencies and all."""
    start = time.perf_counter()
    layer: list[headway.Future[None]] = [client.submit(no_op) for _ in range(WIDTH)]
    futures = list(layer)
    for _ in range(tasks // WIDTH - 1):
        layer = [client.submit(no_op, layer[n], layer[n - 1]) for n in range(WIDTH)]
        futures += layer
    for future in futures:
        future.result()
    return len(futures) / (time.perf_counter() - start)


def layered_by_hand(pool: ProcessPoolExecutor, tasks: int) -> float:
    """The same with a pool that knows no dependencies: wait for a layer, submit the next."""
    start = time.perf_counter()
    layer = [pool.submit(no_op) for _ in range(WIDTH)]
    for _ in range(tasks // WIDTH - 1):
        results = [future.result() for future in layer]
        layer = [pool.submit(no_op, results[n], results[n - 1]) for n in range(WIDTH)]
    wait(layer)
    return tasks // WIDTH * WIDTH / (time.perf_counter() - start)


def round_trip(submit: Callable[..., Future[None]], trips: int) -> float:
    """Microseconds for one task, there and back, the median of `trips`."""
    times = []
    for _ in range(trips):
        start = time.perf_counter()
        submit(no_op).result()
        times.append(time.perf_counter() - start)
    times.sort()
    return times[trips // 2] * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--trips", type=int, default=1_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--engines", type=int, default=2)
    arguments = parser.parse_args()
    tasks, engines = arguments.tasks, arguments.engines
    print(
        f"headway {headway.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {engines} engines; {tasks:,} no-op tasks"
    )
    with (
        headway.Client(engines=engines) as client,
        ProcessPoolExecutor(max_workers=engines) as pool,
    ):
        rates = in_turn(
            {
                "ProcessPoolExecutor": lambda: independent(pool.submit, tasks),
                "headway": lambda: independent(client.submit, tasks),
            },
            arguments.repetitions,
        )
        print_table("independent tasks", "tasks/s", rates, "ProcessPoolExecutor")
        rates = in_turn(
            {
                "ProcessPoolExecutor": lambda: layered_by_hand(pool, tasks),
                "headway": lambda: layered(client, tasks),
            },
            arguments.repetitions,
        )
        print_table(
            f"layered graph, {WIDTH} wide x 2 upstreams", "tasks/s", rates, "ProcessPoolExecutor"
        )
        times = in_turn(
            {
                "ProcessPoolExecutor": lambda: round_trip(pool.submit, arguments.trips),
                "headway": lambda: round_trip(client.submit, arguments.trips),
            },
            arguments.repetitions,
        )
        print_table("round trip of one task", "µs", times, "ProcessPoolExecutor")


if __name__ == "__main__":
    main()
