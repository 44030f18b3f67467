"""Promise: a nanny misses its controller when that is lost or silent, and for as long as told."""

from __future__ import annotations

import pytest

from headway.engine.patience import Patience
from headway.wire import messages as m


@pytest.fixture
def patience():
    """That of a nanny which was told to wait for 60 s, and heard a Ping at 0."""
    patience = Patience()
    patience.on_welcome(welcome(60.0), 0.0)
    patience.on_message(m.Ping(), 0.0)
    return patience


def welcome(reconnect_s):
    return m.Welcome(m.VERSION, "home", 1, 0, 1.0, 15.0, reconnect_s=reconnect_s)


def test_a_controller_that_is_lost_is_waited_for_and_then_given_up(patience):
    patience.on_lost(100.0)
    patience.on_lost(130.0)  # another connection that led nowhere
    assert not patience.is_silent(1000.0)  # it is not there at all
    assert not patience.is_over(160.0)
    assert patience.is_over(160.1)
    assert patience.absence() == "the controller was lost, and none came back within 60 s"


def test_one_that_came_back_is_there(patience):
    patience.on_lost(100.0)
    patience.on_welcome(welcome(60.0), 150.0)
    assert not patience.is_over(1000.0)
    assert not patience.is_silent(165.0)
    assert patience.is_silent(165.1)


def test_a_silent_one_is_missed_from_its_last_word_on(patience):
    patience.on_message(m.StopEngine("token", "why"), 10.0)
    assert not patience.is_silent(25.0)
    assert patience.is_silent(25.1)
    assert not patience.is_silent(25.2)  # it is missed now
    assert not patience.is_over(70.0)
    assert patience.is_over(70.1)


def test_where_nobody_is_expected_to_come_back_a_silence_is_the_end(patience):
    patience.on_welcome(welcome(0.0), 0.0)
    assert patience.is_silent(15.1)
    assert patience.is_silent(15.2)
    assert not patience.is_over(15.2)
    assert patience.silence() == "the controller was silent for 15 s"


def test_where_nobody_is_expected_a_lost_connection_may_be_lost_for_as_long_as_a_silence(patience):
    patience.on_welcome(welcome(0.0), 0.0)
    patience.on_lost(100.0)
    assert not patience.is_over(115.0)
    assert patience.is_over(115.1)


def test_one_that_never_sent_a_ping_is_not_silent():
    patience = Patience()
    patience.on_welcome(welcome(60.0), 0.0)
    patience.on_message(m.StopEngine("token", "why"), 10.0)
    assert not patience.is_silent(1e9)
