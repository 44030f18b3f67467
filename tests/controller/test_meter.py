"""Promise: the numbers that a controller tells are exact, bounded, and cost nothing unasked."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest

from headway.config import SchedulerConfig
from headway.controller import meter
from headway.controller.books import Books, Clock
from headway.controller.commits import Commits
from headway.controller.journal import NORMAL, Journal
from headway.controller.ledger import Ledger
from headway.core import events as ev
from headway.core.events import EngineEnd
from headway.core.limits import parse_limit
from headway.core.states import TaskState
from headway.wire import messages as m
from headway.wire.metrics import BOUNDS_S, NAMES_MAX, Metrics
from tests.controller.conftest import Kit, Peer


class Scraper:
    """A client that asks for the numbers."""

    def __init__(self, kit: Kit) -> None:
        self.client = kit.client(want_output=False)
        self._asked = 0

    def read(self) -> Metrics:
        self._asked += 1
        self.client.say(m.Ask(self._asked, "metrics"))
        answer = self.client.hear(m.Answer, also=[m.Notice])
        assert not answer.error
        return msgspec.convert(answer.body, Metrics)


def run_all(kit: Kit, engine: Peer, count: int, run_s: float, status: int = ev.RAN) -> None:
    """The engine runs the next `count` tasks."""
    out = kit.results_of(engine)
    while count:
        tasks = engine.hear(m.Assigned, also=[m.Accepted]).tasks
        outcomes = [ev.Outcome(t.task, t.attempt, status, b"", run_s=run_s) for t in tasks]
        out.say(m.Outcomes(0, outcomes))
        count -= len(tasks)
    kit.settle()


def test_tasks_and_engines_are_counted_as_they_are(kit: Kit):
    client, engine, scraper = kit.client(), kit.engine(), Scraper(kit)
    client.submit(2)
    run_all(kit, engine, 2, 0.002)
    client.submit(5)

    seen = scraper.read()
    assert seen.submitted == 7
    assert seen.ended[TaskState.SUCCEEDED] == seen.tasks[TaskState.SUCCEEDED] == 2
    assert sum(seen.tasks) == 7
    assert seen.engines == {"idle": 0, "busy": 1, "draining": 0, "away": 0}
    assert (seen.clients, seen.engines_joined, seen.journal) == (2, 1, None)
    assert seen.rss_bytes > 1 << 20
    assert seen.unfinished_bytes == 5 * len(b"arguments")


def test_times_are_measured_once_somebody_asks_and_until_nobody_has_for_long(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(meter, "_PATIENCE_S", 5.0)
    client, engine, scraper = kit.client(), kit.engine(), Scraper(kit)
    assert not kit.controller.scheduler.watchers
    client.submit(1)
    run_all(kit, engine, 1, 0.002)
    assert sum(scraper.read().run.counts) == 0

    client.submit(3)
    run_all(kit, engine, 3, 0.002)
    seen = scraper.read()
    assert seen.run.counts[BOUNDS_S.index(0.005)] == sum(seen.run.counts) == 3
    assert seen.run.sum_s == pytest.approx(0.006)
    assert sum(seen.queued.counts) == 3

    kit.turn(6.0)
    assert not kit.controller.scheduler.watchers
    client.submit(1)
    run_all(kit, engine, 1, 0.002)
    again = scraper.read()
    assert again.run == seen.run  # neither more nor less
    assert again.ended[TaskState.SUCCEEDED] == 5


def test_the_time_in_the_queue_is_that_until_the_task_was_sent(kit: Kit):
    client, scraper = kit.client(), Scraper(kit)
    scraper.read()
    client.submit(1)
    kit.turn(8.0)
    engine = kit.engine()
    engine.hear(m.Assigned)

    seen = scraper.read()
    assert seen.queued.counts[BOUNDS_S.index(10.0)] == 1
    assert seen.queued.sum_s == pytest.approx(8.0)


def test_a_batch_that_comes_again_and_times_that_can_not_be_are_not_counted(kit: Kit):
    client, engine, scraper = kit.client(), kit.engine(), Scraper(kit)
    scraper.read()
    client.submit(2)
    tasks = engine.hear(m.Assigned).tasks
    times = [0.5, float("inf")]
    outcomes = [
        ev.Outcome(t.task, t.attempt, ev.RAN, b"", run_s=run_s)
        for t, run_s in zip(tasks, times, strict=True)
    ]
    batch = m.Outcomes(1, outcomes)
    out = kit.results_of(engine)
    out.say(batch, batch)
    kit.settle()

    seen = scraper.read()
    assert (sum(seen.run.counts), seen.run.sum_s) == (1, 0.5)


def test_no_count_falls_when_whoever_asks_comes_back_as_another(kit: Kit):
    client, engine, scraper = kit.client(), kit.engine(), Scraper(kit)
    scraper.read()
    client.submit(4)
    run_all(kit, engine, 4, 0.2)
    before = scraper.read()
    scraper.client.say(m.Bye())
    kit.turn(until=lambda: not kit.has_client(scraper.client))

    after = Scraper(kit).read()
    assert (after.ended, after.run, after.submitted) == (before.ended, before.run, 4)


@pytest.mark.parametrize(
    ("end", "how", "reason"),
    [
        (EngineEnd("killed by SIGKILL"), "out_of_memory", "out_of_memory"),
        (EngineEnd("exited with code 3"), "exit", "exit"),
        (EngineEnd("was stopped", wanted=True), "signal", "wanted"),
        (EngineEnd("killed by SIGKILL", overran=True), "signal", "overran"),
        (EngineEnd("killed by SIGKILL"), "a word of a later version", "other"),
    ],
)
def test_engines_that_end_are_counted_by_reason(kit: Kit, end: EngineEnd, how: str, reason: str):
    nanny, engine, scraper = kit.nanny(), kit.engine(), Scraper(kit)
    nanny.say(m.EngineDied("engine-token", end, None, False, how))
    kit.turn(until=lambda: kit.controller._deaths)
    kit.turn(1.0, until=lambda: not kit.has_engine(engine))

    ends = scraper.read().engine_ends
    assert {name: count for name, count in ends.items() if count} == {reason: 1}


def test_an_engine_that_nobody_saw_end_is_lost(kit: Kit):
    engine, scraper = kit.engine(), Scraper(kit)
    engine.say(m.Bye())
    kit.turn(until=lambda: not kit.has_engine(engine))

    assert scraper.read().engine_ends["lost"] == 1


def test_names_have_a_bound_and_the_rest_is_told_together(kit: Kit):
    client, scraper = kit.client(), Scraper(kit)
    for number in range(NAMES_MAX + 5):
        client.submit(2, tags=[f"tag{number}"])
        client.submit(1 + (number < NAMES_MAX), fair=True, share=f"share{number}")

    seen = scraper.read()
    assert len(seen.tags) == len(seen.shares) == NAMES_MAX + 1
    assert seen.tags["tag0"] == (0, 2)
    assert seen.tags["other"] == (0, 10)
    assert (seen.shares["share0"], seen.shares["other"]) == (2, 5)


def test_refusals_are_counted(kit: Kit):
    stranger, scraper = kit.client(), Scraper(kit)
    stranger.socket.send_multipart([b"garbage"])
    stranger.hear(m.Refused)

    assert scraper.read().peers_refused == 1


def test_of_a_journal_its_size_is_told_and_what_a_takeover_would_read(tmp_path: Path):
    journal = Journal(tmp_path / "journal.db", NORMAL)
    books = Books(Ledger(SchedulerConfig(), Random(0)), Clock(), is_kept=True)
    commits = Commits(books, journal, lambda text: None, lambda: None)
    try:
        before = commits.metrics()
        books.tell(ev.LimitSet("db", parse_limit("4")), 1.0)
        commits.commit(1.0)
        after = commits.metrics()
    finally:
        commits.close()
        journal.close()
    assert before is not None
    assert after is not None
    assert (before.turns_bytes, after.compacted, after.compactions_failed) == (0, 0, 0)
    assert after.turns_bytes > 0
    assert after.bytes > before.bytes > 0
