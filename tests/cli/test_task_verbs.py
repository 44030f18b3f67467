"""Promise: a command is a task. It outlives who submitted it, its end is told as an exit code and
in words, what it prints is kept, and whoever stops it stops all of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import headway
from headway import errors
from tests.cli.verbs import DEADLINE_S, Cluster, cluster


@pytest.fixture(scope="module")
def lab():
    with cluster("-n", "2") as made:
        yield made


def test_a_command_is_a_task_and_its_output_is_kept(lab: Cluster, tmp_path: Path):
    node = lab.submit(
        *("--cwd", str(tmp_path), "--env", "GREETING=hello"),
        *("--", "sh", "-c", "echo $GREETING from $PWD as $HEADWAY_TASK_ID; echo oh >&2"),
    )

    lab("wait", node)
    done = lab.run("logs", node)
    assert done.stdout == f"hello from {tmp_path} as {node}\n"
    assert done.stderr == "oh\n"
    assert f"task {node}" in lab("explain", node)


def test_a_failure_is_an_exit_code_and_has_what_was_said_last(lab: Cluster):
    node = lab.submit("--label", "bad", "--", "sh", "-c", "echo no luck >&2; exit 7")
    heir = lab.submit("--after", node, "--", "true")
    rescue = lab.submit("--after", node, "--on", "failure", "--", "true")

    [row, other] = lab.json("wait", node, heir, code=1)
    assert (row["state"], other["state"]) == ("failed", "impossible")
    lab("wait", rescue)
    told = lab("explain", node)
    assert "exited with code 7" in told
    assert "no luck" in told
    assert "no luck" in lab("explain", heir)
    with headway.Client(lab.name) as client:
        failure = client.attach(node).exception(timeout=30)
        assert isinstance(failure, errors.CommandFailed)
        assert (failure.exit_code, failure.signal) == (7, None)


def test_a_signal_and_a_missing_command_are_told_apart(lab: Cluster):
    killed = lab.submit("--", "sh", "-c", "kill -TERM $$")
    missing = lab.submit("--", "no-such-command-here")

    lab("wait", killed, missing, code=1)
    assert "was killed by SIGTERM" in lab("explain", killed)
    assert "No such file or directory" in lab("explain", missing)


def test_a_retry_writes_on_in_the_same_files(lab: Cluster, tmp_path: Path):
    mark = tmp_path / "mark"
    script = f"echo try; test -e {mark} || {{ touch {mark}; exit 1; }}"
    node = lab.submit("--retries", "1", "--", "sh", "-c", script)

    lab("wait", node)
    done = lab.run("logs", node)
    assert done.stdout == "try\ntry\n"
    assert "attempt 2" in done.stderr


def test_an_array_is_a_group_and_one_edge(lab: Cluster, tmp_path: Path):
    array = lab.submit(
        *("--array", "3-5", "--output", str(tmp_path / "{index}.txt")),
        *("--", "sh", "-c", "echo {index} $HEADWAY_ARRAY_INDEX"),
    )
    after = lab.submit("--after", array, "--", "true")

    lab("wait", after, array)
    rows = lab.json("tasks", "--group", array)["tasks"]
    assert [row["state"] for row in rows] == ["succeeded"] * 3
    assert "3 of its 3 tasks succeeded" in lab("explain", array)
    assert (tmp_path / "4.txt").read_text() == "4 4\n"
    assert "5 5" in lab("logs", array)


def test_of_a_long_array_those_are_shown_that_did_not_succeed(lab: Cluster):
    array = lab.submit("--array", "1-25", "--", "sh", "-c", "test {index} != 7")

    told = lab("wait", array, code=1)
    assert "25 tasks: 24 succeeded, 1 failed" in told
    assert len(told.splitlines()) == 3
    assert len(lab.json("wait", array, code=1)) == 25


def test_a_cancel_ends_all_that_a_command_has_started(lab: Cluster, tmp_path: Path):
    node, pids = running_family(lab, tmp_path)

    assert lab.json("cancel", node)[0]["state"] == "cancelled"
    assert all(has_ended(pid) for pid in pids)
    lab("wait", node, code=1)


def test_a_run_timeout_ends_all_that_a_command_has_started(lab: Cluster, tmp_path: Path):
    node, pids = running_family(lab, tmp_path, "--run-timeout", "1")

    assert lab.json("wait", node, code=1)[0]["state"] == "timed_out"
    assert all(has_ended(pid) for pid in pids)


def running_family(lab: Cluster, tmp_path: Path, *options: str) -> tuple[str, list[int]]:
    """A command that has a child, both of which run; its id, and their process ids."""
    told = tmp_path / "pids"
    script = f"sleep 1000 & echo $$ $! > {told}.new; mv {told}.new {told}; wait"
    node = lab.submit(*options, "--", "sh", "-c", script)
    deadline_at = time.monotonic() + DEADLINE_S
    while not told.exists():
        assert time.monotonic() < deadline_at, lab("explain", node)
        time.sleep(0.01)
    return node, [int(pid) for pid in told.read_text().split()]


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_logs_follow_a_command_until_its_end(lab: Cluster, tmp_path: Path):
    gate = tmp_path / "gate"
    script = f"echo first; until test -e {gate}; do sleep 0.05; done; echo last"
    node = lab.submit("--", "sh", "-c", script)
    with subprocess.Popen(
        [sys.executable, "-m", "headway", "logs", "-f", "--cluster", lab.name, node],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        gate.touch()
        assert process.stdout.readline() == "last\n"
        assert process.wait(DEADLINE_S) == 0


def test_a_wait_may_be_bounded_interrupted_and_for_any(lab: Cluster):
    slow = lab.submit("--", "sleep", "1000")
    quick = lab.submit("--", "true")

    assert lab.json("wait", slow, "--timeout", "0.2", code=124)[0]["state"] == "pending"
    rows = lab.json("wait", "--any", slow, quick)
    assert {row["id"]: row["state"] for row in rows} == {slow: "pending", quick: "succeeded"}

    process = subprocess.Popen(
        [sys.executable, "-m", "headway", "wait", "--cluster", lab.name, slow],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline_at = time.monotonic() + DEADLINE_S
    while lab.json("status")["statistics"]["clients"] < 2:
        assert time.monotonic() < deadline_at
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "the cluster and its tasks go on" in said
    lab("cancel", slow)


def test_why_nothing_runs_is_said_for_the_whole_cluster(lab: Cluster):
    node = lab.submit("--resources", "gpu=1", "--label", "train", "--", "true")

    told = lab("explain")
    assert "1 task ready: fits no engine: e0 lacks gpu=1 (has 0)" in told
    assert f"the first that waits: task {node} (train)" in told
    assert "lacks gpu=1" in lab("explain", node)
    lab("cancel", node)


@pytest.mark.parametrize("verb", ["wait", "logs"])
def test_a_task_that_nobody_knows_is_a_failure(lab: Cluster, verb: str):
    done = lab.run(verb, "9999-1")

    assert done.returncode == 1
    assert "9999-1" in done.stdout + done.stderr


def test_a_dependency_that_nobody_knows_is_refused(lab: Cluster):
    done = lab.run("submit", "--after", "9999-1", "--", "true")

    assert done.returncode == 1
    assert "no task 9999-1 is known" in done.stderr


def test_tasks_are_filtered_sorted_and_bounded(lab: Cluster):
    for label in ("wheat", "rye", "wheat flour"):
        lab("wait", lab.submit("--label", label, "--", "true"))

    body = lab.json("tasks", "--label", "wheat", "--sort", "label", "--reverse", "--limit", "1")
    assert [row["label"] for row in body["tasks"]] == ["wheat flour"]
    assert body["found"] == 2
    assert "and 1 more" in lab("tasks", "--label", "wheat", "--limit", "1")
    assert lab("tasks", "--state", "lost") == "no such task"


def test_what_a_python_program_leaves_behind_is_there_for_the_next(lab: Cluster):
    with headway.Client(lab.name) as client:
        squares = client.map(pow, range(3), [2] * 3)
        total = client.submit(sum, squares)
        ids = [future.id for future in squares]
        client.detach()
        with pytest.raises(errors.HeadwayError):
            client.submit(abs, 1)
    with headway.Client(lab.name) as client:
        assert client.attach(total.id).result(timeout=30) == 5
        again = client.attach(ids)
        assert client.gather(again, timeout=30) == [0, 1, 4]
        # A future of another client's task is as good a dependency, and argument, as any.
        assert client.options(after=again).submit(abs, again[2]).result(timeout=30) == 4
        assert isinstance(client.attach("9999-1").exception(timeout=30), errors.EngineError)
        client.cancel()
    with headway.Client(engines=1) as own, pytest.raises(ValueError, match="embedded"):
        own.detach()


def test_a_task_that_is_forgotten_takes_its_files_along(tmp_path: Path):
    from headway.controller.shell_logs import remove_logs
    from headway.core.events import parse_task_id

    for name in ("1-1.out", "1-1.err", "1-2.out"):
        (tmp_path / name).touch()
    remove_logs(tmp_path, [parse_task_id("1-1"), parse_task_id("7-7")])
    assert os.listdir(tmp_path) == ["1-2.out"]
