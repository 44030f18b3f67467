"""What does it cost that the controller may be killed?

    python benchmarks/durability.py [--quick] [--json FILE] [--plot FILE.png]

Tasks a second of three clusters that take turns: `off`, where what a controller knew is gone with
it; `normal`, whose journal survives the controller; and `full`, whose journal survives the host.
No-op tasks, independent ones and those of a layered graph. None of the peers keeps what it has
accepted when its scheduler is killed, so that nobody is compared here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import graphs
import no_ops
import peers
import suite

DURABILITIES = ("off", "normal", "full")


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--tasks", type=int, default=20_000, help="in a run, at most; at least 50")
    made.add_argument("--budget-s", type=float, help="of a run, about; default 2; 0.3 with --quick")
    args = suite.parse(made, argv)
    suite.only(args, [suite.BASE], "they have no journal")
    report = suite.Report("durability", args)
    clusters: dict[str, peers.Peer] = {}
    try:
        for durability in DURABILITIES:
            clusters[durability] = peers.Headway(args.engines, durability=durability)
        for key, title, run in (
            ("independent", "independent tasks by durability", no_ops.independent),
            ("layered", "layered graph by durability", partial(graphs.rate, shape=graphs.layered)),
        ):
            rates, counts = suite.rates_in_turn(
                {name: _counted(run, cluster) for name, cluster in clusters.items()},
                args.repetitions,
                pilot=min(100, args.tasks),
                budget_s=args.budget_s or (0.3 if args.quick else 2.0),
                most=args.tasks,
            )
            report.add(suite.Measure(key, title, "tasks/s", rates, base="off", facts=counts))
    finally:
        for cluster in clusters.values():
            cluster.close()
    report.finish()


def _counted(run: Callable[..., float], cluster: peers.Peer) -> Callable[[int], float]:
    return lambda count: run(cluster, tasks=count)


if __name__ == "__main__":
    suite.main(main)
