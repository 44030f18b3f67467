"""A flow is checked as a whole: whoever has one can rely on it."""

from __future__ import annotations

import pytest

from headway.errors import FlowError
from headway.flows.flow import Flow, FlowTask, make_flow


def flow(**parents: str) -> Flow:
    """Tasks with the parents that are named, each of which ran for a second."""
    return make_flow(
        "f", "f.json", [FlowTask(id, tuple(p.split()), 1.0, place=id) for id, p in parents.items()]
    )


def test_parents_stand_before_their_children_and_the_rest_stays_in_order():
    ordered = flow(z="", d="b c", b="a", c="a", a="", y="")

    assert [task.id for task in ordered.tasks] == ["z", "a", "b", "c", "d", "y"]
    assert ordered.parent_numbers() == [[], [], [1], [1], [2, 3], []]
    assert (ordered.edges, ordered.work_s(), ordered.critical_path_s()) == (4, 6.0, 3.0)


def test_a_chain_of_any_length_is_no_recursion():
    count = 50_000
    chain = [FlowTask(str(n), (str(n + 1),) if n + 1 < count else (), 1.0) for n in range(count)]

    assert make_flow("chain", "", chain).critical_path_s() == count


@pytest.mark.parametrize(
    ("parents", "said"),
    [
        ({}, "f.json: there are no tasks in it"),
        ({"a": "nobody"}, "f.json: a: task 'a' depends on 'nobody', which is no task of this flow"),
        ({"a": "a"}, "f.json: a: task 'a' depends on itself"),
        (
            {"x": "c", "a": "b", "b": "c", "c": "a"},
            "f.json: c: tasks depend on each other in a circle: 'c' → 'a' → 'b' → 'c'",
        ),
    ],
)
def test_what_is_no_flow_is_refused_with_its_place(parents: dict[str, str], said: str):
    with pytest.raises(FlowError) as caught:
        flow(**parents)
    assert str(caught.value) == said


def test_a_long_circle_is_told_in_part():
    with pytest.raises(FlowError, match=r"'t0' → .* → \(990 more\) → 't0'$"):
        flow(**{f"t{n}": f"t{(n + 1) % 1000}" for n in range(1000)})


def test_an_id_that_is_there_twice_is_refused_with_both_places():
    with pytest.raises(FlowError, match=r"f\.json: line 9: there is another task 'a', at line 2"):
        make_flow("f", "f.json", [FlowTask("a", place="line 2"), FlowTask("a", place="line 9")])


def test_a_flow_without_times_can_be_had_but_not_measured():
    half = make_flow("f", "f.json", [FlowTask("a", (), 1.0), FlowTask("b", place="line 3")])

    with pytest.raises(FlowError, match=r"line 3: .* 'b' ran \(1 of 2 tasks have no runtime\)"):
        half.work_s()
