"""Promise: a large result never passes through the controller; tasks and clients of its host read
it in place, others fetch it; it goes with the last reference; if it is lost it is made again, or an
error says why not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

import headway
from headway import errors
from headway.interpreter import module_command
from headway.wire.endpoint import read_connection_file
from tests.e2e.conftest import wait_until
from tests.nemesis import controller_kills

LARGE = 100_000_000
SMALL = 2_000_000


def numbers(nbytes: int) -> numpy.ndarray:
    return numpy.arange(nbytes // 8, dtype="f8")


def noted(nbytes: int, runs: str) -> numpy.ndarray:
    """The same, and a mark that it ran."""
    with open(runs, "a") as file:
        file.write("x")
    return numbers(nbytes)


def look_at(array: numpy.ndarray) -> tuple[float, bool, str, int]:
    first = float(array[1])
    try:
        array[0] = 7.0
    except ValueError as error:
        return first, array.flags.writeable, str(error), os.getpid()
    return first, array.flags.writeable, "", os.getpid()


def make_here(nbytes: int) -> tuple[numpy.ndarray, int]:
    return numbers(nbytes), os.getpid()


def path_of(future: headway.Future) -> Path:
    """Where the value is kept; the future must be done, and not loaded yet."""
    wait_until(future.done, "the task to end")
    return Path(future._end.payload.path)


def memory_peak(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_array_passes_between_engines_and_to_the_client_beside_the_controller():
    with headway.Client(engines=2) as client:
        engines = client.wait_for_engines(2)
        client.gather(client.map(abs, range(100)))
        controller = read_connection_file(client.connection_file).pid
        before = memory_peak(controller)

        array = client.options(targets="e0").submit(numbers, LARGE)
        first, is_writeable, why_not, pid = (
            client.options(targets="e1").submit(look_at, array).result(timeout=60)
        )

        assert (first, is_writeable, pid) == (1.0, False, engines[1].pid)
        assert "read-only" in why_not
        mine = array.result()
        assert not mine.flags.writeable
        assert mine.nbytes == LARGE
        assert mine[-1] == LARGE // 8 - 1
        assert memory_peak(controller) - before < LARGE // 4
        assert client.statistics()["stored_bytes"] >= LARGE
        assert [engine.store_bytes >= LARGE for engine in client.engines()] == [True, True]


def test_what_is_small_travels_as_ever_and_can_be_written_to(client):
    future = client.submit(numbers, 80_000)
    future.result(timeout=60)[0] = 1.0
    assert client.statistics()["stored_values"] == 0


def test_a_large_result_that_is_no_array_is_kept_as_well(client):
    text = client.submit(lambda: {"text": "x" * SMALL})
    assert client.submit(len, client.submit(lambda d: d["text"], text)).result(timeout=60) == SMALL
    assert text.result() == {"text": "x" * SMALL}


def test_a_value_is_removed_when_its_futures_and_the_tasks_that_need_it_are_gone(client):
    source = client.submit(numbers, SMALL)
    path = path_of(source)
    user = client.submit(look_at, source)
    assert path.exists()
    del source
    assert user.result(timeout=60)[0] == 1.0
    wait_until(lambda: not path.exists(), "the value to be removed")
    wait_until(lambda: not client.statistics()["stored_values"], "its reference to go")
    assert not list(path.parent.glob("*"))


def test_a_value_outlives_the_engine_that_made_it_and_a_result_its_file():
    with headway.Client(engines=1) as client:
        source = client.submit(make_here, SMALL)
        path = path_of(source)
        (engine,) = client.engines()
        os.kill(engine.pid, signal.SIGKILL)
        array, pid = source.result(timeout=60)
        assert pid == engine.pid
        del source
        wait_until(lambda: not path.exists(), "the value to be removed")
        assert array[-1] == SMALL // 8 - 1


def test_what_an_engine_had_written_and_not_told_is_found_and_removed(client):
    def write_and_die(path):
        Path(path).write_bytes(b"value")
        Path(path).with_name(f".writing-{'x'}.1-9.1").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    keep = client.submit(numbers, SMALL)
    kept = path_of(keep)
    orphan = kept.with_name("1-999.1")
    with contextlib.suppress(errors.EngineError):
        client.options(crash_limit=1).submit(write_and_die, str(orphan)).result(timeout=60)
    wait_until(lambda: not orphan.exists(), "the orphan to be removed")
    assert kept.exists()
    assert keep.result()[1] == 1.0


def test_a_lost_value_is_made_again_for_the_task_that_needs_it_and_for_the_client(client, tmp_path):
    runs = tmp_path / "runs"
    source = client.submit(noted, SMALL, str(runs))
    path = path_of(source)
    path.unlink()
    assert client.submit(look_at, source).result(timeout=60)[0] == 1.0
    assert runs.read_text() == "xx"
    # The client has the old reference still, and hears of the new one when it asks.
    assert source.result(timeout=60)[1] == 1.0
    assert runs.read_text() == "xx"

    other = client.submit(noted, SMALL, str(runs))
    path_of(other).unlink()
    assert other.result(timeout=60)[1] == 1.0
    assert runs.read_text() == "xxxx"


def held_up(nbytes: int, runs: str, gate: str) -> numpy.ndarray:
    """The same; from the second run on it waits for somebody to open the gate."""
    if os.path.exists(runs):
        wait_until(lambda: os.path.exists(gate), "the gate to open")
    return noted(nbytes, runs)


def test_who_waits_for_a_lost_value_waits_no_longer_than_it_may(client, tmp_path):
    gate = tmp_path / "gate"
    future = client.submit(held_up, SMALL, str(tmp_path / "runs"), str(gate))
    path_of(future).unlink()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            future.result(timeout=0.1)
    gate.touch()
    assert future.result(timeout=60)[1] == 1.0


def test_a_large_value_can_be_awaited_also_if_it_is_lost(client):
    future = client.submit(numbers, SMALL)
    path_of(future).unlink()

    async def wait():
        return await future

    assert asyncio.run(wait())[1] == 1.0


def test_a_lost_value_of_a_task_that_may_run_once_at_most_is_an_error_that_says_so(client):
    source = client.options(at_most_once=True).submit(numbers, SMALL)
    path_of(source).unlink()
    user = client.submit(look_at, source)
    with pytest.raises(errors.ValueLost, match="once at most"):
        user.result(timeout=60)
    with pytest.raises(errors.ValueLost, match="once at most"):
        source.result(timeout=60)


def test_results_can_be_had_when_the_cluster_has_ended():
    with headway.Client(engines=1) as client:
        future = client.submit(numbers, SMALL)
        path = path_of(future)
    assert not path.exists()
    assert future.result()[1] == 1.0


def sum_up(made: tuple[numpy.ndarray, int]) -> float:
    return float(made[0].sum())


def make_beside(nbytes: int, meeting: str) -> tuple[numpy.ndarray, int]:
    """The same on each of two engines at once."""
    Path(meeting).mkdir(exist_ok=True)
    Path(meeting, str(os.getpid())).touch()
    wait_until(lambda: len(os.listdir(meeting)) == 2, "the other engine")
    return numbers(nbytes), os.getpid()


@pytest.mark.usefixtures("nothing_left")
def test_the_values_of_a_host_that_went_are_made_again_elsewhere(tmp_path):
    with headway.Client(engines=1) as client:
        here = client.wait_for_engines(1)[0]
        second = subprocess.Popen(
            [
                *module_command("headway.engine.nanny"),
                *("--connection", str(client.connection_file)),
                *("--engines", "1", "--sys-path", json.dumps([str(Path.cwd())])),
            ],
            stdin=subprocess.PIPE,
        )
        try:
            client.wait_for_engines(2)
            sources = client.map(make_beside, [SMALL] * 2, [str(tmp_path)] * 2)
            paths = [path_of(source) for source in sources]
            assert paths[0].parent != paths[1].parent
            second.terminate()
            second.wait()
            wait_until(lambda: len(client.engines()) == 1, "the engine to be gone")
            assert sorted(path.exists() for path in paths) == [False, True]
            users = client.map(lambda made: (made[0][1], made[1]), sources)
            assert client.gather(users, timeout=60) == [(1.0, here.pid)] * 2
            assert client.statistics()["recomputed"] == 1
            assert [pid for _, pid in client.gather(sources, timeout=60)] == [here.pid] * 2
        finally:
            second.kill()
            second.wait()
            second.stdin.close()


def test_values_survive_their_controller_and_what_was_dropped_meanwhile_is_removed(tmp_path):
    cluster = controller_kills.Cluster(tmp_path, 1)
    cluster.start()
    try:
        with headway.Client(cluster.connection) as client:
            kept, dropped = client.submit(numbers, SMALL), client.submit(numbers, SMALL)
            paths = path_of(kept), path_of(dropped)
            cluster.kill()
            del dropped
            cluster.start()
            assert client.submit(look_at, kept).result(timeout=60)[0] == 1.0
            wait_until(lambda: not paths[1].exists(), "the dropped value to be removed")
            assert paths[0].exists()
            assert client.statistics()["stored_values"] == 1
            assert kept.result(timeout=60)[1] == 1.0
    finally:
        cluster.close()
    assert not paths[0].parent.exists()


#: What comes after it does not see the files in shared memory, as on another host.
HIDE = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "sh"]


@pytest.fixture
def hide() -> list[str]:
    try:
        subprocess.run([*HIDE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not hide a directory from a process")
    return HIDE


@contextlib.contextmanager
def running_cluster(connection: Path, listen: str | None) -> Iterator[None]:
    command = [*module_command("headway"), "start", "--engines", "1"]
    command += ["--connection", str(connection), "--durability", "off"]
    command += ["--listen", listen] if listen else []
    cluster = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(connection.exists, "the cluster to start")
        yield
    finally:
        cluster.send_signal(signal.SIGINT)
        cluster.wait(timeout=60)


ELSEWHERE = """
import sys, headway
from tests.e2e.test_large_values import LARGE, numbers
with headway.Client(sys.argv[1]) as client:
    array = client.submit(numbers, LARGE).result(timeout=60)
    assert array.nbytes == LARGE and array[-1] == LARGE // 8 - 1
    assert not array.flags.writeable
    print("fetched")
