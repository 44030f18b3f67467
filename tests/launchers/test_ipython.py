"""Promise: headway's own client has engines beside those of an IPython cluster that runs, and gives
the IPython engines back; an IPython engine that is killed charges no task; where headway's engines
can't run, it is said why, and of which IPython engines.

A real IPython cluster. Its engines are on this host.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

import headway
from headway import launchers
from headway.errors import StartError
from headway.launchers import BlockState, ipython
from tests.launchers.kit import engines, served, wait_until

ipyparallel = pytest.importorskip("ipyparallel", reason="needs headway[ipyparallel]")
psutil = pytest.importorskip("psutil")

HERE = "tcp://127.0.0.1"
pytestmark = [
    pytest.mark.timeout(180),
    # ipyparallel's own: sockets and loops that it leaves to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The directory of the profile of an IPython cluster that runs."""
    home = tmp_path_factory.mktemp("ipython")
    with pytest.MonkeyPatch.context() as set:
        set.setenv("IPYTHONDIR", str(home))
        options = {"cluster_id": "", "profile_dir": str(home / "profile"), "log_level": 40}
        cluster = ipyparallel.Cluster(n=2, **options)
        cluster.start_cluster_sync()
        with cluster.connect_client_sync() as client:
            client.wait_for_engines(2, timeout=60)
        try:
            yield home / "profile"
        finally:
            cluster.stop_cluster_sync()


@pytest.fixture
def ipython_client(profile):
    with ipyparallel.Client(profile_dir=str(profile)) as client:
        yield client
        # Whatever a test does: the IPython engines work, and nothing is left beside them.
        wait_until(lambda: not nannies_of(client), "what was started there to end")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    with served(tmp_path_factory.mktemp("cluster")) as file:
        yield file


def nannies_of(client) -> list[psutil.Process]:
    """Those of headway; each IPython engine has one of ipyparallel's besides."""
    pids = client[:].apply_async(os.getpid).get(timeout=60)
    found = []
    for child in (child for pid in pids for child in psutil.Process(pid).children()):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child] if "headway" in child.cmdline() else []
    return found


def pid_the_second_time(path: str) -> int:
    """The first time it takes for ever."""
    if not Path(path).exists():
        Path(path).write_text(f"{os.getpid()}\n")
        time.sleep(600)
    return os.getpid()


def test_a_client_has_engines_beside_those_of_an_ipython_cluster(ipython_client):
    pids = ipython_client[:].apply_sync(os.getpid)
    launcher = launchers.IPyParallel(ipython_client, listen=HERE, resources={"gpu": 1.0})
    with headway.Client(launcher=launcher, output=False) as client:
        squares = client.map(pow, range(20), [2] * 20)
        total = client.options(resources={"gpu": 1}, after=squares).submit(sum, list(squares))
        assert total.result(60) == sum(n * n for n in range(20))

        wait_until(lambda: engines(client) == len(pids), "all engines")
        nannies = [psutil.Process(engine.pid).parent() for engine in client.engines()]
        assert sorted(nanny.ppid() for nanny in nannies) == sorted(pids)
        # They are free, meanwhile, and know nothing of it
        assert ipython_client[:].apply_sync(os.getpid) == pids

    assert ipython_client[:].apply_sync(os.getpid) == pids
    assert not any(nanny.is_running() for nanny in nannies)


def test_a_profile_is_found_and_its_targets_have_one_nanny_each(profile, ipython_client, file):
    first = ipython_client.ids[0]
    launcher = launchers.IPyParallel(profile=str(profile), targets=f"{first}", per_engine=2)
    with headway.Client(file, output=False) as client:
        block = launcher.start(file)
        assert block.engines == 2
        wait_until(lambda: engines(client) == 2, "the engines")
        assert launcher.status([block])[block].state is BlockState.RUNNING
        with pytest.raises(StartError, match="has engines of headway already"):
            launcher.start(file)

        launcher.cancel([block])
        wait_until(lambda: launcher.status([block])[block].state.is_over, "the block to end")
        assert launcher.status([block])[block].state is BlockState.CANCELLED
        wait_until(lambda: engines(client) == 0, "the engines to leave")
    launcher.close()


