"""Promise: a cluster by its name is started, looked at, steered and stopped, each in words and
with the exit code that docs/cli.md has for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import headway
from headway import processes
from headway.cli import which
from headway.errors import ConnectionFileError
from headway.wire.endpoint import ConnectionInfo
from tests.cli.verbs import DEADLINE_S, Cluster, cluster, run


@pytest.fixture(scope="module")
def lab():
    with cluster("-n", "1", "--limit", "stated=2,100/s") as made:
        yield made


def test_a_cluster_in_the_background_says_its_name_and_serves(lab: Cluster):
    told = lab.json("status")

    assert told["cluster"] == lab.name
    with headway.Client(lab.name) as client:
        assert client.submit(abs, -3).result(timeout=30) == 3


def test_a_second_start_of_a_living_name_is_refused_in_words(lab: Cluster):
    done = run("start", "--daemon", "--name", lab.name)

    assert done.returncode == 1
    assert f"a cluster named {lab.name!r} runs already" in done.stderr


def test_engines_are_listed_added_drained_and_stopped(lab: Cluster):
    [first] = wait_for_engines(lab, 1)
    lab("engines", "add", "1")
    assert len(wait_for_engines(lab, 2)) == 2

    lab("engines", "drain", first["id"])
    states = {engine["id"]: engine["state"] for engine in lab.json("engines")}
    assert states[first["id"]] == "draining"

    lab("engines", "stop", first["id"])
    left = wait_for_engines(lab, 1)
    assert first["id"] not in {engine["id"] for engine in left}

    lab("engines", "restart", left[0]["id"])
    deadline_at = time.monotonic() + DEADLINE_S
    while [e["id"] for e in lab.json("engines")] in ([], [left[0]["id"]]):
        assert time.monotonic() < deadline_at
    assert "is not here" in lab.run("engines", "drain", "e99").stderr


def wait_for_engines(lab: Cluster, count: int) -> list[dict]:
    deadline_at = time.monotonic() + DEADLINE_S
    while len(found := lab.json("engines")) != count:
        assert time.monotonic() < deadline_at, found
    return found


def test_limits_are_stated_at_the_start_shown_changed_and_hold_for_commands(lab: Cluster):
    assert lab.json("limits")["stated"]["limit"] == "2, 100/s"
    task = lab.submit("--tag", "door", "--share", "s", "--weight", "2", "--", "true")
    lab("wait", task)
    said = lab("limits", "door=0", "stated=none")
    assert "door" in said
    assert "stated" not in said
    task = lab.submit("--tag", "door", "--", "true")
    assert "door, which is limited to 0: 0 tasks on engines" in lab("explain", task)
    assert lab.json("limits", "door=3/min")["door"]["limit"] == "3/min"
    lab("wait", task)
    lab("limits", "door=none")
    assert "no tag has a limit" in lab("limits")


def test_top_shows_once_where_there_is_no_terminal(lab: Cluster):
    shown = lab("top")

    assert lab.name in shown
    assert "tasks:" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["stat"], 2, "Did you mean 'start', 'status'"),
        (["tasks", "--stat", "failed"], 2, "--state"),
        (["engines", "drian", "e0"], 2, "did you mean 'drain'"),
        (["tasks", "--state", "lazy"], 2, "timed_out"),
        (["tasks", "--sort", "size"], 2, "label"),
        (["wait", "x"], 2, "is not a task id"),
        (["submit", "--array", "5-1", "--", "true"], 2, "FIRST-LAST"),
        (["submit", "--env", "=1", "--", "true"], 2, "NAME=VALUE"),
        (["limits", "db"], 2, "expected TAG=LIMIT"),
        (["start", "--limit", "db=lots"], 1, "'lots' is no limit"),
        (["submit", "--on", "luck", "--after", "1-1", "--", "true"], 2, "success, failure, done"),
        (["status", "--cluster", "no-such-cluster"], 3, "no cluster is named"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(lab: Cluster, arguments, code, said):
    done = run(*arguments, HEADWAY_CONNECTION=lab.name)

    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_name_it_is_the_only_cluster_that_stays(monkeypatch):
    info = ConnectionInfo("a", "ipc:///x/a/controller.sock")
    of_a_program = ConnectionInfo("b", "ipc:///x/b/controller.sock", embedded=True)
    running = {"a": info, "b": of_a_program}
    monkeypatch.setattr(which, "running_clusters", lambda: running)
    monkeypatch.delenv("HEADWAY_CONNECTION", raising=False)
    assert which.find(None) == "a"
    assert which.find("b") == "b"

    running["c"] = info
    with pytest.raises(ConnectionFileError, match=r"several clusters run.*: a, c"):
        which.find(None)

    running.clear()
    with pytest.raises(ConnectionFileError, match="headway start --daemon"):
        which.find(None)


def test_the_environment_names_a_cluster_and_an_option_comes_before_it(monkeypatch):
    monkeypatch.setenv("HEADWAY_CONNECTION", "lab")
    assert which.find(None) == "lab"
    assert which.find("other") == "other"


def test_each_verb_has_an_example_and_the_exit_codes_are_in_the_help():
    from headway.cli.app import EXIT_CODES
    from headway.cli.reference import verbs

    for name, function in verbs().items():
        assert "Example:\n" in (function.__doc__ or ""), name
    shown = run("--help").stdout
    for code, meaning in EXIT_CODES.items():
        assert f"{code}  {meaning[:30]}" in shown


def test_clusters_and_tasks_are_completed(lab: Cluster, monkeypatch):
    monkeypatch.setenv("HEADWAY_CONNECTION", lab.name)
    node = lab.submit("--", "true")

    assert lab.name in which.complete_cluster(lab.name[:4])
    assert node in which.complete_task(node[:1])
    monkeypatch.setenv("HEADWAY_CONNECTION", "no-such-cluster")
    assert which.complete_task("") == []


def test_a_planned_stop_keeps_tasks_for_the_next_start():
    with cluster("-n", "1") as made:
        first = made.submit("--", "sh", "-c", "echo begun; sleep 1000")
        second = made.submit("--after", first, "--on", "done", "--", "echo", "afterwards")
        wait_until_running(made, first)
        pid = made.json("status")["pid"]
        identity = processes.process_identity(pid)

        told = made("stop", "--keep-tasks")
        assert "2 open tasks kept" in told
        assert processes.wait_end(identity, DEADLINE_S)
        assert made.run("status").returncode == 3

        made.start("-n", "1")
        wait_until_running(made, first)
        assert made("logs", first).count("begun") == 2
        made("cancel", first)
        made("wait", second)
        assert made("logs", second) == "afterwards"


def wait_until_running(made: Cluster, node: str) -> None:
    deadline_at = time.monotonic() + DEADLINE_S
    while not (
        made.json("tasks", "--state", "running")["tasks"] and made.json("logs", node)[0]["stdout"]
    ):
        assert time.monotonic() < deadline_at, made("tasks")


def test_a_plain_stop_cancels_also_what_was_left_behind_in_a_journal_that_stays(tmp_path):
    journal = str(tmp_path / "lab.journal")
    with cluster("-n", "1", "--journal", journal) as made:
        node = made.submit("--", "sleep", "1000")
        waits = made.submit("--after", node, "--on", "done", "--", "true")
        made("stop")

        made.start("-n", "1", "--journal", journal)
        assert made.json("wait", node, waits, code=1) == [
            {"id": each, "state": "cancelled", "why": f"task {each} ({label}) was cancelled"}
            for each, label in ((node, "sleep 1000"), (waits, "true"))
        ]


def test_without_a_journal_tasks_are_not_kept_and_nothing_is_stopped():
    with cluster("-n", "1", "--durability", "off") as made:
        done = made.run("stop", "--keep-tasks")
        assert done.returncode == 1
        assert "no journal" in done.stderr
        made("status")

        made("stop")
        assert made.run("status").returncode == 3


def test_top_ends_by_q_in_a_terminal():
    master, slave = os.openpty()
    with cluster("-n", "1") as made:
        process = subprocess.Popen(
            [sys.executable, "-m", "headway", "top", "--cluster", made.name, "--every", "0.1"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        )
        os.close(slave)
        try:
            seen = b""
            while b"engines" not in seen:
                seen += os.read(master, 4096)
            os.write(master, b"q")
            while True:
                try:
                    if not os.read(master, 4096):
                        break
                except OSError:  # how Linux tells the end of the other side
                    break
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
            process.wait()
            os.close(master)
