"""What headway must reach, and what it has reached: a table from figures that were measured.

    python benchmarks/table.py figures/*.json [--all]

Reads what the benchmarks have written with `--json`, measures nothing itself. Printed as Markdown:
each goal with the median and the spread of what was reached, and how many times as good headway is
as each peer in the same run (tasks a second: ours by theirs; times and bytes: theirs by ours). What
was not measured is said to be, and what is missed, too. `--all` adds all other measures.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from timing import figure, ratios, spread

OURS = "headway"
POOL = "ProcessPoolExecutor"


class Goal(NamedTuple):
    """One row: what is wanted, where it was measured, and whether figures meet it."""

    measure: str
    wanted: str
    benchmark: str
    key: str
    #: The contestant whose figures count.
    name: str
    met: Callable[[Mapping[str, Sequence[float]]], bool]
    #: Its figures are told as a multiple of this contestant's, where there is one.
    base: str = ""


def _median(figures: Mapping[str, Sequence[float]], name: str) -> float:
    return statistics.median(figures[name])


def _at_least(name: str, least: float) -> Callable[[Mapping[str, Sequence[float]]], bool]:
    return lambda figures: _median(figures, name) >= least


def _at_most(name: str, most: float) -> Callable[[Mapping[str, Sequence[float]]], bool]:
    return lambda figures: _median(figures, name) <= most


def _independent(figures: Mapping[str, Sequence[float]]) -> bool:
    """The rate, and the multiples of two peers where they were measured."""
    met = _median(figures, OURS) >= 50_000
    for name, times in ((POOL, 4), ("Ray", 30)):
        if name in figures:
            met = met and statistics.median(ratios(figures[OURS], figures[name])) >= times
    return met


def _times(name: str, base: str) -> Callable[[Mapping[str, Sequence[float]]], float]:
    return lambda figures: statistics.median(ratios(figures[name], figures[base]))


def _pool_trip(figures: Mapping[str, Sequence[float]]) -> bool:
    return POOL in figures and _times(OURS, POOL)(figures) <= 1.3


def _normal(figures: Mapping[str, Sequence[float]]) -> bool:
    return _times("normal", "off")(figures) >= 0.6


def _any_count(figures: Mapping[str, Sequence[float]]) -> bool:
    """With every number of engines that was measured."""
    return all(_median(figures, name) >= 150_000 for name in figures)


def _flat(figures: Mapping[str, Sequence[float]]) -> bool:
    """The dearest of a row by the cheapest."""
    medians = [statistics.median(values) for values in figures.values()]
    return len(medians) > 1 and max(medians) / min(medians) <= 1.3


GOALS = (
    Goal(
        "independent no-ops, one client",
        f"50,000 tasks/s, ≥ 4 × {POOL}, ≥ 30 × Ray",
        "no_ops", "independent", OURS, _independent,
    ),
    Goal(
        "layered graph, 50 wide, 2 upstreams each",
        "40,000 tasks/s", "graphs", "layered", OURS, _at_least(OURS, 40_000),
    ),
    Goal(
        "round trip of one task",
        f"≤ 1.3 × {POOL}'s", "round_trip", "p50", OURS, _pool_trip, POOL,
    ),
    Goal(
        "METG(50 %), stencil of width 8",
        "≤ 50 µs", "metg", "metg_stencil", OURS, _at_most(OURS, 50),
    ),
    Goal(
        "controller with engines that answer at once",
        "150,000 tasks/s", "stand_ins", "wall", "", _any_count,
    ),
    Goal(
        "core alone, independent, by the number of tasks",
        "300,000 tasks/s", "core_alone", "rate_independent", "", lambda f: min(
            statistics.median(values) for values in f.values()
        ) >= 300_000,
    ),
    *(
        Goal(
            f"core alone, {shape}, by the number of {what}",
            "cost within 1.3 ×", "core_alone", f"{what}_{shape}", "", _flat,
        )
        for what in ("tasks", "engines") for shape in ("independent", "chain", "layered")
    ),
    Goal(
        "memory a waiting task, in the controller",
        "≤ 500 B + its payload", "memory", "waiting", "controller", _at_most("controller", 500),
    ),
    Goal(
        "durability normal",
        "≥ 60 % of the rate without", "durability", "independent", "normal", _normal, "off",
    ),
)  # fmt: skip


def load(paths: Sequence[Path]) -> dict[str, Any]:
    """Benchmark -> what it has written; of a benchmark in several files, the last one counts.

    Raises:
        SystemExit: a file can't be read, or is none of ours.
    """
    found: dict[str, Any] = {}
    for path in paths:
        try:
            found |= json.loads(path.read_text())
        except (OSError, ValueError, TypeError) as error:
            raise SystemExit(f"{path}: {error}") from None
    return found


def measure_of(found: Mapping[str, Any], benchmark: str, key: str) -> dict[str, Any] | None:
    """One measure of a benchmark, if it was made."""
    for measure in found.get(benchmark, {}).get("measures", []):
        if measure["key"] == key:
            return dict(measure)
    return None


def times_as_good(measure: Mapping[str, Any], name: str = OURS) -> str:
    """How many times as good `name` is as each other, pair by pair: medians."""
    figures = measure["figures"]
    if name not in figures:
        return ""
    cells = []
    for other, values in figures.items():
        if other != name:
            pair = (figures[name], values) if measure["more_is_better"] else (values, figures[name])
            cells.append(f"{other} {figure(statistics.median(ratios(*pair)))} ×")
    return ", ".join(cells)


def reached(measure: Mapping[str, Any], name: str, base: str = "") -> str:
    """Median and spread of one contestant, or of all, in its unit; and as a multiple of `base`."""
    figures = measure["figures"]
    names = [name] if name else list(figures)
    cells = []
    for one in names:
        text = f"{figure(statistics.median(figures[one]))} ({spread(figures[one])})"
        cells.append(text if name else f"{one}: {text}")
    text = f"{'; '.join(cells)} {measure['unit']}"
    if base in figures:
        text += f" = {figure(_times(name, base)(figures))} × {base}"
    return text


def goal_row(goal: Goal, found: Mapping[str, Any]) -> list[str]:
    """The cells of one goal's row."""
    measure = measure_of(found, goal.benchmark, goal.key)
    if measure is None or (goal.name and goal.name not in measure["figures"]):
        return [goal.measure, goal.wanted, "not measured", "", ""]
    if goal.base and goal.base not in measure["figures"]:
        return [goal.measure, goal.wanted, reached(measure, goal.name), "", "no peer to judge by"]
    verdict = "reached" if goal.met(measure["figures"]) else "missed"
    beside = times_as_good(measure) if goal.name == OURS else ""
    return [goal.measure, goal.wanted, reached(measure, goal.name, goal.base), beside, verdict]


