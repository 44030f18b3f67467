"""`python -m headway.sim`: simulated clusters under trouble, by their seeds.

    python -m headway.sim --seeds 10000     # many; the seeds that fail, and how to see them again
    python -m headway.sim 42                # one, told in full

What this file must not know: how a run goes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from headway.sim.run import Outcome, run

#: Seeds that one process takes at a time.
_CHUNK = 50
_PROGRESS_S = 5.0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _quick(seed: int) -> Outcome:
    """A run without its story, which is long and can be told again."""
    outcome = run(seed)
    outcome.log.clear()
    return outcome


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(_quick, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_quick, seeds, chunksize=_CHUNK)


def many(first: int, count: int, jobs: int) -> int:
    """Run `count` seeds; the exit status."""
    began_s = said_s = time.monotonic()
    done = tasks = runs = controllers = 0
    failed = []
    for outcome in _outcomes(range(first, first + count), jobs):
        done += 1
        tasks, runs = tasks + outcome.tasks, runs + outcome.runs
        controllers += outcome.controllers
        if outcome.violation:
            failed.append(outcome)
            _say(f"seed {outcome.seed}: {outcome.violation}")
            _say(f"  see it again: python -m headway.sim {outcome.seed}")
        if time.monotonic() - said_s > _PROGRESS_S:
            said_s = time.monotonic()
            sys.stderr.write(f"{done:,} of {count:,} seeds, {len(failed)} violations\n")
    took_s = time.monotonic() - began_s
    _say(
        f"{done:,} seeds from {first}: {len(failed)} violations; {tasks:,} tasks, {runs:,} runs, "
        f"{controllers:,} controllers; {took_s:.0f} s"
    )
    return 1 if failed else 0


def one(seed: int) -> int:
    """Tell the run of `seed` in full; the exit status."""
    outcome = run(seed)
    _say("\n".join(outcome.log))
    _say(f"\nfaults: {outcome.faults or 'none'}")
    _say(
        f"{outcome.tasks} tasks, {outcome.runs} runs, {outcome.controllers} controllers, "
        f"{outcome.virtual_s:.0f} s of the simulated clock"
    )
    _say(f"seed {seed}: {outcome.violation or 'all is well'}")
    return 1 if outcome.violation else 0


def main() -> int:
    """Returns the exit status: 1 if a seed failed."""
    parser = argparse.ArgumentParser(
        prog="python -m headway.sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("seed", type=int, nargs="?", help="tell the run of this seed in full")
    parser.add_argument("--seeds", type=int, default=1000, help="so many, of which none is told")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return one(arguments.seed)
    return many(arguments.first, arguments.seeds, arguments.jobs)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
