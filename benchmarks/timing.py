"""How the benchmarks measure and print: several repetitions in turn, medians, spread, ratios.

Contestants run one after the other within each repetition, so that a machine that grows slower
for a while does so for all of them. Nothing here judges.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

#: A contestant: runs once, returns its figure (tasks/s, seconds, ...).
Contestant = Callable[[], float]


def in_turn(contestants: Mapping[str, Contestant], repetitions: int) -> dict[str, list[float]]:
    """The figures of each contestant, one for each repetition, after one that does not count."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for repetition in range(repetitions + 1):
        for name, run in contestants.items():
            figure = run()
            if repetition:
                figures[name].append(figure)
    return figures


def figure(value: float) -> str:
    """`value` as people read it: 118,500 or 2.67."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """The least and the greatest of `values`."""
    return f"{figure(min(values))} to {figure(max(values))}"


def print_table(title: str, unit: str, figures: Mapping[str, Sequence[float]], base: str) -> None:
    """Median and spread of each contestant, and its ratio to `base`, pair by pair."""
    print(f"\n{title} ({unit}; median of {len(figures[base])}, least to greatest)")
    for name, values in figures.items():
        ratios = [v / b for v, b in zip(values, figures[base], strict=True)]
        row = f"  {name:<20}{figure(statistics.median(values)):>8}  ({spread(values)})"
        if name != base:
            row = f"{row:<52}{statistics.median(ratios):.2f} x {base} ({spread(ratios)})"
        print(row)
