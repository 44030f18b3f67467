"""Does memory grow with the number of tasks ever run? Resident memory after each round.

    python benchmarks/memory_released.py [--rounds 30] [--tasks 100000] [--durability off]

Each round submits so many tasks, each with an argument and a result of its own, waits for all, and
lets their futures go. Then the controller, the client and the engines are looked at, and the
journal, where there is one. Beside the bytes stands how many tasks, groups and functions the
controller remembers: none but the one function.

What a process takes goes up and down by some MB: with how far the client runs ahead in a round, and
with how the allocator finds its pages. So the verdict compares the median of the last third of the
rounds with that of the middle one: what was kept of each task, be it one object, would be more than
`--growth` bytes for each task between. And the journal must stay below its bound.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from timing import machine

import headway
from headway.wire.endpoint import read_connection_file

#: The longest that the controller may take to hear that futures have gone.
_RELEASE_S = 30.0


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def journal_mb(directory: Path) -> float:
    """The journal, its write-ahead log, and what compaction is writing."""
    return sum(path.stat().st_size for path in directory.glob("journal*")) / 1e6


def echo(number: int, text: str) -> str:
    """Something small."""
    return f"{number} {text}"


def one_round(client: headway.Client, tasks: int) -> None:
    """Run tasks, and let go of them."""
    futures = client.map(echo, range(tasks), ["x" * 50] * tasks)
    for future in futures:
        future.result()


def wait_released(client: headway.Client) -> dict[str, int]:
    """What the controller remembers, once it is nothing or time is up."""
    deadline_at = time.monotonic() + _RELEASE_S
    while True:
        counted = client.statistics()
        left = {"tasks": sum(counted["tasks"].values()), "groups": counted["groups"]}
        if not any(left.values()) or time.monotonic() > deadline_at:
            return {**left, "functions": counted["functions"]}
        # Releases travel with what is said next, or a heartbeat later.
        time.sleep(0.05)


def measure(client: headway.Client, arguments: argparse.Namespace, directory: Path) -> bool:
    """Run and print; whether nothing grew."""
    controller = read_connection_file(client.connection_file).pid
    rows: list[tuple[float, float, float, float]] = []
    forgot = True
    for n in range(arguments.rounds):
        began_s = time.perf_counter()
        one_round(client, arguments.tasks)
        rate = arguments.tasks / (time.perf_counter() - began_s)
        left = wait_released(client)
        forgot = forgot and not left["tasks"] and not left["groups"]
        gc.collect()
        engines = sum(rss_mb(engine.pid) for engine in client.engines())
        row = rss_mb(controller), rss_mb(os.getpid()), engines, journal_mb(directory)
        rows.append(row)
        print(
            f"{(n + 1) * arguments.tasks:>10,} tasks: controller {row[0]:6.1f} MB, client "
            f"{row[1]:6.1f}, engines {row[2]:6.1f}, journal {row[3]:6.1f}; {rate:,.0f} tasks/s; "
            f"left {left}",
            flush=True,
        )
    third = max(1, len(rows) // 3)
    between = max(1, third * arguments.tasks)
    growths = [
        (median(own[-third:]) - median(own[-2 * third : -third] or own[:1])) * 1e6 / between
        for own in list(zip(*rows, strict=True))[:3]
    ]
    journal_max = max(row[3] for row in rows)
    is_bounded = journal_max <= arguments.journal_max_mb
    is_flat = max(growths) <= arguments.growth and is_bounded and forgot
    print(
        f"{'no growth' if is_flat else 'GROWTH'}: from the middle to the last third of the rounds "
        f"controller {growths[0]:+.1f}, client {growths[1]:+.1f}, engines {growths[2]:+.1f} bytes "
        f"a task; the journal had {journal_max:.1f} MB at most"
    )
    return is_flat


def main() -> int:
    """Returns 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--tasks", type=int, default=100_000, help="of each round")
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--durability", default="off", choices=["off", "normal", "full"])
    parser.add_argument("--growth", type=float, default=10.0, help="bytes a task, as noise")
    parser.add_argument("--journal-max-mb", type=float, default=500.0)
    arguments = parser.parse_args()
    print(
        f"{machine()}, {arguments.engines} engines, durability {arguments.durability}; "
        f"{arguments.rounds} rounds of {arguments.tasks:,} tasks, run and released"
    )
    with tempfile.TemporaryDirectory(prefix="headway-memory-") as name:
        durable = arguments.durability != "off"
        with headway.Client(
            engines=arguments.engines,
            durability=arguments.durability,
            journal=Path(name) / "journal.db" if durable else None,
        ) as client:
            client.wait_for_engines(arguments.engines)
            return 0 if measure(client, arguments, Path(name)) else 1


if __name__ == "__main__":
    sys.exit(main())
