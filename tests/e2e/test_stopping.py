"""Stopping: a task that is cancelled is cancelled, wherever it is and whatever it does; the truth
comes back; and nothing but what was meant is hit."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

import headway
from headway import errors
from tests.e2e.conftest import wait_until


def touch_and_wait(path: Path) -> None:
    """Wait for the interrupt, and heed it."""
    path.touch()
    while True:
        time.sleep(0.01)


def touch_and_go_on(path: Path) -> None:
    """Ignore every interrupt."""
    path.touch()
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(1000)


def hold_the_interpreter(path: Path) -> None:
    """C code that never ends, nor lets any other thread run."""
    path.touch()
    sum(itertools.repeat(0))


def with_children(path: Path) -> None:
    """Start a program and a fork, and ignore every interrupt."""
    program = subprocess.Popen(["sleep", "1000"])
    fork = os.fork()
    if not fork:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(1000)
    path.with_suffix(".pids").write_text(f"{program.pid} {fork}")
    touch_and_go_on(path)


def lives(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def begun(path: Path) -> None:
    wait_until(path.exists, f"a task to write {path.name}")


# --- where a task may be -------------------------------------------------------------------------


def test_a_task_is_cancelled_wherever_it_is_and_the_truth_comes_back(client, tmp_path):
    # Given both engines busy, and behind them what waits, is ready, was prefetched, and is done
    done = client.submit(abs, -1)
    assert done.result(30) == 1
    failed = client.submit(int, "x")
    assert isinstance(failed.exception(30), ValueError)
    running = [client.submit(touch_and_wait, tmp_path / f"{n}") for n in range(2)]
    for n in range(2):
        begun(tmp_path / f"{n}")
    ready = client.map(abs, range(20))  # some of them prefetched
    waiting = client.submit(abs, running[0])
    # When all are cancelled
    report = client.cancel([done, failed, running, ready, waiting])
    # Then each says what became of it, in order
    assert report == [False, False, *[True] * 23]
    assert report.states == ["succeeded", "failed", *["cancelled"] * 23]
    assert done.result() == 1
    for future in [*running, *ready, waiting]:
        assert future.cancelled()
        with pytest.raises(errors.TaskCancelled):
            future.result()
    # And the engines are at work again, the same ones
    assert client.gather(client.map(abs, range(4)), timeout=30) == [0, 1, 2, 3]


def test_all_of_a_client_is_cancelled_and_nothing_of_another(client, tmp_path):
    with headway.Client(client.connection_file) as other:
        theirs = other.options(targets="e99", wait_for_engines=True).submit(abs, -1)
        wait_until(lambda: theirs.state == "ready", "their task to be ready")
        running = client.submit(touch_and_wait, tmp_path / "running")
        begun(tmp_path / "running")
        group = client.map(abs, [running] * 10)
        report = client.cancel()
        assert report == [True] * 11
        assert all(future.cancelled() for future in [running, *group])
        assert client.cancel() == []
        assert theirs.state == "ready"
        assert other.cancel(theirs.id) == [True]


def test_a_group_is_cancelled_as_the_list_of_its_futures(client):
    group = client.options(resources={"unobtainium": 1}).map(abs, range(100))
    assert client.cancel(group) == [True] * 100
    assert all(future.state == "cancelled" for future in group)


def test_downstream_or_not(client):
    never = client.options(resources={"unobtainium": 1})
    first = never.submit(abs, -1)
    second = client.submit(abs, first)
    third = client.submit(abs, second)
    assert client.cancel(first) == [True]
    with pytest.raises(errors.ImpossibleDependency, match="was cancelled"):
        third.result(30)
    # And now with all that depends on it, also by way of a group
    first = never.submit(abs, -1)
    second = client.submit(abs, first)
    third = client.options(after=client.group([second])).submit(abs, 3)
    assert client.cancel(first, downstream=True) == [True]
    for future in (second, third):
        with pytest.raises(errors.TaskCancelled, match=f"cancelled with {first.id}, on which"):
            future.result(30)


def test_downstream_of_a_group_that_is_done(client, tmp_path):
    group = client.map(abs, range(3))
    client.gather(group, timeout=30)
    behind = client.options(after=group).submit(touch_and_wait, tmp_path / "behind")
    begun(tmp_path / "behind")
    report = client.cancel(group, downstream=True)
    assert report.states == ["succeeded"] * 3
    with pytest.raises(errors.TaskCancelled):
        behind.result(30)


# --- whatever it does ----------------------------------------------------------------------------


@pytest.mark.parametrize("task", [touch_and_go_on, hold_the_interpreter])
def test_a_task_that_does_not_heed_is_killed_and_says_so_and_nobody_else_is_charged(
    client, tmp_path, task
):
    future = client.submit(task, tmp_path / "running")
    begun(tmp_path / "running")
    victim = next(engine for engine in client.engines() if engine.load)
    once = client.options(at_most_once=True, targets=victim.id).submit(abs, -1)
    behind = client.options(crash_limit=1).map(abs, range(20))
    assert client.cancel([future]) == [True]
    with pytest.raises(errors.TaskCancelled) as caught:
        future.result()
    for text in (str(caught.value), future.explain()):
        assert text.startswith(f"task {future.id} was cancelled; engine {victim.id} killed by SIGK")
        assert "and replaced, since" in text
        assert "ran on for 2 s after it was interrupted" in text
        assert f"in {task.__name__}" in text
    assert client.gather(behind, timeout=60) == list(range(20))
    # That which could only run there has nowhere to go; it was not begun, and so it is not lost.
    assert isinstance(once.exception(30), errors.ImpossibleDependency)
    assert len(client.wait_for_engines(2)) == 2


def test_its_time_limit_stops_a_task_in_the_same_way(client):
    def hold():  # by value: the limit would else pass while this module is imported
        sum(itertools.repeat(0))

    future = client.options(run_timeout=0.2).submit(hold)
    with pytest.raises(errors.TaskTimeout, match="ran on for 2 s after it was interrupted"):
        future.result(60)
    assert "in hold" in future.explain()


def test_what_a_task_returns_after_it_was_cancelled_is_not_its_result(client, tmp_path):
    def returns_anyway(path):
        try:
            touch_and_wait(path)
        except KeyboardInterrupt:
            return "half a result"

    future = client.submit(returns_anyway, tmp_path / "running")
    behind = client.submit(len, future)
    begun(tmp_path / "running")
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(errors.ImpossibleDependency):
        behind.result(30)


@pytest.mark.usefixtures("nothing_left")
def test_the_children_of_a_cancelled_task_are_gone(tmp_path):
    with headway.Client(engines=1) as client:
        future = client.submit(with_children, tmp_path / "running")
        begun(tmp_path / "running")
        pids = list(map(int, (tmp_path / "running.pids").read_text().split()))
        assert all(map(lives, pids))
        assert future.cancel()
        wait_until(lambda: not any(map(lives, pids)), f"{pids} to end")
        assert client.submit(abs, -1).result(30) == 1


@pytest.mark.usefixtures("nothing_left")
def test_a_task_that_ignores_everything_does_not_keep_a_cluster_from_stopping(tmp_path):
    with headway.Client(engines=1) as client:
        client.submit(with_children, tmp_path / "running")
        begun(tmp_path / "running")


@pytest.mark.usefixtures("nothing_left")
def test_the_tasks_of_a_client_that_vanishes_are_stopped_hard_if_need_be(tmp_path):
    with headway.Client(engines=1) as client:
        other = headway.Client(client.connection_file)
        other.submit(hold_the_interpreter, tmp_path / "running")
        begun(tmp_path / "running")
        other.close()
        assert client.submit(abs, -1).result(60) == 1


# --- what is asked wrongly -----------------------------------------------------------------------


def test_wrong_arguments_are_refused_at_the_call(client):
    future = client.options(resources={"unobtainium": 1}).submit(abs, 1)
    for wrong in (None, 3.5, b"1-1", [future, None]):
        with pytest.raises(TypeError, match="cancel takes futures or ids of tasks, not"):
            client.cancel(wrong)
    for wrong in ("nonsense", "", -1):
        with pytest.raises(ValueError, match="is not a task id"):
            client.cancel(wrong)
    with pytest.raises(TypeError, match="neither a Future nor a task's id"):
        client.cancel(True)
    with pytest.raises(TypeError, match="downstream='all' is not True or False"):
        client.cancel(future, downstream="all")
    assert client.cancel([]) == []
    # None of these has cancelled anything
    assert future.state == "ready"
    assert future.cancel()
    assert client.cancel("9-9").states == ["unknown"]
