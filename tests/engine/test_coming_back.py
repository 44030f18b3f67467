"""Promise: while the controller is away engines work on, and when one is back all that they did
counts, once.

Real processes; the controller, which the test plays, is gone and comes back as the next one of
its cluster would: with its books, and knowing nobody's connection.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import time

import cloudpickle
import pytest

from headway.core import events as ev
from headway.wire import messages as m

# The engines can't import the tests: functions travel by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

CLUSTER = "test"


def wait_for_file(path, then=None):
    while not os.path.exists(path):
        time.sleep(0.001)
    if then is not None:
        then.touch()


def wait_until_away():
    """In a task: its engine has seen that the controller is gone."""
    while not sys.stdout._output._is_kept:
        time.sleep(0.001)


def is_back(engine, nth=2):
    return lambda: engine.hello.nth >= nth


def batches(controller, engine):
    """The numbers of all batches that came."""
    return [message.batch for message in controller.messages(m.Outcomes, engine)]


# --- away, and back -----------------------------------------------------------------------------


def test_an_engine_comes_back_as_the_same_and_works_on(durable):
    [engine] = durable.start()
    durable.assign(engine, (pow, 2, 3))
    durable.wait_outcomes(1)
    durable.settle(engine)
    first = engine.hello
    durable.vanish()
    durable.return_()
    durable.wait_for(is_back(engine))
    again = engine.hello
    assert (first.cluster, again.cluster, again.nth) == ("", CLUSTER, 2)
    assert (again.token, again.nanny, again.pid) == (first.token, first.nanny, first.pid)
    assert again.held == []
    # Functions are sent again, and are needed again
    durable.assign(engine, (pow, 2, 4), first=2)
    assert durable.wait_outcome(2).status == ev.RAN
    assert [o.task for o in durable.outcomes()] == [1, 2]


def test_outcomes_are_sent_again_in_order_exactly_if_they_were_not_accepted(durable):
    # Given a batch that was accepted, and three that were not
    [engine] = durable.start()
    durable.assign(engine, (pow, 2, 1))
    durable.wait_outcomes(1)
    durable.settle(engine)
    durable.accepts = False
    for task in (2, 3, 4):
        durable.assign(engine, (pow, 2, task), first=task)
        durable.wait_for(lambda: batches(durable, engine)[-1] == task)  # noqa: B023
    # When the controller is away, and another one has only the second in its journal
    durable.vanish()
    durable.accepts = True
    durable.on_outcomes(engine, durable.messages(m.Outcomes, engine)[1])
    durable.return_()
    # Then the two others come again
    durable.wait_outcomes(4)
    assert batches(durable, engine) == [1, 2, 3, 4, 3, 4]
    assert [o.task for o in durable.outcomes()] == [1, 2, 3, 4]
    assert engine.held() == [(2, 1), (3, 1), (4, 1)]


def test_what_waits_runs_or_is_done_is_held(durable, gate_file):
    [engine] = durable.start()
    durable.accepts = False
    durable.assign(engine, (pow, 2, 3), (wait_for_file, gate_file), (pow, 2, 4), (pow, 2, 5))
    durable.wait_for(lambda: durable.messages(m.Outcomes))
    durable.wait_running(engine, 2)
    durable.vanish()
    durable.accepts = True
    durable.return_()
    durable.wait_for(is_back(engine))
    assert sorted(engine.held()) == [(1, 1), (2, 1), (3, 1), (4, 1)]
    gate_file.touch()
    assert sorted(o.task for o in durable.wait_outcomes(4)) == [1, 2, 3, 4]


def test_a_task_that_ends_while_nobody_is_there_is_told_later(durable, gate_file, tmp_path):
    [engine] = durable.start()
    ended = tmp_path / "ended"
    durable.assign(engine, (wait_for_file, gate_file, ended), (pow, 2, 3), attempt=7)
    durable.wait_running(engine, 1)
    durable.vanish()
    gate_file.touch()
    wait_for_file(ended)
    durable.return_()
    assert [o.task for o in durable.wait_outcomes(2)] == [1, 2]
    assert sorted(engine.held()) == [(1, 7), (2, 7)]
    assert not durable.messages(m.EngineDied)


def test_it_comes_back_again_and_again(durable, gate_file):
    [engine] = durable.start()
    durable.assign(engine, (wait_for_file, gate_file))
    durable.wait_running(engine, 1)
    for nth in (2, 3, 4):
        durable.vanish()
        durable.return_()
        durable.wait_for(is_back(engine, nth))
        assert engine.held() == [(1, 1)]
    gate_file.touch()
    durable.wait_outcome(1)
    assert len(durable.outcomes()) == 1


def test_a_task_that_holds_the_interpreter_goes_on_and_its_result_comes_once(durable, tmp_path):
    def hold(path):
        fd = os.open(path, os.O_RDONLY)
        return ctypes.PyDLL(None).read(fd, ctypes.create_string_buffer(1), 1)

    # Given a task in C code, which no other thread of the engine gets past
    [engine] = durable.start()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    durable.assign(engine, (hold, str(pipe)), (pow, 2, 3))
    write_fd = os.open(pipe, os.O_WRONLY)
    durable.wait_running(engine, 1)
    # When the controller is away and back; the nanny is there, and the engine can't be
    durable.vanish()
    durable.return_()
    durable.wait_for(lambda: durable.messages(m.NannyHello)[-1].nth == 2)
    assert durable.messages(m.NannyHello)[-1].engines == [engine.token]
    assert engine.hello.nth == 1
    # Then it comes when it can
    os.write(write_fd, b"!")
    os.close(write_fd)
    assert [o.task for o in durable.wait_outcomes(2)] == [1, 2]
    assert engine.hello.nth == 2
    assert not durable.messages(m.EngineDied)


# --- what counts --------------------------------------------------------------------------------


def test_what_comes_between_a_hello_and_its_welcome_is_void(durable, gate_file):
    # Given an engine that has a task, and says hello again
    [engine] = durable.start()
    durable.assign(engine, (wait_for_file, gate_file), (pow, 2, 3))
    durable.wait_running(engine, 1)
    durable.vanish()
    durable.answers = False
    durable.return_()
    durable.wait_for(is_back(engine))
    # When it is sent things by somebody who has not yet heard that
    durable.assign(engine, (pow, 2, 3), first=10)
    durable.say(engine.identity, m.GiveBack([2]))
    durable.say(engine.identity, m.StopTasks([1, 2]))
    durable.say(engine.identity, m.Accepted(5))
    # And the answer to an older hello
    durable.say(engine.identity, m.Welcome(m.VERSION, CLUSTER, 1, 0, 1.0, 15.0, nth=1))
    durable.assign(engine, (pow, 2, 3), first=11)
    durable.welcome(engine.identity, engine.hello)
    # Then only what comes after its welcome counts
    durable.assign(engine, (pow, 2, 3), first=12)
    durable.say(engine.identity, m.GiveBack([10, 11, 12]))
    durable.wait_for(lambda: durable.messages(m.Returned))
    assert [[h.task for h in r.tasks] for r in durable.messages(m.Returned)] == [[12]]
    gate_file.touch()
    outcomes = durable.wait_outcomes(2)
    assert [(o.task, o.status) for o in outcomes] == [(1, ev.RAN), (2, ev.RAN)]


def test_a_peer_that_is_asked_who_it_is_says_hello_again_and_works_on(durable, gate_file):
    [engine] = durable.start()
    durable.assign(engine, (wait_for_file, gate_file))
    durable.wait_running(engine, 1)
    for identity in (engine.identity, durable.nanny_identity):
        for _ in range(10):
            durable.say(identity, m.WhoAreYou())
    durable.wait_for(is_back(engine))
    durable.wait_for(lambda: durable.messages(m.NannyHello)[-1].nth > 1)
    assert engine.held() == [(1, 1)]
    gate_file.touch()
    durable.wait_outcome(1)
    assert not durable.messages(m.EngineDied)


@pytest.mark.parametrize("kind", ["refused", "another cluster"])
def test_an_engine_that_is_not_wanted_any_more_ends_and_says_why(durable, kind):
    [engine] = durable.start()
    durable.vanish()
    durable.answers = False
    durable.return_()
    durable.wait_for(is_back(engine))
    if kind == "refused":
        durable.say(engine.identity, m.Refused("it was given up"))
    else:
        durable.cluster = "other"
        durable.welcome(engine.identity, engine.hello)
        durable.cluster = CLUSTER
    # Then the nanny, which is wanted, tells why, and starts another one
    durable.answers = True
    durable.say(durable.nanny_identity, m.WhoAreYou())
    text = durable.wait_death(engine).end.text
    assert {
        "refused": "the controller refused: it was given up",
        "another cluster": "the cluster test is gone: in its place is another, other",
    }[kind] in text
    durable.wait_for(lambda: len(durable.engines) == 2)


# --- what gets lost on its way ------------------------------------------------------------------


def test_outcomes_that_got_lost_with_their_connection_come_on_the_next(controller, relay):
    [engine] = controller.start()
    controller.assign(engine, (pow, 2, 3))
    controller.wait_outcomes(1)
    controller.settle(engine)
    # Given outcomes under way, when their connection breaks, and only that
    relay.hold("results")
    controller.assign(engine, (pow, 2, 4), first=2)
    relay.wait_held("results")
    relay.cut("results")
    # Then the engine says hello, and they come
    controller.wait_outcomes(2)
    assert engine.held() == [(2, 1)]
    assert batches(controller, engine) == [1, 2]


def test_an_assignment_that_got_lost_is_not_held(controller, relay, gate_file):
    [engine] = controller.start()
    controller.assign(engine, (wait_for_file, gate_file))
    controller.wait_running(engine, 1)
    relay.hold("commands")
    controller.assign(engine, (pow, 2, 3), first=2)
    relay.cut("commands")
    controller.wait_for(is_back(engine))
    assert engine.held() == [(1, 1)]
    # And the next attempt at it, and the function that got lost with it, arrive
    engine.sent_functions.clear()
    controller.assign(engine, (pow, 2, 3), first=2, attempt=2)
    gate_file.touch()
    outcomes = controller.wait_outcomes(2)
    assert [(o.task, o.attempt, o.status) for o in outcomes] == [(1, 1, ev.RAN), (2, 2, ev.RAN)]


def test_outcomes_that_had_arrived_when_both_connections_broke_count_once(controller, relay):
    [engine] = controller.start()
    controller.assign(engine, (pow, 2, 3))
    controller.wait_for(lambda: controller.messages(m.Outcomes))
    # Given an answer that gets lost
    relay.hold("commands")
    controller.assign(engine, (pow, 2, 4), first=2)
    relay.cut("results")
    relay.cut("commands")
    controller.wait_for(is_back(engine))
    controller.assign(engine, (pow, 2, 5), first=3)
    controller.wait_outcomes(2)
    assert [o.task for o in controller.outcomes()] == [1, 3]


def test_outcomes_count_once_and_in_order_however_often_connections_break(controller, relay):
    def work(number):
        time.sleep(0.001)
        return number

    [engine] = controller.start()
    count = 1_500
    controller.assign(engine, *[(work, number) for number in range(count)])
    controller.settle(engine)
    kinds = itertools.cycle([["results"], ["commands"], ["commands", "results"]])
    while (done := len(controller.outcomes())) < count:
        for kind in next(kinds):
            relay.cut(kind)
        # The fake controller sees to it that no batch is missing
        controller.wait_for(lambda: len(controller.outcomes()) > done)
    assert [o.task for o in controller.outcomes()] == list(range(1, count + 1))
    assert engine.hello.nth > 2


# --- what is printed ----------------------------------------------------------------------------


def test_what_is_printed_while_nobody_is_there_comes_before_the_outcome(durable, tmp_path):
    def speak(ended):
        print("before")
        wait_until_away()
        print("after")
        ended.touch()

    [engine] = durable.start()
    ended = tmp_path / "ended"
    durable.assign(engine, (speak, ended))
    durable.wait_for(lambda: durable.printed() == [(1, "before\n")])
    durable.vanish()
    wait_for_file(ended)
    durable.return_()
    durable.wait_outcomes(1)
    assert durable.printed() == [(1, "before\nafter\n")]
    kinds = [type(message) for _, message in durable.heard]
    assert m.Output not in kinds[kinds.index(m.Outcomes) :]


def test_who_prints_without_end_while_nobody_is_there_goes_on(durable, tmp_path):
    def speak(ended):
        wait_until_away()
        for number in range(30):
            print(f"{number:100000}")
            os.write(2, b"%100000d\n" % number)
        ended.touch()

    [engine] = durable.start()
    ended = tmp_path / "ended"
    durable.assign(engine, (speak, ended))
    durable.wait_running(engine, 1)
    durable.vanish()
    wait_for_file(ended)
    durable.return_()

    # Then the end of what it printed is there, and how much is missing is told: by the engine,
    # and by the nanny, which forwards what goes to the descriptors
    def printed(stream):
        return "".join(text for _, text in durable.printed(stream))

    durable.wait_outcomes(1)
    durable.wait_for(lambda: "29\n" in printed("stdout") and "29\n" in printed("stderr"))
    told = " characters printed while the controller was away were dropped]"
    durable.wait_for(lambda: printed("stderr").count(told) == 2)
    assert "10\n" not in printed("stdout")
