"""The journal of a real cluster as a flow: read while it is written, and after; never changed."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

import headway
from headway.config import SchedulerConfig
from headway.controller.compact import compact
from headway.controller.journal import Journal
from headway.errors import FlowError, JournalError
from headway.sim.journal_flow import read_journal_flow
from headway.sim.replay_flow import Choice, Circumstances, replay


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail_once(path: str) -> None:
    Path(path).touch(exist_ok=False)
    raise ValueError


def test_a_journal_is_read_while_it_is_written_and_after_and_stays_as_it_is(tmp_path: Path):
    path = tmp_path / "j"
    with headway.Client(engines=2, durability="normal", journal=str(path)) as client:
        naps = [client.options(label="nap").submit(nap, s) for s in (0.05, 0.03, 0.04)]
        value = client.submit(nap, naps[0])  # a data edge
        all_done = client.options(after=naps).submit(nap, 0.0)
        client.options(after=headway.Dependency(naps, need=1)).submit(nap, 0.0).result(timeout=30)
        retried = client.options(retries=1, resources={}).submit(fail_once, str(tmp_path / "once"))
        retried.exception(timeout=30)
        never = client.options(after=[retried]).submit(nap, 0.0)
        with pytest.raises(headway.errors.ImpossibleDependency):
            never.result(timeout=30)
        assert (value.result(timeout=30), all_done.result(timeout=30)) == (0.05, 0.0)
        flow = read_journal_flow(path)

    before = path.read_bytes()
    again = read_journal_flow(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["j", "j.lock", "once"]

    assert again == flow
    tasks = {task.id: task for task in flow.tasks}
    first, second, third, data, after, some, retry = tasks.values()
    assert [task.name for task in (first, data)] == ["nap", "task"]
    assert first.runtime_s is not None
    assert 0.05 <= first.runtime_s < 30
    assert data.parents == (first.id,)
    assert after.parents == (first.id, second.id, third.id)
    # Whichever ended first: it did not wait for the others.
    assert some.parents in [(first.id,), (second.id,), (third.id,)]
    assert retry.parents == ()
    assert flow.notes == (
        "1 tasks have not run (yet), and are left out",
        "1 tasks ran more than once: their runs count as one",
    )
    assert replay(flow, Choice(2), Circumstances()).ratio >= 1.0


def test_what_was_compacted_away_is_said(tmp_path: Path):
    path = tmp_path / "j"
    with headway.Client(engines=1, durability="normal", journal=str(path)) as client:
        client.submit(nap, 0.0).result(timeout=30)
    compact(path, SchedulerConfig())

    with pytest.raises(FlowError, match="no task in this journal has run since it was compacted"):
        read_journal_flow(path)


def test_a_journal_that_is_new_holds_no_flow(tmp_path: Path):
    Journal(tmp_path / "j", "normal").close()

    with pytest.raises(FlowError, match=r"no task in this journal has run$"):
        read_journal_flow(tmp_path / "j")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("PRAGMA user_version = 77", "journals have version 77"),
        ("PRAGMA application_id = 1", "no journal of headway"),
        ("INSERT INTO turns VALUES (1, x'00000000ff')", "turn 1 of the journal .*checksum"),
        ("INSERT INTO turns VALUES (2, x'00')", "turn 1 is missing"),
    ],
)
def test_a_journal_that_cannot_be_read_says_why(tmp_path: Path, change: str, said: str):
    path = tmp_path / "j"
    Journal(path, "normal").close()
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()

    with pytest.raises(JournalError, match=said):
        read_journal_flow(path)


def test_a_file_that_is_cut_or_missing_says_so(tmp_path: Path):
    cut = tmp_path / "cut"
    cut.write_bytes(b"SQLite format 3\x00 and no more")

    with pytest.raises(JournalError, match="cut"):
        read_journal_flow(cut)
    with pytest.raises(JournalError, match="gone"):
        read_journal_flow(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