def ipyparallel_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """The rows of the scheduler inside IPython clusters, judged as its own benchmark does."""
    if "scheduler" not in found:
        return [["inside ipyparallel", "≥ 5 × its own scheduler, flat", "not measured", "", ""]]
    from ipyparallel_criteria import criteria

    return [
        ["inside ipyparallel", one.wanted, one.measured, "", "reached" if one.met else "missed"]
        for one in criteria(found["scheduler"])
    ]


def print_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown."""
    print(f"| {' | '.join(head)} |")
    print(f"|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def main(argv: list[str] | None = None) -> None:
    """Read and print."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("files", type=Path, nargs="+", help="what the benchmarks have written")
    made.add_argument("--all", action="store_true", help="all other measures, too")
    args = made.parse_args(argv)
    found = load(args.files)
    machines = sorted({f"{of['machine']}, {of['measured_at'][:10]}" for of in found.values()})
    quick = sorted(name for name, of in found.items() if of.get("quick"))
    missing = sorted({name for of in found.values() for name in of.get("not_installed", [])})
    print(f"Measured with {'; '.join(machines)}. Median (least to greatest).")
    if quick:
        print(f"With --quick, and so no more than a first look: {', '.join(quick)}.")
    if missing:
        print(f"Not installed there: {', '.join(missing)}.")
    print()
    rows = [goal_row(goal, found) for goal in GOALS] + ipyparallel_rows(found)
    print_rows(["measure", "to reach", "reached", f"{OURS} is so many times as good", ""], rows)
    if args.all:
        print()
        rest = [
            [measure["title"], reached(measure, name), times_as_good(measure, name)]
            for of in found.values()
            for measure in of.get("measures", [])
            for name in [OURS if OURS in measure["figures"] else ""]
        ]
        print_rows(["measure", OURS, f"{OURS} is so many times as good"], rest)


if __name__ == "__main__":
    main()
