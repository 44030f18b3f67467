"""Promise: a run that shall stop is interrupted once, then shown, then killed; no other run is.

Pure: a status file that the test fills, and a clock that the test moves.
"""

from __future__ import annotations

import os

import pytest

from headway.engine.ladder import STACK_MAX_S, STACK_S, Ladder, Step
from headway.engine.status import (
    INTERRUPT_ASKED,
    INTERRUPT_OVERRAN,
    StatusReader,
    StatusWriter,
    create_status_file,
)

GRACE_S = 2.0


class Story:
    """An engine and its ladder."""

    def __init__(self):
        fd = create_status_file()
        self.engine, self._reader = StatusWriter(fd), StatusReader(fd)
        os.close(fd)
        self.ladder = Ladder(GRACE_S, lambda: self.has_stack)
        self.has_stack = True
        self.now_s = 100.0

    def look(self, after_s=0.0):
        self.now_s += after_s
        return self.ladder.look(self._reader.read(), self.now_s)

    def next_look_in_s(self):
        return self.ladder.next_look_s(self._reader.read(), self.now_s) - self.now_s

    def hit(self):
        return self.ladder.hit(self._reader.read())

    def close(self):
        self.engine.close()
        self._reader.close()


@pytest.fixture
def story():
    made = Story()
    yield made
    made.close()


def test_an_unwanted_run_is_interrupted_then_shown_then_killed_each_once(story):
    story.engine.begin(7, 1.0)
    assert story.look() is Step.NOTHING
    story.ladder.stop([7])
    assert story.look() is Step.INTERRUPT
    assert (story.ladder.run, story.ladder.reason) == (1, INTERRUPT_ASKED)
    assert story.look() is Step.NOTHING
    assert story.next_look_in_s() == pytest.approx(GRACE_S - STACK_S)
    assert story.look(GRACE_S - STACK_S) is Step.SHOW_STACK
    assert story.look() is Step.NOTHING
    assert story.look(STACK_S) is Step.KILL
    assert story.hit()
    assert story.look(60.0) is Step.NOTHING
    assert story.next_look_in_s() == float("inf")


def test_a_run_that_passes_its_deadline_goes_the_same_way(story):
    story.engine.begin(7, 1.0, deadline_s=101.0)
    assert story.look() is Step.NOTHING
    assert story.next_look_in_s() == pytest.approx(1.0)
    assert story.look(1.0) is Step.INTERRUPT
    assert story.ladder.reason == INTERRUPT_OVERRAN
    assert story.look(GRACE_S) is Step.SHOW_STACK
    assert story.look(STACK_S) is Step.KILL


def test_who_comes_late_to_the_kill_leaves_time_for_the_stack(story):
    story.engine.begin(7, 1.0)
    story.ladder.stop([7])
    assert story.look() is Step.INTERRUPT
    assert story.look(60.0) is Step.SHOW_STACK
    assert story.look(STACK_S / 2) is Step.NOTHING
    assert story.look(STACK_S / 2) is Step.KILL


def test_an_engine_that_has_not_said_where_it_is_has_some_more_time_and_not_for_ever(story):
    story.engine.begin(7, 1.0)
    story.ladder.stop([7])
    story.has_stack = False
    story.look()
    assert story.look(GRACE_S) is Step.SHOW_STACK
    for _ in range(3):
        assert story.look(STACK_S) is Step.NOTHING
        assert story.next_look_in_s() == pytest.approx(STACK_S)
    story.has_stack = True
    assert story.look(STACK_S) is Step.KILL
    # And one that never says
    story.engine.end()
    story.engine.begin(8, 1.0)
    story.ladder.stop([8])
    story.has_stack = False
    story.look()
    assert story.look(GRACE_S) is Step.SHOW_STACK
    assert story.look(STACK_MAX_S) is Step.KILL


def test_a_run_that_ends_in_its_grace_leaves_the_next_one_alone(story):
    story.engine.begin(7, 1.0)
    story.ladder.stop([7])
    assert story.look() is Step.INTERRUPT
    story.engine.end()
    story.engine.begin(8, 1.0)
    assert story.look(GRACE_S) is Step.NOTHING
    assert story.look(60.0) is Step.NOTHING
    assert not story.hit()


def test_a_run_that_begins_in_the_moment_of_the_kill_is_not_what_was_killed_for(story):
    story.engine.begin(7, 1.0)
    story.ladder.stop([7])
    story.look()
    story.look(GRACE_S)
    assert story.look(STACK_S) is Step.KILL
    story.engine.end()
    assert not story.hit()
    story.engine.begin(8, 1.0)
    assert not story.hit()


def test_the_same_task_in_a_later_run_is_another_run(story):
    story.engine.begin(7, 1.0, deadline_s=100.0)
    assert story.look() is Step.INTERRUPT
    story.engine.end()
    story.engine.begin(7, 1.0, deadline_s=200.0)
    assert story.look(GRACE_S) is Step.NOTHING


def test_a_run_is_interrupted_once_whatever_else_is_wrong_with_it(story):
    story.engine.begin(7, 1.0, deadline_s=101.0)
    story.ladder.stop([7])
    assert story.look() is Step.INTERRUPT
    assert story.look(1.0) is Step.NOTHING  # its deadline as well
    story.ladder.stop([7])
    assert story.look() is Step.NOTHING
    assert story.ladder.reason == INTERRUPT_ASKED
    assert story.look(GRACE_S - 1.0) is Step.SHOW_STACK


def test_a_task_that_slips_in_before_its_engine_has_heard_is_caught(story):
    # Given a task that is unwanted while another holds the engine, which hears nothing
    story.engine.begin(7, 1.0)
    story.ladder.stop([8])
    assert story.look() is Step.NOTHING
    assert 0.0 < story.next_look_in_s() < 1.0  # it is looked for
    # When it begins
    story.engine.end()
    story.engine.begin(8, 1.0)
    # Then it is interrupted
    assert story.look() is Step.INTERRUPT


def test_what_the_engine_has_heard_of_is_forgotten(story):
    story.engine.begin(7, 1.0)
    story.ladder.stop([8, 9])
    story.ladder.stop([10])
    story.engine.set_stop_heard(9)
    assert story.look() is Step.NOTHING
    assert story.next_look_in_s() < 1.0  # for the third
    story.engine.set_stop_heard(10)
    assert story.look() is Step.NOTHING
    assert story.next_look_in_s() == float("inf")


def test_a_task_that_began_before_its_engine_heard_is_still_stopped(story):
    story.ladder.stop([7])
    story.engine.begin(7, 1.0)
    story.engine.set_stop_heard(7)
    assert story.look() is Step.INTERRUPT
    assert story.look(GRACE_S) is Step.SHOW_STACK
    story.engine.end()
    assert story.next_look_in_s() == float("inf")
