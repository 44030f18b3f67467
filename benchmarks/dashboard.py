"""Tasks a second with and without an observer such as the dashboard, in turns on one cluster.

    python benchmarks/dashboard.py [--tasks 60000] [--rounds 5]

Each round runs the same no-op tasks twice: alone, and while another client of another process asks
all the time how things are, as the dashboard does. Printed are the medians, and their ratio; and
what the observer was told a second, by which its cost can be judged on any machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import headway

OBSERVER = """
import json
import os
import signal
import sys
import time
import headway
from headway.client.observing import observe
import msgspec
os.nice(10)  # as the dashboard does
ended = []
signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
with headway.Client(sys.argv[1], output=False) as client:
    observe(client)
    print("observing", flush=True)
    told = {"answers": 0, "tasks": 0, "runs": 0, "left out": 0, "bytes": 0}
    began_at = time.monotonic()
    while not ended:
        seen = observe(client)
        told["answers"] += 1
        told["tasks"] += len(seen.tasks)
        told["runs"] += len(seen.runs)
        told["left out"] += seen.tasks_more + seen.runs_more
        told["bytes"] += len(msgspec.msgpack.encode(seen))
    passed_s = time.monotonic() - began_at
    print(json.dumps({what: round(count / passed_s, 1) for what, count in told.items()}))
"""


def tasks_a_second(client: headway.Client, tasks: int) -> float:
    """Run so many no-op tasks."""
    began_at = time.perf_counter()
    client.gather(client.map(abs, range(tasks)))
    return tasks / (time.perf_counter() - began_at)


def observed(client: headway.Client, name: str, tasks: int, told: list[dict[str, float]]) -> float:
    """The same, while another process observes; what that was told a second goes to `told`."""
    observer = subprocess.Popen(
        [sys.executable, "-c", OBSERVER, name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert observer.stdout is not None
        observer.stdout.readline()
        rate = tasks_a_second(client, tasks)
        observer.terminate()
        told.append(json.loads(observer.communicate(timeout=10)[0]))
        return rate
    finally:
        observer.kill()
        observer.communicate()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    name = f"benchmark-{os.getpid()}"
    alone: list[float] = []
    watched: list[float] = []
    told: list[dict[str, float]] = []
    with headway.Client(name=name) as client:
        client.wait_for_engines()
        tasks_a_second(client, arguments.tasks)  # warm
        for _ in range(arguments.rounds):
            watched.append(observed(client, name, arguments.tasks, told))
            time.sleep(13)  # until the observer is forgotten
            alone.append(tasks_a_second(client, arguments.tasks))
    one, other = statistics.median(alone), statistics.median(watched)
    print(f"alone:    {one:10,.0f} tasks/s")
    print(f"observed: {other:10,.0f} tasks/s, {100 * other / one:.0f} % of that")
    for what in told[0]:
        print(f"{what:>12} a second: {statistics.median(each[what] for each in told):10,.0f}")


if __name__ == "__main__":
    main()
