"""A plan: its levels, its critical path, and what of a condition is left after an earlier run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.errors import FlowError
from headway.flows.from_workflow import plan_of
from headway.flows.outlook import NEVER, SUCCEEDED, Left, Outlook
from headway.flows.plan import Condition, Entry, Pause, PlanTask, Shell, make_plan
from headway.flows.wfformat import parse_wfformat, read_wfformat

ATLAS = Path(__file__).parents[2] / "examples" / "atlas.workflow.json"


def test_a_workflow_sleeps_for_its_times_and_is_named_by_kind():
    plan = plan_of(read_wfformat(ATLAS), 0.1, "/w")

    assert plan.tasks[0].work == Pause(pytest.approx(0.3))
    assert {task.label for task in plan.tasks} == {"fetch", "split", "measure", "draw", "atlas"}
    assert plan.critical_path_s() == pytest.approx(1.7)
    assert sum(map(len, plan.levels())) == 12


def test_a_workflow_can_run_its_commands():
    plan = plan_of(read_wfformat(ATLAS), 1.0, "/w", as_commands=True)

    assert plan.tasks[1].work == Shell(("split", "lakes.csv", "6"), "/w")
    assert plan.critical_path_s() is None


def test_a_workflow_without_times_or_commands_is_refused_with_its_place():
    file = json.loads(ATLAS.read_bytes())
    del file["workflow"]["execution"]
    flow = parse_wfformat(json.dumps(file).encode(), "f.json")

    with pytest.raises(FlowError, match=r"f.json: .*tasks\[0\]: nothing says how long"):
        plan_of(flow, 1.0, "/w")
    with pytest.raises(FlowError, match=r"f.json: .*tasks\[0\]: task 'fetch-1' has no command"):
        plan_of(flow, 1.0, "/w", as_commands=True)


def array(name: str, count: int) -> Entry:
    ids = [f"{name}[{number}]" for number in range(count)]
    return Entry(name, tuple(PlanTask(each, name, Pause(0)) for each in ids))


@pytest.mark.parametrize(
    ("on", "need", "left"),
    [
        ("success", "all", Left(is_impossible=True)),
        ("success", "any", Left(is_met=True)),
        ("success", 2, Left(need=1, names=("a[2]", "b"))),
        ("success", 3, Left(need="all", names=("a[2]", "b"))),
        ("success", 4, Left(is_impossible=True)),
        ("failure", "any", Left(is_met=True)),
        ("failure", "all", Left(is_impossible=True)),
        ("failure", 2, Left(need=1, names=("a[2]", "b"))),
        ("done", "all", Left(need="all", names=("a[2]", "b"))),
        ("done", 2, Left(is_met=True)),
    ],
)
def test_what_is_left_of_a_condition(on: str, need: str | int, left: Left):
    plan = make_plan("p", "f", [array("a", 3), Entry("b", (PlanTask("b", "b", Pause(0)),))])
    outlook = Outlook(plan)
    outlook.note("a[0]", SUCCEEDED)
    outlook.note("a[1]", NEVER)

    assert outlook.left_of(Condition(("a", "b"), on, need)) == left


def test_an_array_of_which_nothing_has_ended_stays_one_name():
    outlook = Outlook(make_plan("p", "f", [array("a", 3)]))

    assert outlook.left_of(Condition(("a",))) == Left(need="all", names=("a",))
    assert outlook.left_of(None) == Left(is_met=True)
    assert not outlook.has_never(["a"])
