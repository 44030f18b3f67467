"""A client of the nemesis, in a process of its own: tells a story, and reports how it ended.

    python -m tests.nemesis.workload CONNECTION SEED COUNT TASK_S SPREAD_S RUNS REPORT

It ends when every task has ended; on SIGUSR1 earlier, with what `explain` says of those that have
not. The report is there as a whole, or not at all.

What this file must not know: faults, and what is right.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from typing import Any

import headway
from headway import errors
from tests.nemesis import tasks

#: The class of an exception, and what it makes of a task.
STATES = {
    errors.ImpossibleDependency: "impossible",
    errors.EngineError: "lost",
    errors.TaskTimeout: "timed_out",
    errors.ConnectionLost: "cut off",
    tasks.Flaky: "failed",
}


def end_of(future: headway.Future[Any]) -> tuple[str, Any]:
    """How a future ended: a word, and its value or what it says."""
    try:
        return "succeeded", tasks.number(future.result(0))
    except CancelledError:
        return "cancelled", None
    except TimeoutError:
        return "open", future.explain()
    except Exception as error:
        for kind, word in STATES.items():
            if isinstance(error, kind):
                return word, str(error)
        return type(error).__name__, str(error)


class Teller:
    """Tells one story to one cluster."""

    def __init__(self, client: headway.Client, story: list[tasks.Task], runs: str) -> None:
        self.client = client
        self.story = story
        self.runs = runs
        self.futures: list[headway.Future[int | bytes]] = []
        #: How often each future said that it is done, and what cancels said.
        self.told: Counter[int] = Counter()
        self.cancelled: dict[int, str] = {}
        self.refusal = ""

    def tell(self, spread_s: float) -> None:
        """Submit all, over so many seconds."""
        for task in self.story:
            try:
                future = tasks.submit(self.client, task, self.runs, self.futures)
            except errors.HeadwayError as error:
                self.refusal = f"{type(error).__name__}: {error}"
                return
            self.futures.append(future)
            future.add_done_callback(lambda _, key=task.key: self.told.update([key]))
            if task.cancel_after_s is not None:
                thread = threading.Thread(target=self._cancel, args=(task, future), daemon=True)
                thread.start()
            time.sleep(spread_s / len(self.story))

    def _cancel(self, task: tasks.Task, future: headway.Future[Any]) -> None:
        time.sleep(task.cancel_after_s or 0.0)
        self.cancelled[task.key] = "asked"
        self.cancelled[task.key] = self.client.cancel([future]).states[0]

    def is_done(self) -> bool:
        return all(future.done() for future in self.futures)

    def report(self) -> dict[str, Any]:
        return {
            "ends": [end_of(future) for future in self.futures],
            "told": [self.told[key] for key in range(len(self.futures))],
            "cancelled": self.cancelled,
            "refusal": self.refusal,
        }


def main(connection: str, seed: str, count: str, task_s: str, spread_s: str, *paths: str) -> int:
    """Tell the story; the exit code says nothing about how it ended."""
    runs, report = paths
    is_over = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: is_over.set())
    story = tasks.story(random.Random(int(seed)), int(count), float(task_s))
    with headway.Client(connection, timeout_s=60, output=False) as client:
        teller = Teller(client, story, runs)
        teller.tell(float(spread_s))
        while not (teller.is_done() or is_over.is_set()):
            time.sleep(0.05)
        found = teller.report()
    with open(report + ".new", "w", encoding="utf-8") as file:
        json.dump(found, file)
    os.replace(report + ".new", report)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
