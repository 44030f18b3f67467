"""How soon does another engine run tasks when one has died, and how soon are n engines there?

    python benchmarks/replacement.py [--deaths 20] [--starts 5] [--engines 1,2,8]

Each figure twice, side by side: with engines that are forked from a warm process (the default),
and with engines that each start an interpreter of their own, as those of a wrapped command do
(`python=["env", ...]`). A replacement is measured from the SIGKILL of the only engine until a task
that was submitted at once has its result in the client; a start, until the last engine is ready.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import time
from functools import partial

from timing import in_turn, print_table

import headway

WARM = [sys.executable]
PLAIN = [shutil.which("env") or "/usr/bin/env", sys.executable]


def replacement_ms(client: headway.Client) -> float:
    """Milliseconds from the death of the only engine to the first result of its replacement."""
    pid = client.submit(os.getpid).result()
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    future = client.submit(os.getpid)
    assert future.result() != pid
    return (time.perf_counter() - start) * 1e3


def start_ms(command: list[str], engines: int) -> float:
    """Milliseconds until a new cluster has all of its engines."""
    start = time.perf_counter()
    with headway.Client(engines=engines, python=command) as client:
        client.wait_for_engines(engines)
        return (time.perf_counter() - start) * 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deaths", type=int, default=20)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--engines", type=lambda text: [int(n) for n in text.split(",")])
    arguments = parser.parse_args()
    print(
        f"headway {headway.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"
    )
    with (
        headway.Client(engines=1, python=WARM) as warm,
        headway.Client(engines=1, python=PLAIN) as plain,
    ):
        times = in_turn(
            {"plain": partial(replacement_ms, plain), "warm": partial(replacement_ms, warm)},
            arguments.deaths,
        )
    print_table("from death to the first result of the replacement", "ms", times, "plain")
    for engines in arguments.engines or [1, 2, 8]:
        times = in_turn(
            {"plain": partial(start_ms, PLAIN, engines), "warm": partial(start_ms, WARM, engines)},
            arguments.starts,
        )
        print_table(f"start of a cluster with {engines} engine(s)", "ms", times, "plain")


if __name__ == "__main__":
    main()
