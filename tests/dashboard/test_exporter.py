"""Promise: metrics and health of a real cluster, for machines, as long as it is there and after."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import headway
from tests.dashboard.conftest import DEADLINE_S, wait_until
from tests.processes import end_served

TOKEN = "a-token-of-a-test"
Answer = tuple[int, dict[str, str], bytes]


def ask(host: str, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection(host, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()
    finally:
        connection.close()


def value_of(body: bytes, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


class Exporter:
    """`headway metrics` in a process of its own."""

    def __init__(self, cluster: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "headway", "metrics", cluster, *arguments]
        self.process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("metrics: http://127.0.0.1:"), self.process.communicate()
        self.host = line.split("/")[2]

    def close(self) -> str:
        """End it as a service manager would; what it said on stderr."""
        return end_served(self.process, DEADLINE_S)


@pytest.fixture
def exporters() -> Iterator[list[Exporter]]:
    """Those that are in it are ended."""
    made: list[Exporter] = []
    yield made
    for each in made:
        if each.process.poll() is None:
            each.close()


def test_tasks_are_counted_and_health_ends_with_the_cluster_while_the_server_goes_on(
    exporters: list[Exporter],
):
    name = f"metrics-{os.getpid()}"
    with headway.Client(engines=1, name=name) as client:
        client.wait_for_engines(1)
        exporters.append(exporter := Exporter(name))
        status, headers, body = ask(exporter.host, "/metrics")
        assert (status, value_of(body, "headway_up")) == (200, 1)
        assert headers["content-type"].startswith("text/plain; version=")
        client.gather(client.map(abs, range(5)))

        def finished() -> bytes | None:
            body = ask(exporter.host, "/metrics")[2]
            count = value_of(body, "headway_tasks_finished_total", outcome="succeeded")
            return body if count == 5 else None

        body = wait_until(finished, "five tasks to be counted")
        assert value_of(body, "headway_task_run_seconds_count") == 5
        assert value_of(body, "headway_engines", state="idle") == 1
        status, headers, body = ask(exporter.host, "/healthz", Host="10.0.0.7:9464")
        assert (status, json.loads(body)) == (200, {"status": "ok", "engines": 1})
        assert headers["content-type"] == "application/json"
        assert ask(exporter.host, "/metrics", Host="elsewhere.example")[0] == 403
        assert ask(exporter.host, "/nowhere")[0] == 404

    wait_until(lambda: ask(exporter.host, "/healthz")[0] == 503, "the health to end")
    status, _, body = ask(exporter.host, "/healthz")
    assert json.loads(body) == {"status": "unreachable"}
    wait_until(lambda: value_of(ask(exporter.host, "/metrics")[2], "headway_up") == 0, "up to be 0")
    said = exporter.close()
    assert "the controller can't be asked" in said
    assert "Traceback" not in said


def test_with_a_token_metrics_are_for_who_shows_it_and_health_for_all_without_any_cluster(
    exporters: list[Exporter], tmp_path: Path
):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    exporters.append(exporter := Exporter("no-such", "--token-file", str(tmp_path / "token")))

    for shown in ("", "Bearer", "Bearer wrong", TOKEN, f"Basic {TOKEN}"):
        status, headers, _ = ask(exporter.host, "/metrics", Authorization=shown)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
    status, _, body = ask(exporter.host, "/metrics", Authorization=f"Bearer {TOKEN}")
    assert (status, value_of(body, "headway_up")) == (200, 0)
    assert ask(exporter.host, "/healthz")[0] == 503
    assert ask(exporter.host, "/healthz", "POST")[0] == 405


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "9464"], "expected HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "expected HOST:PORT"),
        (["--listen", "::1:80"], "expected HOST:PORT"),
        (["--listen", "0.0.0.0:0"], "others could read the metrics"),
        (["--token-file", os.devnull], "at least 8 ASCII characters"),
    ],
)
def test_what_can_not_be_served_is_said(arguments: list[str], said: str):
    from typer.testing import CliRunner

    from headway.cli import main

    done = CliRunner().invoke(main.app, ["metrics", "lab", *arguments])
    assert done.exit_code == 2
    assert said in done.output
