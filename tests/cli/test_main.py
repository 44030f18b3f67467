"""Promise: the command line ends in words and with an exit code that a shell understands."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import headway
from headway.cli import demo, main
from headway.errors import StartError


def run(*arguments: str):
    return CliRunner().invoke(main.app, list(arguments))


def test_the_version_is_that_of_the_package():
    result = run("--version")

    assert (result.exit_code, result.output) == (0, f"headway {headway.__version__}\n")


def test_the_options_of_the_demonstration_reach_it(monkeypatch):
    seen = []
    monkeypatch.setattr(demo, "run", lambda settings, console: seen.append(settings) or 0)

    result = run("demo", "--engines", "3", "--limit", "7", "--check", "--trace", "t.json")

    assert result.exit_code == 0
    [settings] = seen
    assert (settings.engines, settings.limit, settings.check) == (3, 7, True)
    assert str(settings.trace) == "t.json"


@pytest.mark.parametrize(
    ("raised", "exit_code", "words"),
    [
        (StartError("no engine started"), 1, "headway: StartError: no engine started"),
        (PermissionError(13, "Permission denied", "t.json"), 1, "Permission denied: 't.json'"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(monkeypatch, raised, exit_code, words):
    def fail(settings, console):
        raise raised

    monkeypatch.setattr(demo, "run", fail)

    result = run("demo")

    assert result.exit_code == exit_code
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_difference_is_an_exit_code(monkeypatch):
    monkeypatch.setattr(demo, "run", lambda settings, console: 1)

    assert run("demo").exit_code == 1


@pytest.mark.parametrize("arguments", [("--engines", "0"), ("--limit", "x"), ("--nonsense",)])
def test_a_wrong_option_is_refused_before_anything_starts(monkeypatch, arguments):
    monkeypatch.setattr(demo, "run", lambda settings, console: pytest.fail("it started"))

    assert run("demo", *arguments).exit_code == 2
