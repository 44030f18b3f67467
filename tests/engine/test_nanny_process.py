"""Promise: a nanny ends with its controller; or it survives it, is found by the next one, and
ends with that.

Real processes; the test plays the controller.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from headway.controller.nanny_process import AdoptedNanny, NannyProcess
from headway.logbook import is_line
from headway.processes import is_running, send_signal
from headway.wire import messages as m
from tests.engine.fake_controller import WAIT_S, is_alive

#: A controller that starts a nanny, says who that is, and waits to be killed.
PARENT = """
import sys, time
from pathlib import Path
from headway.controller.nanny_process import NannyProcess
connection, log = map(Path, sys.argv[1:])
nanny = NannyProcess(connection, 1, resources={}, engine_command=[sys.executable], sys_path=[],
                     cwd=None, survive=True, log=log)
print(nanny.identity, flush=True)
time.sleep(1000)
"""


def start(fake, **options):
    """A nanny with one engine, which has said hello."""
    nanny = NannyProcess(
        fake.connection,
        1,
        resources={},
        engine_command=[sys.executable],
        sys_path=[],
        cwd=None,
        **options,
    )
    fake.wait_for(lambda: fake.engines)
    return nanny


@pytest.fixture
def orphan(controller, tmp_path):
    """The identity of a nanny whose controller was killed, and its log."""
    controller.reconnect_s = 100.0
    log = tmp_path / "nanny.log"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(controller.connection), str(log)],
        stdout=subprocess.PIPE,
        text=True,
    )
    identity = parent.stdout.readline().strip()
    try:
        controller.wait_for(lambda: controller.engines)
        parent.kill()
        parent.wait()
        yield identity, log
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        send_signal(identity, signal.SIGKILL)


def wait_gone(fake):
    deadline_s = time.monotonic() + WAIT_S
    while is_alive(fake.engines[0].pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.mark.parametrize("survive", [False, True])
def test_an_ordered_stop_ends_a_nanny_and_its_engines(controller, survive):
    nanny = start(controller, survive=survive)
    assert nanny.ended() is None
    assert is_running(nanny.identity)
    nanny.close(WAIT_S)
    wait_gone(controller)
    assert not is_running(nanny.identity)


@pytest.mark.parametrize("survive", [False, True])
def test_a_nanny_that_does_not_stop_is_killed_and_its_engines_end(controller, survive):
    nanny = start(controller, survive=survive)
    os.kill(nanny.pid, signal.SIGSTOP)
    nanny.close(0.01)
    wait_gone(controller)


def test_how_a_nanny_ended_is_told_with_its_last_words(controller, tmp_path):
    log = tmp_path / "nanny.log"
    nanny = start(controller, survive=True, log=log, log_format="json")
    controller.say(controller.nanny_identity, m.Refused("no"))
    controller.wait_for(nanny.ended)
    said = "the nanny ends: the controller refused: no"
    assert nanny.ended() == f"exited with status 1: {said}"
    adopted = AdoptedNanny(nanny.identity, log)
    assert adopted.ended() == f"ended: {said}"
    assert AdoptedNanny(nanny.identity).ended() == "ended"
    logged = [json.loads(line) for line in log.read_text().splitlines() if is_line(line)]
    failed = [line for line in logged if line["event"] == "nanny_failed"]
    assert [line["why"] for line in failed] == ["the controller refused: no"]
    nanny.close(WAIT_S)
    adopted.close(WAIT_S)


def test_a_nanny_survives_the_controller_that_started_it_and_ends_with_the_next(
    controller,
    orphan,
):
    # Given a nanny whose controller was killed: it and its engine live
    identity, log = orphan
    adopted = AdoptedNanny(identity, log)
    controller.assign(controller.engines[0], (pow, 2, 3))
    controller.wait_outcomes(1)
    assert adopted.ended() is None
    # When the next controller stops
    adopted.close(WAIT_S)
    # Then both end
    assert adopted.ended() == "ended"
    wait_gone(controller)


def test_an_orphan_that_does_not_stop_is_killed(controller, orphan):
    identity, _ = orphan
    os.kill(int(identity.split()[0]), signal.SIGSTOP)
    adopted = AdoptedNanny(identity)
    adopted.close(0.01)
    controller.wait_for(adopted.ended)
    wait_gone(controller)
