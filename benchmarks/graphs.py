"""What does a dependency cost? Graphs of no-op tasks, submitted whole, edges and all.

    python benchmarks/graphs.py [--quick] [--peers all] [--json FILE] [--plot FILE.png]

Tasks a second, from the first submit until the last result is in the client, of

  layered   layers of 50, each task after two of the layer before
  tree      one task fans out by two to 512, which come together again by two
  chain     each task after the one before: nothing runs beside anything

Systems that know no dependencies have them played by their client, which waits for a task's
inputs before it submits it, and submits layer by layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import peers
import suite
from kernels import no_op

WIDTH = 50
LEAVES = 512


def layered(peer: peers.Peer, tasks: int) -> list[Any]:
    """Layers of WIDTH, each task after two of the layer before."""
    submit = peer.submit
    layer = [submit(no_op) for _ in range(WIDTH)]
    handles = list(layer)
    for _ in range(tasks // WIDTH - 1):
        layer = [submit(no_op, layer[n], layer[n - 1]) for n in range(WIDTH)]
        handles += layer
    return handles


def tree(peer: peers.Peer, tasks: int) -> list[Any]:
    """Trees that fan out to LEAVES and in again, one beside the other."""
    submit = peer.submit
    handles: list[Any] = []
    while len(handles) < tasks:
        layer = [submit(no_op)]
        handles += layer
        while len(layer) < LEAVES and len(handles) < tasks:
            layer = [submit(no_op, above) for above in layer for _ in range(2)]
            handles += layer
        while len(layer) > 1:
            layer = [submit(no_op, *layer[n : n + 2]) for n in range(0, len(layer), 2)]
            handles += layer
    return handles


def chain(peer: peers.Peer, tasks: int) -> list[Any]:
    """Each task after the one before."""
    submit = peer.submit
    handles = [submit(no_op)]
    for _ in range(tasks - 1):
        handles.append(submit(no_op, handles[-1]))
    return handles


SHAPES: dict[str, tuple[str, Callable[[peers.Peer, int], list[Any]]]] = {
    "layered": (f"layered graph, {WIDTH} wide x 2 upstreams", layered),
    "tree": (f"trees, out to {LEAVES} and in again", tree),
    "chain": ("chain", chain),
}


def rate(peer: peers.Peer, shape: Callable[[peers.Peer, int], list[Any]], tasks: int) -> float:
    """Tasks a second of a graph."""
    start = time.perf_counter()
    handles = shape(peer, tasks)
    peer.results(handles)
    return len(handles) / (time.perf_counter() - start)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--tasks", type=int, default=20_000, help="in a run, at most; at least 50")
    made.add_argument("--budget-s", type=float, help="of a run, about; default 2; 0.3 with --quick")
    args = suite.parse(made, argv)
    if args.tasks < WIDTH:
        made.error(f"--tasks {args.tasks} is less than one layer of {WIDTH}")
    report = suite.Report("graphs", args)
    with peers.opened(args.names, args.engines) as running:
        print(peers.remarks(running))
        for key, (title, shape) in SHAPES.items():
            rates, counts = suite.rates_in_turn(
                {name: partial(rate, peer, shape) for name, peer in running.items()},
                args.repetitions,
                pilot=min(WIDTH if args.quick else 2 * WIDTH, args.tasks),
                budget_s=args.budget_s or (0.3 if args.quick else 2.0),
                most=args.tasks,
            )
            report.add(suite.Measure(key, title, "tasks/s", rates, facts=counts))
    report.finish()


if __name__ == "__main__":
    suite.main(main)
