"""Promise: an engine hears its controller whatever it does, in whichever thread.

Real processes, with a controller that says what the test says. Tasks that are known to be short
bring the ears into the main thread: each test begins there.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import cloudpickle
import pytest

from headway.core import events as ev
from headway.wire import messages as m

# The engines can't import the tests: functions travel by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def wait_for(path):
    """Short, unless there is a path."""
    while path is not None and not os.path.exists(path):
        time.sleep(0.001)


@pytest.fixture
def engine(controller):
    """An engine whose main thread hears."""
    [engine] = controller.start()
    controller.assign(engine, *[(wait_for, None)] * 50)
    controller.wait_outcomes(50)
    # One by one, so that it has waited with its own ears
    for task in range(51, 56):
        controller.assign(engine, (wait_for, None), first=task)
        controller.wait_outcome(task)
    return engine


def test_it_hears_while_a_task_runs_that_was_thought_to_be_short(controller, engine, gate_file):
    controller.assign(engine, (wait_for, gate_file), (wait_for, None), first=101)
    controller.wait_running(engine, 101)
    controller.say(engine.identity, m.GiveBack([102]))
    controller.wait_for(lambda: controller.messages(m.Returned))
    assert controller.messages(m.Returned) == [m.Returned([m.Held(102, 1)], [])]
    gate_file.touch()
    assert controller.wait_outcome(101).status == ev.RAN
    # And it takes its ears back
    controller.assign(engine, (wait_for, None), first=103)
    assert controller.wait_outcome(103).status == ev.RAN


def test_a_task_that_was_thought_to_be_short_can_be_stopped(controller, engine, gate_file):
    controller.assign(engine, (wait_for, gate_file), first=101)
    controller.wait_running(engine, 101)
    controller.say(engine.identity, m.StopTasks([101]))
    assert controller.wait_outcome(101).status == ev.STOPPED


def test_it_hears_again_after_it_has_idled_for_long(controller, engine):
    time.sleep(1.2)  # the span itself is what is tried: until then the main thread hears
    controller.assign(engine, (wait_for, None), (pow, 2, 3), first=101)
    controller.wait_outcomes(57)
    controller.assign(engine, (wait_for, None), first=103)
    assert controller.wait_outcome(103).status == ev.RAN


def test_short_tasks_and_long_ones_in_turn_all_run(controller, engine):
    count = 40
    for n in range(count):
        task = (time.sleep, 0.002) if n % 3 else (wait_for, None)
        controller.assign(engine, task, first=101 + n)
        if n % 2:
            controller.wait_outcome(101 + n)
    controller.wait_outcomes(55 + count)


def test_sigterm_ends_it_while_its_main_thread_hears(controller, engine):
    os.kill(engine.pid, signal.SIGTERM)
    controller.wait_for(lambda: controller.messages(m.EngineDied))
    [died] = controller.messages(m.EngineDied)
    assert not died.busy


def test_a_bye_ends_it_while_its_main_thread_hears(controller, engine):
    controller.say(engine.identity, m.Bye("stop"))
    controller.wait_for(lambda: controller.messages(m.EngineDied))
