"""How long until something happens: import, first result, a hundred engines.

    python benchmarks/start.py [--quick] [--peers all] [--json FILE] [--plot FILE.png]

Each figure is of a fresh process: milliseconds

  import        of `import headway` and what `headway.Client` needs, beyond an empty Python
  first result  from before the import until the first result of a system with `--engines` engines
  engines       until a cluster has 100 engines (`--many`), each of which is ready; headway alone
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial

import peers
import suite
from timing import in_turn

import headway

_FIRST_RESULT = """\
import time
start = time.perf_counter()
import peers, kernels
peers.reachable()
peer = peers.PEERS[{name!r}]({engines})
peer.result(peer.submit(kernels.no_op))
print("took", time.perf_counter() - start)
peer.close()
"""


def python_ms(code: str) -> float:
    """Milliseconds of a Python that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - start) * 1e3


def import_ms() -> float:
    """Milliseconds of the import, an empty Python's taken off."""
    return python_ms("import headway; headway.Client") - python_ms("pass")


def first_result_ms(name: str, engines: int) -> float:
    """Milliseconds until the first result, in a process of its own."""
    code = _FIRST_RESULT.format(name=name, engines=engines)
    environment = {**os.environ, "PYTHONPATH": peers.HERE}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("took ")]
    return float(told[-1].split()[1]) * 1e3


def engines_ms(count: int) -> float:
    """Milliseconds until a new cluster has all of its engines."""
    start = time.perf_counter()
    with headway.Client(engines=count, timeout_s=120.0) as client:
        client.wait_for_engines(count, timeout=300.0)
        return (time.perf_counter() - start) * 1e3


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--many", type=int, help="engines to wait for; 100; 8 with --quick")
    args = suite.parse(made, argv)
    many = args.many or (8 if args.quick else 100)
    report = suite.Report("start", args)
    imports = in_turn({suite.BASE: import_ms}, args.repetitions)
    report.add(suite.Measure("import", "import of headway", "ms", imports, more_is_better=False))
    first = in_turn(
        {name: partial(first_result_ms, name, args.engines) for name in args.names},
        args.repetitions,
        warm_up=not args.quick,
    )
    report.add(
        suite.Measure(
            "first", "from nothing to the first result", "ms", first, more_is_better=False
        )
    )
    times = in_turn({suite.BASE: partial(engines_ms, many)}, args.repetitions, warm_up=False)
    title = f"start of a cluster with {many} engines"
    report.add(suite.Measure("engines", title, "ms", times, more_is_better=False))
    report.finish()


if __name__ == "__main__":
    suite.main(main)
