"""Engines that stand in: how many, when they are put to rest, and who is told to wait no more."""

from __future__ import annotations

from random import Random
from typing import Any

from headway.config import SchedulerConfig
from headway.controller.books import Books, Clock
from headway.controller.ledger import Ledger
from headway.controller.peers import EnginePeer, NannyPeer, Peer, Peers
from headway.controller.stand_ins import StandIns
from headway.core import events as ev
from headway.core import invariants
from headway.core.events import ClientId, Parent, TaskId, TaskSpec
from headway.wire import messages as m


class Said:
    """Stands for the outbox: keeps what is said."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def say(self, peer: Peer, message: Any) -> None:
        self.messages.append(message)


class Hall:
    """A controller's books and peers, with one nanny and a client whose tasks submit tasks."""

    def __init__(self, depth: int = 4, engines: int = 1) -> None:
        ledger = Ledger(SchedulerConfig(hwm=1), Random(0))
        self.books = Books(ledger, Clock(monotonic=lambda: self.now), is_kept=False)
        self.now = 0.0
        self.peers = Peers()
        self.said = Said()
        self.stand_ins = StandIns(self.books, self.peers, self.said, depth)  # type: ignore[arg-type]
        self.nanny = NannyPeer(b"nanny", m.NannyHello(m.VERSION, "nanny", 1, "host"), 0.0)
        self.peers.add(self.nanny)
        self.client = ClientId(1)
        self.books.client_came(b"client", m.ClientHello(m.VERSION, "client"), 0.0)
        self.books.tell(ev.FunctionsDeclared(self.client, {b"f": b"f"}), 0.0)
        self._last = 0
        for _ in range(engines):
            self.join()

    def join(self, stands_in: bool = False) -> EnginePeer:
        name = f"engine-{len(self.peers.engines)}"
        hello = m.EngineHello(m.VERSION, name, "nanny", 1, "host", {}, "", [], 1, None, stands_in)
        number = self.books.engine_came(name.encode(), hello, self.now)
        peer = EnginePeer(name.encode(), number, hello, self.now)
        self.peers.add(peer)
        return peer

    def submit(self, parent: TaskId | None = None) -> TaskId:
        self._last += 1
        task = ev.task_id(self.client, self._last)
        spec = TaskSpec(task, 0, b"")
        if parent is not None:
            spec.parent = Parent(parent, self.books.scheduler.tasks[parent].attempt)
        self.books.tell(ev.Submitted(self.client, [b"f"], [], [spec]), self.now)
        return task

    def peer_of(self, task: TaskId) -> EnginePeer:
        engine = self.books.scheduler.tasks[task].engine
        assert engine is not None
        return self.peers.engines[engine]

    def block(self, task: TaskId) -> None:
        attempt = self.books.scheduler.tasks[task].attempt
        self.stand_ins.on_blocked(self.peer_of(task), m.Blocked(task, attempt), self.now)

    def go_on(self, task: TaskId) -> None:
        self.stand_ins.on_unblocked(self.peer_of(task), m.Unblocked(), self.now)

    def finish(self, task: TaskId) -> None:
        attempt = self.books.scheduler.tasks[task].attempt
        outcome = ev.Outcome(task, attempt, ev.RAN, b"")
        self.books.tell(ev.Finished(self.peer_of(task).number, [outcome]), self.now)

    def turn(self, after_s: float = 0.0) -> list[Any]:
        """The next turn, and what is said in it."""
        self.now += after_s
        self.said.messages.clear()
        for _ in range(2):
            if self.now >= self.stand_ins.due_at_s:
                self.stand_ins.look(self.now)
            self.books.place(self.now)
            self.stand_ins.placed(self.now)
        invariants.check(self.books.scheduler)
        return list(self.said.messages)


def test_one_is_started_for_each_engine_that_is_blocked_once_something_is_there_to_run():
    # Given two engines with a parent each
    hall = Hall(engines=2)
    parents = [hall.submit(), hall.submit()]
    hall.turn()
    for parent in parents:
        hall.block(parent)
    # When nothing nested is ready, then no engine is asked for
    assert hall.turn() == []
    # When something is, then as many as are blocked; and no more while these start
    children = [hall.submit(parents[0]) for _ in range(5)]
    assert hall.turn(0.1) == [m.StartEngines(2, stand_ins=True)]
    assert hall.turn(0.1) == []
    joined = {hall.join(stands_in=True).number for _ in range(2)}
    assert hall.turn(0.1) == []
    assert {hall.peer_of(child).number for child in children[:2]} == joined
    # When one of these waits in turn, then one more
    hall.submit(children[0])
    hall.block(children[0])
    assert hall.turn(0.1) == [m.StartEngines(1, stand_ins=True)]


