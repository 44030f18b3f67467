"""What may be written after after= and follow=, and the conditions that come of it."""

from __future__ import annotations

from typing import Any

import pytest

from headway import Dependency, Future, Group
from headway.client import dependency
from headway.core.events import NEED_ALL, ON_DONE, ON_FAILURE, ON_SUCCESS, ConditionSpec, task_id


class _Anywhere:
    """Stands in for a client."""

    def __init__(self) -> None:
        self._released: list[int] = []


CLIENT: Any = _Anywhere()


def future(sequence: int) -> Future[Any]:
    made: Future[Any] = Future(CLIENT)
    made.node = task_id(1, sequence)  # type: ignore[arg-type]
    return made


A, B, C = future(1), future(2), future(3)
GROUP = Group([A, B], CLIENT)


def spec(*upstreams: int, need: int = NEED_ALL, on: int = ON_SUCCESS) -> ConditionSpec:
    return ConditionSpec([task_id(1, u) for u in upstreams], need, on)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (A, spec(1)),
        ("1-2", spec(2)),
        (task_id(1, 2), spec(2)),
        ([A, "1-3"], spec(1, 3)),
        ((A, B, A), spec(1, 2)),
        (Dependency([A, B], need="any"), spec(1, 2, need=1)),
        (Dependency([A, B, C], need=2, on="failure"), spec(1, 2, 3, need=2, on=ON_FAILURE)),
        (Dependency(A, on="done"), spec(1, on=ON_DONE)),
        ([Dependency([A, B], on="done")], spec(1, 2, on=ON_DONE)),
        ([Dependency([A]), B], spec(1, 2)),
        (Dependency([GROUP, C], need="any"), spec(1, 2, 3, need=1)),
        (Dependency([GROUP, C], need=3), spec(1, 2, 3, need=3)),
    ],
    ids=str,
)
def test_tasks_in_every_form_become_one_condition(value, expected):
    condition = dependency.check(value, "after")
    assert condition is not None
    assert condition.spec == expected
    assert condition.malformed == ""


@pytest.mark.parametrize("value", [None, [], (), set(), Dependency([]), Group([], CLIENT)])
def test_no_tasks_are_no_condition(value):
    assert dependency.check(value, "after") is None


@pytest.mark.parametrize(
    ("value", "upstreams", "need"),
    [
        (GROUP, 1, NEED_ALL),
        (Dependency(GROUP, need="any"), 1, 1),
        (Dependency(GROUP, need=2), 1, 2),
        ([GROUP, C], 2, NEED_ALL),
    ],
    ids=str,
)
def test_a_group_is_one_edge_whatever_it_holds(value, upstreams, need):
    condition = dependency.check(value, "after")
    assert condition is not None
    assert (len(condition.upstreams), condition.need) == (upstreams, need)
    assert condition.upstreams[0] is GROUP


def test_follow_takes_a_group_apart_for_places_are_those_of_tasks():
    condition = dependency.check(GROUP, "follow")
    assert condition is not None
    assert condition.spec == spec(1, 2)


@pytest.mark.parametrize("name", ["x", "1", "1-", "-1-2", "1-01", "1-2-3", "", 0, -5, 1 << 63])
def test_what_names_no_task_is_noted_not_raised(name):
    condition = dependency.check([A, name], "after")
    assert condition is not None
    assert "is not a task id" in condition.malformed


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Dependency([A, B], need=3), ValueError, "need=3 of 2 tasks"),
        (lambda: Dependency([A], need=0), ValueError, "need=0 of 1 task"),
        (lambda: Dependency([], need="any"), ValueError, "need='any' of no tasks"),
        (lambda: Dependency([A], need="some"), TypeError, "need='some' is none of"),
        (lambda: Dependency([A], need=True), TypeError, "need=True is none of"),
        (lambda: Dependency([A], on="ever"), ValueError, "on='ever' is none of"),
        (lambda: Dependency([1.5]), TypeError, "1.5 names no task"),
        (lambda: Dependency(3.5), TypeError, "3.5 names no task"),
        (lambda: Dependency([Dependency([A])]), TypeError, "can't hold another"),
        (lambda: dependency.check([[A]], "after"), TypeError, "names no task"),
        (lambda: dependency.check(b"1-2", "after"), TypeError, "names no task"),
        (lambda: dependency.check(True, "after"), TypeError, "names no task"),
        (lambda: dependency.check(Dependency([A, A], need=2), "after"), ValueError, "1 different"),
        (
            lambda: dependency.check([Dependency([A], on="done"), B], "after"),
            ValueError,
            "after takes one Dependency",
        ),
        (
            lambda: dependency.check([Dependency([A], need="any"), B], "follow"),
            ValueError,
            "follow takes one Dependency",
        ),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_task_is_named_by_future_or_id_and_by_nothing_else():
    assert dependency.as_node(A) == dependency.as_node("1-1") == dependency.as_node(A.node)
    with pytest.raises(ValueError, match="'1-x' is not a task id"):
        dependency.as_node("1-x")
    with pytest.raises(TypeError, match=r"2\.5 is neither a Future nor a task's id"):
        dependency.as_node(2.5)


def test_a_group_does_not_change():
    for change in (
        lambda g: g.append(C),
        lambda g: g.__setitem__(0, C),
        lambda g: g.sort(),
        lambda g: g.pop(),
        lambda g: g.__iadd__([C]),
    ):
        with pytest.raises(TypeError, match="a Group does not change"):
            change(GROUP)
    assert GROUP == [A, B]
    assert hash(GROUP) == hash(Group([A, B], CLIENT))
