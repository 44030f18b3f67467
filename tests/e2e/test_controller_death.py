"""The promise of a journal: kill the controller, start it again, and nothing was lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import headway
from tests.nemesis import controller_kills
from tests.nemesis.cluster import Cluster


def test_a_graph_survives_the_deaths_of_its_controller(tmp_path: Path):
    found = controller_kills.go(tmp_path, kills=3, count=300, seed=1, task_s=0.01)
    assert found.wrong == 0
    assert found.runs == 300
    assert found.engines_after == found.engines_before


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_a_task_that_runs_while_the_controller_is_away_commits_once(
    tmp_path: Path, durability: str
):
    cluster = Cluster(tmp_path, 1, durability)
    cluster.start()
    try:
        with headway.Client(cluster.connection) as client:
            future = client.submit(controller_kills.leaf, 7, str(tmp_path / "runs"), 1.0)
            while future.state != "running":
                time.sleep(0.01)
            cluster.kill()
            while not (tmp_path / "runs").exists():
                time.sleep(0.01)
            cluster.start()
            assert future.result(timeout=60) == 7
    finally:
        cluster.close()
    assert (tmp_path / "runs").read_bytes() == b"."


def test_what_is_submitted_while_the_controller_is_away_runs_when_it_is_back(tmp_path: Path):
    cluster = Cluster(tmp_path, 1)
    cluster.start()
    try:
        with headway.Client(cluster.connection) as client:
            first = client.submit(pow, 2, 3)
            assert first.result(timeout=60) == 8
            cluster.kill()
            later = client.submit(pow, first, 2)
            cluster.start()
            assert later.result(timeout=60) == 64
    finally:
        cluster.close()


def test_a_second_controller_on_the_same_journal_is_told_who_has_it(tmp_path: Path):
    cluster = Cluster(tmp_path, 1)
    cluster.start()
    other = Cluster(tmp_path, 1)
    try:
        with pytest.raises(RuntimeError, match="in use, by the controller"):
            other.start()
    finally:
        other.close()
        cluster.close()


def test_an_embedded_controller_that_is_killed_is_started_again_by_its_client():
    with headway.Client(engines=1, durability="normal") as client:
        before = client.submit(pow, 2, 3)
        assert before.result(timeout=60) == 8
        pids = [engine.pid for engine in client.engines()]
        assert client._link.process is not None
        client._link.process.process.kill()
        assert client.submit(pow, before, 2).result(timeout=60) == 64
        assert [engine.pid for engine in client.engines()] == pids
