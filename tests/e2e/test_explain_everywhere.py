"""Promise: `explain` says the same from the API, the command line and the dashboard, of tasks and
of the whole cluster; also after the end, after deaths, and when another controller took over."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import headway
from tests.cli import verbs
from tests.dashboard.conftest import Dashboard
from tests.e2e.conftest import wait_until

#: Ages go on between two questions.
AGE = re.compile(r"\d+\.\d s")


def refuse() -> None:
    raise ValueError("no <b>luck</b>\nat all")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ageless(text: str) -> str:
    return AGE.sub("N s", text)


def submit_all(client: headway.Client) -> dict[str, headway.Future[object]]:
    """A task in each of the states in which people ask."""
    ended = {
        "succeeded": client.options(label="good").submit(abs, -1),
        "failed": client.options(label="bad").submit(refuse),
        "lost": client.options(crash_limit=1).submit(die),
        "cancelled": client.options(label="gone", resources={"gpu": 1}).submit(abs, 1),
    }
    ended["impossible"] = client.options(after=[ended["failed"]]).submit(abs, 2)
    ended["far"] = client.options(after=[ended["impossible"]]).submit(abs, 3)
    ended["cancelled"].cancel()
    wait_until(lambda: all(future.done() for future in ended.values()), "their ends")
    runs = client.submit(time.sleep, 600)
    wait_until(lambda: runs.state == "running", "it to run")
    open_ = {
        "runs": runs,
        "ready": client.options(label="starved", resources={"gpu": 1}).submit(abs, 4),
        "waiting": client.options(after=[runs]).submit(abs, 5),
    }
    wait_until(lambda: open_["waiting"].state == "waiting", "the last to be there")
    return {**ended, **open_}


def everywhere(
    client: headway.Client, name: str, dashboard: Dashboard, task: str | None
) -> list[str]:
    """The sentence about `task`, or about the cluster, from each of the doors."""
    ask = ["explain", "--cluster", name, *([task] if task else [])]
    _, _, body = dashboard.ask(f"/api/task/{task}" if task else "/api/explain")
    told = [
        client.explain(task),
        verbs.headway(*ask),
        json.loads(verbs.headway(*ask, "--json"))["text"],
        json.loads(body)["explain"],
    ]
    return [ageless(text) for text in told]


def test_every_door_says_the_same_before_and_after_every_end_and_death(nothing_left: str):
    name = f"explain-{os.getpid()}"
    with headway.Client(engines=2, name=name, durability="normal", output=False) as client:
        tasks = submit_all(client)
        dashboard = Dashboard(name)
        try:
            said = {}
            for what, future in tasks.items():
                told = everywhere(client, name, dashboard, future.id)
                assert set(told) == {ageless(future.explain())}, what
                said[what] = told[0]
            cluster = everywhere(client, name, dashboard, None)
            assert len(set(cluster)) == 1
        finally:
            dashboard.close()
        assert "good) succeeded on e" in said["succeeded"]
        assert "raised ValueError: no <b>luck</b>" in said["failed"]
        assert said["failed"] in said["impossible"]
        assert f"because of {tasks['impossible'].id}" in said["far"]
        assert "killed by SIGKILL" in said["lost"]
        assert "lacks gpu=1" in said["ready"]
        assert f"(open: {tasks['runs'].id} running)" in said["waiting"]
        assert "1 task ready: fits no engine" in cluster[0]
        # Another controller, which knows what the first wrote down
        assert client._link.process is not None
        client._link.process.process.kill()
        for what in ("succeeded", "failed", "impossible", "far", "lost", "cancelled"):
            assert ageless(client.explain(tasks[what])) == said[what], what
    # And without one, as far as it is known here
    assert tasks["succeeded"].explain() == said["succeeded"]
    assert tasks["lost"].explain() == said["lost"]
    assert said["far"].startswith(tasks["far"].explain())
