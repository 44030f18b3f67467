"""No result waits for a later task, and no task waits behind a long one while an engine idles."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import headway
from tests.e2e.conftest import DEADLINE_S, wait_until


def wait_for(path: str) -> str:
    """Return when the file is there: a task as long as the test wants it."""
    end_at = time.monotonic() + DEADLINE_S
    while not Path(path).exists():
        if time.monotonic() > end_at:
            raise TimeoutError(path)
        time.sleep(0.005)
    return "done"


@pytest.mark.parametrize("warm_up", [0, 300])
@pytest.mark.usefixtures("nothing_left")
def test_a_finished_result_does_not_wait_for_the_next_task_to_end(tmp_path, warm_up):
    # Given one engine, which has learned (or not) that this function is short
    gate = tmp_path / "open"
    (tmp_path / "there").touch()
    with headway.Client(engines=1, hwm=64) as client:
        client.gather(client.map(wait_for, [str(tmp_path / "there")] * warm_up))
        # When a short task has a long one of the same function behind it
        short = client.submit(wait_for, str(tmp_path / "there"))
        long = client.submit(wait_for, str(gate))
        # Then it comes back although the long one has not ended
        assert short.result(timeout=DEADLINE_S) == "done"
        assert not long.done()
        gate.touch()
        assert long.result(timeout=DEADLINE_S) == "done"


@pytest.mark.usefixtures("nothing_left")
def test_tasks_prefetched_behind_a_long_one_run_elsewhere(tmp_path):
    # Given two engines that are sent many tasks ahead, and one of them stuck in a long task
    gate = tmp_path / "open"
    with headway.Client(engines=2, hwm=64) as client:
        client.wait_for_engines(2)
        long = client.submit(wait_for, str(gate))
        shorts = client.map(abs, range(100))
        # Then all others end while it is stuck
        assert client.gather(shorts, timeout=DEADLINE_S) == list(range(100))
        assert not long.done()
        assert client.statistics()["recalled"] > 0
        gate.touch()
        assert long.result(timeout=DEADLINE_S) == "done"


@pytest.mark.usefixtures("nothing_left")
def test_a_busy_loop_on_an_engine_is_seen_as_running(tmp_path):
    gate = tmp_path / "open"

    def spins(path):
        while not Path(path).exists():
            pass

    with headway.Client(engines=1) as client:
        future = client.submit(spins, str(gate))
        wait_until(lambda: future.state == "running", "the nanny to report it")
        assert "runs on e0 since" in future.explain()
        gate.touch()
        future.result(timeout=DEADLINE_S)
