"""What does a journal cost? The rate of no-op tasks by durability: off, normal and full in turn.

    python benchmarks/durability.py [--tasks 20000] [--repetitions 5] [--engines 2]

Two questions: independent tasks, and a layered graph, 50 wide, in which each task depends on two
of the layer before. Three clusters stand side by side, and run one after the other within each
repetition: ratios are taken pair by pair, so that a machine that grows slower for a while does so
for all of them. `normal` leaves what it writes to the system, `full` waits for the disk: so its
figure is one of this disk, and where the system does not wait (`--directory` on a tmpfs) of none.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from no_ops import independent, layered
from timing import in_turn, machine, print_table

import headway

DURABILITIES = ("off", "normal", "full")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--directory", help="of the journals; default: that for temporary files")
    arguments = parser.parse_args()
    tasks = arguments.tasks
    print(f"{machine()}, {arguments.engines} engines a cluster; {tasks:,} no-op tasks")
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="headway-durability-", dir=arguments.directory)
            )
        )
        clients = {}
        for durability in DURABILITIES:
            journal = None if durability == "off" else directory / f"{durability}.db"
            client = headway.Client(
                engines=arguments.engines, durability=durability, journal=journal
            )
            clients[durability] = stack.enter_context(client)
            client.wait_for_engines(arguments.engines)
        for title, measure in (
            ("independent tasks", lambda client: independent(client.submit, tasks)),
            ("layered graph, 50 wide x 2 upstreams", lambda client: layered(client, tasks)),
        ):
            runs = {
                name: (lambda measure=measure, client=client: measure(client))
                for name, client in clients.items()
            }
            print_table(title, "tasks/s", in_turn(runs, arguments.repetitions), "off")


if __name__ == "__main__":
    main()
