"""The simulator finds bugs: each of these is planted, and found within some seeds."""

from __future__ import annotations

from typing import Any

import pytest

from headway.controller import commits
from headway.controller.reception import Reception
from headway.core.client_events import ClientEvents
from headway.core.states import Cause
from headway.sim.faults import Faults
from headway.sim.run import LEFT_FROM, run

SEEDS_MAX = 60

TROUBLE = Faults(
    until_s=10.0,
    delay_tail_s=0.05,
    cut_engine=0.5,
    cut_client=0.3,
    partition_s=5.0,
    notice_s=0.5,
    engine_crash=0.3,
    engine_stall=0.2,
    stall_s=20.0,
    controller_crash=0.2,
    crash_in_send=0.02,
)


def seeds_until_found(first: int = 0) -> int:
    """How many seeds it took; fails if the bug was not found."""
    for seed in range(SEEDS_MAX):
        if run(first + seed, TROUBLE).violation:
            return seed + 1
    pytest.fail(f"not found in {SEEDS_MAX} seeds")


def test_without_a_bug_nothing_is_found():
    assert [run(seed, TROUBLE).violation for seed in range(5)] == [""] * 5


def test_tasks_that_are_repeated_though_they_may_run_once_are_found(
    monkeypatch: pytest.MonkeyPatch,
):
    def careless(task: Any, *, begun: bool, charged: bool) -> Cause:
        return Cause.CANCEL if task.cancelled else Cause.ENGINE_LOST

    monkeypatch.setattr("headway.core.engine_events.after_engine_end", careless)
    assert seeds_until_found() <= SEEDS_MAX


def test_tasks_that_never_reached_their_engine_and_are_forgotten_are_found(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Reception, "_reconcile", lambda self, peer, now: None)
    assert seeds_until_found() <= SEEDS_MAX


def test_tasks_that_are_dropped_though_their_client_left_them_behind_are_found(
    monkeypatch: pytest.MonkeyPatch,
):
    def forgetful(self: Any, event: Any, now: float, out: Any) -> None:
        """Does not keep."""

    monkeypatch.setattr(ClientEvents, "_on_keep_asked", forgetful)
    assert seeds_until_found(LEFT_FROM) <= SEEDS_MAX


def test_messages_that_are_sent_before_they_are_written_are_found(monkeypatch: pytest.MonkeyPatch):
    class Hasty(commits.Commits):
        _late: bytes | None = None

        def commit(self, now: float) -> None:
            # With the next turn: what follows from this one is under way by then.
            late, self._late = self._late, self._books.take_record(now)
            if late is not None and self._journal is not None:
                self._journal.commit(late)

    monkeypatch.setattr("headway.controller.loop.Commits", Hasty)
    assert seeds_until_found() <= SEEDS_MAX
