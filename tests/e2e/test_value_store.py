"""Promise: with a value store that hosts share, large values are there for all of them, outlive the
host that made them, and go with the last reference, or with the cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import headway
from headway import errors
from headway.interpreter import module_command
from headway.wire.endpoint import read_connection_file
from tests.e2e.conftest import wait_until
from tests.e2e.test_large_values import SMALL, make_beside, numbers, path_of

pytestmark = pytest.mark.usefixtures("nothing_left")


def files_in(shared: Path) -> list[str]:
    return [path.name for path in shared.rglob("*") if path.is_file() and path.name != ".alive"]


@pytest.mark.parametrize("protocol", ["", "local://"])
def test_values_are_shared_and_go_with_the_last_reference_and_the_cluster(tmp_path, protocol):
    with headway.Client(engines=2, value_store=f"{protocol}{tmp_path}") as client:
        kept, dropped = client.map(numbers, [SMALL] * 2)
        assert client.submit(lambda array: array[1], kept).result(timeout=60) == 1.0
        wait_until(dropped.done, "the other value")
        assert len(files_in(tmp_path)) == 2
        assert str(tmp_path) in str(path_of(kept))
        del dropped
        wait_until(lambda: len(files_in(tmp_path)) == 1, "the dropped value to be removed")
        assert kept.result()[1] == 1.0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_value_outlives_its_nanny_and_another_one_clears_up(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    with headway.Client(engines=1, value_store=shared) as client:
        client.wait_for_engines(1)
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
            sources = client.map(make_beside, [SMALL] * 2, [str(tmp_path / "meeting")] * 2)
            paths = [path_of(source) for source in sources]
            assert paths[0].parent != paths[1].parent
            by_pid = {
                made[1]: path for made, path in zip(client.gather(sources), paths, strict=True)
            }
            second_engine = next(pid for pid in by_pid if pid != client.wait_for_engines(2)[0].pid)
            orphan = by_pid[second_engine].with_name("1-999.1")
            orphan.touch()
            second.terminate()
            second.wait()
            wait_until(lambda: len(client.engines()) == 1, "the engine to be gone")
            users = client.map(lambda made: made[0][1], sources)
            assert client.gather(users, timeout=60) == [1.0] * 2
            assert client.statistics()["recomputed"] == 0
            wait_until(lambda: not orphan.exists(), "what nobody was told of to be removed")
            del sources, users
            wait_until(lambda: not files_in(shared), "the values of both to be removed")
        finally:
            second.kill()
            second.wait()
            second.stdin.close()
    assert list(shared.iterdir()) == []


def test_what_a_controller_that_was_killed_left_is_removed_by_its_client(tmp_path):
    with headway.Client(engines=1, value_store=tmp_path) as client:
        future = client.submit(numbers, SMALL)
        path = path_of(future)
        os.kill(read_connection_file(client.connection_file).pid, signal.SIGKILL)
        with pytest.raises(errors.ConnectionLost):
            client.submit(abs, 1).result(timeout=60)
    wait_until(lambda: not path.exists(), "the value to be removed")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_can_not_be_used_is_said_at_once(tmp_path):
    with pytest.raises(errors.StartError, match=r"value store file://.*missing.*can't be used"):
        headway.Client(engines=1, value_store=tmp_path / "missing")
    with pytest.raises(ValueError, match="no other process"):
        headway.Client(engines=1, value_store="memory://values")
    with pytest.raises(TypeError, match="neither a URL nor a path"):
        headway.Client(engines=1, value_store=7)
