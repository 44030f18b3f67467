"""Promise: what a session sends is taken in once and in order, and every task's end is heard,
whatever is lost on the way."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.client.batch_writer import Function
from headway.client.session import RESUMED_TASKS_MAX, Outgoing, Session
from headway.config import WireConfig
from headway.core.events import SEQUENCE_BITS, TaskId
from headway.core.states import TaskState
from headway.errors import ConnectionLost, ProtocolError
from headway.wire import codec
from headway.wire import messages as m

WIRE = WireConfig()
F = Function(b"f".ljust(16, b"\0"), b"x")


def make_session(**wire: Any) -> Session[str]:
    session: Session[str] = Session(dataclasses.replace(WIRE, **wire))
    session.welcome(1)
    return session


def sent(session: Session[str]) -> list[Any]:
    return [message for message, _ in session.messages(session.take())]


def messages_of(outgoing: list[Outgoing]) -> list[Any]:
    return [message for message, _ in outgoing]


# --- batches ------------------------------------------------------------------------------------


def test_submits_cancels_and_releases_are_numbered_in_one_sequence():
    session = make_session()
    a = session.submit(F, b"", "a")
    session.cancel([a])
    session.released.append(a)
    submit, cancel, release = sent(session)
    assert (submit.batch, cancel, release) == (1, m.Cancel(2, [a]), m.Release(3, [a]))


def test_what_was_not_accepted_is_sent_again_in_order_and_in_the_same_words():
    # Given three batches, large payloads among them, of which one is acknowledged
    session = make_session(inline_bytes_max=10)
    a = session.submit(F, b"a" * 20, "a")
    first = session.messages(session.take())
    session.submit(F, b"b" * 20, "b")
    session.cancel([a])
    session.released.append(a)
    rest = session.messages(session.take())
    session.accepted(1)
    frames = [codec.encode(message, large) for message, large in rest]
    # When the controller is back, and has that one
    again = session.resend(1)
    # Then the others come again, frame for frame, and as often as need be
    assert [codec.encode(message, large) for message, large in again] == frames
    assert session.resend(1) == again
    # And what the controller has taken in beyond what was acknowledged does not
    assert session.resend(3) == again[2:]
    assert session.resend(4) == []
    assert (session.window_tasks, session.window_bytes) == (0, 0)
    assert first[0][0].batch == 1


def test_a_welcome_acknowledges_as_an_accepted_does():
    session = make_session(window_tasks=2)
    b = [session.submit(F, b"", "f") for _ in "ab"][1]
    sent(session)
    assert session.is_full
    assert session.resend(1) == []
    assert not session.is_full
    assert session.accepted_node == b


def test_a_controller_that_has_forgotten_what_it_acknowledged_is_not_worked_with():
    session = make_session()
    for _ in range(3):
        session.submit(F, b"", "a")
        sent(session)
    session.accepted(3)
    with pytest.raises(ConnectionLost, match="without the batches 2 to 3 of this client, which it"):
        session.resend(1)


def test_a_controller_that_has_more_than_was_sent_breaks_the_protocol():
    session = make_session()
    session.submit(F, b"", "a")
    sent(session)
    with pytest.raises(ProtocolError, match="has batch 2 of this client, which sent 1"):
        session.resend(2)


def test_what_has_never_been_sent_is_neither_sent_again_nor_asked_for():
    # Given a task on its way, and one that was submitted while the controller was away
    session = make_session()
    a = session.submit(F, b"", "a")
    session.ask("task", a, lambda answer: None)
    (submit, ask) = sent(session)
    b = session.submit(F, b"", "b")
    session.ask("task", b, lambda answer: None)
    # When the controller is back
    assert messages_of(session.resend(0)) == [submit]
    assert messages_of(session.resume_messages()) == [m.Resume([a]), ask]
    # Then the other goes its usual way
    second, question = sent(session)
    assert ([t.id for t in second.tasks], question) == ([b], m.Ask(2, "task", b))
    assert sent(session) == []


def test_the_tasks_whose_ends_were_not_heard_are_resumed_in_chunks():
    session = make_session()
    nodes = [session.submit(F, b"", "a") for _ in range(RESUMED_TASKS_MAX + 2)]
    sent(session)
    del session.open[nodes[0]]
    assert [message.tasks for message in messages_of(session.resume_messages())] == [
        nodes[1 : RESUMED_TASKS_MAX + 1],
        nodes[RESUMED_TASKS_MAX + 1 :],
    ]


def test_nothing_is_resumed_where_nothing_is_open():
    session = make_session()
    node = session.submit(F, b"", "a")
    sent(session)
    session.accepted(1)
    del session.open[node]
    assert session.resend(1) + session.resume_messages() == []


def test_questions_are_put_again_until_they_are_answered_or_forgotten():
    session = make_session()
    numbers = [session.ask(what, None, lambda answer: None) for what in ("a", "b", "c")]
    sent(session)
    session.answered(m.Answer(numbers[0]))
    session.forget_question(numbers[1])
    assert messages_of(session.resume_messages()) == [m.Ask(numbers[2], "c", None)]
    # And one that is forgotten before it was sent is not sent at all
    session.forget_question(session.ask("d", None, lambda answer: None))
    assert sent(session) == []


# --- bounds -------------------------------------------------------------------------------------


def test_releases_wait_while_many_are_not_acknowledged():
    # Given a controller that acknowledges nothing
    session = make_session(window_tasks=5)
    nodes = [session.submit(F, b"", "a") for _ in range(14)]
    session.released.extend(nodes)
    # When all that may be sent is sent
    (first,) = sent(session)
    # Then it is as many as twice the window, and the rest waits
    assert (first.released, list(session.released)) == (nodes[:10], nodes[10:])
    assert sent(session) == []
    # When it does, the rest follows
    session.accepted(1)
    (second,) = sent(session)
    assert second.nodes == nodes[10:]
    session.accepted(2)
    assert session.statistics().names == session.statistics().batches == 0


def test_a_task_that_is_cancelled_again_and_again_is_named_once():
    session = make_session()
    a, b = session.submit(F, b"", "a"), session.submit(F, b"", "b")
    for _ in range(1000):
        session.cancel([b, a])
    _, cancel = sent(session)
    assert cancel == m.Cancel(2, [b, a])


# --- whatever is lost ---------------------------------------------------------------------------


class NaiveController:
    """Takes in batches, ends tasks when told to, and remembers all of it for ever."""

    def __init__(self) -> None:
        self.batch = 0
        self.batches: list[Any] = []
        self.known: list[int] = []
        self.ended: set[int] = set()
        self.decoder = codec.from_client()
        self.said: deque[Any] = deque()
        #: After a cut, until the next hello: what comes belongs to what was before.
        self.is_waiting_for_hello = False

    def hear(self, outgoing: Outgoing) -> None:
        if self.is_waiting_for_hello:
            return
        message = self.decoder.decode(codec.encode(*outgoing))
        if isinstance(message, m.Resume):
            assert set(message.tasks) <= set(self.known)
            self.say_ends([task for task in message.tasks if task in self.ended])
        elif isinstance(message, m.Ask):
            self.said.append(m.Answer(message.number, {"what": message.what}))
        else:
            self.take_in(message)

    def take_in(self, batch: Any) -> None:
        assert batch.batch == self.batch + 1, "a batch was sent twice on one connection, or a gap"
        self.batch += 1
        self.batches.append(batch)
        if isinstance(batch, m.Submit):
            self.known += [task.id for task in batch.tasks]
        self.said.append(m.Accepted(self.batch))

    def end(self, task: int) -> None:
        if task not in self.ended:
            self.ended.add(task)
            self.say_ends([task])

    def say_ends(self, tasks: list[int]) -> None:
        results = [m.Result(task, TaskState.SUCCEEDED, b"") for task in tasks]  # type: ignore
        self.said.append(m.Results(results))


class World:
    """A session, a controller, and the connection between them, which can be cut."""

    def __init__(self) -> None:
        wire = dataclasses.replace(
            WIRE, batch_tasks_max=3, batch_bytes=700, inline_bytes_max=50, window_tasks=6
        )
        self.session: Session[str] = Session(wire, functions_known_max=2)
        self.session.welcome(1)
        self.functions = [Function(bytes([n]) * 16, b"x" * (n * 40 + 1)) for n in range(4)]
        self.controller = NaiveController()
        self.on_the_way: deque[Outgoing] = deque()
        self.asked: list[int] = []
        self.nodes: list[int] = []
        self.held: list[int] = []
        self.let_go: list[int] = []
        self.cancelled: list[int] = []
        self.heard_ends: list[int] = []
        self.answers: list[str] = []
        self.questions = 0

    def submit(self, which: int, size: int) -> None:
        if not self.session.is_full:
            inputs = self.held[-1:] or None
            node = self.session.submit(
                self.functions[which % 4],
                b"x" * size,
                "f",
                inputs=inputs,  # type: ignore[arg-type]
            )
            self.nodes.append(node)
            self.held.append(node)

    def group(self, *_: int) -> None:
        self.held.append(self.session.submit_group(self.held[-3:]))  # type: ignore[arg-type]

    def release(self, which: int, _: int) -> None:
        if self.held:
            node = self.held.pop(which % len(self.held))
            self.session.released.append(node)  # type: ignore[arg-type]
            self.let_go.append(node)

    def cancel(self, which: int, _: int) -> None:
        if self.nodes:
            self.cancelled.append(self.nodes[which % len(self.nodes)])
            self.session.cancel(self.cancelled[-1:])  # type: ignore[arg-type]

    def ask(self, *_: int) -> None:
        self.questions += 1
        self.session.ask(str(self.questions), None, lambda answer: self.answers.append(answer.body))

    def send(self, *_: int) -> None:
        self.on_the_way += self.session.messages(self.session.take())

    def deliver(self, count: int, _: int = 0) -> None:
        for _ in range(min(count, len(self.on_the_way))):
            self.controller.hear(self.on_the_way.popleft())

    def end(self, which: int, _: int) -> None:
        known = self.controller.known
        if known:
            self.controller.end(known[which % len(known)])

    def hear(self, count: int, _: int = 0) -> None:
        session, said = self.session, self.controller.said
        for _ in range(min(count, len(said))):
            message = said.popleft()
            if isinstance(message, m.Accepted):
                session.accepted(message.batch)
            elif isinstance(message, m.Results):
                ends = [r.task for r in message.results]
                self.heard_ends += [t for t in ends if session.open.pop(t, None)]
            else:
                answered = session.answered(message)
                if answered is not None:
                    answered(message)

    def cut(self, delivered: int, lost: int) -> None:
        """Some of what is on the way arrives, some is lost, and the rest comes late: on the next
        connection, before its hello. Of what the controller said some is heard."""
        self.deliver(delivered)
        self.hear(lost)
        self.controller.is_waiting_for_hello = True
        for _ in range(min(lost, len(self.on_the_way))):
            self.on_the_way.popleft()
        self.deliver(len(self.on_the_way))
        self.controller.said.clear()
        # They are connected again, and have greeted each other.
        self.controller.is_waiting_for_hello = False
        self.on_the_way += self.session.resend(self.controller.batch)
        self.on_the_way += self.session.resume_messages()

    def settle(self) -> None:
        """Nothing is lost any more."""
        while self.session.has_waiting or self.session.released or self.on_the_way:
            self.send()
            self.deliver(len(self.on_the_way))
            self.hear(len(self.controller.said))
        for task in self.controller.known:
            self.controller.end(task)
        self.hear(len(self.controller.said))


COUNTS = st.integers(0, 20)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["submit"] * 4
            + ["group", "release", "cancel", "ask", "send", "send", "deliver", "end", "hear", "cut"]
        ),
        COUNTS,
        COUNTS,
    ),
    min_size=40,  # shorter stories end before anything can be lost
    max_size=120,
)


@given(STEPS)
def test_whatever_is_lost_all_is_taken_in_once_and_in_order_and_every_end_is_heard(steps):
    world = World()
    for step, *numbers in steps:
        getattr(world, step)(*numbers)
        check_bounds(world)
    world.cut(0, 0)  # nothing arrives of what is on the way
    world.settle()
    # Then each task was taken in once, in order, and its end was heard once
    batches = world.controller.batches
    assert world.controller.known == world.nodes
    assert sorted(world.heard_ends) == world.nodes
    assert not world.session.open
    # And so were releases and wishes to cancel
    assert [node for batch in batches for node in released_by(batch)] == world.let_go
    cancels = [b for b in batches if isinstance(b, m.Cancel)]
    assert {task for cancel in cancels for task in cancel.tasks} == set(world.cancelled)
    # And each question was answered once
    assert sorted(int(answer["what"]) for answer in world.answers) == [
        *range(1, world.questions + 1)
    ]
    # And nothing is kept
    statistics = world.session.statistics()
    assert dataclasses.replace(statistics, functions_known=0) == dataclasses.replace(
        statistics,
        open_tasks=0, window_tasks=0, window_bytes=0, questions=0, functions_known=0, batches=0,
        names=0,
    )  # fmt: skip


def released_by(batch: Any) -> list[int]:
    if isinstance(batch, m.Release):
        return batch.nodes  # type: ignore[return-value]
    return batch.released if isinstance(batch, m.Submit) else []  # type: ignore[return-value]


def check_bounds(world: World) -> None:
    """The window is what is not acknowledged, and what is kept is bounded by it."""
    session = world.session
    accepted = session.accepted_node
    unaccepted = [node for node in world.nodes if node > accepted]
    assert session.window_tasks == len(unaccepted) <= 6
    kept = [batch.outgoing[0] for batch in session._unacknowledged]
    assert sum(len(released_by(batch)) for batch in kept) <= 12


# --- what outlives us, and what others left behind ------------------------------------------------


def test_to_keep_is_a_batch_behind_all_others_and_nothing_is_released_from_then_on():
    session = make_session()
    a = session.submit(F, b"", "a")
    session.keep()
    session.released.append(a)
    assert not session.is_kept
    submit, keep = sent(session)
    assert (submit.batch, keep) == (1, m.Keep(2))
    session.accepted(1)
    assert not session.is_kept
    assert messages_of(session.resend(1)) == [m.Keep(2)]
    session.accepted(2)
    assert session.is_kept
    session.keep()
    assert sent(session) == []


def test_what_is_watched_is_said_again_and_is_not_taken_for_ours():
    session = make_session()
    ours = session.submit(F, b"", "ours")
    theirs = TaskId((7 << SEQUENCE_BITS) + 1)
    later = TaskId(theirs + 1)
    assert session.watch(theirs, "theirs") == "theirs"
    assert session.watch(theirs, "again") == "theirs"
    assert sent(session)[1:] == [m.Watch([theirs])]
    session.accepted(1)
    session.watch(later, "later")
    assert messages_of(session.resume_messages()) == [m.Resume([ours]), m.Watch([theirs])]
    # And of what has ended nobody speaks again
    del session.open[theirs]
    assert sent(session) == [m.Watch([later])]
    assert messages_of(session.resume_messages()) == [m.Resume([ours]), m.Watch([later])]


def test_an_order_that_was_lost_is_not_given_again():
    session = make_session()
    answers: list[Any] = []
    question = session.ask("engines", None, answers.append)
    order = session.order("start", None, 2, answers.append)
    assert sent(session) == [m.Ask(question, "engines"), m.Order(order, "start", None, 2)]
    unsent = session.order("drain", 0, 0, answers.append)
    assert messages_of(session.resume_messages()) == [m.Ask(question, "engines")]
    assert [number for number, _ in session.lost_orders()] == [order]
    assert sent(session) == [m.Order(unsent, "drain", 0)]
