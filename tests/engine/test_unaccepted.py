"""Promise: a batch is kept until it is accepted, and no longer; what comes next has its number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.core.events import Outcome
from headway.engine.unaccepted import Unaccepted
from headway.errors import ProtocolError
from headway.wire import codec
from headway.wire import messages as m


def add(ledger, *outcomes, large=()):
    ledger.add(codec.encode(m.Outcomes(ledger.last + 1, list(outcomes)), large))


def numbers(ledger):
    return [codec.from_engine().decode(frames).batch for frames in ledger]


@given(st.lists(st.one_of(st.just("add"), st.floats(0, 1)), max_size=50))
def test_it_has_exactly_the_batches_that_were_made_and_not_accepted(story):
    # Given batches that are made, and accepted up to some place among them, in any order
    ledger, made, accepted = Unaccepted(), 0, 0
    for step in story:
        if step == "add":
            add(ledger, Outcome(made, 1, 0, b""))
            made += 1
        else:
            accepted += int(step * (made - accepted))
            ledger.accept(accepted)
        # Then they are the rest, in order
        assert (ledger.accepted, ledger.last, len(ledger)) == (accepted, made, made - accepted)
        assert numbers(ledger) == list(range(accepted + 1, made + 1))
        assert [held.task for held in ledger.held()] == list(range(accepted, made))


def test_it_knows_each_attempt_in_its_batches_also_where_payloads_are_large():
    ledger = Unaccepted()
    add(ledger, Outcome(1, 1, 0, b"small"), Outcome(2, 5, 0, 0), large=[b"large"])
    add(ledger, Outcome(3, 2, 0, b""))
    assert ledger.held() == [m.Held(1, 1), m.Held(2, 5), m.Held(3, 2)]


def test_what_is_accepted_twice_or_late_changes_nothing():
    ledger = Unaccepted()
    for task in range(3):
        add(ledger, Outcome(task, 1, 0, b""))
    for batch in (2, 2, 1, 0):
        ledger.accept(batch)
        assert numbers(ledger) == [3]


def test_a_batch_that_was_never_made_can_not_be_accepted():
    ledger = Unaccepted()
    add(ledger, Outcome(1, 1, 0, b""))
    for tell in (ledger.accept, ledger.resume):
        with pytest.raises(ProtocolError, match="accepted batch 2 of an engine that made 1"):
            tell(2)


def test_a_controller_that_has_lost_what_was_accepted_is_found_out():
    ledger = Unaccepted()
    for task in range(3):
        add(ledger, Outcome(task, 1, 0, b""))
    ledger.accept(2)
    with pytest.raises(ProtocolError, match="up to 1, and had accepted them up to 2"):
        ledger.resume(1)
    ledger.resume(2)
    assert numbers(ledger) == [3]
