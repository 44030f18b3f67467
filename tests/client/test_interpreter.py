"""The user's working directory is out of reach of our own processes, unless we live in it."""

from __future__ import annotations

import sys
from pathlib import Path

import headway
from headway.interpreter import module_command

SOURCES = Path(headway.__file__).parents[1]


def test_a_module_is_run_without_the_working_directory_on_its_path():
    assert module_command("m") == [sys.executable, "-P", "-m", "m"]
    assert module_command("m", ["py", "-O"]) == ["py", "-O", "-P", "-m", "m"]


def test_where_headway_is_run_from_its_sources_they_stay_on_the_path(monkeypatch, tmp_path):
    assert "-P" not in module_command("m", cwd=SOURCES)
    monkeypatch.chdir(SOURCES)
    assert "-P" not in module_command("m")
    assert "-P" in module_command("m", cwd=tmp_path)


def test_a_working_directory_that_was_removed_is_no_error(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "-P" in module_command("m")
