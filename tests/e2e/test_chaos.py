"""Promise: a flow comes to its end, once and rightly, under kills and stalls of all that is its
own; and it is told what was done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psutil
import pytest

import headway
from tests.e2e.conftest import wait_until

WIDTH = 20


def add(*numbers: int) -> int:
    time.sleep(0.005)
    return sum(numbers) % 1_000_003


def layers(client: headway.Client, goes_on: Callable[[], bool], at_least: int) -> list[int]:
    """Two layers of tasks after two others, while `goes_on()`; the values of the last."""
    values = list(range(WIDTH))
    expected = list(values)
    rounds = 0
    while rounds < at_least or goes_on():
        rounds += 1
        futures = [client.submit(add, values[n], values[n - 1]) for n in range(WIDTH)]
        futures = [client.submit(add, futures[n], futures[n - 1]) for n in range(WIDTH)]
        values = client.gather(futures, timeout=60)
        for _ in range(2):
            expected = [(expected[n] + expected[n - 1]) % 1_000_003 for n in range(WIDTH)]
    assert values == expected
    return values


def test_a_flow_ends_rightly_while_its_engines_and_controller_are_killed_and_stalled(
    nothing_left: str,
):
    chaos = headway.Chaos(
        seed=3,
        engine_kill_every_s=0.15,
        engine_stall_every_s=0.3,
        controller_kill_every_s=0.4,
        controller_stall_every_s=0.5,
        stall_s=0.1,
    )
    began_s = time.monotonic()
    with headway.Client(engines=2, durability="normal", chaos=chaos) as client:

        def goes_on() -> bool:
            faults = client.chaos_report().faults
            enough = len(faults) == 4 and faults["controller_kill"] >= 4
            return not enough and time.monotonic() < began_s + 30

        layers(client, goes_on, at_least=5)
    report = client.chaos_report()
    assert report.is_right, report
    assert report.faults["controller_kill"] >= 4, report  # more than a watch would believe in
    assert report.faults["engine_kill"] >= 1, report
    assert set(report.ended) == {"succeeded"}, report
    assert str(report).startswith("chaos (seed 3): ")


@pytest.mark.parametrize("charge", [False, True])
def test_kills_are_charged_to_no_task_unless_it_is_wanted(nothing_left: str, charge: bool):
    chaos = headway.Chaos(engine_kill_every_s=0.05, engine_stall_every_s=None, charge=charge)
    with headway.Client(engines=1, chaos=chaos) as client:
        # It runs for longer than engines live; with its limit at one, a charge ends it.
        future = client.options(crash_limit=1).submit(time.sleep, 60)
        if charge:
            with pytest.raises(headway.errors.EngineError, match="SIGKILL"):
                future.result(timeout=30)
        else:
            wait_until(lambda: client.chaos_report().faults.get("engine_kill", 0) >= 4, "kills")
            assert not future.done()


def test_what_another_client_started_is_never_touched(nothing_left: str):
    with headway.Client(engines=1) as other:
        theirs = [engine.pid for engine in other.wait_for_engines(1)]
        chaos = headway.Chaos(engine_kill_every_s=0.05, engine_stall_every_s=0.05, stall_s=0.01)
        with headway.Client(engines=1, chaos=chaos) as client:
            wait_until(
                lambda: client.chaos_report().faults.get("engine_kill", 0) >= 3, "three kills"
            )
        assert [engine.pid for engine in other.engines()] == theirs
        assert psutil.Process(theirs[0]).status() != psutil.STATUS_STOPPED
        assert other.submit(abs, -1).result(timeout=30) == 1


def test_without_chaos_there_is_no_report(nothing_left: str):
    with headway.Client(engines=1) as client:
        with pytest.raises(ValueError, match="made without chaos"):
            client.chaos_report()
        assert not [t for t in threading.enumerate() if t.name == "headway-chaos"]
