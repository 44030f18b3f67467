"""A controller whose journal's disk is full: who is told, and what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headway.controller import commits
from headway.errors import JournalError
from headway.wire import messages as m


class FullDisk:
    """A journal that can't be written so many times."""

    path = Path("journal.db")
    turns_bytes = 0

    def __init__(self) -> None:
        self.refuses = 0
        self.records: list[bytes] = []

    def commit(self, record: bytes) -> None:
        if self.refuses:
            self.refuses -= 1
            raise JournalError("the disk is full", is_full=True)
        self.records.append(record)


def test_clients_are_told_once_that_it_is_tried_again(start_kit, monkeypatch):
    disk = FullDisk()
    kit = start_kit(journal=disk)
    client = kit.client()
    kit.controller._books._is_kept = True
    monkeypatch.setattr(commits, "_RETRY_COMMIT_S", 0.0)
    disk.refuses = 3

    client.submit()

    notices = [each.text for each in client.heard_all() if isinstance(each, m.Notice)]
    assert notices == ["the disk is full. Trying again for 10 s"]
    assert disk.records


def test_an_embedded_controller_that_gives_up_says_why_in_a_sentence():
    code = """
import sys
from pathlib import Path
from headway.controller import __main__ as program
from headway.errors import JournalError

def serve(settings, lifeline, on_ready):
    on_ready(Path("connection.json"), None)
    raise JournalError("the disk is full: make room there")

program.serve = serve
sys.exit(program.main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "the disk is full: make room there\n"


def test_who_is_there_hears_that_the_cluster_stops_though_that_can_not_be_written(start_kit):
    disk = FullDisk()
    kit = start_kit(journal=disk)
    client = kit.client()
    kit.controller._books._is_kept = True
    kit.controller.stop_reason = "it was told to"
    disk.refuses = 1

    with pytest.raises(JournalError, match="was stopped, and its journal does not know: the disk"):
        kit.controller.close()

    assert client.socket.poll(10_000)
    assert client._decoder.decode(client.socket.recv_multipart()) == m.Bye("it was told to")
