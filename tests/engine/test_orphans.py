"""Promise: what a task has started ends when the task is stopped, and with its engine, however
that one ends, and whoever else ends with it.

The task starts a program and forks: both, and a child of the fork, must be gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

import cloudpickle
import pytest

from headway.core import events as ev
from headway.wire import messages as m
from headway.wire import payload
from tests.engine.fake_controller import WAIT_S, is_alive

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def write_whole(path, pids):
    with open(f"{path}.new", "w") as file:
        file.write(" ".join(map(str, pids)))
    os.rename(f"{path}.new", path)


def start_family(path, then, own_group=False):
    """Start a program, a fork, and a fork of that; write their pids to `path`; then `then()`.

    `own_group`: the program leads a group of its own, as what shells and `timeout` start.
    """
    program = subprocess.Popen(["sleep", "1000"], process_group=0 if own_group else None)
    reader, writer = os.pipe()
    fork = os.fork()
    if fork == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        grandchild = os.fork()
        if grandchild:
            os.write(writer, str(grandchild).encode())
        while True:
            time.sleep(1)
    grandchild = int(os.read(reader, 100))
    write_whole(path, [program.pid, fork, grandchild])
    then()


def run_on():
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(1000)


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


def crash():
    ctypes.string_at(0)


def leave():
    os._exit(3)


@pytest.fixture
def family(controller, tmp_path):
    """Starts a nanny with an engine, and the family in it: the engine, the nanny, the pids."""
    path = tmp_path / "pids"

    def start(then=run_on, own_group=False, command=(sys.executable,), **options):
        [engine] = controller.start(engine_command=list(command))
        controller.assign(engine, (start_family, str(path), then, own_group), **options)
        controller.wait_for(path.exists)
        pids = list(map(int, path.read_text().split()))
        assert len(pids) == 3
        return engine, controller.processes[0], pids

    yield start
    if path.exists():  # whatever became of the test
        for pid in map(int, path.read_text().split()):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def wait_gone(controller, pids):
    controller.wait_for(lambda: not any(map(is_alive, pids)))


def wait_for_the_interrupt():
    while True:
        time.sleep(0.01)


def test_it_ends_with_a_task_that_heeds_its_interrupt_and_the_engine_goes_on(controller, family):
    engine, _, pids = family(wait_for_the_interrupt, own_group=True)
    controller.say(controller.nanny_identity, m.InterruptTasks(engine.token, [1]))
    assert controller.wait_outcome(1).status == ev.STOPPED
    wait_gone(controller, pids)
    controller.assign(engine, (os.getpid,), first=2)
    assert payload.load_result(controller.wait_outcome(2).payload) == engine.pid


def test_what_an_earlier_task_has_started_is_not_touched_by_a_stop(controller, family, tmp_path):
    # Given a task that left processes behind, as a pool that later ones use
    engine, _, pids = family(int)
    assert controller.wait_outcome(1).status == ev.RAN
    # When a later one is stopped (the clock of starts has moved on: it counts in hundredths)
    later_s = time.monotonic() + 0.05
    controller.wait_for(lambda: time.monotonic() > later_s)
    controller.assign(engine, (wait_for_the_interrupt,), first=2)
    controller.wait_running(engine, 2)
    controller.say(controller.nanny_identity, m.InterruptTasks(engine.token, [2]))
    assert controller.wait_outcome(2).status == ev.STOPPED
    # Then they are there, until the engine ends
    assert all(map(is_alive, pids))
    controller.say(controller.nanny_identity, m.StopEngine(engine.token, "enough"))
    wait_gone(controller, pids)


@pytest.mark.parametrize("then", [kill_myself, crash, leave])
@pytest.mark.parametrize("own_group", [False, True])
def test_it_ends_with_an_engine_that_ends_by_itself(controller, family, then, own_group):
    _, _, pids = family(then, own_group)
    wait_gone(controller, pids)


def test_it_ends_with_an_engine_that_is_killed_from_outside(controller, family):
    engine, _, pids = family()
    os.kill(engine.pid, signal.SIGKILL)
    wait_gone(controller, pids)


@pytest.mark.parametrize("own_group", [False, True])
def test_it_ends_with_a_task_that_is_stopped_hard(controller, family, own_group):
    engine, _, pids = family(own_group=own_group)
    controller.say(controller.nanny_identity, m.InterruptTasks(engine.token, [1]))
    controller.wait_death(engine)
    wait_gone(controller, pids)


def test_it_ends_with_a_task_that_overruns_its_time_limit(controller, family):
    engine, _, pids = family(run_timeout_s=0.2)
    assert controller.wait_death(engine).end.overran
    wait_gone(controller, pids)


@pytest.mark.parametrize("restart", [True, False])
def test_it_ends_with_an_engine_that_is_stopped(controller, family, restart):
    engine, _, pids = family()
    controller.say(controller.nanny_identity, m.StopEngine(engine.token, "enough", restart))
    controller.wait_death(engine)
    wait_gone(controller, pids)


def test_it_ends_with_a_cluster_that_stops(controller, family):
    _, nanny, pids = family()
    controller.say(controller.nanny_identity, m.Bye("over"))
    assert nanny.wait(WAIT_S) == 0
    wait_gone(controller, pids)


@pytest.mark.parametrize("command", [[sys.executable], ["/usr/bin/env", sys.executable]])
def test_it_ends_when_the_nanny_is_killed(controller, family, command):
    # Nobody is left to end anything, and the engine is killed by the kernel in the same moment
    engine, nanny, pids = family(command=command)
    nanny.kill()
    wait_gone(controller, [engine.pid, *pids])


def test_it_ends_when_the_nanny_is_killed_while_a_task_holds_the_interpreter(controller, family):
    def hold():
        sum(iter(int, 1))

    engine, nanny, pids = family(hold)
    nanny.kill()
    wait_gone(controller, [engine.pid, *pids])


def test_it_ends_when_nanny_and_engine_are_killed_together(controller, family):
    engine, nanny, pids = family()
    os.kill(nanny.pid, signal.SIGSTOP)  # so that it can't be quicker
    os.kill(engine.pid, signal.SIGKILL)
    nanny.kill()
    wait_gone(controller, [engine.pid, *pids])


def test_an_orphan_that_left_the_group_on_purpose_lives_on_and_is_no_zombie_when_it_ends(
    controller, tmp_path
):
    def daemonize(path, end):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for fd in range(3):
                    os.close(fd)
                write_whole(path, [os.getpid()])
                while not os.path.exists(end):
                    time.sleep(0.01)
            os._exit(0)
        os.wait()

    path, end = tmp_path / "pid", tmp_path / "end"
    [engine] = controller.start()
    controller.assign(engine, (daemonize, str(path), str(end)))
    controller.wait_outcomes(1)
    controller.wait_for(path.exists)
    daemon = int(path.read_text())
    try:
        os.kill(engine.pid, signal.SIGKILL)
        controller.wait_death(engine)
        assert is_alive(daemon)
    finally:
        end.touch()
    controller.wait_for(lambda: not os.path.exists(f"/proc/{daemon}"))
