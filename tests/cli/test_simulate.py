"""`headway simulate` as a user runs it: its table, its plots, its errors."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from headway.cli import main
from headway.cli.simulate_tables import BLOCKS, busy_over_time, plot_lines
from headway.sim.replay_flow import Run
from headway.traces.gantt import Bar, gantt_svg, kind_of

ROOT = Path(__file__).parents[2]
ATLAS = str(ROOT / "examples" / "atlas.workflow.json")
SVG = "{http://www.w3.org/2000/svg}"


def simulate(*arguments: str):
    return CliRunner().invoke(main.app, ["simulate", *arguments])


def as_json(*arguments: str):
    result = simulate(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_example_of_the_guide_prints_what_the_guide_says():
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    [(arguments, expected)] = re.findall(
        r"^\$ headway simulate (.*)\n((?:.*\n)*?)```", guide, re.MULTILINE
    )

    done = subprocess.run(
        [sys.executable, "-m", "headway", "simulate", *arguments.split()],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.rstrip() for line in done.stdout.splitlines()] == expected.splitlines()


def test_each_combination_is_a_row_and_the_shortest_is_best():
    told = as_json(
        ATLAS, "--engines", "2,4", "--engines", "3", "--hwm", "1,auto", "--scheme", "lru"
    )

    rows = [(row["engines"], row["hwm"], row["scheme"]) for row in told["rows"]]
    assert rows == [(e, hwm, "lru") for e in (2, 4, 3) for hwm in (1, "auto")]
    makespans = [row["makespan_s"] for row in told["rows"]]
    assert makespans[told["best"]] == min(makespans)
    assert told["flow"]["critical_path_s"] == 17.0
    assert told["circumstances"]["overhead_s"] == pytest.approx(665e-6)
    for row in told["rows"]:
        assert row["bound_s"] == max(17.0, 38.0 / row["engines"])
        assert row["ratio"] == pytest.approx(row["makespan_s"] / row["bound_s"])
        assert row["utilisation"] == pytest.approx(38.0 / row["engines"] / row["makespan_s"])


def test_circumstances_reach_the_replay():
    plain = as_json(ATLAS, "--overhead-us", "0", "--scale", "2", "--engines", "4", "--hwm", "1")
    assert plain["rows"][0]["makespan_s"] == 34.0

    trouble = ("--failures", "0.5", "--scheme", "twobin")
    first, again, other = (as_json(ATLAS, *trouble, "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again != other
    assert first["rows"][0]["failed_runs"] > 0


def test_the_plot_has_a_bar_for_each_run_of_the_row_that_is_wanted(tmp_path: Path):
    path = tmp_path / "plot.svg"

    result = simulate(ATLAS, "--engines", "2,3", "--hwm", "1", "--row", "1", "--plot", str(path))

    assert result.exit_code == 0
    assert "engines busy, row 1" in result.stdout
    drawing = ElementTree.parse(path).getroot()
    bars = [rect for rect in drawing.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    assert len(bars) == 12
    assert len({bar.get("y") for bar in bars}) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--engines", "0"], "--engines 0: expected a number from 1"),
        (["--engines", "2,x"], "--engines x"),
        (["--hwm", "-1"], "--hwm -1"),
        (["--scheme", "lru,leastlaod"], "did you mean 'leastload'"),
        (["--row", "2"], "--row 2: there are rows 1 to 1"),
        (["--plot", "no/such/folder/x.svg"], "no/such/folder/x.svg"),
    ],
)
def test_what_cannot_be_simulated_is_said_in_a_line(arguments: list[str], said: str):
    result = simulate(ATLAS, *arguments)

    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1"),
        ('{"schemaVersion": "1.5",\n oops}', "line 2, column 2"),
        ("SQLite format 3\0", "x.json"),
    ],
)
def test_a_file_that_is_no_flow_is_said_in_a_line(tmp_path: Path, text: str, said: str):
    path = tmp_path / "x.json"
    path.write_text(text)

    result = simulate(str(path))

    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_terminal_that_has_ascii_alone_gets_plain_plots():
    done = subprocess.run(
        [sys.executable, "-m", "headway", "simulate", ATLAS],
        capture_output=True,
        timeout=100,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"@@@@@" in done.stdout


def test_a_scheme_of_the_users_own_is_found_beside_them(tmp_path: Path):
    (tmp_path / "mine.py").write_text("def last(loads):\n    return len(loads) - 1\n")

    done = subprocess.run(
        [sys.executable, "-m", "headway", "simulate", ATLAS, "--scheme", "mine:last", "--json"],
        capture_output=True,
        timeout=100,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)["rows"]
    assert (row["scheme"], row["scheme_failure"]) == ("mine:last", "")


def test_progress_is_on_a_terminal_alone_and_ctrl_c_ends_it(tmp_path: Path):
    tasks = [f'{{"id": "{n}"}}' for n in range(100_000)]
    ran = [f'{{"id": "{n}", "runtimeInSeconds": 1}}' for n in range(100_000)]
    path = tmp_path / "big.json"
    path.write_text(
        '{"schemaVersion": "1.5", "workflow": {"specification": {"tasks": ['
        + ",".join(tasks)
        + ']}, "execution": {"tasks": ['
        + ",".join(ran)
        + "]}}}"
    )
    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "headway", "simulate", str(path), "--engines", "7,8,9,10,11,12"],
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(stderr)
    seen = b""
    try:
        while b"of 600,000 tasks" not in seen:
            seen += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        while b"interrupted" not in seen:
            seen += os.read(terminal, 4096)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in seen


# --- the plots -----------------------------------------------------------------------------------


def test_how_busy_engines_were_is_added_up_in_columns():
    runs = [Run(0, 0, 0.0, 4.0, False), Run(1, 1, 0.5, 1.5, False), Run(1, 2, 3.0, 3.25, False)]

    assert busy_over_time(runs, 2, 4.0, 4) == pytest.approx([0.75, 0.75, 0.5, 0.625])
    assert busy_over_time([], 2, 0.0, 3) == [0.0, 0.0, 0.0]
    assert sum(busy_over_time(runs, 2, 4.0, 7)) / 7 == pytest.approx(5.25 / 8)


def test_columns_are_drawn_in_eighths_of_a_line():
    assert plot_lines([0.0, 0.5, 0.5625, 1.0], 2, BLOCKS) == ["  ▁█", " ███"]


def test_bars_too_thin_to_be_seen_are_drawn_together():
    bars = [Bar(0, n * 1e-6, (n + 1) * 1e-6, f"t{n}") for n in range(100_000)]

    drawing = gantt_svg("<many> & thin", 1, 0.1, bars)

    ElementTree.fromstring(drawing)
    assert 1_000 < drawing.count("tasks from") < 4_000
    assert "&lt;many&gt; &amp; thin" in drawing


@pytest.mark.parametrize(
    ("name", "kind"),
    [("cpuhog_00000012", "cpuhog"), ("fetch-1", "fetch"), ("merge_ID0000261", "merge"), ("7", "7")],
)
def test_a_kind_is_a_name_without_its_number(name: str, kind: str):
    assert kind_of(name) == kind
