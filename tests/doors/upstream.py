"""Other projects' own tests, run on headway: `python -m tests.doors.upstream dask`, or `joblib`.

They are in the packages as these are installed, and no part of our tests: some of them take long,
and look into what is theirs. What fails, and why, is in docs/doors.md.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import headway

TESTS = {
    "dask": ["dask.bag.tests", "dask.tests.test_delayed"],
    "joblib": ["joblib.test.test_parallel", "-k", "headway"],
}


class Door:
    """What makes the tests use headway."""

    def __init__(self, name: str, client: headway.Client) -> None:
        self._name = name
        self._client = client
        self.calls = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        if self._name == "dask":
            import dask

            with dask.config.set(scheduler=self._dask_get):
                yield
        else:
            headway.register_joblib()  # they go through all that are registered
            yield

    def _dask_get(self, *args: Any, **settings: Any) -> Any:
        self.calls += 1
        return headway.dask_get(*args, client=self._client, **settings)


def main(name: str, *arguments: str) -> int:
    with headway.Client(engines=2) as client:
        door = Door(name, client)
        with door.open():
            # None of our settings: theirs warn.
            options = ["-q", "-c", "/dev/null", "-p", "no:cacheprovider", "--pyargs"]
            code = pytest.main([*options, *TESTS[name], *arguments])
        print(f"headway computed {door.calls} graphs" if name == "dask" else "")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
