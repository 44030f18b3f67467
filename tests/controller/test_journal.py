"""The journal: what was committed is there again, and a file that is no good says so in words."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from headway.controller import journal as journal_module
from headway.controller.entries import (
    SCHEMA_VERSION,
    Record,
    Ticked,
    decode_record,
    encode_record,
    told,
)
from headway.controller.journal import FULL, NORMAL, Journal
from headway.core import events as ev
from headway.errors import JournalError


def turns_of(path: Path) -> list[tuple[int, bytes]]:
    journal = Journal(path, NORMAL)
    try:
        return list(journal.turns())
    finally:
        journal.close()


@pytest.mark.parametrize("durability", [NORMAL, FULL])
def test_what_was_committed_is_there_in_order_after_it_was_opened_again(tmp_path, durability):
    journal = Journal(tmp_path / "j", durability)
    assert journal.last_seq == 0
    for record in (b"one", b"two", b"three"):
        journal.commit(record)
    journal.set_meta(cluster="name", epoch=1)
    journal.close()
    assert turns_of(tmp_path / "j") == [(1, b"one"), (2, b"two"), (3, b"three")]
    journal = Journal(tmp_path / "j", durability)
    assert journal.last_seq == 3
    assert (journal.meta("cluster"), journal.meta("epoch"), journal.meta("none")) == (
        "name",
        1,
        None,
    )
    journal.commit(b"four")
    journal.close()
    assert turns_of(tmp_path / "j")[-1] == (4, b"four")


def test_what_was_committed_survives_the_sudden_end_of_the_process(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from headway.controller.journal import Journal\n"
        "journal = Journal(sys.argv[1], 'normal')\n"
        "for n in range(100): journal.commit(b'%d' % n)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "j"
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert ended.returncode == -9
    assert [record for _, record in turns_of(path)] == [b"%d" % n for n in range(100)]


def test_the_file_is_for_its_owner_alone_since_it_holds_keys(tmp_path):
    Journal(tmp_path / "j", NORMAL).close()
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_a_journal_in_use_names_the_process_that_has_it(tmp_path):
    journal = Journal(tmp_path / "j", NORMAL)
    with pytest.raises(JournalError, match=f"in use, by the controller.*{os.getpid()}"):
        Journal(tmp_path / "j", NORMAL)
    journal.close()
    Journal(tmp_path / "j", NORMAL).close()


def test_a_journal_that_another_program_has_locked_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_BUSY_TIMEOUT_MS", 10)
    path = tmp_path / "j"
    journal = Journal(path, NORMAL)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="Another program has it open: end that"):
        journal.commit(b"one")
    other.execute("ROLLBACK")
    other.close()
    journal.commit(b"two")
    journal.close()
    assert turns_of(path) == [(1, b"two")]


def test_a_file_that_is_no_database_is_no_journal_and_stays_as_it_is(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_text("It was a dark and stormy night. " * 100)
    with pytest.raises(JournalError, match=r"no journal of headway. Give --journal another path"):
        Journal(path, NORMAL)
    assert path.read_text().startswith("It was a dark")


def test_another_database_is_no_journal(tmp_path):
    with sqlite3.connect(tmp_path / "mail.db") as db:
        db.execute("CREATE TABLE mail (text)")
    db.close()
    with pytest.raises(JournalError, match="an SQLite database, but no journal"):
        Journal(tmp_path / "mail.db", NORMAL)


def test_a_journal_of_another_version_says_both_and_what_to_do(tmp_path):
    Journal(tmp_path / "j", NORMAL).close()
    with sqlite3.connect(tmp_path / "j") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match=f"version 99; this one writes version {SCHEMA_VERSION}"):
        Journal(tmp_path / "j", NORMAL)


def test_a_directory_and_a_path_that_is_not_there_are_told_apart(tmp_path):
    with pytest.raises(JournalError, match="is a directory"):
        Journal(tmp_path, NORMAL)
    with pytest.raises(JournalError, match="is a directory"):
        Journal("/", NORMAL)
    with pytest.raises(JournalError, match="The directory must be there, and writable"):
        Journal(tmp_path / "missing" / "j", NORMAL)


def test_what_is_no_regular_file_is_refused_and_stays_as_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o644)
    with pytest.raises(JournalError, match=r"is no regular file\. Give --journal another path"):
        Journal(pipe, NORMAL)
    assert pipe.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_file_that_was_cut_or_written_over_is_damaged_not_read_wrongly(tmp_path):
    path = tmp_path / "j"
    journal = Journal(path, NORMAL)
    for n in range(200):
        journal.commit(b"%d" % n * 1000)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JournalError, match="The file is damaged"):
        turns_of(path)


def test_a_journal_of_which_only_the_first_page_was_written_is_begun_anew(tmp_path):
    """Its controller was killed just then, or found its disk full."""
    path = tmp_path / "j"
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    assert path.stat().st_size > 0
    journal = Journal(path, NORMAL)
    journal.commit(b"one")
    journal.close()
    assert turns_of(path) == [(1, b"one")]


def test_an_empty_file_that_others_may_read_is_for_its_owner_alone_from_then_on(tmp_path):
    path = tmp_path / "j"
    path.touch(0o644)
    Journal(path, NORMAL).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_system_without_locks_is_not_taken_for_a_journal_in_use(tmp_path, monkeypatch):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(JournalError, match="has no locks: give --journal a path on a disk"):
        Journal(tmp_path / "j", NORMAL)


def test_a_turn_that_is_missing_is_noticed(tmp_path):
    journal = Journal(tmp_path / "j", NORMAL)
    for n in range(3):
        journal.commit(b"%d" % n)
    journal.close()
    with sqlite3.connect(tmp_path / "j") as db:
        db.execute("DELETE FROM turns WHERE seq = 2")
    db.close()
    with pytest.raises(JournalError, match="turn 2 is missing"):
        turns_of(tmp_path / "j")


def test_a_full_disk_is_told_from_other_trouble_and_nothing_is_half_written(tmp_path):
    journal = Journal(tmp_path / "j", NORMAL)
    journal.commit(b"x" * 10_000)
    pages = journal.db.execute("PRAGMA page_count").fetchone()[0]
    journal.db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(JournalError, match="make room there") as caught:
        journal.commit(b"y" * 100_000)
    assert caught.value.is_full
    journal.db.execute("PRAGMA max_page_count = 1000000")
    journal.commit(b"z" * 100_000)
    journal.close()
    assert [record[:1] for _, record in turns_of(tmp_path / "j")] == [b"x", b"z"]


def test_a_record_comes_back_as_it_was_and_a_flipped_bit_does_not():
    left = ev.EngineLeft(ev.EngineId(3), ev.EngineEnd("was killed"), busy=True)
    record = Record(1.5, 2.5, [told(left), Ticked()], [7, 3])
    data = encode_record(record)
    assert decode_record(data) == record
    for n in range(len(data)):
        damaged = bytearray(data)
        damaged[n] ^= 1
        with pytest.raises(JournalError):
            decode_record(bytes(damaged))
