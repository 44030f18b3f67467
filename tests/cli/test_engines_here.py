"""Promise: engines that are started on any host by a connection file run tasks; told to end, they
end what they run, give back the rest, and nothing is charged for it.
"""

from __future__ import annotations

import dataclasses
import os
import signal

import pytest
import zmq

import headway
from headway.logbook import is_line
from headway.wire.endpoint import read_connection_file, write_connection_file
from tests.launchers.kit import DEADLINE_S, engines, nap_until, served, start_here, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with served(tmp_path_factory.mktemp("cluster"), "--hwm", "4") as file:
        yield file


@pytest.fixture
def client(cluster):
    with headway.Client(cluster, output=False) as client:
        yield client


def end(process, number=signal.SIGTERM) -> str:
    """Send it a signal; what it said until its end."""
    process.send_signal(number)
    return finish(process)


def finish(process) -> str:
    try:
        return process.communicate(timeout=DEADLINE_S)[0].decode()
    finally:
        process.kill()
        process.wait()


def test_sigterm_lets_what_runs_end_and_gives_back_the_rest(cluster, client, tmp_path):
    # Given one engine with a task that runs, and others behind it
    first = start_here(cluster, "-n", "1", "--resource", "gpu=1")
    wait_until(lambda: engines(client) == 1, "an engine")
    mark = tmp_path / "runs"
    running = client.options(at_most_once=True).submit(nap_until, str(mark), 1.0)
    behind = [client.submit(os.getpid) for _ in range(3)]
    wait_until(mark.exists, "the task to run")
    # When it is told to end, and another host's engines come; its engines hear the signal too, as
    # batch systems send it to all
    os.kill(client.engines()[0].pid, signal.SIGTERM)
    first.send_signal(signal.SIGTERM)
    second = start_here(cluster, "-n", "1")
    said = finish(first)
    # Then what ran has ended there, once, and the rest elsewhere
    assert first.returncode == 0, said
    assert "the engines have ended" in said
    logged = [line.split()[2] for line in said.splitlines() if is_line(line)]
    assert logged == ["nanny_started", "nanny_drains", "engine_ended", "nanny_stopped"], said
    pids = set(client.gather(behind))
    assert running.result(DEADLINE_S) not in pids
    assert len(pids) == 1
    assert end(second, signal.SIGINT).count("engine") >= 2
    wait_until(lambda: engines(client) == 0, "the engines to leave")


def test_what_runs_for_longer_than_the_drain_is_stopped_and_repeated_uncharged(
    cluster, client, tmp_path
):
    first = start_here(cluster, "-n", "1", "--drain", "0.2")
    wait_until(lambda: engines(client) == 1, "an engine")
    mark = tmp_path / "runs"
    task = client.options(crash_limit=1).submit(nap_until, str(mark), 60.0)
    wait_until(mark.exists, "the task to run")

    end(first)
    wait_until(lambda: "is ready" in task.explain(), "the task to wait again")
    task.cancel()


def test_at_the_end_of_their_lifetime_they_leave_and_long_tasks_wait(cluster, client):
    first = start_here(cluster, "-n", "1", "--lifetime", "3s", "--drain", "0.5")
    wait_until(lambda: engines(client) == 1, "an engine")

    long = client.options(run_timeout=60).submit(abs, -1)
    short = client.options(run_timeout=0.5).submit(abs, -2)

    assert short.result(DEADLINE_S) == 2
    assert "too soon for a run of up to" in long.explain()
    said = finish(first)
    assert "for 3s" in said
    assert first.returncode == 0
    assert engines(client) == 0
    long.cancel()


def test_other_ranks_of_a_host_have_nothing_to_do(cluster):
    rank = {**os.environ, "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    said = finish(start_here(cluster, env=rank))

    assert "another process on this host starts the engines" in said


def test_a_wrong_key_and_an_unknown_server_get_nothing(cluster, client, tmp_path):
    info = read_connection_file(cluster)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    stranger, impostor = tmp_path / "stranger.json", tmp_path / "impostor.json"
    changed = dataclasses.replace(info, client_public=public, client_secret=secret)
    write_connection_file(stranger, changed)
    write_connection_file(impostor, dataclasses.replace(info, server_key=public))

    # Both at once: each is tried for some time.
    processes = [start_here(path, "-n", "1") for path in (stranger, impostor)]
    for process in processes:
        said = finish(process)
        assert process.returncode == 3, said
        assert "ConnectionLost" in said
    assert engines(client) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--lifetime", "soon"], "--lifetime='soon' is no duration"),
        (["--resource", "gpu"], "expected NAME=AMOUNT"),
        (["drain"], "drain goes without --connect"),
    ],
)
def test_a_wrong_option_is_said(cluster, arguments, text):
    process = start_here(cluster, *arguments)
    said = finish(process)

    assert process.returncode == 2
    assert text in said
