"""Whether the controller is there: hellos are counted, absences are bounded, pauses are our own."""

from __future__ import annotations

import pytest

from headway.client.presence import Presence
from headway.errors import ProtocolError
from headway.wire import messages as m

HEARTBEAT_TIMEOUT_S = 15.0


def welcome(nth: int, reconnect_s: float = 60.0) -> m.Welcome:
    return m.Welcome(m.VERSION, "c", 1, 1, 1.0, HEARTBEAT_TIMEOUT_S, 0, reconnect_s, nth)


def make_presence(reconnect_s: float = 60.0) -> Presence:
    """Of a controller that is there."""
    presence = Presence("ipc://there", HEARTBEAT_TIMEOUT_S)
    assert presence.hello() == 1
    assert presence.welcome(welcome(1, reconnect_s))
    return presence


def test_the_welcome_that_counts_is_the_one_to_the_last_hello():
    # Given a client that has said hello again, twice
    presence = make_presence()
    assert (presence.hello(), presence.hello()) == (2, 3)
    assert not presence.is_here
    # When older ones are answered, nothing happens
    assert not presence.welcome(welcome(1))
    assert not presence.welcome(welcome(2))
    assert not presence.is_here
    # When the last one is, the controller is there
    assert presence.welcome(welcome(3))
    assert presence.is_here


def test_a_welcome_that_nobody_asked_for_breaks_the_protocol():
    presence = make_presence()
    with pytest.raises(ProtocolError, match="a second welcome"):
        presence.welcome(welcome(1))
    with pytest.raises(ProtocolError, match="a second welcome"):
        presence.welcome(welcome(2))
    presence.hello()
    with pytest.raises(ProtocolError, match="welcome 3 of 2"):
        presence.welcome(welcome(3))


def test_an_absence_is_borne_for_as_long_as_the_welcome_said():
    presence = make_presence(reconnect_s=60.0)
    presence.leave(silent_s=15.0)
    for _ in range(600):
        assert not presence.is_given_up
        presence.pass_time(0.1)
    presence.pass_time(0.1)
    assert presence.is_given_up
    assert presence.end() == (
        "the controller at ipc://there was lost, and did not come back within 60 s"
    )


def test_hellos_that_nobody_answers_do_not_make_an_absence_longer():
    presence = make_presence(reconnect_s=2.0)
    presence.leave()
    for _ in range(4):
        presence.pass_time(0.6)
        presence.hello()
    assert presence.is_given_up


def test_where_nobody_comes_back_it_is_the_silence_that_is_bounded():
    presence = make_presence(reconnect_s=0.0)
    presence.leave(silent_s=14.5)
    presence.pass_time(0.4)
    assert not presence.is_given_up
    presence.pass_time(0.4)
    assert presence.is_given_up
    assert presence.end() == "the controller at ipc://there has said nothing for 15.3 s"


def test_a_pause_of_our_own_is_not_an_absence():
    # Given a client that is stopped for an hour while its controller is away
    presence = make_presence(reconnect_s=60.0)
    presence.leave()
    presence.pass_time(3600.0)
    # Then that counts for a second
    assert presence.away_s == 1.0
    assert not presence.is_given_up


def test_an_absence_is_announced_once_unless_it_is_over_at_once():
    presence = make_presence()
    presence.leave()
    presence.pass_time(0.1)
    assert not presence.is_to_be_announced
    presence.pass_time(0.15)
    assert presence.is_to_be_announced
    assert presence.absence() == (
        "the controller at ipc://there does not answer; trying again for 60 s"
    )
    presence.is_announced = True
    presence.pass_time(1.0)
    assert not presence.is_to_be_announced
    # And the next one anew
    presence.welcome(welcome(presence.hello()))
    presence.leave()
    presence.pass_time(0.5)
    assert presence.is_to_be_announced


def test_where_nobody_comes_back_nothing_is_announced():
    presence = make_presence(reconnect_s=0.0)
    presence.leave()
    presence.pass_time(0.9)
    assert not presence.is_to_be_announced


def test_a_connection_that_breaks_each_time_before_anything_comes_of_it_is_given_up():
    presence = make_presence()
    for _ in range(19):
        presence.leave()
        assert not presence.is_given_up
        presence.welcome(welcome(presence.hello()))
    presence.leave()
    assert presence.is_given_up
    assert "was lost 20 times in a row, each time before anything came of it" in presence.end()


def test_one_that_holds_for_a_while_or_that_something_comes_of_is_not():
    for redeem in (Presence.progress, lambda presence: presence.pass_time(1.0)):
        presence = make_presence()
        for n in range(60):
            presence.leave()
            assert not presence.is_given_up
            presence.welcome(welcome(presence.hello()))
            if n % 10 == 0:
                for _ in range(15):
                    redeem(presence)
