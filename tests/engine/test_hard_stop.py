"""Promise: a task that shall stop stops, whatever it does against it; and the report says where
it was.

Real processes, with a controller that says what the test says. The grace is 0.3 s.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sys
import time

import cloudpickle
import pytest

from headway.core import events as ev
from headway.wire import messages as m

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def noop():
    pass


def hold_the_interpreter():
    sum(itertools.repeat(0))  # C code that never ends, nor looks at signals, nor lets others run


def ignore_sigint():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


def block_all_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(0.01)


def catch_and_go_on():
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                pass


def catch_everything():
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass


UNSTOPPABLE = [hold_the_interpreter, ignore_sigint, catch_and_go_on, catch_everything]


def stop(controller, engine, *tasks):
    """What the controller says when `tasks` are cancelled: the same to engine and nanny."""
    controller.say(engine.identity, m.StopTasks(list(tasks)))
    controller.say(controller.nanny_identity, m.InterruptTasks(engine.token, list(tasks)))


@pytest.mark.parametrize("task", UNSTOPPABLE)
def test_a_task_that_does_not_heed_its_interrupt_is_killed_and_its_engine_replaced(
    controller, task
):
    [engine] = controller.start()
    controller.assign(engine, (task,), (noop,))
    controller.wait_running(engine, 1)
    stop(controller, engine, 1)
    death = controller.wait_death(engine)
    # It is told as wanted, so that nobody is charged; the one behind had not begun
    assert (death.end.wanted, death.end.overran) == (True, False)
    assert (death.started, death.busy) == (1, True)
    assert death.end.text.startswith(
        "killed by SIGKILL and replaced, since task 0-1 ran on for 0.3 s after it was interrupted"
    )
    assert controller.outcomes() == []
    # And the replacement works
    controller.wait_for(lambda: len(controller.engines) == 2)
    controller.assign(controller.engines[1], (noop,), first=10)
    assert controller.wait_outcome(10).status == ev.RAN


@pytest.mark.parametrize("task", UNSTOPPABLE)
def test_a_task_that_overruns_its_time_limit_goes_the_same_way(controller, task):
    [engine] = controller.start()
    controller.assign(engine, (task,), run_timeout_s=0.1)
    death = controller.wait_death(engine)
    assert (death.end.wanted, death.end.overran) == (False, True)
    assert (death.started, death.busy) == (1, True)
    assert "since task 0-1 ran on for 0.3 s" in death.end.text
    controller.wait_for(lambda: len(controller.engines) == 2)


@pytest.mark.parametrize("task", [hold_the_interpreter, catch_everything])
def test_the_report_says_where_the_task_was_also_in_c_code(controller, task):
    def outer():
        task()

    [engine] = controller.start()
    controller.assign(engine, (outer,))
    controller.wait_running(engine, 1)
    stop(controller, engine, 1)
    text = controller.wait_death(engine).end.text
    head, _, stack = text.partition("; it was in, innermost first:\n")
    frames = stack.splitlines()
    assert f"in {task.__name__}" in frames[0]
    assert "in outer" in frames[1]
    assert len(frames) == 2  # nothing of the engine's own
    assert "peak RSS" in head


def test_a_task_that_waits_in_the_engine_is_dropped_and_nothing_is_killed(controller, gate_file):
    def wait(path):
        while not os.path.exists(path):
            time.sleep(0.001)

    [engine] = controller.start()
    controller.assign(engine, (wait, gate_file), (hold_the_interpreter,), (noop,))
    controller.wait_running(engine, 1)
    stop(controller, engine, 2)
    assert controller.wait_outcome(2).status == ev.STOPPED
    gate_file.touch()
    assert [o.status for o in controller.wait_outcomes(3)] == [ev.STOPPED, ev.RAN, ev.RAN]
    assert not controller.messages(m.EngineDied)


def test_a_task_that_begins_before_its_engine_can_hear_is_stopped_all_the_same(
    controller, gate_file
):
    def hold(path):
        # Until the file is there, and without ever letting another thread run
        sys.setswitchinterval(1000)
        while not os.path.exists(path):
            pass

    [engine] = controller.start()
    controller.assign(engine, (hold, gate_file), (hold_the_interpreter,))
    controller.wait_running(engine, 1)
    # Given an engine that is not told, as if it could not hear
    controller.say(controller.nanny_identity, m.InterruptTasks(engine.token, [2]))
    controller.say(controller.nanny_identity, m.Ping())
    gate_file.touch()
    death = controller.wait_death(engine)
    assert (death.started, death.end.wanted) == (2, True)


def test_a_task_that_blocks_all_signals_is_interrupted_by_way_of_another_thread(controller):
    [engine] = controller.start()
    controller.assign(engine, (block_all_signals,), (noop,))
    controller.wait_running(engine, 1)
    stop(controller, engine, 1)
    assert [o.status for o in controller.wait_outcomes(2)] == [ev.STOPPED, ev.RAN]


def test_c_code_that_looks_at_signals_is_interrupted_though_its_engine_can_hear_nothing(controller):
    def backtrack():
        re.fullmatch(r"(a+)+b", "a" * 64)  # holds the interpreter for longer than we live

    [engine] = controller.start()
    controller.assign(engine, (backtrack,), (noop,))
    controller.wait_running(engine, 1)
    stop(controller, engine, 1)
    assert [o.status for o in controller.wait_outcomes(2)] == [ev.STOPPED, ev.RAN]
    assert not controller.messages(m.EngineDied)


def test_a_task_that_cleans_up_within_its_grace_keeps_its_engine_and_is_stopped(controller):
    def clean_up():
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            return "cleaned up"

    [engine] = controller.start()
    controller.assign(engine, (clean_up,), (noop,))
    controller.wait_running(engine, 1)
    stop(controller, engine, 1)
    assert [o.status for o in controller.wait_outcomes(2)] == [ev.STOPPED, ev.RAN]
    assert not controller.messages(m.EngineDied)


def test_a_task_that_ended_before_it_was_stopped_has_its_result(controller):
    [engine] = controller.start()
    controller.assign(engine, (noop,))
    controller.wait_outcomes(1)
    stop(controller, engine, 1)
    controller.assign(engine, (noop,), first=2)
    assert [o.status for o in controller.wait_outcomes(2)] == [ev.RAN, ev.RAN]


def test_a_run_that_takes_long_to_die_of_itself_is_told_as_it_died(controller):
    # Given a task that crashes in its grace
    def crash():
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGSEGV)

    [engine] = controller.start()
    controller.assign(engine, (crash,))
    controller.wait_running(engine, 1)
    stop(controller, engine, 1)
    death = controller.wait_death(engine)
    assert death.end.text.startswith("killed by SIGSEGV")
    assert "in crash" in death.end.text
    assert not death.end.wanted
