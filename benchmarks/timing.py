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


def spread(values: Sequence[float]) -> str:
    """The least and the greatest of `values`."""
    return f"{min(values):,.4g} to {max(values):,.4g}"


def print_table(title: str, unit: str, figures: Mapping[str, Sequence[float]], base: str) -> None:
    """Median and spread of each contestant, and its ratio to `base`, pair by pair."""
    print(f"\n{title} ({unit}; median of {len(figures[base])}, least to greatest)")
    for name, values in figures.items():
        ratios = [v / b for v, b in zip(values, figures[base], strict=True)]
        ratio = "" if name == base else f"   {statistics.median(ratios):.2f} x {base}"
        if ratio:
            ratio += f" ({spread(ratios)})"
        print(f"  {name:<22}{statistics.median(values):>12,.4g}   {spread(values):<24}{ratio}")
