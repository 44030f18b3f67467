"""How the benchmarks measure and print: several repetitions in turn, medians, spread, ratios.

Contestants run one after the other within each repetition, so that a machine that grows slower
for a while does so for all of them. Nothing here judges.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

#: What one run of a contestant measures: tasks/s, seconds, several of them in a tuple ...
T = TypeVar("T")


def in_turn(
    contestants: Mapping[str, Callable[[], T]], repetitions: int, *, warm_up: bool = True
) -> dict[str, list[T]]:
    """The figures of each contestant, one for each repetition, after one that does not count."""
    figures: dict[str, list[T]] = {name: [] for name in contestants}
    for repetition in range(-1 if warm_up else 0, repetitions):
        for name, run in contestants.items():
            figure = run()
            if repetition >= 0:
                figures[name].append(figure)
    return figures


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all its threads. From Linux: others count too coarsely."""
    total_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total_ns += int((thread / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def machine() -> str:
    """What a figure depends on, besides the programs measured."""
    return f"Python {platform.python_version()}, {os.cpu_count()} cores"


def say(text: str) -> None:
    """Progress: on stderr, since stdout has the figures."""
    print(text, file=sys.stderr, flush=True)


def write_json(path: Path, benchmark: str, figures: Mapping[str, Any]) -> None:
    """Write figures under the benchmark's name; what others have written there stays."""
    everything = json.loads(path.read_text()) if path.exists() else {}
    measured_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    everything[benchmark] = {"machine": machine(), "measured_at": measured_at, **figures}
    path.write_text(json.dumps(everything, indent=1) + "\n")


def figure(value: float) -> str:
    """`value` as people read it: 118,500 or 2.67."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """The least and the greatest of `values`."""
    return f"{figure(min(values))} to {figure(max(values))}"


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """How many times the base, pair by pair; not a number where the base is 0."""
    return [v / b if b else math.nan for v, b in zip(values, base, strict=True)]


def print_table(title: str, unit: str, figures: Mapping[str, Sequence[float]], base: str) -> None:
    """Median and spread of each contestant, and its ratio to `base`, pair by pair."""
    print(f"\n{title} ({unit}; median of {len(figures[base])}, least to greatest)")
    for name, values in figures.items():
        times = ratios(values, figures[base])
        row = f"  {name:<20}{figure(statistics.median(values)):>8}  ({spread(values)})"
        if name != base:
            row = f"{row:<56}{statistics.median(times):.2f} x {base} ({spread(times)})"
        print(row, flush=True)


def print_beside(title: str, unit: str, figures: Mapping[str, Sequence[float]], ours: str) -> None:
    """Median and spread of each contestant, and how many times its figure ours is."""
    print(f"\n{title} ({unit}; median of {len(figures[ours])}, least to greatest)")
    for name, values in figures.items():
        row = f"  {name:<20}{figure(statistics.median(values)):>9}  ({spread(values)})"
        if name != ours:
            times = ratios(figures[ours], values)
            row = f"{row:<56}{ours}: {statistics.median(times):.3g} x ({spread(times)})"
        print(row, flush=True)
