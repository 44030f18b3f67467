"""A living controller's journal is made short by a fork of it and a writer: what goes wrong there
leaves the journal as it was."""

from __future__ import annotations

import errno
import io
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from headway.config import SchedulerConfig
from headway.controller.compact import Kind, compact_with, read_framed, write_framed
from headway.controller.compaction import Compaction
from headway.controller.entries import decode_record
from headway.controller.journal import NORMAL, Journal
from headway.controller.ledger import Ledger
from headway.controller.recovery import read_ledger, recover
from headway.controller.snapshot import dump_ledger
from headway.core.same import same_state
from headway.errors import JournalError
from headway.sim.faults import Faults
from headway.sim.run import Run


class Life:
    """A journal with a simulated cluster's whole life in it, and the ledger that it led to."""

    def __init__(self, path: Path) -> None:
        run = Run(3, Faults(until_s=2.0))
        run.go()
        self.path = path
        self.config: SchedulerConfig = run.life.config
        self.journal = Journal(path, NORMAL)
        self.ledger = Ledger(self.config, Random(0))
        for _, data in run.life.journal.turns():
            self.journal.commit(data)
            record = decode_record(data)
            self.ledger.replay(record, [])
        self.now, self.wall_s = record.now, record.wall_s

    def again(self) -> Ledger:
        """The ledger as the file has it."""
        return read_ledger(self.journal, self.config, Random(0))[0]

    def turns(self) -> int:
        with sqlite3.connect(self.path) as db:
            (count,) = db.execute("SELECT count(*) FROM turns").fetchone()
        db.close()
        return int(count)


@pytest.fixture
def life(tmp_path: Path):
    life = Life(tmp_path / "journal.db")
    yield life
    life.journal.close()


def wait_end(compaction: Compaction) -> str | None:
    deadline_at = time.monotonic() + 60
    while compaction._writer is not None and time.monotonic() < deadline_at:
        said = compaction.look()
        if said is not None:
            return said
        time.sleep(0.02)
    return None


def test_what_the_fork_packed_leads_to_the_same_ledger(life: Life):
    compaction = Compaction(life.journal, turns_bytes_min=1)
    try:
        assert compaction.committed(life.ledger, life.now, lambda: life.wall_s) is None
        packer = compaction._packer
        assert packer
        assert wait_end(compaction) is None
    finally:
        compaction.close()
    assert (compaction.compacted, compaction.failed) == (1, 0)
    assert life.turns() == 0
    assert life.journal.snapshot_seq == life.journal.last_seq
    assert life.journal.turns_bytes == 0
    assert same_state(life.ledger.scheduler, life.again().scheduler) == ""
    with pytest.raises(ChildProcessError):  # nothing is left of it
        os.waitpid(packer, os.WNOHANG)


def test_it_starts_when_enough_was_written_and_not_twice(life: Life):
    compaction = Compaction(life.journal, turns_bytes_min=life.journal.turns_bytes + 1)
    assert compaction.committed(life.ledger, life.now, lambda: life.wall_s) is None
    assert compaction._writer is None
    life.journal.turns_bytes += 1
    compaction.committed(life.ledger, life.now, lambda: life.wall_s)
    writer = compaction._writer
    compaction.committed(life.ledger, life.now, lambda: life.wall_s)
    assert writer is not None
    assert compaction._writer is writer
    compaction.close()
    assert same_state(life.ledger.scheduler, life.again().scheduler) == ""


def test_a_writer_that_is_killed_is_reported_and_the_journal_is_whole(life: Life):
    turns = life.turns()
    compaction = Compaction(life.journal, turns_bytes_min=1)
    try:
        compaction.committed(life.ledger, life.now, lambda: life.wall_s)
        assert compaction._writer is not None
        compaction._writer.send_signal(signal.SIGKILL)
        assert "could not be made shorter, which is tried again later (status -9)" in (
            wait_end(compaction) or ""
        )
    finally:
        compaction.close()
    assert (compaction.compacted, compaction.failed) == (0, 1)
    assert life.turns() == turns
    assert same_state(life.ledger.scheduler, life.again().scheduler) == ""