def test_an_ipython_engine_that_is_killed_charges_no_task(ipython_client, file, tmp_path):
    launcher = launchers.IPyParallel(ipython_client, drain=0.2)
    with headway.Client(file, output=False) as client:
        block = launcher.start(file)
        mark = tmp_path / "pid"
        task = client.options(crash_limit=1).submit(pid_the_second_time, str(mark))
        wait_until(lambda: mark.exists() and mark.read_text().endswith("\n"), "the task to run")
        engine = psutil.Process(int(mark.read_text()))
        os.kill(engine.parent().ppid(), signal.SIGKILL)

        assert task.result(60) != engine.pid
        wait_until(lambda: "it has ended" in launcher.status([block])[block].text, "to be said")
        assert launcher.status([block])[block].state is BlockState.RUNNING
        assert not engine.is_running()
    launcher.close()


def test_an_ipython_engine_without_headway_is_named_and_nothing_is_started(ipython_client):
    one = ipython_client.ids[0]
    hide = "import sys; hidden = sys.modules.get('headway'); sys.modules['headway'] = None"
    ipython_client[one].execute(hide, block=True)
    try:
        wanted = rf"IPython engine {one} on \S+: \S+ has no headway: install it there$"
        with pytest.raises(StartError, match=wanted):
            headway.Client(launcher=launchers.IPyParallel(ipython_client, listen=HERE))
    finally:
        ipython_client[one].execute("del sys.modules['headway']", block=True)


def test_an_ipython_engine_of_another_python_is_named(ipython_client, file, monkeypatch):
    monkeypatch.setattr(ipython, "_PYTHON", [3, 99])
    ids = ", ".join(map(str, ipython_client.ids))

    with pytest.raises(StartError, match=rf"IPython engines? {ids} on .*, and not 3\.99:"):
        launchers.IPyParallel(ipython_client).start(file)


def test_what_a_nanny_says_when_it_fails_is_said(profile, ipython_client, file):
    cluster = ipyparallel.Cluster.from_file(profile_dir=str(profile), cluster_id="")
    launcher = launchers.IPyParallel(cluster, targets=ipython_client.ids)
    launcher.crew.resources["gpu"] = -1.0  # type: ignore[index]  # refused there, not here

    with pytest.raises(StartError, match=r"the nanny ended with status \d: .*gpu"):
        launcher.start(file)
    launcher.close()


def test_a_busy_ipython_engine_is_named_and_what_is_behind_ends(ipython_client, file):
    one = ipython_client.ids[0]
    busy = ipython_client[one].apply_async(time.sleep, 1.0)

    with pytest.raises(StartError, match=rf"no answer from IPython engine {one}: busy"):
        launchers.IPyParallel(ipython_client, targets=one, timeout=0.2).start(file)
    busy.get(timeout=60)


def test_an_error_in_an_ipython_engine_comes_with_its_traceback(ipython_client, file, monkeypatch):
    # Once there: what it has started by then is ended as well
    monkeypatch.setattr(ipython, "_EXPRESSION", f"({ipython._EXPRESSION}) and 1 / 0")

    with pytest.raises(StartError, match=r"ZeroDivisionError: division by zero\n(?s:.*)Traceback"):
        launchers.IPyParallel(ipython_client).start(file)


def test_where_no_ipython_cluster_is_it_is_said(ipython_client, file, tmp_path, monkeypatch):
    with pytest.raises(StartError, match="no IPython cluster answers"):
        launchers.IPyParallel(profile=str(tmp_path / "none"), timeout=0.2).start(file)
    with pytest.raises(StartError, match="has no engine 1000: it has"):
        launchers.IPyParallel(ipython_client, targets=[1000]).start(file)

    def missing(name: str):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(ipython, "import_module", missing)
    with pytest.raises(StartError, match=r"pip install 'headway\[ipyparallel\]'"):
        launchers.IPyParallel(profile="any").start(file)
