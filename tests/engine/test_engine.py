"""Promise: an engine runs what it is assigned, in order, once, and tells it without delay.

Real processes, with a controller that says what the test says.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import cloudpickle
import pytest

from headway import errors
from headway.core import events as ev
from headway.wire import codec, payload
from headway.wire import messages as m

# The engines can't import the tests: functions travel by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def noop():
    pass


def wait_for_file(path):
    while not os.path.exists(path):
        time.sleep(0.001)
    return "seen"


def raise_it(error):
    raise error


def values(outcomes):
    return [payload.load_result(o.payload) for o in outcomes]


def test_a_batch_runs_in_order_and_its_function_is_sent_once(controller):
    [engine] = controller.start()
    # Given a function that was sent with the first batch alone
    controller.assign(engine, *[(pow, n, 2) for n in range(100)], first=1)
    controller.assign(engine, *[(pow, n, 3) for n in range(100)], first=101)
    # Then all tasks have run, in order, each reported once
    outcomes = controller.wait_outcomes(200)
    assert [o.task for o in outcomes] == list(range(1, 201))
    assert {o.status for o in outcomes} == {ev.RAN}
    assert values(outcomes) == [n**2 for n in range(100)] + [n**3 for n in range(100)]


def test_a_result_does_not_wait_for_the_long_task_behind_it(controller, gate_file):
    [engine] = controller.start()
    controller.assign(engine, (pow, 2, 3), (wait_for_file, gate_file))
    assert [o.task for o in controller.wait_outcomes(1)] == [1]
    gate_file.touch()
    assert [o.task for o in controller.wait_outcomes(2)] == [1, 2]


def test_a_result_does_not_wait_for_a_task_that_was_thought_to_be_short(controller, gate_file):
    def maybe_wait(path):
        if path is not None:
            while not os.path.exists(path):
                pass  # holds the interpreter, as Python code does

    [engine] = controller.start()
    # Given a function that is known to be short
    controller.assign(engine, *[(maybe_wait, None)] * 50)
    controller.wait_outcomes(50)
    # When it is not, once, behind one that is
    controller.assign(engine, (maybe_wait, None), (maybe_wait, gate_file), first=51)
    # Then the result before it comes all the same
    controller.wait_outcome(51)
    gate_file.touch()
    controller.wait_outcome(52)


def test_tasks_behind_a_blocked_one_are_given_back_and_never_run(controller, gate_file):
    [engine] = controller.start()
    controller.assign(engine, (wait_for_file, gate_file), (noop,), (noop,), (noop,))
    controller.wait_running(engine, 1)
    controller.say(engine.identity, m.GiveBack([1, 2, 4, 9]))
    controller.wait_for(lambda: controller.messages(m.Returned))
    assert controller.messages(m.Returned) == [m.Returned([m.Held(2, 1), m.Held(4, 1)], [1, 9])]
    gate_file.touch()
    assert [o.task for o in controller.wait_outcomes(2)] == [1, 3]


def test_asking_for_nothing_that_waits_is_answered_with_nothing(controller):
    [engine] = controller.start()
    controller.say(engine.identity, m.GiveBack([5]))
    controller.wait_for(lambda: controller.messages(m.Returned))
    assert controller.messages(m.Returned) == [m.Returned([], [5])]


def test_stopped_tasks_are_dropped_or_interrupted_and_each_is_answered(controller, gate_file):
    [engine] = controller.start()
    controller.assign(engine, (wait_for_file, gate_file), (noop,), (noop,))
    controller.wait_running(engine, 1)
    controller.say(engine.identity, m.StopTasks([2, 1, 9]))
    outcomes = {o.task: o.status for o in controller.wait_outcomes(3)}
    assert outcomes == {1: ev.STOPPED, 2: ev.STOPPED, 3: ev.RAN}


def test_an_engine_survives_every_exception(controller):
    [engine] = controller.start()
    raised = [ValueError("no"), SystemExit(3), KeyboardInterrupt(), MemoryError()]
    controller.assign(engine, *[(raise_it, error) for error in raised], (noop,))
    *failed, last = controller.wait_outcomes(5)
    told = [payload.load_exception(o.payload) for o in failed]
    assert [type(error) for error in told] == [type(error) for error in raised]
    assert "raise_it" in str(told[0].__cause__)
    assert last.status == ev.RAN
    assert not controller.messages(m.EngineDied)


def test_a_result_that_cannot_be_pickled_names_function_and_type(controller):
    def make_lock():
        return threading.Lock()

    [engine] = controller.start()
    controller.assign(engine, (make_lock,))
    [outcome] = controller.wait_outcomes(1)
    error = payload.load_exception(outcome.payload)
    assert isinstance(error, errors.SerializationError)
    assert "make_lock" in str(error)
    assert "lock" in str(error)


def test_a_function_that_was_dropped_is_forgotten_and_can_be_sent_again(controller):
    [engine] = controller.start()
    digest, pickled = payload.dump_function(noop)

    def assign(task, **functions):
        tasks = [m.Assignment(task, 1, 0, b"")]
        controller.say(engine.identity, m.Assigned([digest], tasks, **functions))
        return controller.wait_outcome(task)

    assert assign(1, new_functions={digest: pickled}).status == ev.RAN
    assert assign(2).status == ev.RAN
    lost = assign(3, dropped_functions=[digest])
    assert lost.status == ev.RAISED
    assert "never sent" in str(payload.load_exception(lost.payload))
    again = assign(4, dropped_functions=[digest], new_functions={digest: pickled})
    assert again.status == ev.RAN


def test_large_arguments_inputs_and_results_travel_as_frames_of_their_own(controller):
    def join(a, b):
        return a + b

    [engine] = controller.start()
    large = os.urandom(200_000)
    function, arguments, value = (
        payload.dump_function(join),
        payload.dump_arguments((large, large), {})[0],
        payload.dump_result(large + large, "join"),
    )
    batch = codec.Batch(1000)
    tasks = [m.Assignment(1, 1, 0, batch.place(arguments)), m.Assignment(2, 1, 0, b"")]
    message = m.Assigned([function[0]], tasks, {function[0]: function[1]})
    controller.say(engine.identity, message, batch.large)
    first, second = controller.wait_outcomes(2)
    assert first.payload == value
    assert second.status == ev.RAISED


def test_what_a_task_prints_is_tagged_and_comes_before_its_outcome(controller):
    def speak(text):
        print(text)
        print(text.upper(), file=sys.stderr)

    [engine] = controller.start()
    controller.assign(engine, (speak, "one"), (noop,), (speak, "two"))
    controller.wait_outcomes(3)
    assert controller.printed("stdout") == [(1, "one\n"), (3, "two\n")]
    assert controller.printed("stderr") == [(1, "ONE\n"), (3, "TWO\n")]
    kinds = [type(msg) for _, msg in controller.heard]
    assert kinds.index(m.Output) < kinds.index(m.Outcomes)


def test_what_a_long_task_prints_comes_while_it_runs(controller, gate_file):
    def speak_and_wait(path):
        print("at work")
        while not os.path.exists(path):
            time.sleep(0.001)

    [engine] = controller.start()
    controller.assign(engine, (speak_and_wait, gate_file))
    controller.wait_for(lambda: controller.printed() == [(1, "at work\n")])
    assert not controller.outcomes()
    gate_file.touch()
    controller.wait_outcomes(1)


def test_what_goes_to_the_descriptors_is_tagged_by_the_nanny(controller, gate_file):
    def write_raw(path):
        os.write(1, b"raw out\n")
        os.system("echo from a child 1>&2")
        while not os.path.exists(path):
            time.sleep(0.001)

    [engine] = controller.start()
    controller.assign(engine, (write_raw, gate_file))
    controller.wait_for(lambda: controller.printed("stdout") == [(1, "raw out\n")])
    controller.wait_for(lambda: controller.printed("stderr") == [(1, "from a child\n")])
    assert {o.token for o in controller.messages(m.Output)} == {engine.token}
    gate_file.touch()
    controller.wait_outcomes(1)


def test_a_forked_child_of_a_task_prints_by_way_of_the_nanny(controller, gate_file):
    def fork_and_print(path):
        pid = os.fork()
        if pid == 0:
            print("from the fork")
            os._exit(0)
        os.waitpid(pid, 0)
        while not os.path.exists(path):
            time.sleep(0.001)

    [engine] = controller.start()
    controller.assign(engine, (fork_and_print, gate_file))
    controller.wait_for(lambda: controller.printed() == [(1, "from the fork\n")])
    gate_file.touch()
    controller.wait_outcomes(1)


def test_a_task_finds_the_world_of_the_client(controller, tmp_path):
    def look():
        return os.getcwd(), sys.stdin.read(), os.environ["HEADWAY_CONNECTION"], sys.path[-1]

    [engine] = controller.start(cwd=str(tmp_path), sys_path=["/usr", "/some/where"])
    controller.assign(engine, (look,))
    [outcome] = controller.wait_outcomes(1)
    found = payload.load_result(outcome.payload)
    assert found == (str(tmp_path), "", str(controller.connection), "/some/where")


def test_an_interrupt_that_comes_too_late_is_harmless(controller):
    [engine] = controller.start()
    controller.assign(engine, (noop,))
    controller.wait_outcomes(1)
    os.kill(engine.pid, signal.SIGINT)
    controller.say(controller.nanny_identity, m.InterruptTasks(engine.token, [1]))
    controller.say(engine.identity, m.StopTasks([1]))
    # Behind the StopTasks, so that it was heard
    controller.say(engine.identity, m.GiveBack([]))
    controller.wait_for(lambda: controller.messages(m.Returned))
    os.kill(engine.pid, signal.SIGINT)
    controller.assign(engine, (noop,), first=2)
    assert controller.wait_outcome(2).status == ev.RAN
    assert len(controller.outcomes()) == 2
    assert not controller.messages(m.EngineDied)


@pytest.mark.parametrize("busy", [False, True])
def test_a_bye_ends_the_engine_also_while_a_task_runs(controller, gate_file, busy):
    [engine] = controller.start()
    controller.assign(engine, (noop,))
    controller.wait_outcomes(1)
    if busy:
        controller.assign(engine, (wait_for_file, gate_file), first=2)
        controller.wait_running(engine, 2)
    controller.say(engine.identity, m.Bye("over"))
    death = controller.wait_death(engine)
    assert "exited with code 0" in death.end.text
    assert (death.started, death.busy) == ((2, True) if busy else (1, False))
    assert [o.task for o in controller.outcomes()] == [1]
