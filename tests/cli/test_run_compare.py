"""What tasks came to, beside a run without trouble."""

from __future__ import annotations

import json
import textwrap
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from headway import errors
from headway.cli import main
from headway.cli.run_compare import Outcomes
from headway.cli.run_going import Ended


def outcomes(**ends: Any) -> Outcomes:
    """Each task with its value, or what it raised; None never ran."""
    found = Outcomes()
    for name, end in ends.items():
        task: Any = SimpleNamespace(id=name)
        future: Any = Future()
        if isinstance(end, Exception):
            future.set_exception(end)
        else:
            future.set_result(end)
        state = "failed" if isinstance(end, Exception) else "succeeded"
        found.note(Ended(task, "skipped" if end is None else state), future if end else None)
    return found


def test_equal_ends_are_no_difference_also_where_their_pickles_differ():
    # Sets whose elements collide come in the order in which they were added
    one, other = {0, 8, 16}, {16, 8, 0}
    failed = errors.CommandFailed("failed on e0", 3)
    calm = outcomes(a=1, b=one, c=ValueError("on e0"), d=failed, e=None)
    under = outcomes(
        a=1, b=other, c=ValueError("on e1"), d=errors.CommandFailed("failed on e1", 3), e=None
    )
    assert under.beside(calm).differences == []
    assert under.beside(calm).tasks == 5


def test_what_is_different_is_named_with_both():
    calm = outcomes(a=1, b=2, c=errors.CommandFailed("no", 3), d="x" * 10_000, e=5)
    under = outcomes(
        a=1, b=errors.EngineError("died"), c=errors.CommandFailed("no", None, "SIGSEGV"),
        d="y" * 10_000, e=None,
    )  # fmt: skip
    assert under.beside(calm).differences == [
        "b: failed (EngineError), without trouble succeeded",
        "c: failed (SIGSEGV), without trouble failed (exit code 3)",
        "d: another value than without trouble",
        "e: skipped, without trouble succeeded",
    ]


def test_values_that_can_not_be_compared_are_not_taken_for_equal():
    class Odd:
        def __reduce__(self) -> Any:
            raise TypeError("not this one")

    assert outcomes(a=Odd()).beside(outcomes(a=1)).differences
    assert outcomes(a=Odd()).beside(outcomes(a=Odd())).differences == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--compare"], "--compare is of --chaos"),
        (["--chaos", "--compare", "--resume", "last"], "choose"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, options: list[str], said: str):
    path = tmp_path / "f.toml"
    path.write_text("[tasks.a]\ncommand = 'true'")
    done = CliRunner().invoke(main.app, ["run", str(path), *options])
    assert done.exit_code == 2
    assert said in done.output


def test_a_flow_is_run_twice_and_what_depends_on_chance_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    text = """
    [tasks.same]
    command = "sleep 0.05; exit 3"
    array = "1-10"
    [tasks.value]
    call = "os:getpid"
    """
    path = tmp_path / "f.toml"
    path.write_text(textwrap.dedent(text))
    arguments = ["run", "--json", str(path), "-n", "2", "--chaos", "--compare"]
    done = CliRunner().invoke(main.app, arguments)
    assert done.exit_code == 1, (done.output, done.exception)
    compared = json.loads(done.stdout)["compared"]
    assert compared == {"tasks": 11, "differences": ["value: another value than without trouble"]}
