"""A real cluster, and `headway dashboard` beside it in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

import headway
from tests.processes import end_served

DEADLINE_S = 30.0


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`, which has a deadline, not a duration."""
    end_at = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > end_at:
            pytest.fail(f"waited {DEADLINE_S:g} s for {what}")
        time.sleep(0.02)
    return value


class Dashboard:
    """`headway dashboard`, and one who has its cookie."""

    def __init__(self, cluster: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "headway", "dashboard", "--cluster", cluster, *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "http://127.0.0.1:" in line, line or self.process.communicate(timeout=DEADLINE_S)
        self.address = line.split()[-1]
        self.host = urlsplit(self.address).netloc
        self.token = urlsplit(self.address).query.partition("=")[2]
        self.cookie = f"headway_{self.host.partition(':')[2]}={self.token}"

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer. The cookie is shown unless headers are given."""
        connection = http.client.HTTPConnection(self.host, timeout=DEADLINE_S)
        try:
            headers = {"Cookie": self.cookie} if headers is None else headers
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def news(self) -> Iterator[dict[str, Any]]:
        """What the stream says, event by event."""
        connection = http.client.HTTPConnection(self.host, timeout=DEADLINE_S)
        try:
            connection.request("GET", "/api/stream", headers={"Cookie": self.cookie})
            answer = connection.getresponse()
            assert answer.status == 200
            while line := answer.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        finally:
            connection.close()

    def close(self) -> None:
        """End it as a service manager would."""
        err = end_served(self.process, DEADLINE_S)
        assert "Traceback" not in err, err


@pytest.fixture(scope="module")
def client() -> Iterator[headway.Client]:
    """A cluster of two engines, for a module."""
    name = f"dashboard-{os.getpid()}"
    with headway.Client(engines=2, name=name) as client:
        client.wait_for_engines(2)
        yield client


@pytest.fixture(scope="module")
def dashboard(client: headway.Client) -> Iterator[Dashboard]:
    """The dashboard of that cluster."""
    dashboard = Dashboard(f"dashboard-{os.getpid()}")
    yield dashboard
    dashboard.close()
