"""Kills the controller again and again while a graph runs, and looks whether anything was lost.

    python -m tests.nemesis.controller_kills --kills 100 --tasks 10000

A cluster with a journal runs a layered graph, each task of which adds up what two tasks of the
layer before gave. Its controller is killed with SIGKILL at random instants, and each time the
same command is started again. In the end every value must be right, each task must have been run
to its end by engines that were never started anew, and no attempt may have counted twice.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import headway
from tests.nemesis.cluster import Cluster

WIDTH = 50
_START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Findings:
    """What came of it."""

    kills: int
    tasks: int
    wrong: int
    engines_before: list[int]
    engines_after: list[int]
    runs: int
    wall_s: float


def leaf(number: int, runs: str, task_s: float) -> int:
    time.sleep(task_s)
    note_run(runs)
    return number


def add(left: int, right: int, runs: str, task_s: float) -> int:
    time.sleep(task_s)
    note_run(runs)
    return (left + right) % 1_000_003


def note_run(runs: str) -> None:
    """One byte for each run: appends are atomic."""
    descriptor = os.open(runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, b".")
    os.close(descriptor)


def submit_layers(
    client: headway.Client, count: int, runs: str, task_s: float
) -> list[headway.Future[int]]:
    """`count` tasks in layers."""
    futures = [client.submit(leaf, n, runs, task_s) for n in range(min(WIDTH, count))]
    while len(futures) < count:
        start = len(futures) // WIDTH * WIDTH - WIDTH
        n = len(futures) % WIDTH
        left, right = futures[start + n], futures[start + (n + 1) % WIDTH]
        futures.append(client.submit(add, left, right, runs, task_s))
    return futures


def expected(count: int) -> list[int]:
    """What the tasks must give."""
    values = list(range(min(WIDTH, count)))
    while len(values) < count:
        start = len(values) // WIDTH * WIDTH - WIDTH
        n = len(values) % WIDTH
        values.append((values[start + n] + values[start + (n + 1) % WIDTH]) % 1_000_003)
    return values


def go(
    directory: Path,
    kills: int,
    count: int,
    seed: int,
    task_s: float,
    engines: int = 2,
    tell: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Run the graph, and kill at random instants while it runs; what came of it. `tell` hears of
    each kill."""
    rng = random.Random(seed)
    runs = str(directory / "runs")
    cluster = Cluster(directory, engines)
    cluster.start()
    began_s = time.monotonic()
    try:
        with headway.Client(cluster.connection) as client:
            before = wait_engines(client, engines)
            futures = submit_layers(client, count, runs, task_s)
            for n in range(kills):
                time.sleep(rng.uniform(0.0, 0.5))
                cluster.kill()
                cluster.start()
                done = sum(future.done() for future in futures)
                tell(f"kill {n + 1}: {done:,} of {count:,} tasks done")
            values = client.gather(futures)
            after = wait_engines(client, engines)
    finally:
        cluster.close()
    wrong = sum(a != b for a, b in zip(values, expected(count), strict=True))
    return Findings(
        kills, count, wrong, before, after, os.path.getsize(runs), time.monotonic() - began_s
    )


def wait_engines(client: headway.Client, count: int) -> list[int]:
    """The process ids of the engines, once they are there."""
    deadline_at = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_at:
        pids = sorted(engine.pid for engine in client.engines())
        if len(pids) == count:
            return pids
        time.sleep(0.05)
    raise RuntimeError(f"{count} engines did not come")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.nemesis.controller_kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task-s", type=float, default=0.02, help="what each task takes")
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="headway-kills-") as directory:
        found = go(
            Path(directory),
            told.kills,
            told.tasks,
            told.seed,
            told.task_s,
            tell=lambda text: print(text, file=sys.stderr),
        )
    same = "unchanged" if found.engines_before == found.engines_after else "CHANGED"
    print(
        f"{found.kills} kills of the controller, {found.tasks:,} tasks in {found.wall_s:.0f} s: "
        f"{found.wrong} values wrong or lost; {found.runs:,} runs; engines' process ids {same}: "
        f"{found.engines_before}"
    )
    return 0 if not found.wrong and found.runs == found.tasks and same == "unchanged" else 1


if __name__ == "__main__":
    sys.exit(main())
