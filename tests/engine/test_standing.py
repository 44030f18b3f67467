"""Promise: a peer is welcome from the answer to its last hello on, and until then hears little."""

from __future__ import annotations

import pytest

from headway.engine.standing import Standing
from headway.errors import ConnectionLost, ProtocolError
from headway.wire import messages as m


def welcome(nth, cluster="home"):
    return m.Welcome(m.VERSION, cluster, 1, 0, 1.0, 15.0, nth=nth)


def test_only_the_answer_to_the_last_hello_makes_a_peer_welcome():
    standing = Standing()
    assert [standing.hello(), standing.hello()] == [1, 2]
    assert not standing.on_welcome(welcome(1))
    assert not standing.is_welcome
    assert standing.on_welcome(welcome(2))
    assert (standing.is_welcome, standing.cluster) == (True, "home")


def test_a_second_answer_changes_nothing():
    standing = Standing()
    standing.hello()
    assert standing.on_welcome(welcome(1))
    assert not standing.on_welcome(welcome(1))


def test_an_answer_to_a_hello_that_was_not_said_is_an_error():
    standing = Standing()
    standing.hello()
    with pytest.raises(ProtocolError, match="answered hello 2, and only 1 were said"):
        standing.on_welcome(welcome(2))


def test_another_cluster_is_told_from_its_own():
    standing = Standing()
    standing.hello()
    standing.on_welcome(welcome(1))
    standing.hello()
    with pytest.raises(ConnectionLost, match=r"the cluster home is gone: .* another, away"):
        standing.on_welcome(welcome(2, "away"))


def test_a_peer_that_is_not_welcome_hears_signs_of_life_and_goodbyes():
    standing = Standing()
    standing.hello()
    others = [m.Assigned([], []), m.GiveBack([]), m.StopTasks([]), m.Accepted(1)]
    assert [standing.counts(message) for message in (m.Ping(), m.Bye())] == [True, True]
    assert not any(standing.counts(message) for message in others)
    standing.on_welcome(welcome(1))
    assert all(standing.counts(message) for message in others)
    standing.leave()
    assert not any(standing.counts(message) for message in others)
