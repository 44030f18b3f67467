"""CPython's own tests of its executors, where they are installed: made to test ours.

They come with most Pythons. Debian has them in a package, libpython3.X-testsuite, and then in
/usr/lib/python3.X/test, which any Python 3.X here may use. CPYTHON_TESTS names another directory
that has test_concurrent_futures.py; with it all of them are run, also those that sleep for long.

Left out is what asks for the internals of the two executors of Python: their threads, processes
and queues, `mp_context`, `max_tasks_per_child`, and that one process that dies breaks the whole
(`BrokenProcessPool`). Here it is replaced, and its call repeated. So is `LEFT_OUT`.
"""

from __future__ import annotations

import importlib
import os
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

import headway

#: The classes of tests, and the module that each is in where there are several, from 3.12 on.
_CLASSES = {
    "ExecutorTest": "executor",
    "WaitTests": "test_wait",
    "AsCompletedTests": "test_as_completed",
    "ExecutorShutdownTest": "test_shutdown",
    "InitializerMixin": "test_init",
    "FailingInitializerMixin": "test_init",
}

#: It wants that one call has begun when `shutdown` cancels the others at once. Here all of them
#: may still be on their way, and are cancelled.
LEFT_OUT = {"test_cancel_futures"}
#: They sleep for 1.5 seconds or more.
LONG = {
    "test_20369",
    "test_duplicate_futures",
    "test_first_completed_some_already_completed",
    "test_first_exception",
    "test_first_exception_one_already_failed",
    "test_hang_issue12364",
    "test_map_timeout",
}
DIRECTORY = os.environ.get("CPYTHON_TESTS", "")


def find() -> dict[str, ModuleType]:
    """The module of each class of tests; empty where they are not installed."""
    try:
        package: Any = importlib.import_module("test.test_concurrent_futures")
    except ImportError:
        directory = Path(DIRECTORY or f"/usr/lib/python3.{sys.version_info.minor}/test")
        if not (directory / "test_concurrent_futures.py").exists():
            return {}
        # Last, and as a module of its own: an engine, which imports it too, finds it there.
        if str(directory) not in sys.path:
            sys.path.append(str(directory))
        package = importlib.import_module("test_concurrent_futures")
    if not hasattr(package, "__path__"):
        return dict.fromkeys(_CLASSES, package)
    return {
        name: importlib.import_module(f"{package.__name__}.{module}")
        for name, module in _CLASSES.items()
    }


def scripts_of_ours(assert_python_ok: Any) -> Any:
    """`assert_python_ok`, with headway's executor in the script, and without the name of the
    engine before what is printed."""

    def run(option: str, script: str) -> Any:
        script = script.replace("from concurrent.futures import", "from headway import")
        if "test_concurrent_futures" in sys.modules:  # not where the script looks for it
            script = script.replace("from test.", f"import sys; sys.path = {sys.path}; from ")
        code, out, err = assert_python_ok(option, script)
        return code, out.rpartition(b"] ")[2], err

    return run


class Executor(headway.Executor):
    """An executor as these tests make it, on a cluster that they share."""

    client: headway.Client | None = None

    def __init__(self, max_workers: int, **settings: Any) -> None:
        if max_workers < 1:
            super().__init__(max_workers, **settings)
        super().__init__(client=self.client, **settings)


def make(name: str, module: ModuleType) -> type[unittest.TestCase]:
    """The tests of one class, for our executor."""
    util = sys.modules.get(f"{module.__name__.rpartition('.')[0]}.util", module)
    ours = type("Ours", (), {"executor_type": Executor, "worker_count": 2})
    bases = getattr(module, name), ours, util.ExecutorMixin, unittest.TestCase
    return type(name, bases, {"__module__": __name__})
