"""Promise: the nanny sees at once how an engine ended, replaces it, and leaves nobody behind.

Real processes, with a controller that says what the test says.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import cloudpickle
import pytest

from headway.core import events as ev
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo, write_connection_file
from tests.engine.fake_controller import WAIT_S, FakeController, is_alive

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def noop():
    pass


def spin():
    while True:
        pass


def spin_and_ignore():
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            spin()


def wait_gone(*pids):
    """Every one of `pids` has ended."""
    deadline_s = time.monotonic() + WAIT_S
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline_s, f"still alive: {list(filter(is_alive, pids))}"
        time.sleep(0.005)


# --- deaths -------------------------------------------------------------------------------------


def test_a_killed_engine_is_reported_with_its_task_and_replaced(controller):
    [engine] = controller.start()
    controller.assign(engine, (noop,), (spin,), (noop,))
    controller.wait_running(engine, 2)
    os.kill(engine.pid, signal.SIGKILL)
    death = controller.wait_death(engine)
    assert death.end.text.startswith("killed by SIGKILL, peak RSS ")
    assert (death.started, death.busy) == (2, True)
    assert (death.end.wanted, death.end.overran) == (False, False)
    # Then another one comes, under another name, and works
    controller.wait_for(lambda: len(controller.engines) == 2)
    replacement = controller.engines[1]
    assert replacement.token != engine.token
    controller.assign(replacement, (noop,), first=10)
    assert controller.wait_outcome(10).status == ev.RAN


def test_an_engine_that_died_between_tasks_was_not_busy(controller):
    [engine] = controller.start()
    controller.assign(engine, (noop,))
    controller.wait_outcomes(1)
    os.kill(engine.pid, signal.SIGKILL)
    death = controller.wait_death(engine)
    assert (death.started, death.busy) == (1, False)


def test_an_exit_code_and_the_last_output_are_reported(controller):
    def leave():
        os.write(2, b"I have had enough\n")
        os._exit(3)

    [engine] = controller.start()
    controller.assign(engine, (leave,))
    death = controller.wait_death(engine)
    assert death.end.text.startswith("exited with code 3, peak RSS ")
    assert death.end.text.endswith("its last output:\n    I have had enough")
    assert controller.printed("stderr") == [(1, "I have had enough\n")]


def test_a_crash_in_c_leaves_a_traceback_in_the_report(controller):
    def crash():
        os.kill(os.getpid(), signal.SIGSEGV)

    [engine] = controller.start()
    controller.assign(engine, (crash,))
    death = controller.wait_death(engine)
    assert death.end.text.startswith("killed by SIGSEGV")
    assert "in crash" in death.end.text


def test_what_a_task_started_ends_with_its_engine(controller, tmp_path):
    def start_child(path):
        child = subprocess.Popen(["sleep", "1000"])
        with open(f"{path}.new", "w") as file:
            file.write(str(child.pid))
        os.rename(f"{path}.new", path)
        os.kill(os.getpid(), signal.SIGKILL)

    [engine] = controller.start()
    controller.assign(engine, (start_child, str(tmp_path / "pid")))
    controller.wait_death(engine)
    wait_gone(int((tmp_path / "pid").read_text()))


# --- starts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/no/such/interpreter"], "No such file or directory: '/no/such/interpreter'"),
        ([sys.executable, "-c", "import no_such_module"], "3 engines in a row"),
        ([sys.executable, "-c", "import no_such_module"], "No module named 'no_such_module'"),
    ],
)
def test_engines_that_do_not_start_are_given_up_with_what_they_said(controller, command, said):
    nanny = controller.start_nanny(2, engine_command=command)
    controller.wait_for(lambda: controller.messages(m.EnginesFailed))
    assert said in controller.messages(m.EnginesFailed)[0].text
    # The nanny stays, and ends when it is told
    assert nanny.poll() is None
    controller.say(controller.nanny_identity, m.Bye())
    assert nanny.wait(WAIT_S) == 0
    controller.wait_for(lambda: controller.messages(m.Bye))
    assert len(controller.messages(m.EnginesFailed)) == 1


def test_an_engine_that_is_never_ready_is_killed_and_told(controller):
    code = "import time; print('waiting for Godot', flush=True); time.sleep(1000)"
    controller.start_nanny(
        1, config={"start_timeout_s": 0.5}, engine_command=[sys.executable, "-c", code]
    )
    controller.wait_for(lambda: controller.messages(m.EnginesFailed))
    text = controller.messages(m.EnginesFailed)[0].text
    assert text.startswith(
        "3 engines in a row did not get to a first task; "
        "the last one was not ready 0.5 s after its start (killed by SIGKILL"
    )
    assert "waiting for Godot" in text
    assert len(controller.messages(m.EngineDied)) == 3


def test_a_nanny_that_reaches_nobody_says_so(tmp_path):
    connection = tmp_path / "connection.json"
    write_connection_file(connection, ConnectionInfo("gone", "ipc:///tmp/no-such-headway.sock"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "headway.engine.nanny"),
            *("--engines", "1", "--connection", str(connection)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "the nanny can't start: the cluster gone is gone: no socket at /tmp/no-such-headway.sock\n"
    )


def test_a_refused_nanny_says_why(controller):
    controller.refusal = "it is too late"
    nanny = controller.start_nanny()
    controller.wait_for(lambda: controller.messages(m.NannyHello))
    assert nanny.wait(WAIT_S) == 1
    assert nanny.stderr.read() == (
        b"the nanny can't start: the controller refused: it is too late\n"
    )


def test_a_refused_engine_says_why_and_is_not_started_for_ever(controller):
    controller.start_nanny()
    controller.wait_for(lambda: controller.nanny_identity)
    controller.refusal = "no room"
    controller.wait_for(lambda: controller.messages(m.EnginesFailed))
    assert "the controller refused: no room" in controller.messages(m.EnginesFailed)[0].text
    assert len(controller.messages(m.EngineDied)) == 3


# --- stopping on request ------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
def test_an_engine_that_is_stopped_ends_as_wanted(controller, restart):
    first, second = controller.start(2)
    controller.assign(first, (spin_and_ignore,))
    controller.wait_running(first, 1)
    stop = m.StopEngine(first.token, "drained by its user", restart)
    controller.say(controller.nanny_identity, stop)
    death = controller.wait_death(first)
    assert death.end.wanted
    assert death.end.text.startswith("drained by its user (exited with code 0")
    assert (death.started, death.busy) == (1, True)
    if restart:
        controller.wait_for(lambda: len(controller.engines) == 3)
    # Then the other one lives on, and only as many as before, or one fewer
    before = len(controller.messages(m.Heartbeat))
    controller.wait_for(lambda: len(controller.messages(m.Heartbeat)) > before + 1)
    tokens = {v.token for v in controller.messages(m.Heartbeat)[-1].engines}
    assert tokens == {e.token for e in controller.engines} - {first.token}
    assert second.token in tokens


def test_an_engine_that_does_not_stop_is_killed(controller):
    def hold_on():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)

    [engine] = controller.start()
    controller.assign(engine, (hold_on,))
    controller.wait_running(engine, 1)
    controller.say(controller.nanny_identity, m.StopEngine(engine.token, "enough"))
    death = controller.wait_death(engine)
    assert death.end.wanted
    assert death.end.text.startswith("enough (killed by SIGKILL")


def test_the_task_that_runs_is_interrupted_on_request(controller):
    [engine] = controller.start()
    controller.assign(engine, (spin,), (noop,))
    controller.wait_running(engine, 1)
    controller.say(controller.nanny_identity, m.InterruptTask(engine.token, 2))  # it does not run
    controller.say(controller.nanny_identity, m.InterruptTask(engine.token, 1))
    assert [o.status for o in controller.wait_outcomes(2)] == [ev.STOPPED, ev.RAN]


# --- time limits --------------------------------------------------------------------------------


def test_a_task_that_overruns_is_interrupted_and_the_next_one_runs(controller):
    [engine] = controller.start()
    controller.assign(engine, (spin,), (noop,), run_timeout_s=0.1)
    assert [o.status for o in controller.wait_outcomes(2)] == [ev.OVERRAN, ev.RAN]
    assert not controller.messages(m.EngineDied)


def test_a_task_that_overruns_behind_others_with_a_time_limit_is_seen_as_well(controller):
    # The nanny was told to look for the first, which ended long before.
    [engine] = controller.start()
    controller.assign(engine, *[(noop,)] * 20, (spin,), run_timeout_s=0.2)
    assert controller.wait_outcome(21).status == ev.OVERRAN


def test_a_task_that_ignores_its_interrupt_is_killed_and_told_as_overrun(controller):
    [engine] = controller.start()
    controller.assign(engine, (spin_and_ignore,), run_timeout_s=0.1)
    death = controller.wait_death(engine)
    assert (death.end.overran, death.end.wanted) == (True, False)
    assert (death.started, death.busy) == (1, True)
    assert "task 0-1 ran on for 0.3 s after it was interrupted" in death.end.text
    controller.wait_for(lambda: len(controller.engines) == 2)


# --- the end of all -----------------------------------------------------------------------------


def test_a_bye_ends_engines_and_nanny(controller):
    engines = controller.start(2)
    controller.assign(engines[0], (spin,))
    controller.wait_running(engines[0], 1)
    controller.say(controller.nanny_identity, m.Bye("the cluster stops"))
    assert controller.processes[0].wait(WAIT_S) == 0
    assert not any(is_alive(e.pid) for e in engines)
    for engine in engines:
        death = controller.wait_death(engine)
        assert death.end.wanted
        assert death.end.text.startswith("the cluster stops (")


def test_sigterm_ends_engines_and_nanny(controller):
    engines = controller.start(2)
    controller.processes[0].terminate()
    assert controller.processes[0].wait(WAIT_S) == 0
    assert not any(is_alive(e.pid) for e in engines)
    assert all(controller.wait_death(e).end.wanted for e in engines)


def test_the_end_of_the_lifeline_ends_nanny_and_engines(controller):
    engines = controller.start(2)
    controller.assign(engines[0], (spin,))
    controller.wait_running(engines[0], 1)
    controller.processes[0].stdin.close()
    assert controller.processes[0].wait(WAIT_S) == 0
    assert not any(is_alive(e.pid) for e in engines)


def test_engines_end_with_a_nanny_that_is_killed(controller):
    engines = controller.start(2)
    controller.assign(engines[0], (spin,))
    controller.wait_running(engines[0], 1)
    controller.processes[0].kill()
    wait_gone(*[e.pid for e in engines])


def test_a_nanny_ends_when_its_parent_is_killed_though_a_fork_holds_the_lifeline(
    controller: FakeController,
):
    # Given a parent that started a nanny, and a fork of it that holds the pipe's other end
    code = (
        "import os, subprocess, sys, time\n"
        "nanny = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "fork = os.fork()\n"
        "if fork: print(nanny.pid, fork, flush=True)\n"
        "time.sleep(1000)\n"
    )
    arguments = [sys.executable, "-m", "headway.engine.nanny", "--engines", "1"]
    arguments += ["--connection", str(controller.connection)]
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    )
    nanny, fork = map(int, parent.stdout.readline().split())
    try:
        controller.wait_for(lambda: controller.engines)
        # When the parent is killed
        parent.kill()
        parent.wait()
        # Then nanny and engine end all the same
        controller.wait_for(lambda: not is_alive(nanny))
        wait_gone(controller.engines[0].pid)
    finally:
        parent.stdout.close()
        os.kill(fork, signal.SIGKILL)


def test_a_nanny_whose_controller_falls_silent_ends(controller, monkeypatch):
    # Given a controller that pings, and then no more
    monkeypatch.setattr(controller, "heartbeat_timeout_s", 0.5)
    [engine] = controller.start()
    controller.say(controller.nanny_identity, m.Ping())
    assert controller.processes[0].wait(WAIT_S) == 0
    assert "the controller was silent for 0.5 s" in controller.wait_death(engine).end.text


def test_heartbeats_tell_the_memory_of_each_engine(controller):
    engines = controller.start(2)
    controller.wait_for(lambda: controller.messages(m.Heartbeat)[-1].engines)
    controller.wait_for(
        lambda: all(v.rss_bytes > 1_000_000 for v in controller.messages(m.Heartbeat)[-1].engines)
    )
    assert len(controller.messages(m.Heartbeat)[-1].engines) == len(engines)
