"""Real clusters, and the proof that nothing of them is left.

`client` is one of two engines, for a module. Tests that kill parts start their own. Whatever a
test starts must be gone at its end: `nothing_left` looks at the processes of this machine that
descend from this one, or that carry the mark it put into the environment.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest

import headway
from tests.processes import MARK, marked

#: No condition that a test waits for takes longer, on the slowest machine we know.
DEADLINE_S = 30.0


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for `condition`, which has a deadline, not a duration."""
    end_at = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_at:
            pytest.fail(f"waited {deadline_s:g} s for {what}")
        time.sleep(0.01)


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """A new mark, which everything that the test starts inherits."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    return mark


@pytest.fixture
def nothing_left(mark: str) -> Iterator[str]:
    """At the end of the test, nothing that it started lives."""
    yield mark
    wait_until(lambda: not marked(mark), f"{marked(mark)} to end")


@pytest.fixture(scope="module")
def client() -> Iterator[headway.Client]:
    """A cluster of two engines, shared by the tests of a module."""
    with headway.Client(engines=2) as client:
        client.wait_for_engines(2)
        yield client
