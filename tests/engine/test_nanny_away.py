"""Promise: without a controller a nanny looks after its engines for as long as it was told, and
tells the next one what happened; and then it leaves nothing behind.

Real processes, with a controller that says what the test says.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import cloudpickle
import psutil
import pytest

from headway.core import events as ev
from headway.wire import messages as m
from tests.engine.fake_controller import WAIT_S, is_alive
from tests.engine.test_nanny import noop, spin, wait_gone

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def wait_children(nanny, *, without=(), older_than_s=0.0):
    """The processes of its engines, once it has one that is not in `without`, and not so young."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        found = [
            child
            for child in psutil.Process(nanny.pid).children(recursive=True)
            if child.pid not in without and is_engine(child, older_than_s)
        ]
        if found:
            return found
        assert time.monotonic() < deadline_s, "it has no such engine"
        time.sleep(0.005)


def is_engine(process, older_than_s):
    try:
        is_old = process.create_time() < time.time() - older_than_s
        return is_old and process.name() != "headway-forker"
    except psutil.NoSuchProcess:  # it ended while we looked
        return False


def last_hello(controller):
    return controller.messages(m.NannyHello)[-1]


def is_back(controller, nth=2):
    return lambda: last_hello(controller).nth >= nth


# --- deaths and starts --------------------------------------------------------------------------


def test_a_death_while_nobody_was_there_is_told_and_the_new_engine_joins_later(durable):
    [engine] = durable.start(config={"start_timeout_s": 0.5})
    [nanny] = durable.processes
    durable.assign(engine, (noop,), (spin,), (noop,))
    durable.wait_running(engine, 2)
    durable.vanish()
    os.kill(engine.pid, signal.SIGKILL)
    # Given that its replacement waits for longer than engines may take to start
    [replacement] = wait_children(nanny, without=[engine.pid], older_than_s=1.0)
    # When a controller is there again
    durable.return_()
    durable.wait_for(is_back(durable))
    # Then it hears of the death, and who is there now
    hello = last_hello(durable)
    assert (hello.cluster, hello.token) == ("test", durable.messages(m.NannyHello)[0].token)
    [died] = hello.died
    assert (died.token, died.started, died.busy) == (engine.token, 2, True)
    assert died.end.text.startswith("killed by SIGKILL")
    durable.wait_for(lambda: len(durable.engines) == 2)
    newcomer = durable.engines[1]
    assert hello.engines == [newcomer.token]
    assert (newcomer.hello.nth, newcomer.hello.cluster) == (1, "")
    assert newcomer.pid == replacement.pid
    durable.assign(newcomer, (noop,), first=10)
    assert durable.wait_outcome(10).status == ev.RAN


def test_a_death_after_its_hello_and_before_the_welcome_is_told_too(durable):
    [engine] = durable.start()
    durable.vanish()
    durable.answers = False
    durable.return_()
    durable.wait_for(is_back(durable))
    os.kill(engine.pid, signal.SIGKILL)
    wait_children(durable.processes[0], without=[engine.pid])
    hello = last_hello(durable)
    assert (hello.died, hello.engines) == ([], [engine.token])
    durable.answers = True
    durable.welcome(durable.nanny_identity, hello)
    durable.wait_for(lambda: durable.messages(m.EngineDied))
    assert len(durable.deaths(engine)) == 1


def test_a_death_that_was_told_is_told_again_to_the_next(durable):
    # It may not have been heard.
    [engine] = durable.start()
    os.kill(engine.pid, signal.SIGKILL)
    durable.wait_death(engine)
    durable.vanish()
    durable.return_()
    durable.wait_for(is_back(durable))
    assert [died.token for died in last_hello(durable).died] == [engine.token]


def test_that_engines_do_not_start_is_told_to_the_next(durable):
    durable.start_nanny(2, engine_command=[sys.executable, "-c", "import no_such_module"])
    durable.wait_for(lambda: durable.messages(m.EnginesFailed))
    durable.vanish()
    durable.return_()
    durable.wait_for(lambda: len(durable.messages(m.EnginesFailed)) == 2)


def test_a_silent_controller_is_looked_for_on_another_connection(controller):
    # Given a controller that pings, and then no more, and whose cluster another may take over
    controller.heartbeat_timeout_s, controller.reconnect_s = 0.5, 100.0
    [engine] = controller.start()
    controller.say(controller.nanny_identity, m.Ping())
    # Then the nanny says hello again, more than once, and its engine lives
    controller.wait_for(is_back(controller))
    controller.say(controller.nanny_identity, m.Ping())
    controller.wait_for(is_back(controller, 3))
    assert last_hello(controller).engines == [engine.token]
    assert is_alive(engine.pid)


# --- the end ------------------------------------------------------------------------------------


def test_a_nanny_that_nobody_comes_back_to_ends_and_leaves_nothing(durable):
    durable.reconnect_s = 0.3
    engines = durable.start(2)
    [nanny] = durable.processes
    durable.assign(engines[0], (spin,))
    durable.wait_running(engines[0], 1)
    durable.vanish()
    assert nanny.wait(WAIT_S) == 1
    assert nanny.stderr.read() == (
        b"the nanny ends: the controller was lost, and none came back within 0.3 s\n"
    )
    wait_gone(*[engine.pid for engine in engines])


def test_an_engine_that_never_met_a_controller_ends_with_its_nanny(durable):
    durable.reconnect_s = 2.0
    [engine] = durable.start()
    [nanny] = durable.processes
    durable.vanish()
    os.kill(engine.pid, signal.SIGKILL)
    [replacement] = wait_children(nanny, without=[engine.pid])
    assert nanny.wait(WAIT_S) == 1
    wait_gone(replacement.pid)


def test_sigterm_ends_a_nanny_that_waits_for_a_controller(durable):
    engines = durable.start(2)
    [nanny] = durable.processes
    durable.vanish()
    nanny.terminate()
    assert nanny.wait(WAIT_S) == 0
    wait_gone(*[engine.pid for engine in engines])


def test_a_goodbye_is_heard_though_the_connection_ends_right_after_it(durable):
    [engine] = durable.start()
    [nanny] = durable.processes
    # Given a nanny that is busy elsewhere
    os.kill(nanny.pid, signal.SIGSTOP)
    durable.say(durable.nanny_identity, m.Bye("the cluster stops"))
    durable.router.close(linger=1000)
    os.kill(nanny.pid, signal.SIGCONT)
    # Then it does not wait for another controller
    assert nanny.wait(WAIT_S) == 0
    wait_gone(engine.pid)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cluster": "other"}, "the cluster test is gone: in its place is another, other"),
        ({"refusal": "you were given up"}, "the controller refused: you were given up"),
    ],
)
def test_a_nanny_that_is_not_wanted_any_more_ends_with_its_engines(durable, change, said):
    [engine] = durable.start()
    [nanny] = durable.processes
    durable.vanish()
    for name, value in change.items():
        setattr(durable, name, value)
    durable.return_()
    durable.wait_for(lambda: nanny.poll() is not None)
    assert nanny.returncode == 1
    assert nanny.stderr.read().decode() == f"the nanny ends: {said}\n"
    wait_gone(engine.pid)
