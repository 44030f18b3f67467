"""Does a task cost the same whatever the queue holds, and however many engines there are?

    python benchmarks/core_alone.py [--tasks-max 1000000] [--repetitions 3] [--json FILE]

The scheduler core alone: no sockets, no processes. All tasks are submitted in batches of 1,000,
then placed on engines that answer in batches, until all have ended. Printed: microseconds a task,
from submission to delivery, and the ratio to the cheapest cell of its table. Only calls of
the core are timed. The collector is tuned as in the controller.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from timing import write_json

from headway.collector import tune_garbage_collection
from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core.commands import Assign, Command, Deliver
from headway.core.scheduler import Scheduler

CLIENT = ev.ClientId(1)
FUNCTION = b"no-op"
BATCH = 1_000
WIDTH = 50
SHAPES = ("independent", "chain", "layered")


def task_id(number: int) -> ev.TaskId:
    """The id of the `number`-th task, from 1."""
    return ev.task_id(CLIENT, number)


def specs(shape: str, count: int) -> Iterator[list[ev.TaskSpec]]:
    """Batches of tasks of a graph: independent, chain, or layered (50 wide, 2 upstreams)."""
    for start in range(1, count + 1, BATCH):
        batch = []
        for number in range(start, min(start + BATCH, count + 1)):
            inputs: list[ev.TaskId] | None = None
            if shape == "chain" and number > 1:
                inputs = [task_id(number - 1)]
            elif shape == "layered" and number > WIDTH:
                column = (number - 1) % WIDTH
                first = number - 1 - column - WIDTH
                inputs = [
                    task_id(first + column + 1),
                    task_id(first + (column + 1) % WIDTH + 1),
                ]
            batch.append(ev.TaskSpec(task_id(number), 0, b"", inputs))
        yield batch


def cost_us(shape: str, count: int, engines: int, hwm: int = 16) -> float:
    """Microseconds a task, for `count` tasks of `shape` on `engines` engines."""
    scheduler = Scheduler(SchedulerConfig(hwm=hwm), Random(0))
    out: list[Command] = []
    scheduler.handle(ev.ClientJoined(CLIENT), 0.0, out)
    scheduler.handle(ev.FunctionsDeclared(CLIENT, {FUNCTION: b""}), 0.0, out)
    for number in range(engines):
        scheduler.handle(ev.EngineJoined(ev.EngineId(number), {}), 0.0, out)
    spent_s = 0.0
    clock = time.perf_counter
    for batch in specs(shape, count):
        event = ev.Submitted(CLIENT, [FUNCTION], [], batch)
        start = clock()
        scheduler.handle(event, 0.0, out)
        spent_s += clock() - start
    delivered = 0
    now = 0.0
    start = clock()
    scheduler.place(now, out)
    spent_s += clock() - start
    while out:
        by_engine: dict[ev.EngineId, list[ev.Outcome]] = {}
        for command in out:
            if isinstance(command, Assign):
                outcome = ev.Outcome(command.task.id, command.task.attempt, ev.RAN, b"")
                by_engine.setdefault(command.engine, []).append(outcome)
            elif isinstance(command, Deliver):
                delivered += 1
        out = []
        now += 0.001
        finished = [ev.Finished(engine, outcomes) for engine, outcomes in by_engine.items()]
        start = clock()
        for event_ in finished:
            scheduler.handle(event_, now, out)
        scheduler.place(now, out)
        spent_s += clock() - start
    if delivered != count:
        raise RuntimeError(f"{delivered} of {count} tasks were delivered")
    return spent_s / count * 1e6


def measure(shape: str, count: int, engines: int, repetitions: int) -> list[float]:
    """The costs of `repetitions`, more of them where a run is short."""
    figures = []
    for _ in range(repetitions * max(1, min(20, 20_000 // count))):
        gc.collect()
        figures.append(cost_us(shape, count, engines))
    return figures


def print_row(shape: str, figures: dict[str, list[float]]) -> None:
    """One row of a table: medians."""
    cells = {name: statistics.median(values) for name, values in figures.items()}
    least = min(cells.values())
    line = "".join(f"{name:>10}: {us:5.2f} µs ({us / least:.2f}x)" for name, us in cells.items())
    print(f"  {shape:<12}{line}", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default="2,100,10000", help="how many, with commas between")
    parser.add_argument("--tasks-max", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args(argv)
    tune_garbage_collection()
    sizes = [n for n in (1_000, 10_000, 100_000, 1_000_000) if n <= arguments.tasks_max]
    engines = [int(n) for n in arguments.engines.split(",")]
    measures: list[dict[str, Any]] = []
    print("microseconds a task by the number of tasks, 2 engines (ratio to the row's least)")
    for shape in SHAPES:
        cells = {f"{n:,}": measure(shape, n, 2, arguments.repetitions) for n in sizes}
        print_row(shape, cells)
        measures.append(as_measure(f"tasks_{shape}", f"core alone, {shape}", "µs a task", cells))
        rates = {name: [1e6 / us for us in values] for name, values in cells.items()}
        measures.append(as_measure(f"rate_{shape}", f"core alone, {shape}", "tasks/s", rates))
    print("microseconds a task by the number of engines, 100,000 tasks")
    for shape in SHAPES:
        count = min(100_000, arguments.tasks_max)
        cells = {f"{n:,}": measure(shape, count, n, arguments.repetitions) for n in engines}
        print_row(shape, cells)
        title = f"core alone, {shape}, by engines"
        measures.append(as_measure(f"engines_{shape}", title, "µs a task", cells))
    if arguments.json:
        write_json(arguments.json, "core_alone", {"measures": measures})


def as_measure(key: str, title: str, unit: str, figures: dict[str, list[float]]) -> dict[str, Any]:
    """As the other benchmarks write what they have measured (suite.py)."""
    more_is_better = unit == "tasks/s"
    return {
        "key": key, "title": title, "unit": unit, "figures": figures,
        "more_is_better": more_is_better,
    }  # fmt: skip


if __name__ == "__main__":
    main()
