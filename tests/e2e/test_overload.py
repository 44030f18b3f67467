"""Promise: who submits too much waits, and is told why; who does not read costs the others nothing,
and hears all when it reads again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import headway
from headway.config import WireConfig
from tests.e2e.conftest import wait_until

TASKS = 2_000
#: Of a client that may have 500 unfinished, and 100 on their way.
LIMITS = {"unfinished_tasks_max": 1_000}
WIRE = WireConfig(window_tasks=100)

#: A client in a process of its own: it submits what gives 80 MB, and adds up what it hears.
DEAF = """
import sys, headway
from tests.e2e.test_overload import large, wait_for
with headway.Client(sys.argv[1]) as client:
    gate = client.submit(wait_for, sys.argv[2])
    values = client.options(after=[gate]).map(large, range(320))
    client.statistics()  # all of it has been heard
    print("submitted", flush=True)
    print(sum(len(value) + value[0] for value in client.gather(values)), flush=True)
"""


def wait_for(path: str) -> None:
    """A task that runs until the file is there."""
    while not os.path.exists(path):
        time.sleep(0.01)


def large(number: int) -> bytes:
    return bytes([number % 256]) * 250_000


def test_submit_waits_while_too_much_is_unfinished_and_says_why(
    nothing_left: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    gate = tmp_path / "gate"
    futures: list[headway.Future[int]] = []
    with headway.Client(engines=1, hwm=1, wire=WIRE, **LIMITS) as client:
        blocker = client.submit(wait_for, str(gate))

        def submit_all() -> None:
            futures.extend(client.options(after=[blocker]).map(abs, range(TASKS)))

        thread = threading.Thread(target=submit_all)
        with caplog.at_level(logging.WARNING, "headway.client"):
            thread.start()
            wait_until(lambda: "submit waits until" in caplog.text, "a word on why")
        assert "of 1,000 tasks" in caplog.text
        counted = client.statistics()
        assert counted["clients_held"] == 1
        assert 500 <= counted["submitted"] <= 700
        # Another client is let in meanwhile: it has nothing unfinished
        with headway.Client(client.connection_file) as other:
            assert other.submit(abs, -1).explain()
        gate.touch()
        thread.join(60)
        assert client.gather(futures, timeout=60) == list(range(TASKS))
        assert client.statistics()["clients_held"] == 0


def test_a_stopped_client_costs_the_others_nothing_and_hears_all_when_it_goes_on(
    nothing_left: str, tmp_path: Path
):
    gate = tmp_path / "gate"
    with headway.Client(engines=2) as client:
        client.wait_for_engines(2)
        deaf = subprocess.Popen(
            [sys.executable, "-c", DEAF, str(client.connection_file), str(gate)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert deaf.stdout is not None
        try:
            assert deaf.stdout.readline() == "submitted\n"
            deaf.send_signal(signal.SIGSTOP)
            gate.touch()
            # When all of its tasks have ended, most results are still the controller's alone
            wait_until(lambda: client.statistics()["undelivered"] >= 200, "results to wait")
            assert client.gather(client.map(abs, range(500)), timeout=60) == list(range(500))
            deaf.send_signal(signal.SIGCONT)
            expected = sum(250_000 + n % 256 for n in range(320))
            assert deaf.stdout.readline() == f"{expected}\n"
            assert deaf.wait(30) == 0
        finally:
            deaf.kill()
            deaf.wait(30)
            deaf.stdout.close()
        assert client.statistics()["undelivered"] == 0
