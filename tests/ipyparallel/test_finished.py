"""How tasks ended is found again, with its own value, as long as it is within the bound.

A dict is the model: it says what each id must give, if it gives anything.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.ipyparallel.finished import FinishedIds

SESSION = "4f3c2b1a-0123456789abcdef01234567_4242"
#: The entries of a block.
BLOCK = 64

_counts = st.integers(0, 300) | st.sampled_from([10**14, 10**15 - 1, 10**15, 10**40])
_usual = st.builds("{}_{}".format, st.sampled_from([SESSION, "b_1", "", "_", "✓"]), _counts)
_odd = st.sampled_from(
    ["", "_", "a", "a_", "a_01", "a_00", "a_-1", "a_+1", "a_1 ", "a_1_", "a_²", "a_٣"]
)
_ids = _usual | _odd | st.text(max_size=3)
_ends = st.tuples(st.booleans(), st.none() | st.integers(0, 5) | st.just(2**30 - 2))


def test_an_end_is_found_with_its_engine_and_what_was_not_added_is_not() -> None:
    # given
    finished = FinishedIds(100)
    # when
    finished.add(f"{SESSION}_0", True, 0)
    finished.add(f"{SESSION}_63", False, 7)
    finished.add(f"{SESSION}_64", False, None)
    # then
    assert finished.get(f"{SESSION}_0") == (True, 0)
    assert finished.get(f"{SESSION}_63") == (False, 7)
    assert finished.get(f"{SESSION}_64") == (False, None)
    for stranger in (f"{SESSION}_1", f"{SESSION}_65", f"{SESSION}_128", "other_0", SESSION, ""):
        assert finished.get(stranger) is None
        assert stranger not in finished
    assert len(finished) == 3


def test_the_last_word_on_an_id_holds_and_it_counts_once() -> None:
    # given
    finished = FinishedIds(100)
    # when
    for msg_id in (f"{SESSION}_5", "of another form"):
        finished.add(msg_id, True, 3)
        finished.add(msg_id, False, 4)
    # then
    assert finished.get(f"{SESSION}_5") == finished.get("of another form") == (False, 4)
    assert len(finished) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a_1", "a_01"),
        ("a_0", "a_00"),
        ("a_1", "a_+1"),
        ("a_1", "a_1_"),
        ("a_2", "a_²"),
        ("a_3", "a_٣"),
        ("1", "_1"),
    ],
)
def test_ids_that_look_alike_are_two(one: str, other: str) -> None:
    # given
    finished = FinishedIds(100)
    # when
    finished.add(one, True, 1)
    # then
    assert other not in finished
    finished.add(other, False, 2)
    assert (finished.get(one), finished.get(other)) == ((True, 1), (False, 2))


@pytest.mark.parametrize("engine", [-1, 2**30 - 1])
def test_an_engine_that_has_no_room_in_an_entry_is_refused_and_nothing_kept(engine: int) -> None:
    # given
    finished = FinishedIds(100)
    # when, then
    with pytest.raises(ValueError, match=f"0 to 1073741822, not {engine}"):
        finished.add("a_1", True, engine)
    assert "a_1" not in finished
    assert len(finished) == 0


def test_the_oldest_block_goes_first_and_whole() -> None:
    # given
    finished = FinishedIds(2 * BLOCK)
    for n in range(2 * BLOCK):
        finished.add(f"a_{n}", True)
    assert len(finished) == 2 * BLOCK
    # when
    finished.add("b_0", True)
    # then
    assert [n for n in range(2 * BLOCK) if f"a_{n}" in finished] == list(range(BLOCK, 2 * BLOCK))
    assert "b_0" in finished
    assert len(finished) == BLOCK + 1


def test_an_id_that_was_forgotten_can_come_again() -> None:
    # given
    finished = FinishedIds(BLOCK)
    finished.add("a_0", True, 1)
    for n in range(BLOCK):
        finished.add(f"b_{n}", True)
    assert "a_0" not in finished
    # when
    finished.add("a_0", False, 2)
    # then
    assert finished.get("a_0") == (False, 2)


@pytest.mark.parametrize("form", ["{}_1_0", "{}_1_63", "free text {}"])
def test_ids_that_share_no_block_are_kept_up_to_the_bound_exactly(form: str) -> None:
    # given
    ids_max = 1000
    finished = FinishedIds(ids_max)
    # when
    for n in range(5 * ids_max):
        finished.add(form.format(f"session{n}"), n % 2 == 0, n)
    # then
    kept = range(4 * ids_max, 5 * ids_max)
    assert len(finished) == ids_max
    assert all(finished.get(form.format(f"session{n}")) == (n % 2 == 0, n) for n in kept)
    assert form.format(f"session{4 * ids_max - 1}") not in finished


@given(
    ids_max=st.integers(1, 200),
    steps=st.lists(st.tuples(_ids, _ends), max_size=150),
    strangers=st.lists(_ids, max_size=20),
)
def test_what_is_kept_is_what_was_added(
    ids_max: int, steps: list[tuple[str, tuple[bool, int | None]]], strangers: list[str]
) -> None:
    # given
    finished = FinishedIds(ids_max)
    ids_max = max(ids_max, BLOCK)
    model: dict[str, tuple[bool, int | None]] = {}
    # when
    for place, (msg_id, (succeeded, engine)) in enumerate(steps, 1):
        finished.add(msg_id, succeeded, engine)
        model[msg_id] = (succeeded, engine)
        assert len(finished) <= ids_max
        if len(model) <= ids_max:
            assert len(finished) == len(model), f"forgot one too early, at step {place}"
    # then
    for msg_id, end in model.items():
        assert finished.get(msg_id) in (None, end)
    assert len(finished) == sum(msg_id in finished for msg_id in model)
    for msg_id in strangers:
        assert (msg_id in finished) <= (msg_id in model)


@given(
    ids_max=st.integers(BLOCK, 400),
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=12),
)
def test_of_ids_in_order_only_those_beyond_the_bound_are_forgotten(
    ids_max: int, lengths: list[int]
) -> None:
    # given: sessions that ran one after the other
    finished = FinishedIds(ids_max)
    added = [f"s{session}_1_{n}" for session, length in enumerate(lengths) for n in range(length)]
    # when
    for engine, msg_id in enumerate(added):
        finished.add(msg_id, True, engine)
    # then
    kept = [engine for engine, msg_id in enumerate(added) if msg_id in finished]
    assert kept == list(range(len(added) - len(kept), len(added)))
    assert len(kept) >= min(len(added), ids_max - BLOCK + 1)
    assert all(finished.get(added[engine]) == (True, engine) for engine in kept)
