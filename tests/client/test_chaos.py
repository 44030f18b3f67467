"""Promise: chaos is asked for in clear words, and a contradiction among outcomes is seen."""

from __future__ import annotations

import pytest

import headway
from headway.client import chaos
from headway.client.chaos import Chaos, ChaosReport
from headway.core.problems import Problem
from headway.core.states import TaskState
from headway.wire.messages import Result


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"engine_kill_every_s": 0}, "engine_kill_every_s=0 must be more than 0, or None"),
        ({"engine_kill_every_s": -1}, "engine_kill_every_s=-1 is negative"),
        ({"stall_s": 6}, "stall_s=6 must be at most 5"),
        ({"charge": 1}, "charge=1"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(settings: dict[str, object], text: str):
    with pytest.raises((ValueError, TypeError), match=text):
        Chaos(**settings)  # type: ignore[arg-type]


def test_it_is_for_a_clients_own_cluster_alone():
    with pytest.raises(ValueError, match="the cluster that a client starts for itself"):
        headway.Client("somewhere.json", chaos=Chaos())


def test_it_is_a_setting():
    with pytest.raises(TypeError, match=r"chaos=7 is not a headway\.Chaos"):
        headway.Client(chaos=7)  # type: ignore[arg-type]


def test_without_a_journal_the_controller_is_not_killed():
    with pytest.raises(ValueError, match="controller_kill_every_s needs durability"):
        headway.Client(chaos=Chaos(controller_kill_every_s=1.0))


class Link:
    """What the thread sees of a link that is over."""

    refusal = Problem("test", "over")

    class session:
        open: dict[int, object] = {}


def report_of(*ends: Result) -> ChaosReport:
    thread = chaos.ChaosThread(Chaos(), Link())  # type: ignore[arg-type]
    thread.stop()
    thread.heard(ends)
    return thread.report()


def test_an_end_that_is_told_twice_is_no_contradiction_and_another_one_is():
    first = Result(1, TaskState.SUCCEEDED, b"value")
    report = report_of(first, first)
    assert report.is_right
    assert (report.told_again, report.ended) == (1, {"succeeded": 1})
    for other in (Result(1, TaskState.SUCCEEDED, b"other"), Result(1, TaskState.FAILED, b"value")):
        report = report_of(first, other)
        assert not report.is_right
        assert "CONTRADICTED: task 0-1" in str(report)


def test_what_was_lost_is_reported_with_its_reason():
    report = report_of(Result(1, TaskState.LOST, problem=Problem("engine", "e1 died under it")))
    assert report.is_right
    assert report.lost == ["e1 died under it"]
    assert "1 lost" in str(report)
