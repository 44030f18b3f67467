"""What does a task cost? Independent no-op tasks, from one client and from four.

    python benchmarks/no_ops.py [--quick] [--peers all] [--json FILE] [--plot FILE.png]

Tasks a second, from the first submit until the last future is resolved in its client. The four
clients are processes of their own, which share the same engines and begin together; their rate is
that of all, until the last of them has its last result. Pools and Parsl have no engines that
several programs could share, and take no part in that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import peers
import suite
from kernels import no_op

CLIENTS = 4
#: For all of a client's results: more is a hang.
CLIENT_TIMEOUT_S = 300


def independent(peer: peers.Peer, tasks: int) -> float:
    """Tasks a second, all submitted at once."""
    submit = peer.submit
    start = time.perf_counter()
    peer.results([submit(no_op) for _ in range(tasks)])
    return tasks / (time.perf_counter() - start)


def _serve_client(name: str, address: str, orders: Connection) -> None:
    """A client in a process of its own: it runs so many tasks as it is told, until told 0."""
    peer = peers.CLIENTS[name](address)
    try:
        peer.results([peer.submit(no_op) for _ in range(10)])
        orders.send(0)
        while tasks := orders.recv():
            independent(peer, tasks)
            orders.send(tasks)
    finally:
        peer.close()


@contextlib.contextmanager
def clients(name: str, address: str, count: int) -> Iterator[list[Connection]]:
    """So many client processes of one system, ready to be told how many tasks to run."""
    context = get_context("spawn")
    started, ends = [], []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve_client, args=(name, address, theirs))
            process.start()
            theirs.close()
            started.append(process)
            ends.append(ours)
        for end in ends:
            _hear(end, name)
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                end.send(0)
        for process in started:
            process.join(10)
            if process.is_alive():
                process.kill()


def _hear(end: Connection, name: str) -> int:
    if not end.poll(CLIENT_TIMEOUT_S):
        raise TimeoutError(f"a client of {name} said nothing for {CLIENT_TIMEOUT_S} s")
    told: int = end.recv()
    return told


def from_several(name: str, ends: list[Connection], tasks: int) -> float:
    """Tasks a second of all clients together."""
    start = time.perf_counter()
    for end in ends:
        end.send(max(1, tasks // len(ends)))
    done = sum(_hear(end, name) for end in ends)
    return done / (time.perf_counter() - start)


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--tasks", type=int, default=20_000, help="in a run, at most")
    made.add_argument("--budget-s", type=float, help="of a run, about; default 2; 0.3 with --quick")
    args = suite.parse(made, argv)
    how: dict[str, Any] = {
        "pilot": min(40 if args.quick else 100, args.tasks),
        "budget_s": args.budget_s or (0.3 if args.quick else 2.0),
        "most": args.tasks,
    }
    report = suite.Report("no_ops", args)
    with peers.opened(args.names, args.engines) as running:
        rates, counts = suite.rates_in_turn(
            {name: partial(independent, peer) for name, peer in running.items()},
            args.repetitions,
            **how,
        )
        report.add(
            suite.Measure(
                "independent", "independent tasks, one client", "tasks/s", rates, facts=counts
            )
        )
        shared = suite.only(
            args, list(peers.CLIENTS), "their engines can't be shared by several programs"
        )
        with contextlib.ExitStack() as undo:
            several = {}
            for name in shared:
                address = running[name].address()
                assert address is not None
                ends = undo.enter_context(clients(name, address, CLIENTS))
                several[name] = partial(from_several, name, ends)
            if several:
                rates, counts = suite.rates_in_turn(several, args.repetitions, **how)
                title = f"independent tasks, {CLIENTS} clients"
                report.add(suite.Measure("clients", title, "tasks/s", rates, facts=counts))
    report.finish()


if __name__ == "__main__":
    suite.main(main)