@pytest.mark.parametrize("cut", ["in a head", "in a part", "between parts", "told"])
def test_a_state_that_breaks_off_never_becomes_the_snapshot(life: Life, cut: str):
    turns = life.turns()
    out = io.BytesIO()
    for part in dump_ledger(life.ledger, life.now, life.wall_s):
        write_framed(out, Kind.PART, part)
    whole = out.getvalue()
    if cut == "told":
        write_framed(out, Kind.FAILED, b"MemoryError: no room")
    sent = {"in a head": whole[:5], "in a part": whole[: len(whole) // 2], "between parts": whole}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "headway.controller.compact", str(life.path)),
            *("--parts-of", str(life.journal.last_seq)),
        ],
        input=sent.get(cut, out.getvalue()),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert (b"no room" if cut == "told" else b"ended before it had packed") in done.stderr
    assert life.journal.snapshot_seq == 0
    assert life.turns() == turns
    assert same_state(life.ledger.scheduler, life.again().scheduler) == ""


def test_two_writers_at_once_never_make_a_snapshot_of_halves(life: Life):
    """A controller was killed, its writer goes on, and so does the next controller's."""
    parts = list(dump_ledger(life.ledger, life.now, life.wall_s))
    last_seq = life.journal.last_seq

    def slow():
        yield parts[0]
        yield b"x" * (1 << 20)  # enough to be written before the other one comes
        compact_with(life.path, last_seq + 1, parts)
        yield from parts[1:]

    with pytest.raises(JournalError, match="another process has compacted"):
        compact_with(life.path, last_seq, slow())
    assert life.journal.snapshot_seq == last_seq + 1
    assert same_state(life.ledger.scheduler, life.again().scheduler) == ""


@pytest.mark.parametrize("has_snapshot", [False, True])
def test_a_writer_that_was_left_may_end_while_the_next_controller_reads(
    life: Life, monkeypatch: pytest.MonkeyPatch, has_snapshot: bool
):
    """A controller was killed, and its writer puts a snapshot between the parts and the turns."""
    if has_snapshot:
        half = life.journal.last_seq // 2
        early, *times = read_ledger(life.journal, life.config, Random(0), half)
        compact_with(life.path, half, dump_ledger(early, *times))
    parts, read = list(dump_ledger(life.ledger, life.now, life.wall_s)), life.journal.parts

    def parts_then_another_snapshot():
        yield from read()
        compact_with(life.path, life.journal.last_seq, parts)

    monkeypatch.setattr(life.journal, "parts", parts_then_another_snapshot)
    found = recover(life.journal, life.config).ledger

    assert life.turns() == 0
    assert same_state(life.ledger.scheduler, found.scheduler) == ""


def test_the_users_own_modules_are_not_the_writers(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "argparse.py").write_text("raise SystemExit('not that one')\n")
    monkeypatch.chdir(tmp_path)
    compaction = Compaction(life.journal, turns_bytes_min=1)
    try:
        assert compaction.committed(life.ledger, life.now, lambda: life.wall_s) is None
        assert wait_end(compaction) is None
    finally:
        compaction.close()


def test_where_no_fork_can_be_made_it_is_said_and_tried_again_later(
    life: Life, monkeypatch: pytest.MonkeyPatch
):
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    compaction = Compaction(life.journal, turns_bytes_min=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", fork)
        said = compaction.committed(life.ledger, life.now, lambda: life.wall_s)
    assert "no process could be started" in (said or "")
    assert compaction._writer is None  # nothing of it is left
    assert compaction.committed(life.ledger, life.now, lambda: life.wall_s) is None
    assert compaction._writer is None  # not at once

    life.journal.turns_bytes *= 3
    assert compaction.committed(life.ledger, life.now, lambda: life.wall_s) is None
    assert wait_end(compaction) is None
    compaction.close()
    assert life.turns() == 0


def test_frames_come_as_they_were_written():
    out = io.BytesIO()
    for part in (b"", b"one", b"x" * 70_000):
        write_framed(out, Kind.PART, part)
    write_framed(out, Kind.END)
    assert list(read_framed(io.BytesIO(out.getvalue()))) == [b"", b"one", b"x" * 70_000]
