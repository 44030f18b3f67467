"""Promise: whatever happens to a cluster, its trace is whole; to keep it changes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headway.client.trace_rows import build
from headway.controller.books import Books
from headway.controller.recorder import Recorder
from headway.sim import controller
from headway.sim.run import run
from headway.traces.chrome import chrome_trace
from headway.traces.critical import critical_path
from headway.traces.select import select
from headway.traces.summary import summary
from headway.wire.traced import TracePage
from tests.traces.made import check_chrome


def pages_of(recorder: Recorder, now: float) -> list[TracePage]:
    pages: list[TracePage] = []
    cursor: int | None = 0
    while cursor is not None:
        body = msgspec.msgpack.decode(msgspec.msgpack.encode(recorder.page(cursor, now)))
        pages.append(msgspec.convert(body, TracePage))
        cursor = pages[-1].next
    return pages


@pytest.mark.parametrize("seed", [1, 3])
def test_what_ran_under_kills_cuts_and_stalls_is_a_whole_trace(seed: int, monkeypatch):
    plain = run(seed)
    kept: list[tuple[Recorder, Books]] = []

    def with_recorder(ledger: Any, clock: Any, is_kept: bool) -> Books:
        recorder = Recorder(ledger.scheduler, 1_000, clock.now(), clock.wall_s)
        books = Books(ledger, clock, is_kept, recorder)
        kept.append((recorder, books))
        return books

    monkeypatch.setattr(controller, "Books", with_recorder)
    outcome = run(seed)

    assert outcome.violation == ""
    assert outcome.log == plain.log
    assert sum(len(recorder) for recorder, _ in kept)
    for recorder, books in kept:
        trace = select(build(pages_of(recorder, books.clock.now())), lambda task: True)
        runs = check_chrome(chrome_trace(trace))
        assert len(runs) == sum(len(task.attempts) for task in trace.tasks)
        for task in trace.tasks:
            times = [
                at_s
                for each in task.attempts
                for at_s in (each.assigned_s, each.started_s, each.ended_s, each.heard_s)
            ]
            assert times == sorted(times)
        path = critical_path(trace)
        assert path.run_s + sum(path.waited_s.values()) == pytest.approx(path.took_s, abs=1e-6)
        figures = summary(trace)
        assert 0.0 <= figures.starved_s <= figures.idle_s + 1e-9
        # What a task waited for, whoever ran beside it, was seen while it was known.
        assert not recorder._assigned_s.keys() - books.scheduler.tasks.keys()
