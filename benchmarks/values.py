"""How fast do values travel, between tasks and to the client?

    python benchmarks/values.py [--quick] [--peers headway,dask,ray] [--json FILE]

Arrays of 1 kB to 1 GB (numpy's, or plain bytes where numpy is not installed), in MB/s (10^6 bytes):

  between tasks   one task makes an array, another one, after it, says its length to the client
  to the client   one task makes an array, and the client gets it

Of each time what the same two tasks, or one, take with an array of one byte is not taken off: for
small arrays it is all that there is. Making the array is part of it, too: `made here` is how fast
this process makes them, and so a bound for all.
"""

from __future__ import annotations

import time
from functools import partial

import peers
import suite
from kernels import make, size_of
from timing import in_turn

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
QUICK_SIZES = (1_000, 1_000_000, 30_000_000)
MADE_HERE = "made here"
#: Systems in which a task's value reaches the task after it.
CARRIERS = [name for name in peers.PEERS if name != peers.IPyParallel.name]


def words(size_bytes: int) -> str:
    """1 kB, 10 MB, 1 GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:g} {unit}"
    return f"{size_bytes} B"


def between_tasks(peer: peers.Peer, size_bytes: int, as_array: bool, times: int) -> float:
    """MB/s from a task to the one after it."""
    start = time.perf_counter()
    for _ in range(times):
        made = peer.submit(make, size_bytes, as_array)
        arrived = peer.result(peer.submit(size_of, made))
        if arrived != size_bytes:
            raise RuntimeError(f"{arrived} of {size_bytes} bytes arrived")
    return size_bytes * times / (time.perf_counter() - start) / 1e6


def to_client(peer: peers.Peer, size_bytes: int, as_array: bool, times: int) -> float:
    """MB/s from a task to the client."""
    start = time.perf_counter()
    for _ in range(times):
        arrived = size_of(peer.result(peer.submit(make, size_bytes, as_array)))
        if arrived != size_bytes:
            raise RuntimeError(f"{arrived} of {size_bytes} bytes arrived")
    return size_bytes * times / (time.perf_counter() - start) / 1e6


def made_here(size_bytes: int, as_array: bool, times: int) -> float:
    """MB/s of making them, and no more."""
    start = time.perf_counter()
    for _ in range(times):
        size_of(make(size_bytes, as_array))
    return size_bytes * times / (time.perf_counter() - start) / 1e6


def has_numpy() -> bool:
    """Whether the arrays are numpy's."""
    try:
        make(1, True)
    except ImportError:
        return False
    return True


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--sizes", default=None, help="bytes, with commas between them")
    args = suite.parse(made, argv)
    default = QUICK_SIZES if args.quick else SIZES
    sizes = [int(size) for size in args.sizes.split(",")] if args.sizes else list(default)
    as_array = has_numpy()
    print("numpy's arrays" if as_array else "numpy is not installed: plain bytes, and no arrays")
    names = suite.only(args, CARRIERS, "its edges carry no values")
    report = suite.Report("values", args)
    with peers.opened(names, args.engines) as running:
        for size in sizes:
            # Some tens of milliseconds at least; once where it is large.
            times = max(1, min(50, 20_000_000 // size))
            for key, title, measure in (
                ("between", "between tasks", between_tasks),
                ("client", "to the client", to_client),
            ):
                contestants = {
                    name: partial(measure, peer, size, as_array, times)
                    for name, peer in running.items()
                }
                contestants[MADE_HERE] = partial(made_here, size, as_array, times)
                repetitions = args.repetitions if size < 10**8 else min(3, args.repetitions)
                rates = in_turn(contestants, repetitions)
                facts = {"bytes": size, "arrays": as_array}
                title = f"{words(size)} {title}"
                report.add(suite.Measure(f"{key}_{size}", title, "MB/s", rates, facts=facts))
    report.finish()


if __name__ == "__main__":
    suite.main(main)
