"""Promise: the report of an engine's end blames the right one, and shows no stack but its own."""

from __future__ import annotations

import os
import signal

import pytest

from headway.engine.child import End
from headway.engine.death import Evidence
from headway.engine.ladder import STACK_S, Ladder, Step
from headway.engine.report import tell_end
from headway.engine.status import StatusReader, StatusWriter, create_status_file

KILLED, CRASHED, LEFT = -signal.SIGKILL, -signal.SIGSEGV, 3
GRACE_S = 2.0
NO_EVIDENCE = Evidence()


class Case:
    """An engine in a task, and what its nanny had done about it."""

    def __init__(self):
        fd = create_status_file()
        self.engine, self._reader = StatusWriter(fd), StatusReader(fd)
        os.close(fd)
        self.ladder = Ladder(GRACE_S, lambda: True)
        self.engine.begin(7, 1.0, deadline_s=0.0)

    def kill_for(self, deadline=False):
        """Up the whole ladder."""
        if deadline:
            self.engine.end()
            self.engine.begin(7, 1.0, deadline_s=1.0)
        else:
            self.ladder.stop([7])
        for at_s, step in [
            (10.0, Step.INTERRUPT),
            (10.0 + GRACE_S, Step.SHOW_STACK),
            (10.0 + GRACE_S + STACK_S, Step.KILL),
        ]:
            assert self.ladder.look(self._reader.read(), at_s) is step

    def tell(self, exit_code, evidence=NO_EVIDENCE, stop_reason=None, restart=True, tail=()):
        return tell_end(
            End(exit_code, 0),
            self._reader.read(),
            self.ladder,
            evidence,
            stop_reason=stop_reason,
            restart=restart,
            grace_s=GRACE_S,
            stack=lambda crashed: ["where it crashed" if crashed else "where it was asked"],
            tail=tail,
        )

    def close(self):
        self.engine.close()
        self._reader.close()


@pytest.fixture
def case():
    made = Case()
    yield made
    made.close()


def test_a_kill_for_an_unwanted_run_charges_nobody_and_says_why_and_where(case):
    case.kill_for()
    end = case.tell(KILLED, tail=["the last line"])
    assert (end.wanted, end.overran) == (True, False)
    assert end.text == (
        "killed by SIGKILL and replaced, since task 0-7 ran on for 2 s after it was interrupted; "
        "it was in, innermost first:\n    where it was asked; its last output:\n    the last line"
    )


def test_a_kill_for_an_overrun_is_the_tasks(case):
    case.kill_for(deadline=True)
    end = case.tell(KILLED, restart=False)
    assert (end.wanted, end.overran) == (False, True)
    assert end.text.startswith("killed by SIGKILL, since task 0-7 ran on for 2 s")


def test_a_run_that_began_in_the_moment_of_the_kill_is_blamed_for_nothing(case):
    case.kill_for()
    case.engine.end()
    case.engine.begin(8, 1.0)
    end = case.tell(KILLED)
    assert (end.wanted, end.overran) == (True, False)
    assert end.text == "killed by SIGKILL"


def test_a_crash_shows_where_and_is_the_tasks_though_it_was_asked_to_stop(case):
    case.ladder.stop([7])
    end = case.tell(CRASHED)
    assert not end.wanted
    assert end.text == ("killed by SIGSEGV; it was in, innermost first:\n    where it crashed")


def test_a_kill_from_outside_says_who_may_have_done_it_and_shows_no_stack(case):
    end = case.tell(KILLED)
    assert not end.wanted
    assert end.text == (
        "killed by SIGKILL; neither headway sent that nor, as far as can be seen here, the kernel "
        "for want of memory: so the task itself did, a user, or a batch system"
    )


def test_a_kill_for_want_of_memory_is_told_by_the_kernels_log_where_there_is_one(case):
    log = "Memory cgroup out of memory: Killed process 7 (python)"
    text = case.tell(KILLED, Evidence(kills=1, log=log)).text
    assert text == f"killed by SIGKILL, for want of memory: the kernel's log says {log!r}"
    assert "probably for want of memory" in case.tell(KILLED, Evidence(kills=1)).text


def test_our_own_kill_is_never_taken_for_the_kernels(case):
    case.kill_for()
    assert "memory" not in case.tell(KILLED, Evidence(kills=5)).text


@pytest.mark.parametrize("exit_code", [KILLED, LEFT])
def test_a_stop_on_purpose_is_told_with_its_reason(case, exit_code):
    end = case.tell(exit_code, stop_reason="drained by its user")
    assert end.wanted
    assert end.text.startswith("drained by its user (")
    assert "neither headway" not in end.text
