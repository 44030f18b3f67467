"""Promise: an embedded controller that is killed is started again, if it has a journal."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from scripted_controller import FakeController, wait_until

from headway import Client, errors
from headway.client import spawn, watch

WAIT_S = 60.0

#: Stands in for the controller's process, beside the scripted controller. It notes its settings
#: and its process id, says what is in `ready`, or else that all is well, and waits for its end.
SCRIPT = """#!/bin/sh
for last; do :; done
echo "$last" >> {directory}/settings
echo $$ >> {directory}/pids
cat {directory}/ready
exec cat > /dev/null
"""


class Stage:
    """The scripted controller, and the process that plays its."""

    def __init__(self, directory: Path, controller: FakeController) -> None:
        self.directory = directory
        self.controller = controller
        self.say({"connection": str(controller.path)})
        script = directory / "python"
        script.write_text(SCRIPT.format(directory=directory))
        script.chmod(0o700)

    def say(self, line: dict[str, str]) -> None:
        """What a process that is started says."""
        (self.directory / "ready").write_text(json.dumps(line) + "\n")

    def pids(self) -> list[int]:
        """Of the processes that were started, the last one last."""
        return self._lines("pids", int)

    def settings(self) -> list[dict[str, Any]]:
        return self._lines("settings", json.loads)

    def _lines(self, name: str, read: Any) -> list[Any]:
        file = self.directory / name
        text = file.read_text() if file.exists() else ""
        return [read(line) for line in text.splitlines() if text.endswith("\n")]

    def kill(self) -> None:
        """Kill the controller, and its process."""
        self.controller.be_killed()
        os.kill(self.pids()[-1], signal.SIGKILL)

    def wait_started(self, count: int) -> None:
        wait_until(lambda: len(self.pids()) == count, f"the start of process {count}")


@pytest.fixture
def stage(start_controller, tmp_path, monkeypatch) -> Stage:
    stage = Stage(tmp_path, start_controller(hold=True, reconnect_s=WAIT_S))
    monkeypatch.setattr(spawn.sys, "executable", str(tmp_path / "python"))
    return stage


def test_it_is_started_again_on_its_journal_and_futures_resolve(stage, caplog):
    with Client(engines=1, durability="normal") as client:
        future = client.submit(pow, 2, 3)
        wait_until(lambda: stage.controller.states)
        # When it is killed
        stage.kill()
        # Then it is started again, with the same settings, on the journal in its directory
        stage.wait_started(2)
        first, second = stage.settings()
        journal = str(stage.controller.path.parent / "journal.db")
        assert (first["durability"], first["journal"]) == ("normal", None)
        # Limits are in the journal: those that were changed since go on.
        assert first.pop("limits") == {}
        assert second == {**first, "journal": journal}
        # And the task goes on
        stage.controller.come_back()
        stage.controller.release_held()
        assert future.result(10) == 8
    killed, back = [record.getMessage() for record in caplog.records]
    assert killed == (
        f"the controller (pid {stage.pids()[0]}) ended with SIGKILL; "
        "it is started again, on its journal"
    )
    assert back == f"the controller at {stage.controller.address} is back (epoch 2)"
    # And nothing remains
    for pid in stage.pids():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_journal_of_the_users_is_used_each_time(stage, tmp_path):
    path = tmp_path / "my.db"
    with Client(engines=1, durability="full", journal=path):
        stage.kill()
        stage.wait_started(2)
        stage.controller.come_back()
    assert [(s["durability"], s["journal"]) for s in stage.settings()] == [("full", str(path))] * 2


def test_one_that_is_killed_again_and_again_is_given_up(stage):
    with Client(engines=1, durability="normal") as client:
        future = client.submit(pow, 2, 3)
        for count in range(1, 5):
            stage.wait_started(count)
            os.kill(stage.pids()[-1], signal.SIGKILL)
        words = "ended with SIGKILL; it was started again 3 times within 60 s, and killed each time"
        with pytest.raises(errors.ConnectionLost, match=words):
            future.result(10)
    assert len(stage.pids()) == 4


def test_one_that_is_killed_now_and_then_is_started_each_time(stage, monkeypatch):
    monkeypatch.setattr(watch, "_RESTARTS_WITHIN_S", 0.0)
    with Client(engines=1, durability="normal") as client:
        future = client.submit(pow, 2, 3)
        for count in range(1, 6):
            stage.wait_started(count)
            os.kill(stage.pids()[-1], signal.SIGKILL)
        stage.wait_started(6)
        stage.controller.release_held()
        assert future.result(10) == 8


def test_without_a_journal_its_death_is_the_end(stage):
    with Client(engines=1) as client:
        future = client.submit(pow, 2, 3)
        stage.kill()
        with pytest.raises(errors.ConnectionLost, match=r"\(pid \d+\) ended with SIGKILL"):
            future.result(10)
    assert len(stage.pids()) == 1


def test_one_that_fails_by_itself_would_fail_again(stage):
    script = stage.directory / "python"
    script.write_text(
        script.read_text().replace("exec cat > /dev/null", "read x; echo no room >&2; exit 1")
    )
    with Client(engines=1, durability="normal") as client:
        future = client.submit(pow, 2, 3)
        client._link.process._lifeline.write(b"\n")
        words = r"(?s)ended with exit status 1; its last words were:.no room"
        with pytest.raises(errors.ConnectionLost, match=words):
            future.result(10)
    assert len(stage.pids()) == 1


def test_one_that_cant_be_started_again_says_why(stage):
    with Client(engines=1, durability="normal") as client:
        future = client.submit(pow, 2, 3)
        stage.say({"error": "the journal is damaged"})
        stage.kill()
        words = "ended with SIGKILL; it could not be started again: the journal is damaged"
        with pytest.raises(errors.ConnectionLost, match=words):
            future.result(10)
    assert len(stage.pids()) == 2


def test_one_whose_interpreter_is_gone_says_so(stage):
    with Client(engines=1, durability="normal") as client:
        future = client.submit(pow, 2, 3)
        (stage.directory / "python").unlink()
        stage.kill()
        words = "ended with SIGKILL; it could not be started again: .*python can't be started"
        with pytest.raises(errors.ConnectionLost, match=words):
            future.result(10)


def test_one_that_does_not_come_back_is_given_up(start_controller, stage, monkeypatch):
    stage.controller = start_controller(hold=True, reconnect_s=0.3)
    stage.say({"connection": str(stage.controller.path)})
    with Client(engines=1, durability="normal") as client:
        future = client.submit(pow, 2, 3)
        stage.kill()
        with pytest.raises(errors.ConnectionLost, match=r"did not come back within 0\.3 s"):
            future.result(10)


def test_closing_while_it_is_being_started_leaves_nothing(stage):
    client = Client(engines=1, durability="normal")
    client.submit(pow, 2, 3)
    stage.kill()
    stage.wait_started(2)
    client.close()
    assert client._link.ended.is_set()
    for pid in stage.pids():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_child_that_has_the_lifeline_lives_until_the_client_ends(stage, tmp_path):
    # Given a controller's child that waits for the end of the controller's stdin
    script = stage.directory / "python"
    child = f"(cat > /dev/null; echo > {tmp_path}/ended) < /dev/fd/3 &\n"
    script.write_text(
        script.read_text().replace(
            "exec cat", f"if [ ! -e {tmp_path}/child ]; then exec 3<&0; > {tmp_path}/child; "
            f"{child} exec 3<&-; fi\nexec cat"
        )
    )  # fmt: skip
    with Client(engines=1, durability="normal"):
        stage.wait_started(1)
        wait_until((tmp_path / "child").exists)
        # When the controller is killed, and started again
        stage.kill()
        stage.wait_started(2)
        stage.controller.come_back()
        # Then it lives
        assert not (tmp_path / "ended").exists()
    # Until the client is closed
    wait_until((tmp_path / "ended").exists)
