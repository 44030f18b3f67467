"""A real cluster that grows when work waits, and shrinks when it idles."""

from __future__ import annotations

import os
import time

import pytest

import headway
from tests.cli.verbs import DEADLINE_S, cluster, run


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


def test_engines_come_for_work_that_takes_long_and_go_when_they_idle(tmp_path):
    with headway.Client(engines=1) as client:
        client.wait_for_engines(1)
        client.scale(1, 3, idle=0.0)
        assert client.gather(client.map(pow, range(2_000), [2] * 2_000))[2] == 4
        # The longer nobody knows how long they take, the more engines are there for them.
        tasks = client.map(wait_for, [str(tmp_path / "go")] * 6)
        assert len(client.wait_for_engines(3)) == 3
        (tmp_path / "go").touch()
        assert client.gather(tasks, timeout=DEADLINE_S) == [None] * 6
        while len(client.engines()) > 1:
            time.sleep(0.05)
        assert client.submit(pow, 2, 2).result(DEADLINE_S) == 4
        assert client.statistics()["crashed"] == 0


def test_a_cluster_that_stays_has_as_many_as_it_is_to_have_at_least():
    with cluster("-n", "1", "--adaptive", "2:3") as made:
        assert len(made.json("engines")) <= 3
        with headway.Client(made.name) as client:
            assert len(client.wait_for_engines(2)) == 2


def test_a_cluster_of_none_at_least_starts_one_when_a_task_waits():
    with cluster("--adaptive", "0:2") as made:
        assert made.json("engines") == []
        with headway.Client(made.name) as client:
            assert client.submit(pow, 2, 2).result(DEADLINE_S) == 4


@pytest.mark.parametrize("text", ["0:0", "3:1", "3", "1:10001"])
def test_bounds_that_make_no_sense_are_said_to(text: str):
    done = run("start", "--adaptive", text)
    assert done.returncode == 1
    assert "expected LEAST:MOST, such as 1:8" in done.stderr


def test_a_client_says_so_too():
    with headway.Client(engines=1) as client:
        with pytest.raises(ValueError, match="most=1 must be at least 2"):
            client.scale(2, 1)
        with pytest.raises(ValueError, match="most=0 must be at least 1"):
            client.scale(0, 0)
