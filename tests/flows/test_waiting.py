"""Promise: of each task of a plan it is known at every moment whether it waits for another."""

from __future__ import annotations

import pytest

from headway.flows.plan import Call, Condition, Entry, Pause, PlanTask, Value, make_plan
from headway.flows.waiting import Waiting


def plan_of(*entries: Entry):
    return make_plan("p", "f", entries)


def one(name: str, after: Condition | None = None, **more) -> Entry:
    task = PlanTask(name, name, more.pop("work", Pause(0)), after=after, **more)
    return Entry(name, (task,), tuple(dict.fromkeys(n.partition("[")[0] for n in task.needs)))


def array(name: str, count: int, after: Condition | None = None) -> Entry:
    tasks = [PlanTask(f"{name}[{n}]", name, Pause(0), n, after) for n in range(count)]
    return Entry(name, tuple(tasks), after.names if after is not None else ())


@pytest.mark.parametrize(
    ("on", "need", "ends", "frees"),
    [
        ("success", "all", [True, True, True], 3),
        ("success", "all", [True, False, True], None),
        ("success", "any", [False, True, True], 2),
        ("success", 2, [True, False, True], 3),
        ("failure", "any", [True, False, True], 2),
        ("failure", "any", [True, True, True], None),
        ("done", "all", [True, False, True], 3),
    ],
)
def test_a_task_waits_until_as_many_have_ended_as_its_condition_wants(on, need, ends, frees):
    waiting = Waiting(plan_of(array("a", 3), one("b", Condition(("a",), on, need))))
    freed_at = None
    for number, end in enumerate(ends):
        free = waiting.note(f"a[{number}]", succeeded=end)
        assert free in ([], ["b"])
        if free:
            assert freed_at is None
            freed_at = number + 1
    assert freed_at == frees
    assert waiting.is_waiting("b") == (frees is None)


def test_a_task_waits_for_values_and_places_besides_its_condition():
    call = Call("m:f", args=[[Value("x")]])
    task = one("t", Condition(("w",)), work=call, follow=("y",))
    waiting = Waiting(plan_of(one("w"), one("x"), one("y"), task))
    assert [waiting.is_waiting(name) for name in ("w", "x", "y", "t")] == [False] * 3 + [True]
    assert waiting.note("x", succeeded=True) == []
    assert waiting.note("w", succeeded=True) == []
    assert waiting.note("y", succeeded=True) == ["t"]


def test_one_member_of_an_array_is_waited_for_by_its_name():
    waiting = Waiting(plan_of(array("a", 2), one("b", Condition(("a[1]",)))))
    assert waiting.note("a[0]", succeeded=True) == []
    assert waiting.note("a[1]", succeeded=True) == ["b"]


def test_what_ended_while_it_waited_waits_no_more():
    waiting = Waiting(plan_of(one("a"), one("b", Condition(("a",), "done"))))
    assert waiting.note("b", succeeded=False) == []
    assert not waiting.is_waiting("b")
    assert waiting.note("a", succeeded=True) == []


def test_an_array_after_an_array_costs_their_sum_and_not_their_product():
    count = 20_000
    after = Condition(("a",))
    waiting = Waiting(plan_of(array("a", count), array("b", count, after)))
    freed = [waiting.note(f"a[{n}]", succeeded=True) for n in range(count)]
    assert not any(freed[:-1])
    assert len(freed[-1]) == count
