"""What is written of each turn leads to the same ledger again; and time never goes back."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import msgspec
import pytest

from headway.config import SchedulerConfig
from headway.controller.books import Books, Clock
from headway.controller.compact import compact
from headway.controller.entries import decode_record
from headway.controller.journal import NORMAL, Journal
from headway.controller.ledger import Ledger
from headway.controller.recovery import read_ledger, recover
from headway.core.same import same_state
from headway.errors import JournalError
from headway.sim.faults import Faults
from headway.sim.run import Run

CONFIG = SchedulerConfig()


# --- the clock -----------------------------------------------------------------------------------


def test_time_goes_on_by_what_has_passed_on_the_wall():
    clock = Clock(last_now=500.0, last_wall_s=1_000.0, monotonic=lambda: 7.0, wall=lambda: 1_060.0)
    assert clock.now() == 560.0


def test_a_wall_clock_that_was_set_back_does_not_turn_time_back():
    clock = Clock(last_now=500.0, last_wall_s=1_000.0, monotonic=lambda: 7.0, wall=lambda: 10.0)
    assert clock.now() == 500.0


def test_without_a_past_it_is_the_monotonic_clock():
    assert Clock(monotonic=lambda: 7.0, wall=lambda: 10.0).now() == 7.0


# --- live and replayed ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_ledger_that_is_read_again_is_the_living_one_after_every_turn(seed: int):
    """In a simulated cluster with deaths, cancels and timeouts, also from a snapshot in between."""
    trouble = Faults(until_s=3.0, engine_crash=0.5, cut_engine=0.5, cut_client=0.3, compact=2.0)
    run = Run(seed, trouble)
    life = run.life
    turns = 0

    def compare(controller: object) -> None:
        nonlocal turns
        turns += 1
        assert life.controller is not None
        books = life.controller._books
        if turns % 10 or books._entries:  # whom sending did not reach is written with the next turn
            return
        living = books.ledger
        again, _, _ = read_ledger(life.journal, life.config, Random(0))
        assert same_state(living.scheduler, again.scheduler) == ""
        assert living.clients.keys() == again.clients.keys()
        assert {n: k.batch for n, k in living.engines.items()} == {
            n: k.batch for n, k in again.engines.items()
        }
        assert (living.clients_seen, living.engines_seen) == (
            again.clients_seen,
            again.engines_seen,
        )

    life._after_turn = compare
    run.go()
    assert turns > 20


# --- a journal with a life in it -----------------------------------------------------------------


@pytest.fixture
def lived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[bytes]]:
    """A journal of a simulated cluster's whole life, as a file; and its records."""
    run = Run(3, Faults(until_s=2.0))
    monkeypatch.setattr(sys.modules[__name__], "CONFIG", run.life.config)
    run.go()
    path = tmp_path / "journal.db"
    journal = Journal(path, NORMAL)
    records = [record for _, record in run.life.journal.turns()]
    for record in records:
        journal.commit(record)
    journal.set_meta(epoch=1)
    journal.close()
    return path, records


def ledger_of(path: Path) -> Ledger:
    journal = Journal(path, NORMAL)
    try:
        return recover(journal, CONFIG).ledger
    finally:
        journal.close()


def replayed(records: list[bytes]) -> Ledger:
    ledger = Ledger(CONFIG, Random(0))
    for record in records:
        ledger.replay(decode_record(record), [])
    return ledger


def test_a_controller_that_takes_over_has_the_next_epoch(lived):
    path, _ = lived
    for epoch in (2, 3):
        journal = Journal(path, NORMAL)
        assert recover(journal, CONFIG).epoch == epoch
        journal.close()


def test_a_journal_goes_on_with_the_high_water_mark_that_it_was_begun_with(lived):
    path, _ = lived
    ledger_of(path)
    journal = Journal(path, NORMAL)
    with pytest.raises(JournalError, match=f"start it with --hwm {CONFIG.hwm}"):
        recover(journal, replace(CONFIG, hwm=77))
    journal.close()


def test_a_compacted_journal_leads_to_the_same_ledger_and_is_short(lived):
    path, records = lived
    before = replayed(records)
    subprocess.run(
        [
            *(sys.executable, "-m", "headway.controller.compact", str(path)),
            *("--config", msgspec.json.encode(CONFIG).decode()),
        ],
        check=True,
        timeout=60,
    )
    assert same_state(ledger_of(path).scheduler, before.scheduler) == ""
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM turns").fetchone() == (0,)
    db.close()


def test_a_journal_is_compacted_while_its_controller_writes_on(lived):
    path, records = lived
    half = len(records) // 2
    path.unlink()
    journal = Journal(path, NORMAL)
    for record in records[:half]:
        journal.commit(record)
    assert compact(path, CONFIG) == half
    for record in records[half:]:
        journal.commit(record)
    journal.close()
    assert same_state(ledger_of(path).scheduler, replayed(records).scheduler) == ""


def test_a_turn_that_does_not_follow_from_those_before_it_is_told_by_its_number(lived):
    path, _ = lived
    with sqlite3.connect(path) as db:
        db.execute("UPDATE turns SET record = (SELECT record FROM turns WHERE seq = 9) WHERE seq=2")
    db.close()
    with pytest.raises(JournalError, match=r"turn [0-9]+ of the journal .* is damaged"):
        ledger_of(path)


def test_without_a_journal_nothing_is_noted():
    books = Books(Ledger(CONFIG, Random(0)), Clock(), is_kept=False)
    books.tick(1.0)
    assert books.take_record(1.0) is None
