"""Fixtures: a fake controller in a directory of its own, ended with all its processes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.engine.fake_controller import FakeController


@pytest.fixture
def controller():
    # Not tmp_path: a socket's path may have some hundred bytes only.
    directory = Path(tempfile.mkdtemp(prefix="hw-"))
    fake = FakeController(directory)
    try:
        yield fake
    finally:
        fake.close()
        shutil.rmtree(directory)


@pytest.fixture
def gate_file(tmp_path):
    """A file that does not exist yet: tasks wait until it does."""
    return tmp_path / "open"
