"""Who watches a task is told once, and what a client watched goes with it."""

from __future__ import annotations

from headway.controller.peers import ClientPeer
from headway.controller.watchers import Watchers
from headway.core.events import ClientId, TaskId
from headway.wire import messages as m


def peer(number: int) -> ClientPeer:
    hello = m.ClientHello(m.VERSION, "session")
    return ClientPeer(b"client-%d" % number, ClientId(number), hello, 0.0)


def test_each_who_watches_is_named_once():
    watchers, first, second = Watchers(), peer(1), peer(2)
    watchers.add(second, [TaskId(7)])
    watchers.add(first, [TaskId(7), TaskId(8)])
    watchers.add(first, [TaskId(7)])
    assert watchers.take(TaskId(7)) == [1, 2]
    assert watchers.take(TaskId(7)) == []
    assert list(watchers.by_task) == [8]


def test_nothing_is_left_of_who_is_gone():
    watchers, first, second = Watchers(), peer(1), peer(2)
    watchers.add(first, [TaskId(7), TaskId(8)])
    watchers.add(second, [TaskId(8)])
    watchers.forget(first)
    assert watchers.take(TaskId(8)) == [2]
    assert not watchers.by_task
    assert not first.watched
