"""A real cluster for the doors, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import headway


@pytest.fixture(scope="module")
def client() -> Iterator[headway.Client]:
    """A cluster of two engines, entered: it is the active client of those who ask for one."""
    with headway.Client(engines=2) as client:
        client.wait_for_engines(2)
        yield client
