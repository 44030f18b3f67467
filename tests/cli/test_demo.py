"""Promise: `headway demo` does real work on a real cluster, says what it did, and leaves nothing.

Each test runs the command as a process of its own, as a user would.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

DEADLINE_S = 60.0


@pytest.fixture
def start_demo():
    """Start `headway demo`, its temporary files in a folder of the test's; end it after all."""
    started = []
    # Not in pytest's own: a socket's path has to be short.
    scratch = tempfile.mkdtemp(prefix="hw-")
    environment = {**os.environ, "TMPDIR": scratch, "COLUMNS": "100"}
    environment.pop("XDG_RUNTIME_DIR", None)

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "headway", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(process)
        return process

    start.scratch = scratch
    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=DEADLINE_S)
    shutil.rmtree(scratch)


def left_in(folder: str) -> list[str]:
    """What was left, but the one empty folder that keeps the connections of all clusters."""
    kept = f"headway-{os.getuid()}"
    found = [str(path.relative_to(folder)) for path in Path(folder).rglob("*")]
    return [path for path in found if path != kept]


def family_of(process) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_until(condition, what: str) -> None:
    deadline_at = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline_at:
            pytest.fail(f"{what}: not within {DEADLINE_S:g} s")
        time.sleep(0.02)


def test_a_quick_look_agrees_with_one_process_and_sums_up(start_demo, tmp_path):
    trace = tmp_path / "trace.json"

    process = start_demo("--limit", "40", "--engines", "2", "--check", "--trace", str(trace))
    output, errors = process.communicate(timeout=DEADLINE_S)

    # It agrees, and says what it did
    assert process.returncode == 0, errors
    assert errors == ""
    for words in ("40 files", "1 report", "1 follow", "1 finalizer", "tasks/s", "speedup"):
        assert words in output
    assert "check: both reports are equal" in output
    # The trace has every task once, on the track of an engine that is named
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    runs = [event for event in events if event["ph"] == "X"]
    tracks = {event["tid"] for event in events if event["name"] == "thread_name"}
    others = {run["name"] for run in runs if not run["name"].endswith(".py")}
    packages = len(others - {"report", "publish", "clear"})
    assert packages
    assert len(runs) == len({run["args"]["task"] for run in runs}) == 40 + packages + 3
    assert {run["tid"] for run in runs} == tracks
    assert all(run["ts"] >= 0 and run["dur"] >= 0 for run in runs)
    # What follows the report ran where the report was made
    [made, followed] = [run for run in runs if run["name"] in ("report", "publish")]
    assert made["tid"] == followed["tid"]
    # And nothing is left
    assert left_in(start_demo.scratch) == []


def test_ctrl_c_leaves_nothing_behind(start_demo):
    # Given a demonstration whose cluster has been started: controller, nanny, two engines
    process = start_demo("--engines", "2")
    wait_until(lambda: len(family_of(process)) >= 4, "the cluster starts")
    family = family_of(process)
    # When it is interrupted, as a terminal does it
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    # Then it says so in one line, and every process and file has gone
    assert process.returncode == 130
    assert errors.strip() == ("headway: interrupted; everything that was started has been stopped")
    wait_until(lambda: not any(member.is_running() for member in family), "the cluster ends")
    assert left_in(start_demo.scratch) == []


def test_a_trace_that_can_not_be_written_is_one_line_before_anything_starts(start_demo, tmp_path):
    process = start_demo("--trace", str(tmp_path / "no" / "t"))
    output, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 1
    assert output == ""
    assert "FileNotFoundError" in errors
    assert "Traceback" not in errors


def engines_at_work(process) -> list[psutil.Process]:
    """The demonstration's engines that have used the processor for more than their start."""
    found = []
    for member in family_of(process):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
            if "headway.engine" in member.cmdline() and member.cpu_times().user > 0.5:
                found.append(member)
    return found


def test_an_engine_that_is_killed_at_work_changes_nothing_in_the_report(start_demo):
    # Given a survey under way
    process = start_demo("--limit", "800", "--engines", "2", "--check")
    working: list[psutil.Process] = []
    wait_until(lambda: working.extend(engines_at_work(process)) or working, "an engine works")
    # When one engine is killed
    working[0].kill()
    output, errors = process.communicate(timeout=DEADLINE_S)
    # Then the user is told, and the report is that of one process
    assert process.returncode == 0, errors
    assert "killed by SIGKILL" in errors
    assert "check: both reports are equal" in output
