"""The nemesis: real processes, and all that can be done to them.

    python -m tests.nemesis --minutes 10             rounds of all kinds, in turn
    python -m tests.nemesis --only chaos --seed 7    one round again, as it was

One line for each round, and what came of all of them. Exit code 1 if anything happened that must
not; how to repeat that round is said. Ctrl-C ends it, and leaves nothing.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.nemesis import controller_kills, disk, faults, fuzz, partition, rounds
from tests.nemesis.result import Result, summary
from tests.nemesis.warned import Warnings


def chaos(seed: int) -> list[Result]:
    """Clients' stories, under kills, stops, and a network that breaks."""
    return [rounds.play(faults.draw(seed))]


def kills(seed: int) -> list[Result]:
    """A graph whose controller is killed again and again."""
    count, kills = 1_000, 5
    with tempfile.TemporaryDirectory(prefix="hwn-") as directory, Warnings():
        found = controller_kills.go(Path(directory), kills, count, seed, task_s=0.01)
    result = Result("kills", seed, Counter({"kill controller": kills}), count, runs=found.runs)
    result.wall_s = found.wall_s
    result.states["succeeded"] = count - found.wrong
    if found.wrong or found.runs != count or found.engines_before != found.engines_after:
        result.violations.append(f"{found}")
    return [result]


KINDS: dict[str, Callable[[int], list[Result]]] = {
    "chaos": chaos,
    "partition": lambda seed: [partition.run(seed)],
    "disk": lambda seed: [disk.run(seed)],
    "kills": kills,
    "fuzz": fuzz.run,
}
#: What is played in turn: mostly chaos. The fuzzer, which takes minutes, once, after a while.
_ORDER = ("chaos", "partition", "chaos", "disk", "chaos", "partition", "chaos", "kills")
_FUZZ_AFTER = 0.3
#: Violations of one round: the first ones tell most.
_SHOWN_MAX = 20


def plan(kinds: Sequence[str], minutes: float | None) -> Iterator[str]:
    """The kinds of the rounds: each of `kinds` once, or in turn for so many minutes."""
    if minutes is None:
        yield from kinds
        return
    began_s = time.monotonic()
    turns = itertools.cycle([kind for kind in _ORDER if kind in kinds] or ["fuzz"])
    has_fuzzed = "fuzz" not in kinds
    while (passed_s := time.monotonic() - began_s) < minutes * 60:
        kind = next(turns)
        if not has_fuzzed and passed_s > minutes * 60 * _FUZZ_AFTER:
            kind, has_fuzzed = "fuzz", True
        yield kind


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 on any violation."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.nemesis",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, help="play until so many have passed")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; then one more")
    parser.add_argument("--only", choices=sorted(KINDS), action="append", help="may be given again")
    parser.add_argument("--stop", action="store_true", help="end at the first violation")
    told = parser.parse_args(arguments)
    found: list[Result] = []
    seed = told.seed
    try:
        for kind in plan(told.only or list(KINDS), told.minutes):
            results = KINDS[kind](seed)
            for result in results:
                print(result.line(), flush=True)
                for violation in result.violations[:_SHOWN_MAX]:
                    print(f"    {violation}")
                if len(result.violations) > _SHOWN_MAX:
                    print(f"    and {len(result.violations) - _SHOWN_MAX} more")
            found += results
            bad = any(result.violations for result in results)
            if bad:
                print(f"    again: python -m tests.nemesis --only {kind} --seed {seed}", flush=True)
            if bad and told.stop:
                break
            seed += 1
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been stopped", file=sys.stderr)
    print(summary(found))
    return int(any(result.violations for result in found))


if __name__ == "__main__":
    sys.exit(main())
