"""Promise: the dashboard shows a real cluster to whoever has its token, and to nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

import headway
from tests.cli.verbs import headway as verb
from tests.dashboard.conftest import DEADLINE_S, Dashboard, wait_until

PATHS = [
    "/", "/api/stream", "/api/graph", "/api/task/1-1", "/api/engine/e0", "/static/app.js",
    "/nowhere",
]  # fmt: skip


def no(value: int) -> None:
    raise ValueError(f"no {value}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cookie", ["", "headway_1=guess", "garbage;=;\"'"])
def test_who_has_no_token_or_a_wrong_one_sees_nothing(dashboard: Dashboard, path: str, cookie: str):
    for each in (path, f"{path}?token=guess"):
        status, headers, body = dashboard.ask(each, headers={"Cookie": cookie})
        assert status == 403
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"headway dashboard" in body


def test_the_printed_address_sets_a_cookie_and_leads_to_one_without_the_token(
    dashboard: Dashboard,
):
    status, headers, _ = dashboard.ask(f"/?token={dashboard.token}", headers={})
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=strict" in headers["set-cookie"]
    cookie = headers["set-cookie"].partition(";")[0]
    status, headers, body = dashboard.ask("/", headers={"Cookie": cookie})
    assert status == 200
    assert b"<title>headway</title>" in body
    _, headers, _ = dashboard.ask(f"//elsewhere.example/?token={dashboard.token}", headers={})
    assert not headers["location"].startswith("//")


def test_no_page_or_script_names_another_host(dashboard: Dashboard):
    _, _, page = dashboard.ask("/")
    assets = [part.split('"')[0] for part in page.decode().split('"/static/')[1:]]
    views = ["engine.js", "graph.js", "overview.js", "tasks.js", "timeline.js"]
    scripts = [*views, "store.js", "words.js"]
    for name in {*assets, *scripts}:
        status, headers, body = dashboard.ask(f"/static/{name}")
        assert status == 200, name
        assert "connect-src 'self'" in headers["content-security-policy"]
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, name
        assert "https://" not in text, name


def test_the_stream_shows_tasks_engines_and_runs_as_they_come(
    dashboard: Dashboard, client: headway.Client
):
    news = dashboard.news()
    version = next(news)["version"]
    fine = client.options(label="fine").submit(abs, -1)
    fails = client.options(label="fails").submit(no, 2)
    assert fine.result(DEADLINE_S) == 1
    assert isinstance(fails.exception(DEADLINE_S), ValueError)
    states: dict[str, str] = {}
    runs: dict[str, bool] = {}
    engines: set[str] = set()
    while not (states.get(fine.id) and states.get(fails.id) == "failed" and len(runs) >= 2):
        each = next(news)
        # It is the same if only what troubles the feed has changed.
        assert each["version"] >= version
        version = each["version"]
        states |= {task["id"]: task["state"] for task in each["tasks"]}
        runs |= {run[1]: run[4] for run in each["runs"]}
        engines |= {engine["id"] for engine in each["engines"]}
    assert states[fine.id] == "succeeded"
    assert (runs[fine.id], runs[fails.id]) == (True, False)
    assert engines == {"e0", "e1"}
    news.close()


def test_a_task_is_explained_and_cancelled(dashboard: Dashboard, client: headway.Client):
    news = dashboard.news()
    next(news)
    sleeper = client.options(label="sleeper").submit(time.sleep, 600)
    status, _, body = dashboard.ask(f"/api/task/{sleeper.id}")
    assert status == 200
    assert sleeper.id in json.loads(body)["explain"]
    path = f"/api/task/{sleeper.id}/cancel"
    assert dashboard.ask(path, "POST")[0] == 403  # as a form of another site would
    assert dashboard.ask(path, "POST", headers={"X-Headway": "1"})[0] == 403
    assert not sleeper.done()
    headers = {"Cookie": dashboard.cookie, "X-Headway": "1"}
    assert dashboard.ask(path, "POST", headers)[0] == 202
    wait_until(sleeper.done, "the task to be cancelled")
    assert sleeper.cancelled()
    for name in ("garbage", "9-9-9", "1-99999999999999999999999"):
        assert dashboard.ask(f"/api/task/{name}")[0] == 404
    news.close()


def test_what_cannot_be_served_is_said_in_a_line():
    def said(*arguments: str, code: str = "") -> str:
        command = ["-c", code] if code else ["-m", "headway", "dashboard"]
        ended = subprocess.run(
            [sys.executable, *command, *arguments],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert ended.returncode > 0
        assert "Traceback" not in ended.stderr
        return ended.stderr

    assert "no cluster is named 'nobody-of-that-name'" in said("--cluster", "nobody-of-that-name")
    assert "others could cancel" in said("--host", "0.0.0.0", "--no-token")
    missing = "import sys; sys.modules['uvicorn'] = None; from headway.cli.main import app; app()"
    assert "pip install 'headway[dashboard]'" in said("dashboard", code=missing)


def test_without_a_token_only_names_of_this_host_are_answered(client: headway.Client):
    dashboard = Dashboard(f"dashboard-{os.getpid()}", "--no-token")
    assert not dashboard.token
    assert dashboard.ask("/", headers={})[0] == 200
    assert dashboard.ask("/", headers={"Host": "elsewhere.example"})[0] == 403
    dashboard.close()


def test_when_the_cluster_has_gone_the_dashboard_says_so_and_shows_what_it_saw():
    name = f"dashboard-gone-{os.getpid()}"
    with headway.Client(engines=1, name=name) as client:
        client.options(label="seen").submit(abs, -1).result(DEADLINE_S)
        future = client.options(label="seen").submit(abs, -2)
        future.result(DEADLINE_S)
        dashboard = Dashboard(name)
        news = dashboard.news()
        while not next(news)["tasks"]:
            pass
    while not (last := next(news))["trouble"]:
        pass
    assert "was stopped" in last["trouble"]
    news.close()
    everything = next(dashboard.news())
    assert [task["label"] for task in everything["tasks"]] == ["seen"]
    dashboard.close()


def fail_until(path: str) -> str:
    print(f"looks for {path}")
    if not os.path.exists(path):
        raise FileNotFoundError(path)
    return "found"


def test_a_failed_task_shows_its_traceback_and_output_and_is_retried_with_the_key(
    dashboard: Dashboard, client: headway.Client, tmp_path
):
    news = dashboard.news()
    next(news)
    path = tmp_path / "it"
    fails = client.submit(fail_until, str(path))
    assert isinstance(fails.exception(DEADLINE_S), FileNotFoundError)

    def shown() -> dict:
        return json.loads(dashboard.ask(f"/api/task/{fails.id}")[2])

    wait_until(lambda: shown().get("lines"), "what it printed")
    task = shown()
    assert (task["state"], task["label"]) == ("failed", "fail_until")
    assert task["lines"][0][1:] == ["stdout", f"looks for {path}\n"]
    assert "in fail_until" in task["traceback"]
    assert task["traceback"].endswith(f"FileNotFoundError: {path}")

    retry, headers = f"/api/task/{fails.id}/retry", {"Cookie": dashboard.cookie, "X-Headway": "1"}
    assert dashboard.ask(retry, "POST")[0] == 403
    path.write_text("here")
    status, _, body = dashboard.ask(retry, "POST", headers)
    assert status == 200
    assert "attempt 2" in json.loads(body)["text"]
    wait_until(lambda: shown()["state"] == "succeeded", "the second attempt")
    assert isinstance(fails.exception(), FileNotFoundError)  # a future keeps what it was told
    later = client.options(after=[fails]).submit(abs, -3)
    assert later.result(DEADLINE_S) == 3
    status, _, body = dashboard.ask(retry, "POST", headers)
    assert status == 409
    assert "only what failed" in json.loads(body)["error"]
    news.close()


def test_an_engine_is_shown_drained_restarted_and_stopped_with_the_key():
    name = f"dashboard-engines-{os.getpid()}"
    with headway.Client(engines=2, name=name) as client:
        client.wait_for_engines(2)
        other = Dashboard(name)
        news = other.news()
        next(news)
        headers = {"Cookie": other.cookie, "X-Headway": "1"}
        sleeper = client.options(label="sleeper", targets=[1]).submit(time.sleep, 600)

        def shown(engine: str) -> dict:
            return json.loads(other.ask(f"/api/engine/{engine}")[2])

        wait_until(lambda: shown("e1").get("task") == sleeper.id, "the task to be on its engine")
        assert shown("e1")["labels"][sleeper.id] == "sleeper"
        sleeper.cancel()
        assert other.ask("/api/engine/e0/drain", "POST")[0] == 403
        assert other.ask("/api/engine/e0/explode", "POST", headers)[0] == 404
        assert other.ask("/api/engine/nobody")[0] == 404
        assert other.ask("/api/engine/e77")[0] == 404
        assert other.ask("/api/engine/e77/drain", "POST", headers)[0] == 409
        assert other.ask("/api/engine/e0/drain", "POST", headers)[0] == 200
        wait_until(lambda: shown("e0")["state"] == "draining", "the engine to drain")
        assert other.ask("/api/engine/e0/restart", "POST", headers)[0] == 200
        wait_until(lambda: shown("e0").get("gone_s"), "the old engine to go")
        wait_until(lambda: shown("e2").get("state") == "ready", "the new engine to come")
        assert other.ask("/api/engine/e2/stop", "POST", headers)[0] == 200
        wait_until(lambda: shown("e2").get("gone_s"), "the engine to stop")
        news.close()
        other.close()


def test_health_is_for_all_and_metrics_are_for_who_has_the_token(
    dashboard: Dashboard, client: headway.Client
):
    status, _, body = dashboard.ask("/healthz", headers={})
    assert (status, json.loads(body)) == (200, {"status": "ok", "engines": 2})
    assert dashboard.ask("/metrics", headers={})[0] == 403
    assert dashboard.ask("/metrics", headers={"Authorization": "Bearer guess"})[0] == 403
    bearer = {"Authorization": f"Bearer {dashboard.token}"}
    for headers in (bearer, None):
        status, _, body = dashboard.ask("/metrics", headers=headers)
        assert status == 200
        assert b"\nheadway_up 1.0\n" in body
    assert dashboard.ask("/api/graph", headers=bearer)[0] == 403  # it opens nothing else


def test_a_check_says_by_its_exit_code_whether_the_cluster_answers(client: headway.Client):
    name = f"dashboard-{os.getpid()}"
    assert verb("status", name, "--check") == "the controller answers; 2 engines"
    assert json.loads(verb("status", name, "--check", "--json")) == {"status": "ok", "engines": 2}
    few = verb("status", name, "--check", "--engines", "3", "--timeout", "1", code=1)
    assert few == "the controller answers; 2 engines, fewer than 3"
    verb("status", "no-such-cluster", "--check", "--timeout", "0.1", code=3)
