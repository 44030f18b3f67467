"""Promise: a run says of each task where it is: it waits for others, it could run, or it runs."""

from __future__ import annotations

import pytest

from headway.cli.run_board import Board
from headway.flows.plan import Condition, Entry, Pause, PlanTask, make_plan

#: Two lakes are measured, and then drawn as one.
PLAN = make_plan(
    "lakes",
    "f",
    [
        Entry("measure", tuple(PlanTask(f"measure[{n}]", "measure", Pause(0), n) for n in (1, 2))),
        Entry("draw", (PlanTask("draw", "draw", Pause(0), after=Condition(("measure",))),),
              ("measure",)),
    ],
)  # fmt: skip


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_waits_is_apart_from_what_could_run_and_what_runs(capsys: pytest.CaptureFixture[str]):
    clock = Clock()
    first, second, last = PLAN.tasks
    with Board(PLAN, clock) as board:
        assert board.progress().counts == {"ready": 2, "waiting": 1}
        board.tick(lambda: pytest.fail("it is not time"))
        clock.now_s = 5.0
        board.tick(lambda: {"measure": 1})
        board.note(first, "kept")
        board.note(second, "succeeded")
        assert board.progress().counts == {"kept": 1, "succeeded": 1, "ready": 1}
        clock.now_s = 10.0
        board.tick(lambda: None)  # nobody can say
        board.tell("draw failed: no ink")
        board.note(last, "failed")
    assert capsys.readouterr().err.splitlines() == [
        "0 of 3 ended, 1 running, 1 ready, 1 waiting, 0/s",
        "2 of 3 ended, 1 ready, 6.0/min, 10 s left",
        "draw failed: no ink",
    ]
    assert (board.progress().bad, board.progress().is_over) == (1, True)
