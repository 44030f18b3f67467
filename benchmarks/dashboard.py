"""Tasks a second with and without an observer such as the dashboard, in turns on one cluster.

    python benchmarks/dashboard.py [--tasks 60000] [--rounds 5]

Each round runs the same no-op tasks twice: alone, and while another client of another process asks
all the time how things are. Printed are the medians, and their ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import headway

OBSERVER = """
import sys
import headway
from headway.client.observing import observe
with headway.Client(sys.argv[1], output=False) as client:
    observe(client)
    print("observing", flush=True)
    while True:
        observe(client)
"""


def tasks_a_second(client: headway.Client, tasks: int) -> float:
    """Run so many no-op tasks."""
    began_at = time.perf_counter()
    client.gather(client.map(abs, range(tasks)))
    return tasks / (time.perf_counter() - began_at)


def observed(client: headway.Client, name: str, tasks: int) -> float:
    """The same, while another process observes."""
    observer = subprocess.Popen([sys.executable, "-c", OBSERVER, name], stdout=subprocess.PIPE)
    try:
        assert observer.stdout is not None
        observer.stdout.readline()
        return tasks_a_second(client, tasks)
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
    with headway.Client(name=name) as client:
        client.wait_for_engines()
        tasks_a_second(client, arguments.tasks)  # warm
        for _ in range(arguments.rounds):
            watched.append(observed(client, name, arguments.tasks))
            time.sleep(13)  # until the observer that was killed is forgotten
            alone.append(tasks_a_second(client, arguments.tasks))
    one, other = statistics.median(alone), statistics.median(watched)
    print(f"alone:    {one:10,.0f} tasks/s")
    print(f"observed: {other:10,.0f} tasks/s, {100 * other / one:.0f} % of that")


if __name__ == "__main__":
    main()
