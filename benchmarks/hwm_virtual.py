"""What does `hwm` do to a run of very different durations, at 2, 16 and 64 engines?

    python benchmarks/hwm_virtual.py [--quick] [--engines 2,16,64] [--total-s 2] [--json FILE]

The mixtures of mixed.py in virtual time (`headway.sim.replay_flow`): the real scheduler and the
real queues of engines, tasks that only take time, messages that travel for half of a round trip. So
the figures are the same on every machine, whatever else it does. The figure is the makespan as a
multiple of its lower bound, the mean of several random orders of submission; `first come` is what
would be possible if a message took no time and nobody knew durations.

  bimodal      half of the work in tasks of 1 ms, half in tasks of 1 s, in random order
  heavy tail   Pareto's distribution from 1 ms on, cut at a third of the run
  short, long  all of the 1 ms come first, then those of 1 s
  long, short  the other way round
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from mixed import FIRST_COME, bimodal, first_come_s, heavy_tail
from timing import write_json

from headway.flows.flow import Flow, FlowTask, make_flow
from headway.sim.replay_flow import Choice, Circumstances, Replay, replay

HWMS: tuple[int | str, ...] = (1, 2, 8, "auto")
#: Where auto is worse than the best fixed number by more than this, it is said.
_WORSE = 1.05


def _in_order(total_s: float, engines: int) -> list[float]:
    return sorted(bimodal(total_s, engines))


def _long_first(total_s: float, engines: int) -> list[float]:
    return sorted(bimodal(total_s, engines), reverse=True)


#: By name, the durations; and whether their order is chance.
MIXTURES: dict[str, tuple[Callable[[float, int], list[float]], bool]] = {
    "bimodal": (bimodal, True),
    "heavy tail": (heavy_tail, True),
    "short, long": (_in_order, False),
    "long, short": (_long_first, False),
}


def flow_of(durations: list[float]) -> Flow:
    """Independent tasks that take so long."""
    tasks = [FlowTask(str(n), runtime_s=s) for n, s in enumerate(durations)]
    return make_flow("mixture", "mixture", tasks)


def orders(name: str, total_s: float, engines: int, count: int) -> list[list[float]]:
    """The mixture, in so many orders."""
    make, is_random = MIXTURES[name]
    found = []
    for seed in range(count if is_random else 1):
        durations = make(total_s, engines)
        if is_random:
            Random(seed).shuffle(durations)
        found.append(durations)
    return found


def run(durations: list[float], engines: int, hwm: int | str) -> Replay:
    """One run of them."""
    return replay(flow_of(durations), Choice(engines, hwm), Circumstances())


def measure(name: str, total_s: float, engines: int, count: int) -> dict[str, list[float]]:
    """By hwm, the makespans as multiples of the bound."""
    figures: dict[str, list[float]] = {}
    for durations in orders(name, total_s, engines, count):
        replays = {f"hwm={hwm}": run(durations, engines, hwm) for hwm in HWMS}
        for key, one in replays.items():
            figures.setdefault(key, []).append(one.ratio)
        bound_s = next(iter(replays.values())).bound_s
        figures.setdefault(FIRST_COME, []).append(first_come_s(durations, engines) / bound_s)
    return figures


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default="2,16,64", help="how many, with commas between")
    parser.add_argument("--total-s", type=float, default=2.0, help="the least makespan there is")
    parser.add_argument("--orders", type=int, default=3, help="random orders of submission")
    parser.add_argument("--quick", action="store_true", help="a first look: 1 s, and 2 orders")
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args(argv)
    total_s, count = arguments.total_s, arguments.orders
    if arguments.quick:
        total_s, count = min(total_s, 1.0), min(count, 2)
    columns = [*(f"hwm={hwm}" for hwm in HWMS), FIRST_COME]
    print("makespan by its lower bound, in virtual time: the mean of the orders (the worst)")
    print(f"{'':<14}{'engines':>8}  " + "".join(f"{name:>16}" for name in columns))
    measures: list[dict[str, Any]] = []
    for name in MIXTURES:
        for engines in (int(n) for n in arguments.engines.split(",")):
            figures = measure(name, total_s, engines, count)
            means = {key: statistics.mean(ratios) for key, ratios in figures.items()}
            cells = "".join(f"{means[key]:>9.3f} ({max(figures[key]):.2f})" for key in columns)
            best = min(means[f"hwm={hwm}"] for hwm in HWMS if hwm != "auto")
            worse = means["hwm=auto"] / best
            said = f"  auto: {worse - 1:+.0%}" if worse > _WORSE else ""
            print(f"{name:<14}{engines:>8}  {cells}{said}", flush=True)
            key = f"{name.replace(', ', '_').replace(' ', '_')}_{engines}"
            measures.append(
                {
                    "key": key, "title": f"{name}, {engines} engines, in virtual time",
                    "unit": "x", "figures": figures, "more_is_better": False,
                }
            )  # fmt: skip
    if arguments.json:
        write_json(arguments.json, "hwm_virtual", {"measures": measures})


if __name__ == "__main__":
    main()
