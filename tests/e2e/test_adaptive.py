"""A real cluster that grows when work waits, and shrinks when it idles."""

from __future__ import annotations

import time

import pytest

import headway
from tests.cli.verbs import DEADLINE_S, cluster, run


def test_engines_come_for_work_that_takes_long_and_tasks_on_them_are_not_disturbed():
    with headway.Client(engines=1) as client:
        client.wait_for_engines(1)
        client.scale(1, 3)
        assert client.gather(client.map(pow, range(2_000), [2] * 2_000))[2] == 4
        tasks = client.map(time.sleep, [3.0] * 4)
        assert len(client.wait_for_engines(3)) == 3
        client.scale(1, 1)  # all run something: none is taken
        assert client.gather(tasks, timeout=DEADLINE_S) == [None] * 4
        assert client.statistics()["crashed"] == 0


def test_a_cluster_that_stays_has_as_many_as_it_is_to_have_at_least():
    with cluster("-n", "1", "--adaptive", "2:3") as made:
        assert len(made.json("engines")) <= 3
        with headway.Client(made.name) as client:
            assert len(client.wait_for_engines(2)) == 2


@pytest.mark.parametrize("text", ["0:3", "3:1", "3", "1:10001"])
def test_bounds_that_make_no_sense_are_said_to(text: str):
    done = run("start", "--adaptive", text)
    assert done.returncode == 1
    assert "expected LEAST:MOST, such as 1:8" in done.stderr


def test_a_client_says_so_too():
    with headway.Client(engines=1) as client:
        with pytest.raises(ValueError, match="most=1 must be at least 2"):
            client.scale(2, 1)
        with pytest.raises(ValueError, match="least=0 must be at least 1"):
            client.scale(0, 1)
