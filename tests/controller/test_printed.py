"""Promise: what tasks print can't fill the controller, whoever does not read it, and who missed
something is told how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.controller.printed import Unshown
from headway.core.states import TaskState
from headway.wire import messages as m
from tests.controller.conftest import WIRE, Kit, Peer, ran

CHARS_MAX = 10_000
TEXT = "x" * 1_000


@pytest.fixture
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    kit = Kit(tmp_path_factory.mktemp("c"), replace(WIRE, output_chars_max=CHARS_MAX))
    yield kit
    kit.close()


def print_on(engine: Peer, *texts: str) -> None:
    for text in texts:
        engine.say(m.Output([m.Printed(None, "stdout", text)]))
    engine.kit.settle()


def heard(client: Peer) -> list[str]:
    """What it is told: the text of each Output, and of each Notice."""
    said = []
    for message in client.heard_all():
        if isinstance(message, m.Output):
            said += [piece.text for piece in message.lines]
        elif isinstance(message, m.Notice):
            said.append(message.text)
    return said


def test_a_client_that_does_not_read_is_sent_no_more_than_the_limit_and_told_what_it_missed(kit):
    client, other, engine = kit.client(), kit.client(), kit.engine()
    # Given a client that shows what it is sent, and one that does not
    print_on(engine, *[TEXT] * 8)
    other.say(m.Shown(8))
    print_on(engine, *[TEXT] * 8)
    # Then the one has it all, and the other up to the limit
    assert heard(other) == [TEXT] * 16
    assert heard(client) == [TEXT] * 9
    # When it reads again, half of it first, it is told once
    client.say(m.Shown(3))
    assert heard(client) == []
    client.say(m.Shown(2))
    (notice,) = heard(client)
    assert notice.startswith("7,000 characters that tasks printed were dropped")
    # And what is printed from then on comes
    print_on(engine, "more")
    assert heard(client) == ["more"]


def test_until_it_was_told_a_client_hears_nothing_so_that_there_is_one_gap(kit):
    client, engine = kit.client(), kit.engine()
    print_on(engine, *[TEXT] * 10, "short", "short")
    assert heard(client) == [TEXT] * 9
    client.say(m.Shown(9))
    assert [text[:6] for text in heard(client)] == ["1,010 "]


def test_a_gap_is_told_before_the_results_that_follow_it(kit):
    client, engine = kit.client(), kit.engine()
    (task,) = client.submit()
    assigned = engine.hear(m.Assigned)
    print_on(engine, *[TEXT] * 10)
    kit.results_of(engine).say(ran(assigned))
    record = kit.controller.scheduler.tasks[task]
    kit.turn(until=lambda: record.state is TaskState.SUCCEEDED)
    aside = (m.Ping, m.Accepted)
    kinds = [type(message) for message in client.heard_all() if not isinstance(message, aside)]
    assert kinds == [m.Output] * 9 + [m.Notice, m.Results]


def test_a_text_above_the_limit_is_shown_where_nothing_else_is_on_its_way(kit):
    client, engine = kit.client(), kit.engine()
    print_on(engine, TEXT * 20, TEXT)
    assert heard(client) == [TEXT * 20]
    client.say(m.Shown(1))
    assert [text[:6] for text in heard(client)] == ["1,000 "]
    print_on(engine, TEXT)
    assert heard(client) == [TEXT]


def test_many_small_pieces_weigh_more_than_their_characters(kit):
    client, engine = kit.client(), kit.engine()
    for _ in range(10):
        engine.say(m.Output([m.Printed(None, "stdout", "")] * 100))
    kit.settle()
    said = [message for message in client.heard_all() if not isinstance(message, m.Ping)]
    assert len(said) == 1


def test_a_client_that_says_to_have_shown_what_it_was_never_sent_gains_nothing(kit):
    client, engine = kit.client(), kit.engine()
    client.say(m.Shown(1 << 32), m.Shown(0))
    print_on(engine, *[TEXT] * 12)
    assert heard(client) == [TEXT] * 9


def test_a_client_that_wants_no_output_is_told_nothing_of_it(kit):
    client, engine = kit.client(want_output=False), kit.engine()
    print_on(engine, *[TEXT] * 12)
    client.say(m.Shown(1))
    assert heard(client) == []


@given(st.lists(st.integers(0, 50) | st.none(), max_size=60))
def test_whatever_is_printed_and_shown_everything_is_sent_or_counted_as_dropped(story):
    """A number is characters that are printed, None that the client shows the oldest."""
    unshown, on_its_way, printed, accounted = Unshown(), [], 0, 0
    for chars in [*story, *[None] * 61]:
        if chars is not None:
            printed += chars
            if unshown.admit([m.Printed(None, "stdout", "x" * chars)], 300):
                on_its_way.append(chars)
                accounted += chars
            assert len(on_its_way) <= 300 / 64
        elif on_its_way:
            on_its_way.pop(0)
            text = unshown.shown(1, 300)
            accounted += int(text.split()[0]) if text else 0
    assert accounted == printed
