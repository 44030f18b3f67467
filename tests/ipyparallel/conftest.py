"""What the tests with real clusters share: a place of their own, and no process left behind."""

from __future__ import annotations

import psutil
import pytest

DEADLINE_S = 60.0


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An IPython directory of its own; afterwards, none of our children is left."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    before = set(psutil.Process().children(recursive=True))
    yield tmp_path
    left = [p for p in psutil.Process().children(recursive=True) if p not in before]
    _, alive = psutil.wait_procs(left, timeout=DEADLINE_S / 2)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)
    # multiprocessing's resource tracker lives as long as this process.
    assert not [p for p in alive if "resource_tracker" not in str(p)], "children were left behind"
