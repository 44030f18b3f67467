"""ipyparallel's own tests of its task scheduler, against both schedulers, side by side.

    python -m tests.ipyparallel.compare_upstream [MODULE...]

Runs each module of `ipyparallel.tests` twice, with the stock scheduler and with headway's
(upstream_hook.py), and prints both results. Exit code 1 if a test that passes with the stock one
fails with headway's. A test that failed is tried once more by itself, with either scheduler, since
these tests wait for real processes; where that happened, it is said.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MODULES = ("test_lbview", "test_dependency")
HOOK = "tests.ipyparallel.upstream_hook"
#: Each module takes some 20 s here, by itself.
MODULE_TIMEOUT_S = 240


def run(work: Path, targets: list[str], hooked: bool) -> dict[str, str]:
    """Run tests; test -> passed, failed or skipped."""
    report = work / "report.xml"
    report.unlink(missing_ok=True)
    settings = work / "pytest.ini"
    settings.write_text("[pytest]\n")
    plugin = ["-p", HOOK] if hooked else []
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(settings), "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *plugin, f"--junitxml={report}", *targets],
            env={**os.environ, "IPYTHONDIR": str(work / "ipython")},
            capture_output=True,
            text=True,
            timeout=MODULE_TIMEOUT_S * len(MODULES),
            check=False,
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"{' '.join(targets)} took more than {MODULE_TIMEOUT_S * len(MODULES)} s")
    if not report.exists():
        sys.exit(f"pytest made no report:\n{done.stdout}\n{done.stderr}")
    results = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        how = "failed" if kinds & {"failure", "error"} else "passed"
        if "skipped" in kinds:
            how = "skipped"
        results[f"{case.get('classname')}::{case.get('name')}".lstrip(".")] = how
    return results


def results_with(hooked: bool, modules: list[str]) -> dict[str, str]:
    """The results of all modules, of which failures had a second try."""
    targets = ["--pyargs", *(f"ipyparallel.tests.{module}" for module in modules)]
    with tempfile.TemporaryDirectory(prefix="headway-upstream-") as directory:
        work = Path(directory)
        results = run(work, targets, hooked)
        for test, how in results.items():
            if how == "failed":
                name = test.rpartition("::")[2].partition("[")[0]
                again = run(work, [*targets, "-k", name], hooked).get(test)
                results[test] = "passed at the second try" if again == "passed" else "failed"
    return results


def main() -> int:
    """Run both, print both, compare."""
    modules = sys.argv[1:] or list(MODULES)
    print(f"ipyparallel's own {', '.join(modules)}, against both task schedulers ...", flush=True)
    # At the same time: they wait for processes more than they compute.
    with ThreadPoolExecutor() as pool:
        stock, ours = pool.map(lambda hooked: results_with(hooked, modules), (False, True))
    width = max(map(len, stock), default=0)
    print(f"{'test':{width}}  {'stock':10}  headway")
    worse = []
    for test, how in stock.items():
        print(f"{test:{width}}  {how:10}  {ours.get(test, 'missing')}")
        if how.startswith("passed") and not ours.get(test, "missing").startswith("passed"):
            worse.append(test)
    for name, results in (("stock", stock), ("headway", ours)):
        passed = sum(how.startswith("passed") for how in results.values())
        print(f"{name}: {passed} of {len(results)} passed")
    if not stock:
        print("no tests were found", file=sys.stderr)
        return 1
    for test in worse:
        print(f"passes with the stock scheduler, fails with headway's: {test}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
