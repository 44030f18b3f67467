"""Promise: every engine that the Hub knows is learned of, whenever it came; and a Hub that is not
there, or goes away, is mentioned once, and holds no task up."""

from __future__ import annotations

import time

import pytest
import zmq

from tests.ipyparallel.kit import Kit


@pytest.fixture
def kit():
    with Kit() as kit:
        yield kit
        kit.check()


def said(kit):
    """What was said of the Hub."""
    return [record for record in kit.records if "the Hub" in record]


def tell(kit, event):
    """As zmq would tell of a connection; between sockets in one process there are none."""
    kit.scheduler._desk.hub._on_event(event)


def test_the_hub_is_asked_once_more_after_its_first_answer(kit):
    """An engine can come when the answer was made, and the subscription is not there yet."""
    assert kit.asked() == 1
    kit.hub_answers("a")
    kit.connect_engine("a")
    kit.connect_engine("b")
    kit.pass_time(1)
    assert kit.asked() == 1

    kit.hub_answers("a", "b")

    assert sorted(kit.scheduler.targets) == [b"a", b"b"]
    kit.pass_time(1000)
    assert kit.asked() == 0
    assert said(kit) == []


def test_a_hub_that_does_not_answer_is_asked_again_ever_more_rarely(kit):
    assert kit.asked() == 1
    for pause_s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600):
        kit.pass_time(pause_s - 0.5)
        assert kit.asked() == 0
        kit.pass_time(0.5)
        assert kit.asked() == 1


def test_a_hub_that_does_not_answer_is_mentioned_once_with_its_address_and_tasks_go_on(kit):
    kit.pass_time(4)
    assert said(kit) == []
    for _ in range(10):
        kit.pass_time(100)
    assert len(said(kit)) == 1
    assert "at inproc://reg does not answer: not for 5 s: there is no connection" in said(kit)[0]
    kit.engine("a")
    task = kit.submit()
    kit.answer("a", task)
    assert kit.outcome(task) == "ok"

    kit.hub_answers("a")

    assert said(kit)[1:] == ["the Hub at inproc://reg answers"]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (zmq.EVENT_HANDSHAKE_SUCCEEDED, "it is connected, but"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, "its keys are others"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, "its keys are others"),
    ],
)
def test_why_the_hub_does_not_answer_is_said_as_far_as_it_can_be_known(kit, event, why):
    tell(kit, event)
    kit.pass_time(5)
    assert why in said(kit)[0]


def test_a_hub_that_goes_away_is_mentioned_and_asked_when_it_is_back(kit):
    kit.hub_answers()
    kit.pass_time(1)
    kit.hub_answers()
    kit.asked()
    for _ in range(3):
        tell(kit, zmq.EVENT_DISCONNECTED)
    assert len(said(kit)) == 1
    assert "at inproc://reg is gone: it closed the connection" in said(kit)[0]
    kit.pass_time(100)
    assert kit.asked() == 0

    tell(kit, zmq.EVENT_HANDSHAKE_SUCCEEDED)
    kit.pass_time(1)

    assert kit.asked() == 1
    kit.connect_engine("a")
    kit.hub_answers("a")
    assert kit.scheduler.targets == [b"a"]
    assert said(kit)[1:] == ["the Hub at inproc://reg answers"]


def test_a_hub_that_says_goodbye_is_not_mentioned_when_it_goes(kit):
    kit.scheduler.dispatch_notification(kit.message("shutdown_notification", {}))
    tell(kit, zmq.EVENT_DISCONNECTED)
    assert said(kit) == ["the Hub shuts down"]


@pytest.mark.parametrize("known", [True, False])
def test_an_answer_of_the_hub_that_is_older_than_the_end_of_an_engine_revives_it_not(kit, known):
    if known:
        kit.engine("a")
    kit.unregister("a")
    kit.hub_answers("a")
    assert kit.scheduler.targets == []
    assert kit.outcome(kit.submit(targets=["a"])) == "ImpossibleDependency"
    kit.connect_engine("a")
    kit.notify("registration_notification", "a")  # that is no answer, but news
    assert kit.scheduler.targets == [b"a"]


# --- the clock ------------------------------------------------------------------------------------


def test_setting_the_clock_on_the_wall_changes_no_timer(kit):
    waits = kit.submit(timeout=1000)
    kit.loop.time = lambda: time.time() + 1e7
    soon = kit.submit(timeout=0.01)
    kit.until(lambda: kit.outcome(soon))
    assert kit.outcome(soon) == "TaskTimeout"
    assert kit.outcome(waits) == ""
    kit.loop.time = lambda: time.time() - 1e7
    kit.pass_time(1000)
    assert kit.outcome(waits) == "TaskTimeout"
