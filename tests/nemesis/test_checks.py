"""Promise: the nemesis sees what must not be. Its checks are given good stories, and bad ones."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from tests.nemesis import faults, tasks
from tests.nemesis.checks import Excuses, Judge
from tests.nemesis.tasks import Task

#: One after another: the fourth waits for the ends of the first and the third.
STORY = [
    Task(0, "add"),
    Task(1, "once", inputs=[0]),
    Task(2, "cancel", inputs=[0], cancel_after_s=0.0),
    Task(3, "final", finalizes=[0, 2]),
    Task(4, "fail", inputs=[1]),
    Task(5, "add", inputs=[4]),
]
RUNS = [
    *[("begin", 0), ("end", 0), ("begin", 1), ("end", 1), ("begin", 2)],
    *[("begin", 3), ("end", 3), ("begin", 4), ("raise", 4)],
]
ENDS: list[list[Any]] = [
    *[["succeeded", 0], ["succeeded", 1], ["cancelled", None], ["succeeded", 3]],
    *[["failed", "4"], ["impossible", "4 failed"]],
]


def judge(
    runs: list[tuple[str, int]] = RUNS,
    excuses: Excuses | None = None,
    refusal: str = "",
    told: int = 1,
    cancelled: str = "cancelled",
    ends: dict[int, list[Any]] | None = None,
) -> list[str]:
    """The violations in that story, changed as the arguments say."""
    changed = [(ends or {}).get(key, end) for key, end in enumerate(ENDS)]
    found = Judge("client", STORY, runs, excuses or Excuses())
    found.judge_runs()
    report = {
        "ends": changed, "told": [told] * len(STORY), "cancelled": {"2": cancelled},
        "refusal": refusal,
    }  # fmt: skip
    found.judge_report(report)
    return found.violations


def test_a_good_story_is_good():
    assert judge() == []
    assert judge(excuses=Excuses(runs_once=True)) == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"runs": [*RUNS, ("begin", 1)]}, r"task 1 \(once\) ran 2 times, and may once"),
        ({"runs": [("begin", 1), *RUNS]}, "task 1.*began before its input 0 had ended"),
        ({"runs": [("begin", 3), *RUNS]}, "task 3.*began before 0 had succeeded"),
        ({"runs": [r for r in RUNS if r != ("end", 1)]}, "task 1.*no run of it came to its end"),
        ({"ends": {0: ["succeeded", 7]}}, "task 0.*gave 7, and should give 0"),
        ({"ends": {0: ["open", "waits"]}}, "task 0.*ended as open"),
        ({"ends": {3: ["impossible", ""]}}, "task 3.*ended as impossible"),
        ({"ends": {4: ["succeeded", 5]}}, "task 4.*ended as succeeded, which is none of"),
        ({"ends": {5: ["failed", ""]}}, "task 5.*ended as failed, which is none of"),
        ({"ends": {2: ["succeeded", 2]}}, "task 2.*was cancelled as cancel had it"),
        ({"ends": {0: ["cut off", "gone"]}}, "client was cut off, for no reason: gone"),
        ({"refusal": "refused"}, "client was cut off, for no reason: refused"),
        ({"told": 2}, "said 2 times that it is done"),
        ({"told": 0}, "said 0 times that it is done"),
    ],
)
def test_a_bad_story_is_seen(bad: dict[str, Any], said: str):
    found = judge(**bad)
    assert any(_matches(said, violation) for violation in found), found


def _matches(said: str, violation: str) -> bool:
    return re.search(said, violation) is not None


def test_a_second_run_for_no_reason_is_seen_where_nothing_makes_the_cluster_run_it_again():
    runs = [*RUNS, ("begin", 0), ("end", 0)]
    assert judge(runs) == []
    assert "ran 2 times, for no reason" in judge(runs, Excuses(runs_once=True))[0]


def test_a_client_that_was_away_for_too_long_may_be_cut_off():
    ends = {0: ["cut off", "away"], 3: ["cut off", ""], 5: ["cut off", ""]}
    assert judge(ends=ends, excuses=Excuses(may_be_cut_off=True)) == []


def test_the_same_seed_draws_the_same_round_and_the_same_story():
    assert faults.draw(7) == faults.draw(7)
    assert faults.draw(7) != faults.draw(8)
    story = tasks.story(random.Random(7), 100, 0.1)
    assert story == tasks.story(random.Random(7), 100, 0.1)
    assert {task.kind for task in story} == set(tasks.KINDS)