"""


@pytest.mark.parametrize("listen", [None, "tcp://127.0.0.1"])
def test_a_client_that_does_not_see_the_file_fetches_the_value(tmp_path, hide, listen):
    connection = tmp_path / "connection.json"
    with running_cluster(connection, listen):
        told = subprocess.run(
            [*hide, sys.executable, "-c", textwrap.dedent(ELSEWHERE), str(connection)],
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert told.stdout == "fetched\n", told.stderr


def test_an_engine_of_another_host_fetches_its_inputs(tmp_path, hide):
    connection = tmp_path / "connection.json"
    with running_cluster(connection, "tcp://127.0.0.1"):
        command = [*module_command("headway.engine.nanny"), "--connection", str(connection)]
        command += ["--engines", "1", "--sys-path", json.dumps([str(Path.cwd())])]
        second = subprocess.Popen([*hide, *command], stdin=subprocess.PIPE)
        try:
            with headway.Client(connection) as client:
                engines = client.wait_for_engines(2)
                sources = client.map(make_beside, [SMALL] * 2, [str(tmp_path / "met")] * 2)
                assert {pid for _, pid in client.gather(sources, timeout=60)} == {
                    engine.pid for engine in engines
                }
                for engine in engines:
                    users = client.options(targets=engine).map(sum_up, sources)
                    assert client.gather(users, timeout=60) == [sum_up(make_here(SMALL))] * 2
                assert client.statistics()["recomputed"] == 0
        finally:
            second.stdin.close()
            second.wait(timeout=60)
