"""What headway's scheduler in IPython clusters should cost, held against what was measured.

Reads the figures of ipyparallel_scheduler.py, measures nothing itself, and leaves out nothing
that was measured: a criterion that is missed is said to be.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from timing import figure, ratios

#: headway's tasks a CPU second, as a multiple of ipyparallel's.
RATE_TIMES_MIN = 5.0
#: The dearest of the queue's lengths, as a multiple of the cheapest.
GROWTH_MAX = 1.5


class Criterion(NamedTuple):
    """One thing that was wanted."""

    wanted: str
    measured: str
    met: bool

    def __str__(self) -> str:
        return f"{self.wanted:<62}{self.measured:<46}{'met' if self.met else 'MISSED'}"


def growth(costs: Mapping[int, Sequence[float]]) -> float:
    """The greatest median cost by the least."""
    medians = [statistics.median(runs) for runs in costs.values()]
    return max(medians) / min(medians)


def criteria(results: Mapping[str, Any]) -> list[Criterion]:
    """One for each rate and each shape of queue that was measured."""
    found = []
    for row in results.get("rate", []):
        per_cpu_s = row["tasks_per_cpu_s"]
        times = statistics.median(ratios(per_cpu_s["headway"], per_cpu_s["ipyparallel"]))
        where = f"{row['engines']} engines, hwm={row['hwm']}"
        found.append(
            Criterion(
                f"at least {RATE_TIMES_MIN:g} x ipyparallel's tasks/CPU s: {where}",
                f"{figure(times)} x",
                times >= RATE_TIMES_MIN,
            )
        )
    for shape, costs in results.get("queue", {}).items():
        own, stock = costs["headway"]["us_a_task"], costs["ipyparallel"]["us_a_task"]
        grown, lengths = growth(own), f"{min(own):,} to {max(own):,}"
        to = f" to {max(stock):,}" if max(stock) < max(own) else ""
        found.append(
            Criterion(
                f"flat within {GROWTH_MAX:g} x, {lengths} waiting: {shape}",
                f"{figure(grown)} x (ipyparallel{to}: {figure(growth(stock))} x)",
                # A queue of one length says nothing.
                grown <= GROWTH_MAX and len(own) > 1,
            )
        )
    return found


def print_criteria(results: Mapping[str, Any]) -> None:
    """The criteria that the figures can answer, and which parts were not measured."""
    print("\nwhat is wanted, and what was measured here")
    for criterion in criteria(results):
        print(f"  {criterion}")
    missing = [part for part in ("rate", "queue") if part not in results]
    if missing:
        print(f"  not measured in this run: {', '.join(missing)}")
