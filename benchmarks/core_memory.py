"""What does the scheduler hold of a task that waits, and in what?

    python benchmarks/core_memory.py [--tasks 100000]

The core alone: all that can be reached from a scheduler with so many tasks that wait, less what an
empty one has, object by object as `sys.getsizeof` has it, each once, divided by the tasks. So the
figures are the same whenever they are taken (of one version of Python). What the allocator loses
between objects is not in them: see memory.py for whole processes.

  one gate   all tasks wait for one
  layered    each waits for two of the layer before, 50 wide
  ready      all are ready, and no engine is there
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter
from random import Random
from types import FunctionType, MethodType, ModuleType

from core_alone import CLIENT, FUNCTION, specs, task_id

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core.commands import Command
from headway.core.scheduler import Scheduler

SHAPES = ("one gate", "layered", "ready")
#: A pickled call with one argument has about as many bytes.
PAYLOAD_BYTES = 48
_CODE = (type, ModuleType, FunctionType, MethodType)


def fill(shape: str, count: int) -> Scheduler:
    """A scheduler with so many tasks, none of which runs."""
    scheduler = Scheduler(SchedulerConfig(), Random(0))
    out: list[Command] = []
    scheduler.handle(ev.ClientJoined(CLIENT), 0.0, out)
    scheduler.handle(ev.FunctionsDeclared(CLIENT, {FUNCTION: b""}), 0.0, out)
    for batch in specs("layered" if shape == "layered" else "independent", count):
        for spec in batch:
            spec.payload = bytes(PAYLOAD_BYTES)
            if shape == "one gate" and spec.id != task_id(1):
                spec.inputs = [task_id(1)]
        scheduler.handle(ev.Submitted(CLIENT, [FUNCTION], [], batch), 0.0, out)
    return scheduler


def held(root: object) -> Counter[str]:
    """The bytes of all that can be reached from `root`, by type."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    open_ = [root]
    while open_:
        one = open_.pop()
        if id(one) in seen or isinstance(one, _CODE):
            continue
        seen.add(id(one))
        found[type(one).__name__] += sys.getsizeof(one)
        open_ += gc.get_referents(one)
    return found


def main(argv: list[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    arguments = parser.parse_args(argv)
    empty = held(fill("ready", 0))
    print(
        f"bytes a task, of {arguments.tasks:,} that wait; the payload of {PAYLOAD_BYTES} included"
    )
    for shape in SHAPES:
        grown = held(fill(shape, arguments.tasks))
        grown.subtract(empty)
        by_type = {name: size / arguments.tasks for name, size in grown.most_common()}
        most = ", ".join(f"{name} {size:.0f}" for name, size in by_type.items() if size >= 1)
        print(f"  {shape:<10}{sum(by_type.values()):>7.0f}  ({most})", flush=True)


if __name__ == "__main__":
    main()
