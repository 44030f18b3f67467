"""Limits and shares of a real cluster: what runs at once, changed while it runs, and after the
death of the controller."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import headway
from headway.wire.endpoint import read_connection_file


def enter(folder: str) -> int:
    """How many are inside with this one, itself included."""
    path = Path(folder) / f"{os.getpid()}-{time.monotonic_ns()}"
    path.touch()
    inside = len(os.listdir(folder))
    time.sleep(0.02)
    path.unlink()
    return inside


def test_a_limit_holds_can_be_changed_and_survives_the_death_of_the_controller(tmp_path):
    with headway.Client(
        engines=3, limits={"db": 1, "api": "1000/s"}, durability="normal"
    ) as client:
        client.wait_for_engines(3)
        one = client.options(tags=["db", "api"]).map(enter, [str(tmp_path)] * 10)
        assert set(client.gather(one, timeout=60)) == {1}
        client.set_limit("db", 0)
        held = client.options(tags="db").submit(enter, str(tmp_path))
        assert "db, which is limited to 0: 0 tasks on engines" in held.explain()
        os.kill(read_connection_file(client.connection_file).pid, signal.SIGKILL)
        # The next one knows of the change, not of what the cluster was started with.
        while client.limits()["db"] != {"limit": "0", "held": 0, "waiting": 1, "next_in_s": 0.0}:
            time.sleep(0.02)
        client.set_limit("db", 2)
        assert held.result(60) == 1
        assert max(client.gather(client.options(tags="db").map(enter, [str(tmp_path)] * 20))) <= 2
        client.set_limit("db", None)
        assert list(client.limits()) == ["api"]


def test_two_clients_share_one_engine_by_weight(tmp_path):
    log = tmp_path / "log"

    def note(who: str) -> None:
        with log.open("a") as file:
            file.write(who)

    def wait_for(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.005)

    with headway.Client(engines=1, hwm=1, weight=2) as one:
        one.wait_for_engines(1)
        blocker = one.submit(wait_for, str(tmp_path / "go"))
        with headway.Client(one.connection_file, weight=1) as two:
            futures = list(one.map(note, "a" * 20))
            while one.statistics()["tasks"]["ready"] < 20:  # or those of `two` may be first
                time.sleep(0.01)
            futures += list(two.map(note, "b" * 20))
            while one.statistics()["tasks"]["ready"] < 40:
                time.sleep(0.01)
            (tmp_path / "go").touch()
            blocker.result(60)
            for future in futures:
                future.result(60)
    assert log.read_text().startswith("aab" * 9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"weight": 0}, "weight=0 must be at least 1"),
        ({"limits": {"db": "many"}}, r"limits\['db'\]: 'many' is no limit"),
        ({"limits": {"": 1}}, "limits: '' is no tag"),
        ({"limits": 4}, "limits=4 is not limits by tag"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_started(arguments, said):
    with pytest.raises((TypeError, ValueError), match=said):
        headway.Client(**arguments)
