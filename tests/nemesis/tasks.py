"""What the nemesis has its clients do: stories of tasks, drawn from a seed, and their functions.

A story is data. The client that tells it and the checks that judge it draw the same one from the
same seed, so that what must come of it is known without asking anybody. Each run of a task notes
its beginning and its end in the client's file of runs: appends are atomic, so that the lines
stand in the order in which things happened.

What this file must not know: clusters, faults.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from dataclasses import dataclass, field

import headway

WIDTH = 6
PRIME = 1_000_003
#: Engines die by our hand; no task is to be blamed for that.
CRASH_LIMIT = 1_000


class Flaky(Exception):
    """What tasks raise that are to be tried again."""


@dataclass(frozen=True)
class Task:
    """One task of a story."""

    key: int
    kind: str
    seconds: float = 0.0
    #: Keys of earlier tasks whose values it is given; and of those whose ends it waits for.
    inputs: list[int] = field(default_factory=list)
    finalizes: list[int] = field(default_factory=list)
    #: How often it raises, and may be tried again.
    raises: int = 0
    retries: int = 0
    #: Seconds after which it is cancelled; None for never.
    cancel_after_s: float | None = None


#: kind -> how many of a hundred.
KINDS = {
    "add": 60, "flaky": 10, "fail": 3, "once": 10, "cancel": 6, "fork": 2, "big": 3,
    "final": 5, "crash": 1,
}  # fmt: skip


def story(rng: random.Random, count: int, task_s: float) -> list[Task]:
    """A layered graph, with all kinds of tasks in it."""
    tasks: list[Task] = []
    #: Those that will succeed, whatever happens. What fails must not take half the story with it.
    sure: set[int] = set()
    for key in range(count):
        layer = range(max(0, key // WIDTH * WIDTH - WIDTH), key // WIDTH * WIDTH)
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0] if layer else "add"
        seconds = rng.uniform(0.0, task_s)
        if kind == "final":
            finalizes = sorted(rng.sample(list(layer), min(3, len(layer))))
            tasks.append(Task(key, kind, seconds, finalizes=finalizes))
            sure.add(key)
            continue
        pool = [n for n in layer if n in sure or rng.random() < 0.1]
        inputs = sorted(rng.sample(pool, min(2, len(pool))))
        if kind in ("add", "big", "fork") and sure.issuperset(inputs):
            sure.add(key)
        if kind == "cancel":
            after_s = rng.uniform(0.0, 2.0)
            tasks.append(Task(key, kind, rng.uniform(0.1, 3.0), inputs, cancel_after_s=after_s))
        elif kind == "flaky":
            raises = rng.randint(1, 3)
            retries = rng.choice([raises - 1, raises, raises + 1])
            tasks.append(Task(key, kind, seconds, inputs, raises=raises, retries=retries))
        else:
            tasks.append(Task(key, kind, seconds, inputs))
    return tasks


def values(tasks: list[Task]) -> list[int]:
    """What each gives, if it succeeds."""
    found: list[int] = []
    for task in tasks:
        found.append((task.key + sum(found[key] for key in task.inputs)) % PRIME)
    return found


# --- on the engines ------------------------------------------------------------------------------


def note(runs: str, what: str, key: int) -> None:
    """One line in the file of runs."""
    descriptor = os.open(runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{what} {key}\n".encode())
    finally:
        os.close(descriptor)


def read_runs(runs: str) -> list[tuple[str, int]]:
    """What was noted, in order."""
    with contextlib.suppress(FileNotFoundError), open(runs, encoding="ascii") as file:
        return [(what, int(key)) for what, key in (line.split() for line in file)]
    return []


def run(task: Task, runs: str, inputs: list[int | bytes], large: bytes = b"") -> int | bytes:
    """Runs `task` on an engine. A `big` one gives its value at the end of many bytes."""
    note(runs, "begin", task.key)
    if task.kind == "crash":
        os.kill(os.getpid(), 9)
    if task.kind == "fork":
        # It is not waited for: who ends the engine, ends it.
        child = subprocess.Popen(["sleep", "600"])
        time.sleep(task.seconds)
        child.kill()
        child.wait()
    until_s = time.monotonic() + task.seconds
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, 0.05))
    if task.kind == "fail" or (
        task.kind == "flaky" and read_runs(runs).count(("begin", task.key)) <= task.raises
    ):
        note(runs, "raise", task.key)
        raise Flaky(task.key)
    value = (task.key + sum(number(given) for given in inputs)) % PRIME
    note(runs, "end", task.key)
    return bytes(200_000) + b"%d" % value if task.kind == "big" else value


def number(value: int | bytes) -> int:
    """The value of a task, whichever way it was given."""
    return value if isinstance(value, int) else int(value[200_000:])


# --- in the client -------------------------------------------------------------------------------


def submit(
    client: headway.Client, task: Task, runs: str, futures: list[headway.Future[int | bytes]]
) -> headway.Future[int | bytes]:
    """Submit it; `futures` are those of the tasks before it."""
    options: dict[str, object] = {"crash_limit": CRASH_LIMIT, "retries": task.retries}
    if task.kind == "crash":
        options["crash_limit"] = 2
    elif task.kind == "once":
        options = {"at_most_once": True}
    elif task.kind == "final":
        options["after"] = headway.Dependency([futures[key] for key in task.finalizes], on="done")
    large = bytes(300_000) if task.kind == "big" else b""
    given = [futures[key] for key in task.inputs]
    return client.options(**options).submit(run, task, runs, given, large)
