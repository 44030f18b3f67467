"""Benchmarks as modules, and a peer that runs each task at once, in this process."""

from __future__ import annotations

import importlib
import os

import psutil
import pytest

from tests.house import source

DEADLINE_S = 60.0


@pytest.fixture
def load(monkeypatch):
    """Imports one of the benchmarks' modules; paths and environment are put back afterwards."""
    monkeypatch.syspath_prepend(str(source.ROOT / "benchmarks"))
    for variable in ("PYTHONPATH", "PATH"):  # the benchmarks add to them, for workers
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    return importlib.import_module


@pytest.fixture(scope="module")
def nothing_left():
    """After the module's tests, none of the processes that they started is left."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [p for p in psutil.Process().children(recursive=True) if is_to_end(p, before)]
    _, alive = psutil.wait_procs(left, timeout=DEADLINE_S / 4)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)
    assert not alive, "children were left behind"


@pytest.fixture(scope="module")
def kept(nothing_left):
    """What one benchmark has opened stays for the next: clusters start once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(source.ROOT / "benchmarks"))
        peers = importlib.import_module("peers")
        with peers.kept_open():
            yield


def is_to_end(process, before):
    """Whether it was started by the test; multiprocessing's tracker lives as long as we do."""
    try:
        return process not in before and "resource_tracker" not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def here(load):
    """A peer without processes, which notes what was submitted and its upstream tasks."""
    peers = load("peers")

    class Handle:
        def __init__(self, value, upstream):
            self.value = value
            self.upstream = upstream

        def result(self):
            return self.value

    class Here(peers.Peer):
        name = "here"

        def __init__(self):
            super().__init__()
            self.handles = []

        def submit(self, fn, *args):
            upstream = [arg for arg in args if isinstance(arg, Handle)]
            values = [arg.value if isinstance(arg, Handle) else arg for arg in args]
            self.handles.append(Handle(fn(*values), upstream))
            return self.handles[-1]

    return Here()
