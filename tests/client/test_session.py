"""The conversation with the controller: numbers, batches, the window, functions, order."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.client.batch_writer import Function
from headway.client.session import (
    FUNCTIONS_KNOWN_MAX,
    TASK_BYTES,
    Session,
    SessionStatistics,
)
from headway.config import WireConfig
from headway.core.events import ConditionSpec, TaskOptions, task_id
from headway.errors import SerializationError
from headway.wire import messages as m

WIRE = WireConfig()


def make_session(**wire: Any) -> Session[str]:
    session: Session[str] = Session(dataclasses.replace(WIRE, **wire))
    session.welcome(1)
    return session


def function(name: str = "f", size: int = 1) -> Function:
    return Function(name.encode().ljust(16, b"\0"), b"x" * size)


def sent(session: Session[str]) -> list[Any]:
    return [message for message, _ in session.messages(session.take())]


def test_ids_count_up_from_one_under_the_clients_number():
    # Given a client whose number is 1
    session = make_session()
    # When two tasks and a group are asked for
    f = function()
    nodes = [session.submit(f, b"", "a"), session.submit(f, b"", "b"), session.submit_group([])]
    # Then their ids are 1-1, 1-2 and 1-3
    assert nodes == [task_id(1, 1), task_id(1, 2), task_id(1, 3)]


def test_what_waits_is_one_batch_and_its_function_is_sent_once():
    session = make_session()
    f = function()
    session.submit(f, b"1", "a")
    session.submit(f, b"2", "b")
    (first,) = sent(session)
    assert first.batch == 1
    assert [t.payload for t in first.tasks] == [b"1", b"2"]
    assert first.functions == [f.digest]
    assert first.new_functions == {f.digest: f.payload}
    # And the next batch names it without sending it
    session.submit(f, b"3", "c")
    (second,) = sent(session)
    assert (second.batch, second.functions, second.new_functions) == (2, [f.digest], {})
    # And nothing else was said
    assert sent(session) == []


def test_a_batch_is_closed_by_count_and_by_bytes():
    session = make_session(batch_tasks_max=10, batch_bytes=1000)
    for _ in range(25):
        session.submit(function(), b"", "a")
    assert [len(s.tasks) for s in sent(session)] == [10, 10, 5]
    for _ in range(3):
        session.submit(function(), b"x" * 900, "a")
    assert [len(s.tasks) for s in sent(session)] == [2, 1]  # 900 and more: closed above 1000


def test_what_a_task_names_counts_as_its_arguments_do():
    # Given tasks that each name a hundred others, in three ways, and a group of as many
    upstreams = [task_id(1, n) for n in range(1, 101)]
    view = TaskOptions(targets=list(range(300)))
    ways: list[dict[str, Any]] = [
        {"after": ConditionSpec(upstreams)},
        {"follow": ConditionSpec(upstreams)},
        {"inputs": upstreams},
        {"options": view},
    ]
    for way in ways:
        session = make_session(batch_bytes=1000)
        for _ in range(6):
            session.submit(function(), b"", "a", **way)
        assert session.window_bytes > 6 * 500
        # Then a batch of them is no larger than one of tasks with as large arguments
        assert [len(s.tasks) for s in sent(session)] == [2, 2, 2], way
        session.accepted(3)
        assert (session.window_tasks, session.window_bytes) == (0, 0)
    session = make_session(batch_bytes=1000)
    for _ in range(3):
        session.submit_group(upstreams)
    assert [len(s.groups) for s in sent(session)] == [2, 1]


def test_what_cant_be_written_is_refused_before_it_is_asked_for():
    session = make_session()
    with pytest.raises(SerializationError, match="can't write a TaskOptions"):
        session.submit(function(), b"", "a", options=TaskOptions(priority=1 << 70))
    # And nothing of it is left
    assert sent(session) == []
    assert session.statistics() == SessionStatistics(0, 0, 0, 0, 0, 0, 0)


def test_a_group_opens_a_batch_after_the_tasks_it_names():
    # Given a task, a group of it, and a task after the group
    session = make_session()
    a = session.submit(function(), b"", "a")
    group = session.submit_group([a])
    b = session.submit(function(), b"", "b")
    # When they are sent
    first, second = sent(session)
    # Then the group's members are in an earlier batch, and ids only ever grow
    assert ([t.id for t in first.tasks], first.groups) == ([a], [])
    assert ([g.id for g in second.groups], [t.id for t in second.tasks]) == ([group], [b])


def test_the_window_fills_with_tasks_and_opens_with_acknowledgements():
    session = make_session(window_tasks=3, batch_tasks_max=2)
    for _ in range(3):
        assert not session.is_full
        session.submit(function(), b"", "a")
    assert session.is_full
    assert [s.batch for s in sent(session)] == [1, 2]
    assert session.is_full  # sent is not acknowledged
    session.accepted(1)
    assert not session.is_full
    assert session.window_tasks == 1
    session.accepted(2)
    assert (session.window_tasks, session.window_bytes) == (0, 0)


def test_the_window_fills_with_bytes_too():
    session = make_session(window_bytes=1000)
    session.submit(function(), b"x" * 1000, "a")
    assert session.is_full
    sent(session)
    session.accepted(1)
    assert not session.is_full


def test_releases_are_sent_after_the_submits_that_were_made_before_them():
    # Given a task that another depends on, whose future goes at once
    session = make_session()
    a = session.submit(function(), b"", "a")
    b = session.submit(function(), b"", "b", inputs=[a])
    session.released.append(a)
    # When everything is sent
    (submit,) = sent(session)
    # Then its release rides in the same batch, which takes in the tasks first
    assert [t.id for t in submit.tasks] == [a, b]
    assert (submit.batch, submit.released) == (1, [a])


def test_releases_ride_in_the_last_of_several_submits():
    session = make_session(batch_tasks_max=2)
    a = session.submit(function(), b"", "a")
    for inputs in ([a], [a], [a]):
        session.submit(function(), b"", "b", inputs=inputs)
    session.released.append(a)
    first, last = sent(session)
    assert (first.released, last.released) == ([], [a])


def test_releases_without_a_submit_are_a_batch_of_their_own():
    session = make_session()
    a = session.submit(function(), b"", "a")
    sent(session)
    session.released.append(a)
    assert sent(session) == [m.Release(2, [a])]


def test_controls_come_between_submits_and_releases():
    session = make_session()
    session.released.append(task_id(1, 1))
    a = session.submit(function(), b"", "a")
    session.cancel([a])
    number = session.ask("task", a, lambda answer: None)
    assert [type(message) for message in sent(session)] == [m.Submit, m.Cancel, m.Ask, m.Release]
    assert session.answered(m.Answer(number)) is not None
    assert session.answered(m.Answer(number)) is None  # answered once


def test_a_cancel_says_whether_what_has_begun_is_meant():
    session = make_session()
    session.cancel([task_id(1, 1)])
    session.cancel([task_id(1, 2)], queued_only=True)
    assert sent(session) == [m.Cancel(1, [task_id(1, 1)]), m.Cancel(2, [task_id(1, 2)], True)]
    # And where both are wished for, the stronger counts
    for wishes in ((True, False), (False, True), (True, True)):
        for queued_only in wishes:
            session.cancel([task_id(1, 3)], queued_only)
        (cancel,) = sent(session)
        assert (cancel.tasks, cancel.queued_only) == ([task_id(1, 3)], all(wishes))


def test_tasks_that_were_put_in_out_of_order_are_sent_in_order():
    # A signal handler that submits in the middle of a submit may swap two neighbours.
    session = make_session()
    nodes = [session.submit(function(), b"", "a") for _ in range(3)]
    taken = session.take()
    taken.asked[0], taken.asked[1] = taken.asked[1], taken.asked[0]
    ((submit, _),) = session.messages(taken)
    assert [t.id for t in submit.tasks] == nodes


def test_large_payloads_travel_in_the_order_in_which_they_are_read_again():
    session = make_session(inline_bytes_max=10)
    f, g = function("f", size=20), function("g", size=5)
    session.submit(f, b"a" * 11, "a")
    session.submit(g, b"b", "b")
    session.submit(g, b"c" * 12, "c")
    ((submit, large),) = session.messages(session.take())
    assert list(large) == [f.payload, b"a" * 11, b"c" * 12]
    assert submit.new_functions == {f.digest: 0, g.digest: g.payload}
    assert [t.payload for t in submit.tasks] == [1, b"b", 2]


def test_the_function_named_longest_ago_is_evicted_and_sent_anew_when_it_is_named_again():
    session: Session[str] = Session(WIRE, functions_known_max=2)
    session.welcome(1)
    f, g, h = function("f"), function("g"), function("h")
    for each in (f, g, f, h):  # g is the one named longest ago
        session.submit(each, b"", "a")
        messages = sent(session)
    assert messages[-1] == m.Release(5, [], [g.digest])
    session.submit(g, b"", "a")
    submit, release = sent(session)
    assert submit.new_functions == {g.digest: g.payload}
    assert release == m.Release(7, [], [f.digest])
    assert FUNCTIONS_KNOWN_MAX >= 2


def test_foreign_futures_are_kept_until_their_batch_is_acknowledged():
    session = make_session()
    keep = object()
    session.submit(function(), b"", "a", keep=keep)
    sent(session)
    assert session._unacknowledged[0].keep == [keep]
    session.accepted(1)
    assert not session._unacknowledged


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 9), st.integers(0, 300)),
        st.tuples(st.just("group"), st.just(0), st.just(0)),
        st.tuples(st.just("release"), st.integers(0, 50), st.just(0)),
        st.tuples(st.just("send"), st.just(0), st.just(0)),
        st.tuples(st.just("accept"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@given(STEPS)
def test_whatever_is_asked_the_stream_keeps_the_rules_of_the_wire(steps):
    """A model controller reads the stream: ids grow, nodes and functions are known when named."""
    session: Session[str] = Session(
        dataclasses.replace(WIRE, batch_tasks_max=4, batch_bytes=700), functions_known_max=3
    )
    session.welcome(1)
    functions = [function(str(i), size=i * 40 + 1) for i in range(10)]
    nodes: list[int] = []
    held: list[int] = []
    known: set[bytes] = set()
    seen: list[int] = []
    released: set[int] = set()
    batches: list[m.Submit | m.Release] = []

    def send() -> None:
        for message in sent(session):
            assert message.batch == len(batches) + 1
            batches.append(message)
            if isinstance(message, m.Release):
                assert set(message.nodes) <= set(seen)
                released.update(message.nodes)
                assert set(message.functions) <= known
                known.difference_update(message.functions)
                continue
            assert not known & set(message.new_functions)
            known.update(message.new_functions)
            assert set(message.functions) <= known
            for group in message.groups:
                assert set(group.members) <= set(seen) - released
            for node in [*message.groups, *message.tasks]:
                assert not seen or node.id > seen[-1]
                seen.append(node.id)
            for task in message.tasks:
                assert 0 <= task.function < len(message.functions)
                assert set(task.inputs or []) <= set(seen) - released

    for kind, which, size in steps:
        if kind == "submit":
            inputs = held[-1:] or None
            node = session.submit(functions[which], b"x" * size, "f", inputs=inputs)  # type: ignore
            nodes.append(node)
            held.append(node)
        elif kind == "group":
            session.submit_group(held[-3:])  # type: ignore[arg-type]
        elif kind == "release" and held:
            session.released.append(held.pop(which % len(held)))  # type: ignore[arg-type]
        elif kind == "send":
            send()
        elif kind == "accept" and batches:
            session.accepted(len(batches))
            assert session.window_tasks == len(nodes) - sum(n in set(seen) for n in nodes)
    send()
    session.accepted(len(batches))
    # Then everything was sent once, and the window is empty
    assert [n for n in seen if n in set(nodes)] == nodes
    assert session.statistics() == SessionStatistics(len(nodes), 0, 0, 0, len(known), 0, 0)
    assert len(known) <= 3 + 4
    assert TASK_BYTES > 0
