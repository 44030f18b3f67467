"""An engine dies: it is noticed, its task is repeated or lost with the cause, it is replaced."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

import headway
from headway import errors
from tests.e2e.conftest import wait_until


def kill_myself(path: str, times: int) -> str:
    """Kill the engine that runs this, `times` times; then return its pid."""
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) <= times:
        os.write(2, b"these are my last words\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@pytest.mark.usefixtures("nothing_left")
def test_the_task_of_a_killed_engine_is_repeated_and_the_engine_replaced(tmp_path):
    with headway.Client(engines=2) as client:
        before = {engine.id for engine in client.wait_for_engines(2)}
        future = client.submit(kill_myself, str(tmp_path / "runs"), 1)
        others = client.map(abs, range(200))
        assert future.result(timeout=60) == "survived"
        assert client.gather(others, timeout=60) == list(range(200))
        wait_until(lambda: len(client.engines()) == 2, "the engine to be replaced")
        after = {engine.id for engine in client.engines()}
        assert len(before & after) == 1


@pytest.mark.usefixtures("nothing_left")
def test_a_task_that_kills_its_engines_is_lost_with_the_cause(tmp_path):
    with headway.Client(engines=1) as client:
        future = client.options(crash_limit=2).submit(kill_myself, str(tmp_path / "runs"), 9)
        behind = client.map(abs, range(20))
        with pytest.raises(errors.EngineError, match=r"(?s)killed by SIGKILL.*crash_limit") as e:
            future.result(timeout=60)
        assert "these are my last words" in str(e.value)
        assert future.state == "lost"
        assert "SIGKILL" in future.explain()
        # Those that shared its engine are not charged.
        assert client.gather(behind, timeout=60) == list(range(20))


@pytest.mark.usefixtures("nothing_left")
def test_a_task_that_is_at_most_once_is_not_repeated(tmp_path):
    runs = tmp_path / "runs"
    with headway.Client(engines=1) as client:
        future = client.options(at_most_once=True).submit(kill_myself, str(runs), 9)
        with pytest.raises(errors.EngineError, match="at_most_once"):
            future.result(timeout=60)
    assert runs.read_text() == "x"


@pytest.mark.usefixtures("nothing_left")
def test_an_idle_engine_that_is_killed_is_replaced():
    with headway.Client(engines=1) as client:
        (engine,) = client.wait_for_engines(1)
        os.kill(engine.pid, signal.SIGKILL)
        wait_until(
            lambda: [e.id for e in client.engines()] not in ([], [engine.id]), "a replacement"
        )
        assert client.submit(int).result(timeout=60) == 0


@pytest.mark.usefixtures("nothing_left")
def test_the_children_of_a_task_die_with_their_engine(tmp_path):
    def forks(path):
        pid = os.fork()
        if not pid:
            time.sleep(600)
            os._exit(0)
        with open(path, "w") as file:
            file.write(str(pid))
        os.kill(os.getpid(), signal.SIGKILL)

    with headway.Client(engines=1) as client:
        future = client.options(crash_limit=1).submit(forks, tmp_path / "pid")
        with pytest.raises(errors.EngineError):
            future.result(timeout=60)
        child = int((tmp_path / "pid").read_text())
        wait_until(lambda: not is_alive(child), "the child of the task to end")


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody waits for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("nothing_left")
def test_an_engine_command_that_does_not_start_fails_the_tasks_and_says_why():
    with (
        headway.Client(engines=2, python=["/nonexistent/python"]) as client,
        pytest.raises(errors.StartError, match="/nonexistent/python"),
    ):
        client.submit(int).result(timeout=60)


@pytest.mark.usefixtures("nothing_left")
def test_engines_that_can_not_be_replaced_are_a_warning_until_the_last_has_ended(
    tmp_path, monkeypatch, caplog
):
    # Given a cluster whose working directory is deleted
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with headway.Client(engines=2) as client:
        first, second = client.wait_for_engines(2)
        monkeypatch.chdir(tmp_path)
        folder.rmdir()
        # When one engine dies, Then the other goes on, and the user is told
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: "do not start any more" in caplog.text, "the warning")
        assert client.gather(client.map(abs, range(-20, 0)), timeout=30) == list(range(20, 0, -1))
        # And when that has died too, nobody waits for ever
        os.kill(second.pid, signal.SIGKILL)
        with pytest.raises(errors.StartError, match=r"do not start any more: .*No such file"):
            client.submit(time.sleep, 0).result(timeout=30)
