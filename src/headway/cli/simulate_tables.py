"""What `headway simulate` shows: a row for each choice, and how busy the engines were over time.

Prints to the console that it is given, and knows neither files nor schedulers.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headway.cli.show import seconds
from headway.flows.flow import Flow
from headway.sim.replay_flow import Replay, Run

#: From here on the columns of the table stand apart.
WIDE_COLUMNS = 100
#: The plot's height in lines, each of which has as many steps as there are blocks.
PLOT_LINES = 4
PLOT_COLUMNS_MAX = 100
BLOCKS = " ▁▂▃▄▅▆▇█"
#: For a terminal that can't show those.
PLAIN_BLOCKS = " .:-=+*#@"


def show(flow: Flow, replays: Sequence[Replay], best: int, console: Console) -> None:
    """The flow in a line, and the table."""
    console.print(
        f"{flow.name}: {len(flow.tasks):,} tasks, {flow.edges:,} dependencies; "
        f"{seconds(flow.work_s())} of work, critical path {seconds(flow.critical_path_s())}",
        soft_wrap=True,
        markup=False,
    )
    for note in flow.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    has_failures = any(one.failed for one in replays)
    space = 2 if console.width >= WIDE_COLUMNS else 1
    table = Table(header_style="dim", box=None, padding=(0, space, 0, 0), pad_edge=False)
    for title in ("row", "engines", "hwm"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("scheme", overflow="fold")
    for title in ("makespan", "busy", "bound", "ratio", "recalled"):
        table.add_column(title, justify="right", no_wrap=True)
    if has_failures:
        table.add_column("failed", justify="right")
    table.add_column("")
    for number, one in enumerate(replays):
        choice = one.choice
        cells = [
            str(number + 1),
            f"{choice.engines:,}",
            str(choice.hwm),
            choice.scheme,
            seconds(one.makespan_s),
            f"{one.utilisation:.1%}",
            seconds(one.bound_s),
            f"{one.ratio:.3f}",
            f"{one.recalled:,}",
        ]
        if has_failures:
            cells.append(f"{one.failed:,}")
        is_best = number == best
        cells.append("best" if is_best else "")
        table.add_row(*map(Text, cells), style="bold" if is_best else "")
    console.print(table)
    for failure in dict.fromkeys(one.scheme_failure for one in replays if one.scheme_failure):
        console.print(f"note: {failure}", soft_wrap=True, markup=False)


def show_plot(one: Replay, row: int, console: Console) -> None:
    """How many of the engines were busy, over time."""
    labels = ["100 %", *[""] * (PLOT_LINES - 2), "0 %"]
    margin = max(map(len, labels)) + 2
    columns = max(10, min(PLOT_COLUMNS_MAX, console.width - margin - 1))
    parts = busy_over_time(one.runs, one.choice.engines, one.makespan_s, columns)
    blocks = BLOCKS if console.encoding.lower().startswith("utf") else PLAIN_BLOCKS
    console.print(f"engines busy, row {row}:")
    for label, line in zip(labels, plot_lines(parts, PLOT_LINES, blocks), strict=True):
        console.print(Text(f"{label:>{margin - 2}} |{line}"), soft_wrap=True)
    end = seconds(one.makespan_s)
    console.print(" " * (margin - 1) + "0 s" + end.rjust(columns - 3), soft_wrap=True)


def busy_over_time(
    runs: Sequence[Run], engines: int, makespan_s: float, columns: int
) -> list[float]:
    """The part of `engines` that was busy, from 0 to 1, in each of `columns` equal stretches."""
    if not makespan_s:
        return [0.0] * columns
    width_s = makespan_s / columns
    busy_s = [0.0] * columns
    #: How many more runs fill whole columns from here on.
    change = [0] * (columns + 1)
    for run in runs:
        first = min(int(run.began_s / width_s), columns - 1)
        last = min(int(run.ended_s / width_s), columns - 1)
        if first == last:
            busy_s[first] += run.ended_s - run.began_s
        else:
            busy_s[first] += (first + 1) * width_s - run.began_s
            busy_s[last] += run.ended_s - last * width_s
            change[first + 1] += 1
            change[last] -= 1
    whole = 0
    for column in range(columns):
        whole += change[column]
        busy_s[column] += whole * width_s
    return [min(1.0, max(0.0, s / (width_s * engines))) for s in busy_s]


def plot_lines(parts: Sequence[float], height: int, blocks: str) -> list[str]:
    """`parts`, from 0 to 1, as columns of blocks: `height` lines, the topmost first."""
    steps = len(blocks) - 1
    levels = [round(part * height * steps) for part in parts]
    return [
        "".join(blocks[max(0, min(steps, level - line * steps))] for level in levels)
        for line in reversed(range(height))
    ]
