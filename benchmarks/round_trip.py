"""How long does one task take, there and back, when nothing else is under way?

    python benchmarks/round_trip.py [--quick] [--peers all] [--json FILE] [--plot FILE.png]

Microseconds from the call of `submit` until the result is in the client; the next is submitted
only then. The median (p50) and the 99th percentile (p99) of the trips of a repetition.
"""

from __future__ import annotations

import time
from functools import partial

import peers
import suite
from kernels import no_op
from timing import in_turn


def trips_us(peer: peers.Peer, trips: int, budget_s: float) -> list[float]:
    """Microseconds of each of so many round trips, fewer if they take longer than the budget."""
    clock, submit, result = time.perf_counter, peer.submit, peer.result
    times: list[float] = []
    end_at = clock() + budget_s
    while len(times) < trips and (len(times) < 10 or clock() < end_at):
        start = clock()
        result(submit(no_op))
        times.append((clock() - start) * 1e6)
    peer.results([])  # of ipyparallel: forget them
    return times


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--trips", type=int, help="of a repetition; default 1000; 200 with --quick")
    args = suite.parse(made, argv)
    trips = args.trips or (200 if args.quick else 1_000)
    budget_s = 0.5 if args.quick else 3.0
    report = suite.Report("round_trip", args)
    with peers.opened(args.names, args.engines) as running:
        contestants = {
            name: partial(trips_us, peer, trips, budget_s) for name, peer in running.items()
        }
        times = in_turn(contestants, args.repetitions)
    counts = {name: min(map(len, of_one)) for name, of_one in times.items()}
    for key, title, share in (
        ("p50", "round trip of one task", 0.5),
        ("p99", "round trip of one task, 99th percentile", 0.99),
    ):
        figures = {
            name: [suite.percentile(one, share) for one in of_one] for name, of_one in times.items()
        }
        report.add(suite.Measure(key, title, "µs", figures, more_is_better=False, facts=counts))
    report.finish()


if __name__ == "__main__":
    suite.main(main)
