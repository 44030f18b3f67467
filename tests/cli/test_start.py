"""`headway start` serves until it is told to stop, and says what is wrong with what it was told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import headway
from headway.cli.start import StartOptions, parse_hwm, parse_resources, settings_of


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "headway", "start", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_started_cluster_serves_clients_until_it_is_told_to_stop(tmp_path: Path, stop: int):
    path = tmp_path / "connection.json"
    more = ["--resource", "gpu=1", "--log-format", "json"]
    process = start("-n", "1", "--connection", str(path), *more)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == f"connection file: {path}"
    with headway.Client(path) as client:
        assert client.options(resources={"gpu": 1}).submit(abs, -4).result(timeout=30) == 4
        (engine,) = client.engines()
    process.send_signal(stop)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "stopped" in out
    logged = [json.loads(line) for line in err.splitlines()]
    events = [line["event"] for line in logged]
    assert (events[0], events[-1]) == ("controller_started", "controller_stopped")
    assert {"client_joined", "client_left", "nanny_joined", "engine_joined"} <= {*events}
    [joined] = [line for line in logged if line["event"] == "engine_joined"]
    assert joined["pid"] == engine.pid
    assert not path.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(engine.pid, 0)


def test_what_it_says_to_connect_with_connects_also_with_a_name_and_a_file(tmp_path: Path):
    path = tmp_path / "connection.json"
    process = start("-n", "1", "--name", f"named-{os.getpid()}", "--connection", str(path))
    assert process.stdout is not None
    process.stdout.readline()
    line = process.stdout.readline()
    where = line.partition('headway.Client("')[2].partition('")')[0]
    try:
        with headway.Client(where) as client:
            assert client.submit(abs, -5).result(timeout=30) == 5
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hwm", "some"], "--hwm some"),
        (["--resource", "gpu"], "NAME=AMOUNT"),
        (["--scheme", "leastlaod"], "did you mean 'leastload'"),
        (["--listen", "udp://127.0.0.1"], "udp://127.0.0.1"),
        (["--name", "../up"], "up"),
    ],
)
def test_what_cannot_be_started_is_said_in_a_line(arguments: list[str], said: str):
    process = start("-n", "1", *arguments)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said in err
    assert "Traceback" not in err


def test_a_cluster_that_ends_leaves_alone_what_a_later_one_wrote_to_its_path(tmp_path: Path):
    path = tmp_path / "connection.json"
    clusters = []
    try:
        for _ in range(2):
            clusters.append(start("-n", "1", "--connection", str(path)))
            assert clusters[-1].stdout is not None
            clusters[-1].stdout.readline()
        clusters[0].send_signal(signal.SIGTERM)
        clusters[0].communicate(timeout=30)
        with headway.Client(path) as client:
            assert client.submit(abs, -6).result(timeout=30) == 6
    finally:
        for process in clusters:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert not path.exists()


def test_without_a_number_there_is_an_engine_for_each_core_that_may_be_used(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert settings_of(StartOptions()).engines == 3
    assert settings_of(StartOptions(engines=1)).engines == 1


def test_how_much_is_kept_for_traces_is_an_option():
    assert settings_of(StartOptions()).traced_max == 100_000
    assert settings_of(StartOptions(traced_max=0)).traced_max == 0


def test_hwm_and_resources_are_read_from_text():
    assert [parse_hwm(text) for text in ("auto", "0", "16")] == ["auto", 0, 16]
    assert parse_resources(["gpu=2", "mem=8e15"]) == {"gpu": 2.0, "mem": 8e15}
    for wrong in ("=1", "gpu=", "gpu=x", "gpu=-1", "gpu=nan", "gpu=inf", "mem=2e16"):
        with pytest.raises(ValueError, match="NAME=AMOUNT"):
            parse_resources([wrong])
