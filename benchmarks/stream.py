"""Does a stream of tasks need memory that grows with it? 10^6 tasks from a generator.

    python benchmarks/stream.py [--quick] [--tasks 1000000] [--durability off] [--json FILE]

`client.map(function, generator, ordered=False)`: tasks are submitted as results are read, and each
result is let go of at once. Ten times on the way (or more often: `--looks`) the memory of client,
controller and engines is looked at (PSS), with how many tasks the controller knows and how many the
client has submitted beyond what it has read. The verdict compares the greatest memory of the second
half with that of the first, after the first look: what was kept of each task would be bytes a task.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator

import peers
import suite
from kernels import no_op
from timing import say

PARTS = ("client", "controller", "engines")


class Source:
    """Arguments without end, counted as they are taken."""

    def __init__(self, count: int) -> None:
        self.taken = 0
        self._count = count

    def __iter__(self) -> Iterator[int]:
        while self.taken < self._count:
            self.taken += 1
            yield self.taken


def look(peer: peers.Headway, controller: int, engines: list[int]) -> dict[str, float]:
    """The memory of each part, in MB; and how many tasks the controller knows."""
    known = sum(peer.client.statistics()["tasks"].values())
    return {
        "client": suite.rss_bytes(os.getpid()) / 1e6,
        "controller": suite.rss_bytes(controller) / 1e6,
        "engines": sum(map(suite.rss_bytes, engines)) / 1e6,
        "tasks known": known,
    }


def run(peer: peers.Headway, tasks: int, looks: int) -> tuple[float, list[dict[str, float]]]:
    """Stream so many tasks; the rate, and what was seen at each look. Looks are not timed."""
    controller = peers.connection_pid(peer.address())
    engines = [engine.pid for engine in peer.client.engines()]
    source = Source(tasks)
    every = max(1, tasks // looks)
    seen: list[dict[str, float]] = []
    looked_s = 0.0
    start = time.perf_counter()
    done = 0
    for future in peer.client.map(no_op, iter(source), ordered=False):
        future.result()
        del future
        done += 1
        if done % every == 0:
            began = time.perf_counter()
            gc.collect()
            one = look(peer, controller, engines)
            one |= {"tasks": done, "ahead": source.taken - done}
            seen.append(one)
            say(
                f"stream: {done:>9,} tasks: "
                + ", ".join(f"{part} {one[part]:.1f} MB" for part in PARTS)
                + f"; {one['tasks known']:,.0f} known, {one['ahead']:,.0f} ahead"
            )
            looked_s += time.perf_counter() - began
    if done != tasks:
        raise RuntimeError(f"{done:,} of {tasks:,} results came")
    return done / (time.perf_counter() - start - looked_s), seen


def growth(seen: list[dict[str, float]], part: str) -> float:
    """Bytes a task by which the second half is above the first, but for the first look."""
    values = [one[part] for one in seen[1:]]
    half = len(values) // 2
    tasks = (seen[-1]["tasks"] - seen[1]["tasks"]) / 2
    return (max(values[half:]) - max(values[:half])) * 1e6 / tasks


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--tasks", type=int, help="default 1000000; 20000 with --quick")
    made.add_argument("--looks", type=int, default=10, help="at least 4")
    made.add_argument("--durability", default="off", help="off, normal or full")
    args = suite.parse(made, argv)
    tasks = args.tasks or (20_000 if args.quick else 1_000_000)
    report = suite.Report("stream", args)
    names = suite.only(args, [suite.BASE], "it has no stream of this kind")
    if suite.BASE in names:
        peer = peers.Headway(args.engines, durability=args.durability)
        try:
            peer.results([peer.submit(no_op) for _ in range(1_000)])
            rate, seen = run(peer, tasks, max(4, args.looks))
        finally:
            peer.close()
        rates = {suite.BASE: [rate]}
        report.add(suite.Measure("rate", f"a stream of {tasks:,} tasks", "tasks/s", rates))
        figures = {part: [one[part] for one in seen] for part in PARTS}
        report.add(
            suite.Measure(
                "memory", "memory on the way", "MB", figures, more_is_better=False,
                base="controller", facts={"tasks": [one["tasks"] for one in seen]},
            )
        )  # fmt: skip
        grown = ", ".join(f"{part} {growth(seen, part):+.1f}" for part in PARTS)
        most = max(one["tasks known"] for one in seen)
        ahead = max(one["ahead"] for one in seen)
        print(f"growth, in bytes a task: {grown}")
        print(
            f"at most {most:,.0f} tasks known to the controller, {ahead:,.0f} ahead of the reader"
        )
    report.finish()


if __name__ == "__main__":
    suite.main(main)
