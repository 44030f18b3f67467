"""How far a run is: its rate counts what ran; the time left goes by work where that is known."""

from __future__ import annotations

import pytest

from headway.cli.run_board import rate_text
from headway.cli.run_tally import Tally, is_bad
from headway.flows.plan import Pause, PlanTask


def tasks(*runtimes_s: float | None) -> list[PlanTask]:
    return [
        PlanTask(str(n), "ab"[n % 2], Pause(0), runtime_s=runtime_s)
        for n, runtime_s in enumerate(runtimes_s)
    ]


def test_what_is_kept_has_no_rate():
    made = tasks(None, None, None, None)
    tally = Tally(made)
    assert (tally.rate(1.0), tally.left_s(1.0)) == (0.0, None)

    tally.ended(made[0], "kept")
    tally.ended(made[1], "succeeded")
    tally.ended(made[2], "failed")
    assert (tally.done, tally.bad, tally.rate(4.0), tally.left_s(4.0)) == (3, 1, 0.5, 2.0)
    assert (tally.labels["a"].bad, tally.labels["a"].open, tally.labels["b"].open) == (1, 0, 1)
    assert str(tally) == "1 kept, 1 succeeded, 1 failed"


def test_the_time_left_goes_by_work():
    made = tasks(8.0, 1.0, 1.0, 6.0)
    tally = Tally(made)
    tally.ended(made[0], "succeeded")
    tally.ended(made[1], "kept")

    assert tally.left_s(4.0) == pytest.approx(3.5)


@pytest.mark.parametrize(("state", "bad"), [("kept", False), ("skipped", False), ("lost", True)])
def test_a_run_is_as_good_as_its_ends(state: str, bad: bool):
    assert is_bad(state) is bad


@pytest.mark.parametrize(
    ("per_s", "said"), [(0.0, "0.0/s"), (1234.5, "1,234.5/s"), (0.03, "1.8/min")]
)
def test_a_slow_rate_is_told_by_the_minute(per_s: float, said: str):
    assert rate_text(per_s) == said
