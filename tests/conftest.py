"""What all tests share: in how many processes they run, when `make test` runs them all."""

from __future__ import annotations

import os

import pytest

#: Beyond so many there is little to gain: the longest files bound how soon all are done.
_WORKERS_MAX = 8


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores, since most tests wait; on a single core, no further process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return 0 if cores in (None, 1) else min(cores + 1, _WORKERS_MAX)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each process must find the same tests: no name has what differs from one to the other."""
    found = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if found:
        raise pytest.UsageError(f"an address is in the name of {found[0]}: give it another by ids=")
