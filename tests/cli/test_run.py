"""`headway run` as a user runs it: flows of each kind, what failed, what is run again, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headway.cli import main
from tests.cli.verbs import DEADLINE_S, cluster

EXAMPLES = Path(__file__).parents[2] / "examples"
ATLAS = str(EXAMPLES / "atlas.workflow.json")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for flows; runs are kept beside it."""
    monkeypatch.delenv("HEADWAY_CONNECTION", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(main.app, ["run", *map(str, arguments)])
    assert done.exit_code == code, (arguments, done.output, done.exception)
    return done.output


def run_json(*arguments: object, code: int = 0) -> Any:
    done = CliRunner().invoke(main.app, ["run", "--json", *map(str, arguments)])
    assert done.exit_code == code, (arguments, done.output, done.exception)
    return json.loads(done.stdout)


def flow(folder: Path, text: str, name: str = "f.toml") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_the_examples_run(here: Path):
    end = run_json(EXAMPLES / "lakes.toml", "-n", 1)
    assert end["states"] == {"succeeded": 8, "skipped": 1}
    # The same file by name and by its graph.
    assert run_json(EXAMPLES / "lakes.py", "-n", 1)["states"] == {"succeeded": 6}


def test_a_workflow_sleeps_to_scale_and_is_kept(here: Path):
    told = run(ATLAS, "--scale", "0.001", "-n", 1)
    [name] = re.findall(r"^run (atlas-of-lakes-\S+): 12 tasks of atlas-of-lakes$", told, re.M)
    assert f"run {name}: 12 tasks" in told.splitlines()[-1]
    assert "12 succeeded" in told

    assert run_json(ATLAS, "--scale", "0.001", "-n", 1, "--resume", name)["states"] == {"kept": 12}


def test_a_dry_run_prints_levels_and_the_critical_path(here: Path):
    told = run(ATLAS, "--dry-run")
    page = (EXAMPLES.parent / "docs" / "flows.md").read_text(encoding="utf-8")
    shown = page.partition("--dry-run\natlas")[2].partition("```")[0]
    assert [line.rstrip() for line in told.splitlines()] == f"atlas{shown}".splitlines()
    assert told.splitlines()[0] == "atlas-of-lakes: 12 tasks, 16 dependencies, 5 levels"
    assert re.search(r"3 +6 +measure x 6", told)
    assert "critical path 17.000 s, all work 38.000 s" in told
    assert run_json(ATLAS, "--dry-run")["levels"][2] == {"measure": 6}
    assert not (here / "state").exists()


FAILS = """
[tasks.a]
call = "work:count"
args = ["a"]
[tasks.b]
call = "work:fail"
args = [{ from = "a" }]
[tasks.c]
command = "echo c >> log; echo out of luck >&2; exit 3"
after = "a"
[tasks.d]
command = "echo d >> log"
after = ["b", "c"]
[tasks.rescue]
command = "echo rescue >> log"
after = { tasks = "c", on = "failure" }
"""
WORK = """
def count(name):
    with open({log!r}, "a") as log:
        log.write(name + "\\n")
    return name * 2
def fail(value):
    raise ValueError("I am " + value)
"""


def test_what_failed_is_told_and_alone_run_again(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    log = here / "log"
    flow(here, WORK.format(log=str(log)), "work.py")
    path = flow(here, FAILS)

    told = run(path, "-n", 1, code=1)
    assert sorted(log.read_text().split()) == ["a", "c", "rescue"]
    assert re.search(r"b \(\d+-\d+\) failed, line 5:\n    ValueError: I am aa", told)
    assert re.search(r"c \(\d+-\d+\) failed, line 8:\n.*exited with code 3.*\n.*out of luck", told)
    assert "1 impossible" in told
    [logged] = re.findall(r"see: (\S+\.err)", told)
    assert Path(logged).read_text() == "out of luck\n"
    assert "--resume" in told

    log.unlink()
    sys.modules.pop("work", None)
    flow(here, WORK.format(log=str(log)).replace("raise ValueError(", "return ("), "work.py")
    flow(here, FAILS.replace("exit 3", "exit 0"))
    end = run_json(path, "-n", 1, "--resume", "last")
    assert end["states"] == {"kept": 1, "succeeded": 3, "skipped": 1}
    assert log.read_text().split() == ["c", "d"]
    sys.modules.pop("work", None)


def test_a_python_file_is_run_by_its_graph(here: Path):
    path = flow(
        here,
        """
        import headway
        from dataclasses import dataclass

        @dataclass
        class Lake:
            depth: int

        @headway.task
        def lake(depth):
            return Lake(depth)

        @headway.task(retries=1)
        def deepest(lakes):
            assert max(lake.depth for lake in lakes) == 3
            return print("deepest is 3")

        whole = deepest([lake(n) for n in (1, 2, 3)])
        none = {"x": (len, "abc")}
        """,
        "f.py",
    )
    told = run(path, "-n", 1)
    assert "deepest is 3" in told
    assert "4 succeeded" in told
    assert run_json(path, "--graph", "none", "--dry-run")["tasks"] == 1


@pytest.mark.parametrize(
    ("name", "text", "options", "said"),
    [
        ("f.toml", "x = ", [], "f.toml, line 1: Invalid value"),
        ("f.toml", "[tasks.a]\ncall = 'no_such_module:f'", [], "f.toml: line 1: task 'a': no_such"),
        ("f.toml", "[tasks.a]\ncall = 'os:no_such'", [], "os:no_such: AttributeError"),
        ("f.toml", "[tasks.a]\ncall = 'os:sep'", [], "os:sep can't be called"),
        ("f.toml", "[tasks.a]\ncommand = 'x'", ["--scale", "1"], "--scale and --commands are for"),
        ("f.toml", "[tasks.a]\ncommand = 'x'", ["--graph", "x"], "--graph is for Python files"),
        ("f.toml", "[tasks.a]\ncommand = 'x'", ["--resume", "last"], "no run of "),
        ("f.toml", "[tasks.a]\ncommand = 'x'", ["--seed", "1"], "--seed is of --chaos"),
        ("f.toml", "[tasks.a]\ncommand = 'x'", ["--cluster", "x", "-n", "1"], "choose one"),
        ("f.toml", "[tasks.a]\ncommand = 'x'", ["--cluster", "x", "--chaos"], "--chaos is for"),
        ("f.json", "{", [], "f.json, line 1, column 2"),
        ("f.yaml", "", [], "f.yaml: a flow is a .toml file"),
        ("f.py", "x = (", [], "f.py, line 1: '(' was never closed"),
        ("f.py", "\n1 / 0", [], "f.py, line 2: ZeroDivisionError"),
        ("f.py", "x = 1", [], "f.py: there is no global variable 'flow'"),
        ("f.py", "flow = 3", [], "f.py: a graph is made of steps"),
        ("f.py", "flow = {'a': (len, __import__('headway').Ref('b'))}", [], "which is not in"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    here: Path, name: str, text: str, options: list[str], said: str
):
    assert said in run(flow(here, text, name), *options, code=2)


def test_it_runs_on_a_cluster_that_knows_its_tasks_afterwards(here: Path):
    path = flow(here, "[tasks.a]\ncommand = 'echo hello; exit 4'")
    with cluster("-n", "1") as made:
        told = made("run", str(path), code=1)
        [node] = re.findall(rf"see: headway logs --cluster {made.name} (\S+)", told)
        assert made("logs", node) == "hello"
        assert "exited with code 4" in made("explain", node)
    assert "no cluster is named" in run(path, "--cluster", "no-such-cluster-here", code=3)


def test_under_chaos_each_task_ends_once(here: Path):
    path = flow(here, "[tasks.a]\ncommand = 'sleep 0.05'\narray = '1-30'")
    end = run_json(path, "-n", 2, "--chaos", "--seed", 5)
    assert end["states"] == {"succeeded": 30}
    assert end["chaos"]["is_right"]


def test_ctrl_c_cancels_and_says_what_is_left(here: Path):
    text = f"""
    [tasks.a]
    command = "true"
    [tasks.b]
    command = "touch {here}/began; exec sleep 1000"
    after = "a"
    """
    path = flow(here, text)
    command = [sys.executable, "-m", "headway", "run", str(path), "-n", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        wait_for(here / "began", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, (out, err)
    assert "interrupted; what had not ended was cancelled" in err
    assert "1 succeeded, 1 cancelled" in out
    assert run_json(path, "--resume", "last", "--dry-run")["kept"] == 1


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    import time

    deadline_at = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < deadline_at
        assert process.poll() is None
        time.sleep(0.02)


def test_in_a_terminal_there_is_a_table_by_label(here: Path):
    import pty

    master, slave = pty.openpty()
    command = [sys.executable, "-m", "headway", "run", ATLAS, "--scale", "0.3", "-n", "2"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        seen = b""
        try:
            while chunk := os.read(master, 1 << 16):
                seen += chunk
        except OSError:  # its other end is closed
            pass
        os.close(master)
        assert process.wait(DEADLINE_S) == 0
    assert b"measure" in seen
    assert b"running" in seen
    assert b"waiting" in seen
