"""What `headway demo` shows when the work is done: the report, the engines, the summary.

Prints to the console that it is given, and knows neither clients nor clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from headway.cli.survey import Counts, Report
from headway.cli.survey_tasks import Published
from headway.client.traced import Trace

#: Rows of each table.
ROWS = 8


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one demonstration."""

    counts: dict[str, int]
    engines: int
    start_s: float
    wall_s: float
    serial_s: float
    published: Published
    cleared: int
    trace: Path | None


def _table(title: str, *columns: str) -> Table:
    """A table whose first column is text, and whose others are numbers unless named `.text`."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for index, column in enumerate(columns):
        is_text = index == 0 or column.endswith(".text")
        table.add_column(
            column.removesuffix(".text"),
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=not is_text,
        )
    return table


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def show_report(report: Report, console: Console) -> None:
    """The largest packages, the most complex functions, the most imported modules, and what
    could not be counted.
    """
    columns = ("files", "lines", "functions", "classes", "complexity", "max")
    largest = _table("The largest packages", "package", *columns)
    for package in sorted(report.packages, key=lambda p: -p.counts.lines)[:ROWS]:
        largest.add_row(package.name, *_figures(package.counts))
    largest.add_section()
    largest.add_row(f"all {len(report.packages):,}", *_figures(report.total), style="bold")
    console.print(largest)

    hardest = _table("The most complex functions", "function", "complexity", "where.text")
    for function in report.total.top_functions[:ROWS]:
        hardest.add_row(
            function.name, f"{function.complexity:,}", f"{function.path}:{function.line}"
        )
    console.print(hardest)

    imported = _table("The most imported modules", "module", "files that import it")
    for module, files in sorted(report.total.imports, key=lambda item: (-item[1], item[0]))[:ROWS]:
        imported.add_row(module, f"{files:,}")
    console.print(imported)

    for path, reason in report.total.unparsable:
        console.print(f"not parsable: {path}: {reason}", markup=False, soft_wrap=True)
    console.print(f"not parsable: {_many(len(report.total.unparsable), 'file')} in all")


def _figures(counts: Counts) -> tuple[str, ...]:
    return (
        f"{counts.files:,}",
        f"{counts.lines:,}",
        f"{counts.functions:,}",
        f"{counts.classes:,}",
        f"{counts.complexity_sum:,}",
        f"{counts.complexity_max:,}",
    )


def show_engines(trace: Trace, wall_s: float, console: Console) -> None:
    """What each engine has done: its tasks, and how long it was busy with them."""
    table = _table("The engines", "engine", "pid", "tasks", "share", "busy", "of the time")
    pids = {engine.id: engine.pid for engine in trace.engines}
    for engine in trace.summary().engines:
        table.add_row(
            engine.id,
            str(pids[engine.id]),
            f"{engine.attempts:,}",
            f"{engine.attempts / len(trace.tasks):.0%}",
            f"{engine.busy_s:.2f} s",
            f"{engine.busy_s / wall_s:.0%}",
        )
    console.print(table)


def show_summary(summary: Summary, console: Console) -> None:
    """The figures: tasks, times, and against one process."""
    total = sum(summary.counts.values())
    kinds = ", ".join(_many(count, kind) for kind, count in summary.counts.items())
    with_start_s = summary.start_s + summary.wall_s
    published = summary.published
    table = Table(title="Summary", title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("tasks", f"{total:,} ({kinds})")
    table.add_row(
        f"on {_many(summary.engines, 'engine')}",
        f"{summary.wall_s:.2f} s, {total / summary.wall_s:,.0f} tasks/s"
        f" (and {summary.start_s:.2f} s to start the cluster)",
    )
    table.add_row("one process", f"{summary.serial_s:.2f} s, the same functions one by one")
    table.add_row(
        "speedup",
        f"{summary.serial_s / summary.wall_s:.2f}x"
        f" ({summary.serial_s / with_start_s:.2f}x with the start)",
    )
    table.add_row(
        "follow",
        f"the engine that made the report wrote {published.bytes:,} bytes of it"
        f" (Python {published.python} on {published.host})",
    )
    table.add_row("finalizer", f"removed {_many(summary.cleared, 'file')} from the scratch folder")
    if summary.trace is not None:
        table.add_row("trace", f"{summary.trace} (open it on https://ui.perfetto.dev)")
    console.print(table)
