"""Tasks that outlive their client also outlive the controller, and who waits for them waits on."""

from __future__ import annotations

import time
from pathlib import Path

import headway
from tests.nemesis import controller_kills


def when_open(gate: str) -> str:
    while not Path(gate).exists():
        time.sleep(0.01)
    return "opened"


def test_what_was_left_behind_and_who_waits_for_it_survive_the_death_of_the_controller(
    tmp_path: Path,
):
    cluster = controller_kills.Cluster(tmp_path, 1)
    cluster.start()
    gate = str(tmp_path / "gate")
    try:
        with headway.Client(cluster.connection) as client:
            done = client.submit(pow, 2, 3)
            assert done.result(timeout=60) == 8
            slow = client.submit(when_open, gate)
            heir = client.options(after=[slow]).submit(pow, done, 2)
            client.detach()
        with headway.Client(cluster.connection) as client:
            futures = client.attach([done.id, slow.id, heir.id])
            assert futures[0].result(timeout=60) == 8
            cluster.kill()
            Path(gate).touch()
            cluster.start()
            assert client.gather(futures, timeout=60) == [8, "opened", 64]
    finally:
        cluster.close()
