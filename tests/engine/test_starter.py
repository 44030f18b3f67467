"""Promise: engines forked from a warm process are engines like any other; and whatever becomes of
that process, engines start.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading

import cloudpickle
import psutil
import pytest

from headway.core import events as ev
from headway.engine.starter import EngineCommand
from headway.wire import messages as m
from headway.wire import payload
from tests.engine.fake_controller import WAIT_S, is_alive

cloudpickle.register_pickle_by_value(sys.modules[__name__])

WRAPPED = ["/usr/bin/env", sys.executable]


def noop():
    pass


def forker_of(nanny):
    """The warm process; None if there is none."""
    for child in psutil.Process(nanny.pid).children():
        with contextlib.suppress(psutil.Error):  # it has ended
            if "--requests-fd" in child.cmdline() and child.name() != "headway-engine":
                return child
    return None


def is_forked(engine):
    return psutil.Process(engine.pid).name() == "headway-engine"


def value_of(controller, task):
    return payload.load_result(controller.wait_outcome(task).payload)


def replacement(controller, engine):
    """The engine that takes the place of this one, which is killed."""
    count = len(controller.engines)
    os.kill(engine.pid, signal.SIGKILL)
    controller.wait_for(lambda: len(controller.engines) > count)
    return controller.engines[-1]


# --- engines like any other ----------------------------------------------------------------------


def world():
    """What a task can see of its process."""
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    environment = dict(os.environ)
    environment.pop("HEADWAY_CONNECTION")
    return {
        "parent": int(fields[1]),
        "leads its group": int(fields[2]) == os.getpid(),
        "leads its session": int(fields[3]) == os.getpid(),
        "cwd": os.getcwd(),
        "path": [entry for entry in sys.path if "site" in entry or entry == "/some/where"],
        "environment": environment,
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "stdin": sys.stdin.read(),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "files": len(os.listdir("/proc/self/fd")),
    }


def test_a_task_can_not_tell_how_its_engine_started(controller, tmp_path):
    found = []
    for command in ([sys.executable], WRAPPED):
        nanny = controller.start_nanny(
            1, engine_command=command, cwd=str(tmp_path), sys_path=["/some/where"]
        )
        count = len(controller.engines)
        controller.wait_for(lambda before=count: len(controller.engines) > before)
        engine = controller.engines[-1]
        controller.assign(engine, (world,), first=engine.number + 1)
        seen = value_of(controller, engine.number + 1)
        assert seen.pop("parent") == nanny.pid
        assert is_forked(engine) is (command != WRAPPED)
        found.append(seen)
    forked, plain = found
    assert forked == plain
    assert forked["cwd"] == str(tmp_path)
    assert forked["leads its session"]


def test_an_engine_starts_in_its_folder_as_that_is_now(controller, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    [engine] = controller.start(cwd=str(folder))
    folder.rmdir()
    folder.mkdir()
    second = replacement(controller, engine)
    controller.assign(second, (os.getcwd,))
    assert value_of(controller, 1) == str(folder)  # of the one that was removed, it would raise
    folder.rmdir()
    os.kill(second.pid, signal.SIGKILL)
    controller.wait_for(lambda: controller.messages(m.EnginesFailed))
    assert f"No such file or directory: '{folder}'" in controller.messages(m.EnginesFailed)[0].text


def test_engines_that_were_forked_from_one_process_do_not_share_their_chance(controller):
    def draw():
        return random.random()

    engines = controller.start(3)
    for engine in engines:
        controller.assign(engine, (draw,), first=engine.number + 1)
    drawn = {value_of(controller, engine.number + 1) for engine in engines}
    assert len(drawn) == 3


def test_how_a_forked_engine_ended_is_seen_as_of_any_child(controller):
    def leave():
        os._exit(7)

    [engine] = controller.start()
    controller.assign(engine, (leave,))
    death = controller.wait_death(engine)
    assert death.end.text.startswith("exited with code 7, peak RSS ")
    assert not os.path.exists(f"/proc/{engine.pid}")  # it was reaped


def test_many_engines_start_at_once(controller):
    engines = controller.start(12)
    assert all(map(is_forked, engines))
    for engine in engines:
        controller.assign(engine, (noop,), first=engine.number + 1)
    controller.wait_outcomes(12)


@pytest.mark.parametrize(
    ("interpreter", "is_plain"),
    [
        (["/usr/bin/python3"], True),
        (["python3.12", "-X", "dev"], True),
        (["/usr/bin/env", "python3"], False),
        (["./choose-a-gpu.sh"], False),
    ],
)
def test_what_wraps_the_interpreter_is_asked_for_each_engine(interpreter, is_plain):
    assert EngineCommand(interpreter, [], {}).is_plain() is is_plain


# --- when the warm process fails -----------------------------------------------------------------


def test_engines_live_on_when_the_warm_process_is_killed_and_another_one_takes_over(controller):
    [engine] = controller.start()
    nanny = controller.processes[0]
    first = forker_of(nanny)
    first.kill()
    controller.wait_for(lambda: forker_of(nanny) not in (None, first))
    controller.assign(engine, (noop,))
    assert controller.wait_outcome(1).status == ev.RAN
    second = replacement(controller, engine)
    assert is_forked(second)
    controller.assign(second, (noop,), first=2)
    assert controller.wait_outcome(2).status == ev.RAN


def test_a_warm_process_that_hangs_is_done_without(controller):
    [engine] = controller.start(config={"start_timeout_s": 1.0})
    forker = forker_of(controller.processes[0])
    forker.suspend()
    second = replacement(controller, engine)
    assert not is_forked(second)
    controller.assign(second, (noop,), first=2)
    assert controller.wait_outcome(2).status == ev.RAN
    assert not is_alive(forker.pid)


def test_a_warm_process_that_is_killed_again_and_again_is_given_up_and_that_is_said(controller):
    [engine] = controller.start()
    nanny = controller.processes[0]
    for _ in range(3):
        killed = controller.wait_for(lambda: forker_of(nanny))
        killed.kill()
        controller.wait_for(lambda p=killed: forker_of(nanny) != p)
    assert forker_of(nanny) is None
    second = replacement(controller, engine)
    assert not is_forked(second)
    controller.say(controller.nanny_identity, m.Bye())
    assert nanny.wait(WAIT_S) == 0
    assert b"engines start one by one from now on" in nanny.stderr.read()


def test_an_engine_that_was_killed_while_the_warm_process_starts_is_replaced(controller):
    [engine] = controller.start()
    nanny = controller.processes[0]
    forker_of(nanny).kill()
    second = replacement(controller, engine)  # at once: the next one is not warm yet
    controller.assign(second, (noop,), first=2)
    assert controller.wait_outcome(2).status == ev.RAN


def test_a_nanny_without_a_warm_process_starts_engines_all_the_same(controller):
    [engine] = controller.start(engine_command=WRAPPED)
    assert forker_of(controller.processes[0]) is None
    second = replacement(controller, engine)
    controller.assign(second, (noop,), first=2)
    assert controller.wait_outcome(2).status == ev.RAN


# --- the end of all ------------------------------------------------------------------------------


def test_the_warm_process_ends_with_a_nanny_that_is_killed(controller):
    [engine] = controller.start()
    nanny = controller.processes[0]
    forker = forker_of(nanny)
    nanny.kill()
    controller.wait_for(lambda: not is_alive(forker.pid) and not is_alive(engine.pid))


def test_the_warm_process_ends_with_a_nanny_that_stops(controller):
    controller.start()
    nanny = controller.processes[0]
    forker = forker_of(nanny)
    controller.say(controller.nanny_identity, m.Bye())
    assert nanny.wait(WAIT_S) == 0
    assert not is_alive(forker.pid)


def test_a_nanny_that_is_stopped_while_engines_are_on_their_way_leaves_none(controller):
    nanny = controller.start_nanny(8)
    controller.wait_for(lambda: psutil.Process(nanny.pid).children())  # it was welcomed
    controller.say(controller.nanny_identity, m.Bye())
    descendants = psutil.Process(nanny.pid).children(recursive=True)
    assert nanny.wait(WAIT_S) == 0
    controller.wait_for(lambda: not any(is_alive(p.pid) for p in descendants))
    controller.wait_for(lambda: not any(is_alive(e.pid) for e in controller.engines))
