"""Promise: `headway memo` says what is kept, and deletes it when it is asked to."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from headway.cli.main import app
from headway.cli.run_python import read_python_flow
from headway.memo.runs import Call, Runs
from headway.memo.store import Store


def run(*arguments: object):
    return CliRunner().invoke(app, ["memo", *map(str, arguments)])


def test_what_is_kept_is_shown_and_cleared(tmp_path):
    folder = tmp_path / "memo"
    assert json.loads(run("--dir", folder, "--json").stdout)["results"] == 0
    assert not folder.exists()

    store, runs = Store(folder), Runs(folder)
    store.put(b"k", b"x" * 1_500_000)
    number = runs.begin("nightly")
    runs.note([Call(number, n, "f", 0, 0, b"", (), s) for n, s in enumerate(["succeeded", "open"])])
    store.close()
    runs.close()

    shown = run("--dir", folder)
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"1 results, 1.5 MB in {folder}\n")
    assert shown.stdout.splitlines()[-1].split()[0::3] == ["nightly", "1"]
    told = json.loads(run("--dir", folder, "--json").stdout)
    assert (told["bytes"], told["runs"][0]["tasks"]) == (1_500_000, {"succeeded": 1, "open": 1})

    assert run("--dir", folder, "--clear").stdout == f"cleared: 0 results, 0.0 MB in {folder}\n"
    assert list((folder / "values").iterdir()) == []


def test_a_damaged_folder_is_said(tmp_path):
    (tmp_path / "index.db").write_bytes(b"garbage" * 1_000)
    done = run("--dir", tmp_path)
    assert done.exit_code == 1
    assert "delete it" in done.output


FLOW = """
import headway

@headway.task(memo=True, run="nightly", retries=1)
def step(x):
    return x

flow = step(1)
"""


def test_a_flow_of_headway_run_has_its_own_record(tmp_path):
    path = tmp_path / "flow.py"
    path.write_text(FLOW)
    (task,) = read_python_flow(path).tasks
    assert task.options == {"retries": 1}
