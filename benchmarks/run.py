"""All questions, one after the other, each in the terms of its own file.

    python benchmarks/run.py [--quick] [--peers all] [--only no_ops,metg] [--figures DIR]

Systems start once, and stay for all questions that they take part in. With `--figures`, each
benchmark writes DIR/NAME.json, and DIR/NAME.png where matplotlib is installed. What one of them
fails of is said, and the others go on; then the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
import traceback
from pathlib import Path

import peers
import suite
from timing import say

#: Those that start processes of their own come first, while nothing else runs.
APART = ("start", "memory", "stand_ins", "durability")
TOGETHER = ("no_ops", "graphs", "round_trip", "metg", "mixed", "values", "flows")


def run(name: str, args: argparse.Namespace) -> bool:
    """Run one benchmark; False if it failed."""
    argv = ["--peers", args.peers, *(["--quick"] if args.quick else [])]
    if args.repetitions:
        argv += ["--repetitions", str(args.repetitions)]
    if args.figures:
        argv += ["--json", str(args.figures / f"{name}.json")]
        if importlib.util.find_spec("matplotlib") is not None:
            argv += ["--plot", str(args.figures / f"{name}.png")]
    start = time.monotonic()
    print(f"\n=== {name}: python benchmarks/{name}.py {' '.join(argv)}", flush=True)
    try:
        importlib.import_module(name).main(argv)
    except Exception:  # said at once, and by the exit status
        traceback.print_exc()
        return False
    say(f"{name}: {time.monotonic() - start:.0f} s")
    return True


def main(argv: list[str] | None = None) -> int:
    """Run those that are wanted; the exit status."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    made.add_argument("--repetitions", type=int, help="of each; default: their own")
    made.add_argument("--peers", default=",".join(peers.OURS_AND_STDLIB), help="names, or all")
    made.add_argument("--only", default=",".join((*APART, *TOGETHER)), help="benchmarks to run")
    made.add_argument("--figures", type=Path, help="a directory for JSON and pictures")
    args = made.parse_args(argv)
    wanted = args.only.split(",")
    if unknown := set(wanted) - {*APART, *TOGETHER}:
        made.error(f"--only {', '.join(sorted(unknown))}: known are {', '.join(APART + TOGETHER)}")
    if args.figures and importlib.util.find_spec("matplotlib") is None:
        print("no pictures: matplotlib is not installed")
    start = time.monotonic()
    failed = [name for name in APART if name in wanted and not run(name, args)]
    with peers.kept_open():
        failed += [name for name in TOGETHER if name in wanted and not run(name, args)]
    say(f"all of it: {time.monotonic() - start:.0f} s")
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    suite.main(lambda: sys.exit(main()))
