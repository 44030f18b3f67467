"""Tasks of very different durations: how near does a run come to the best that is possible?

    python benchmarks/mixed.py [--quick] [--peers all] [--json FILE] [--plot FILE.png]

Independent tasks, all submitted at once, of two kinds of mixture:

  bimodal     nearly all take 1 ms, a few take 1 s (scaled, so that a run takes some seconds)
  heavy tail  Pareto's distribution: most are short, a few hold most of the work

The figure is the makespan as a multiple of its lower bound, which is the longest task, or all work
by the number of engines, whichever is more. headway is measured with `hwm` 1, 8 and auto: engines
that are given several tasks at once don't wait for the next one, but may hold short tasks behind a
long one. Tasks sleep, so that cores don't matter; the order is random, and the same for all.
`first come` is what is possible without knowing durations: each engine takes the next task in the
moment in which it is free. It is computed, not measured.
"""

from __future__ import annotations

import heapq
import time
from functools import partial
from random import Random

import peers
import suite
from kernels import no_op, pause
from timing import in_turn

HWMS: tuple[int | str, ...] = (1, 8, "auto")
FIRST_COME = "first come"


def bimodal(total_s: float, engines: int) -> list[float]:
    """Durations: 1 ms and 1 s, the latter half of the work; scaled down where it is little."""
    work_s = total_s * engines
    long_s = min(1.0, total_s / 3)
    durations = [long_s] * max(1, round(work_s / 2 / long_s)) + [0.001] * int(work_s / 2 / 0.001)
    Random(1).shuffle(durations)
    return durations


def heavy_tail(total_s: float, engines: int) -> list[float]:
    """Durations of at least 1 ms, cut at a third of the run; half of the work in a few percent."""
    rng = Random(2)
    durations: list[float] = []
    while sum(durations) < total_s * engines:
        durations += [min(0.001 * rng.paretovariate(1.1), total_s / 3) for _ in range(50)]
    return durations


MIXTURES = {"bimodal": bimodal, "heavy_tail": heavy_tail}


def lower_bound_s(durations: list[float], engines: int) -> float:
    """No schedule of independent tasks is shorter."""
    return max(max(durations), sum(durations) / engines)


def first_come_s(durations: list[float], engines: int) -> float:
    """The makespan where each engine takes the next task once it is free, at no cost."""
    free_at = [0.0] * engines
    for duration_s in durations:
        heapq.heapreplace(free_at, free_at[0] + duration_s)
    return max(free_at)


def makespan_s(peer: peers.Peer, durations: list[float]) -> float:
    """Seconds from the first submit to the last result."""
    start = time.perf_counter()
    peer.results(peer.map(pause, durations))
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--total-s", type=float, help="of a run; default 4; 0.5 with --quick")
    args = suite.parse(made, argv)
    total_s = args.total_s or (0.5 if args.quick else 4.0)
    report = suite.Report("mixed", args)
    names = [name for name in args.names if name != suite.BASE]
    contestants: dict[str, peers.Peer] = {}
    with peers.opened(names, args.engines) as others:
        try:
            if suite.BASE in args.names:
                for hwm in HWMS:
                    # The default bears the plain name.
                    name = suite.BASE if hwm == "auto" else f"{suite.BASE} hwm={hwm}"
                    contestants[name] = peers.Headway(args.engines, hwm=hwm)
            contestants |= others
            for peer in contestants.values():
                peer.results([peer.submit(no_op) for _ in range(20)])
            for key, mixture in MIXTURES.items():
                durations = mixture(total_s, args.engines)
                bound_s = lower_bound_s(durations, args.engines)
                spans = in_turn(
                    {n: partial(makespan_s, p, durations) for n, p in contestants.items()},
                    args.repetitions,
                    warm_up=False,
                )
                figures = {n: [s / bound_s for s in of_one] for n, of_one in spans.items()}
                ideal = first_come_s(durations, args.engines) / bound_s
                figures[FIRST_COME] = [ideal] * args.repetitions
                words = key.replace("_", " ")
                title = f"{words}: makespan of {len(durations):,} tasks by its lower bound"
                facts = {"lower_bound_s": bound_s, "tasks": len(durations)}
                report.add(
                    suite.Measure(key, title, "x", figures, more_is_better=False, facts=facts)
                )
        finally:
            for name, peer in contestants.items():
                if name not in others:
                    peer.close()
    report.finish()


if __name__ == "__main__":
    suite.main(main)