def test_one_too_many_takes_no_more_after_a_moment_is_called_back_and_ends_when_it_idles():
    hall = Hall()
    parent = hall.submit()
    hall.turn()
    child = hall.submit(parent)
    hall.block(parent)
    hall.turn()
    peer = hall.join(stands_in=True)
    hall.turn(0.1)
    record = hall.books.scheduler.engines[peer.number]
    # When the parent goes on for an instant, nothing changes
    hall.go_on(parent)
    hall.turn(0.01)
    hall.block(parent)
    hall.turn(0.2)
    assert not record.draining
    # When it goes on for longer, the stand-in takes no more tasks
    hall.go_on(parent)
    hall.turn(0.01)
    hall.turn(0.1)
    assert record.draining
    # And takes some again when the parent waits again, instead of another engine
    hall.submit(parent)
    hall.block(parent)
    assert hall.turn(0.1) == []
    assert not record.draining
    # It ends once it has had nothing to do for some seconds
    hall.finish(child)
    hall.turn(0.1)
    hall.go_on(parent)
    for task in list(record.assigned):
        hall.finish(task)
    hall.turn(0.1)
    hall.turn(0.1)
    hall.turn(1.0)
    stop = hall.turn(3.0)
    assert [type(message) for message in stop] == [m.StopEngine]
    assert stop[0].token == peer.hello.token
    assert not stop[0].restart


def test_beyond_the_bound_who_waits_last_is_told_and_only_after_a_while():
    hall = Hall(depth=1)
    first = hall.submit()
    hall.turn()
    second = hall.submit(first)
    hall.block(first)
    assert hall.turn() == [m.StartEngines(1, stand_ins=True)]
    hall.join(stands_in=True)
    hall.turn(0.1)
    hall.submit(second)
    hall.block(second)
    assert hall.turn(0.1) == []
    assert hall.turn(0.5) == []
    (told,) = hall.turn(1.0)
    assert isinstance(told, m.StopWaiting)
    assert told.task == second
    assert "are those of 2 tasks that wait for tasks of their own" in told.why
    assert "nested_depth is 1" in told.why
    # Nobody else is told before that one has ended
    assert hall.turn(5.0) == []


def test_nobody_is_told_while_an_engine_is_away_or_another_may_come():
    hall = Hall(depth=0)
    parent = hall.submit()
    hall.turn()
    hall.submit(parent)
    hall.block(parent)
    hall.peer_of(parent).is_here = False
    hall.turn(0.1)
    assert hall.turn(5.0) == []
    hall.peer_of(parent).is_here = True
    other = hall.join()
    hall.turn(0.1)
    assert hall.turn(5.0) == []
    assert hall.books.scheduler.engines[other.number].assigned


def test_a_nanny_that_leaves_or_has_given_up_is_asked_for_nothing():
    hall = Hall()
    parent = hall.submit()
    hall.turn()
    hall.submit(parent)
    hall.block(parent)
    hall.nanny.leaves = "its time is over"
    assert hall.turn() == []
    hall.nanny.leaves, hall.nanny.failure = "", "engines do not start"
    assert hall.turn(0.1) == []
    hall.nanny.failure = ""
    assert hall.turn(0.1) == [m.StartEngines(1, stand_ins=True)]
    # And what it was asked for and won't start does not count
    hall.stand_ins.start_failed(hall.nanny)
    assert hall.turn(0.1) == [m.StartEngines(1, stand_ins=True)]


def test_one_more_is_started_for_what_those_that_work_have_refused():
    # Given a child that the stand-in of its parent refused
    hall = Hall()
    parent = hall.submit()
    hall.turn()
    child = hall.submit(parent)
    hall.block(parent)
    hall.turn()
    hall.join(stands_in=True)
    hall.turn(0.1)
    refused = ev.Outcome(child, 1, ev.REFUSED, b"", error=ev.ErrorInfo([], "no"))
    hall.books.tell(ev.Finished(hall.peer_of(child).number, [refused]), hall.now)
    # Then another is started, which takes it
    assert hall.turn(0.1) == [m.StartEngines(1, stand_ins=True)]
    other = hall.join(stands_in=True)
    hall.turn(0.1)
    assert hall.peer_of(child) is other
