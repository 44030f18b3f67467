"""The two pictures of README, from figures that were measured.

    python benchmarks/charts.py figures/*.json [--out docs/images]

tasks_per_second.png shows no-op tasks a second beside the peers, efficiency.png the efficiency
against the duration of tasks. Reads what no_ops.py, graphs.py and metg.py wrote with `--json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import suite
from metg import draw_curves, median_curve
from table import load, measure_of


def tasks_per_second(found: Mapping[str, Any], path: Path) -> None:
    """Bars of the independent tasks and of the layered graph."""
    shown = [
        measure
        for benchmark, key in (("no_ops", "independent"), ("graphs", "layered"))
        if (measure := measure_of(found, benchmark, key)) is not None
    ]
    if not shown:
        raise SystemExit("no figures of no_ops.py or graphs.py in these files")
    plt = suite.matplotlib()
    size = (4.6 * len(shown), 2.8)
    drawing, axes = plt.subplots(1, len(shown), figsize=size, squeeze=False, layout="constrained")
    for axis, measure in zip(axes[0], shown, strict=True):
        suite.bars(axis, measure["figures"])
        axis.set_title(measure["title"], fontsize=9)
        axis.set_xlabel("no-op tasks a second", fontsize=8)
    save(plt, drawing, path)


def efficiency(found: Mapping[str, Any], graph: str, path: Path) -> None:
    """Curves of one graph."""
    curves = found.get("metg", {}).get("curves", {})
    if graph not in curves:
        raise SystemExit(f"no figures of metg.py for the graph {graph!r} in these files")
    plt = suite.matplotlib()
    drawing, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    draw_curves(axis, {name: median_curve(of_one) for name, of_one in curves[graph].items()})
    axis.set_title(f"useful work, by the duration of tasks ({graph})", fontsize=9)
    axis.legend(fontsize=8)
    save(plt, drawing, path)


def save(plt: Any, drawing: Any, path: Path) -> None:
    """Write a picture, and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=130)
    plt.close(drawing)
    print(path)


def main(argv: list[str] | None = None) -> None:
    """Read and draw."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("files", type=Path, nargs="+", help="what the benchmarks have written")
    made.add_argument("--out", type=Path, default=Path("docs/images"), help="a directory")
    made.add_argument("--graph", default="stencil", help="of the curves; default stencil")
    args = made.parse_args(argv)
    found = load(args.files)
    tasks_per_second(found, args.out / "tasks_per_second.png")
    efficiency(found, args.graph, args.out / "efficiency.png")


if __name__ == "__main__":
    main()
