"""How a connection begins and ends: refused, lost, closed, forked, forgotten. Nothing hangs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scripted_controller import DEADLINE_S, FakeController, wait_until

from headway import Client, errors
from headway.client import spawn
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo, make_keys, write_connection_file


def io_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "headway-client"]


@pytest.fixture(autouse=True)
def _no_thread_remains():
    yield
    gc.collect()
    wait_until(lambda: not io_threads(), "the end of every io thread")


# --- connecting ---------------------------------------------------------------------------------


def test_a_controller_of_another_version_is_a_protocol_error(start_controller):
    controller = start_controller(version=99)
    with pytest.raises(errors.ProtocolError, match="speaks version 99, and this client version"):
        Client(controller.path)


def test_a_controller_that_refuses_says_why(start_controller):
    controller = start_controller(refuse="version 1 is too old")
    with pytest.raises(errors.ProtocolError, match="refused this client: version 1 is too old"):
        Client(controller.path)


def test_a_controller_that_does_not_answer_is_given_up(start_controller):
    controller = start_controller(mute=True)
    with pytest.raises(errors.ConnectionLost, match=r"no controller answered at ipc://.* 0\.2 s"):
        Client(controller.path, timeout_s=0.2)


def test_an_address_where_nobody_is_is_given_up(tmp_path):
    keys = make_keys()
    path = tmp_path / "connection.json"
    info = ConnectionInfo(
        "c", "tcp://127.0.0.1:9", keys.server_public, keys.client_public, keys.client_secret
    )
    write_connection_file(path, info)
    with pytest.raises(errors.ConnectionLost, match=r"no controller answered at tcp://127\.0\.0\."):
        Client(path, timeout_s=0.2)


def test_a_cluster_that_is_gone_and_a_file_that_is_missing_are_said_at_once(tmp_path):
    path = tmp_path / "connection.json"
    write_connection_file(path, ConnectionInfo("c", f"ipc://{tmp_path}/nobody.sock"))
    with pytest.raises(errors.ConnectionLost, match="the cluster c is gone"):
        Client(path)
    with pytest.raises(errors.ConnectionFileError):
        Client(tmp_path / "missing.json")


def test_the_environment_names_a_cluster(controller, monkeypatch):
    monkeypatch.setenv("HEADWAY_CONNECTION", str(controller.path))
    with Client() as client:
        assert client.cluster == "fake"
        assert client.connection_file == controller.path


# --- ending -------------------------------------------------------------------------------------


def test_leaving_cancels_what_is_not_done_says_goodbye_and_can_be_done_again(controller):
    # Given a client with one task done and one not
    with Client(controller.path) as client:
        done = client.submit(pow, 2, 3)
        assert done.result(10) == 8
        controller.hold = True
        open_ = client.submit(pow, 2, 3)
        told: list[Any] = []
        open_.add_done_callback(told.append)
    # Then the one that was not done is cancelled, and its callbacks have run
    with pytest.raises(errors.TaskCancelled, match=r"task 1-2 was not finished: the client was cl"):
        open_.result(0)
    assert told == [open_]
    assert open_.cancelled()
    assert not open_.cancel() or open_.cancelled()
    assert done.result() == 8
    wait_until(lambda: controller.of_type(m.Bye))
    # And it is over
    client.close()
    for use in (lambda: client.submit(pow, 1, 1), client.engines, lambda: client.explain(done)):
        with pytest.raises(errors.ConnectionLost, match="this client was closed"):
            use()
    assert done.explain() == "task 1-1 succeeded on e0"
    assert "over" in repr(client)


def test_closing_from_a_callback_and_from_several_threads_ends(controller):
    client = Client(controller.path)
    controller.hold = True
    client.submit(pow, 2, 3).add_done_callback(lambda _: client.close())
    controller.release_held()
    threads = [threading.Thread(target=client.close) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_a_client_that_is_dropped_closes_itself_once_its_tasks_are_done(controller):
    controller.hold = True
    future = Client(controller.path).submit(pow, 2, 3)
    wait_until(controller.tasks)
    gc.collect()
    assert io_threads()
    controller.release_held()
    assert future.result(10) == 8
    del future
    gc.collect()
    wait_until(lambda: controller.of_type(m.Bye))


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        (m.Bye("told to"), errors.ConnectionLost, "the cluster fake was stopped: told to"),
        (m.Refused("unheard"), errors.ConnectionLost, "ended the connection: unheard"),
        (m.Notice("no engine", fatal=True), errors.StartError, "no engine"),
        (m.Welcome(m.VERSION, "x", 1, 5, 1.0, 1.0), errors.ProtocolError, "a second welcome"),
        (m.StopTasks([]), errors.ProtocolError, "malformed"),
    ],
)
def test_what_ends_the_connection_ends_open_futures_and_what_comes_later(
    client, controller, message, error, words
):
    controller.hold = True
    future = client.submit(pow, 2, 3)
    controller.say(message)
    with pytest.raises(error, match=words):
        future.result(10)
    assert future.state == "lost"
    with pytest.raises(error, match=words):
        client.submit(pow, 2, 3)


def test_a_controller_that_falls_silent_is_lost(start_controller, connect):
    controller = start_controller(hold=True, heartbeat_timeout_s=0.3)
    client = connect(controller)
    future = client.submit(pow, 2, 3)
    controller.pinging = False
    with pytest.raises(errors.ConnectionLost, match="has said nothing for 0"):
        future.result(10)


def test_a_silent_client_pings(client, controller):
    wait_until(lambda: len(controller.of_type(m.Ping)) >= 2)


# --- the embedded controller --------------------------------------------------------------------


def pretend(monkeypatch, tmp_path: Path, script: str) -> None:
    """Let `script` (of a shell) stand in for the controller's process."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    monkeypatch.setattr(spawn.sys, "executable", str(path))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo \'{"error": "no room"}\'', "no room"),
        ("echo 'Traceback: boom' >&2; exit 3", "(?s)ended with exit status 3.*Traceback: boom"),
        ("kill -9 $$", "ended with SIGKILL"),
        ("echo hello", "announced itself with b'hello"),
        ("echo '[]'", "announced itself with b'"),
        ("echo thinking >&2; exec sleep 60", "(?s)not ready within 0.3 s.*thinking"),
    ],
)
def test_an_embedded_controller_that_does_not_start_says_why(monkeypatch, tmp_path, script, words):
    pretend(monkeypatch, tmp_path, script)
    with pytest.raises(errors.StartError, match=words):
        Client(engines=1, timeout_s=0.3 if "sleep" in script else 20)


def test_an_embedded_controller_that_ends_is_reported_with_its_last_words(
    monkeypatch, tmp_path, start_controller
):
    # Given a client whose controller's process is one that can be told to end
    controller: FakeController = start_controller(hold=True)
    ready = f'{{"connection": "{controller.path}"}}'
    end = tmp_path / "end"
    os.mkfifo(end)
    script = f"echo '{ready}'; read line < {end}; echo 'out of memory' >&2; exit 7"
    pretend(monkeypatch, tmp_path, script)
    with Client(engines=1) as client:
        future = client.submit(pow, 2, 3)
        # When it ends
        end.write_text("now\n")
        # Then its status and its last words are in the error
        words = r"(?s)the controller \(pid \d+\) ended with exit status 7.*out of memory"
        with pytest.raises(errors.ConnectionLost, match=words):
            future.result(10)


def test_closing_ends_the_embedded_controller_even_a_stubborn_one(
    monkeypatch, tmp_path, start_controller
):
    controller = start_controller()
    monkeypatch.setattr(spawn, "_STOP_GRACE_S", 0.1)
    monkeypatch.setattr(spawn, "_TERMINATE_GRACE_S", 0.1)
    monkeypatch.setattr(spawn.ControllerProcess.stop, "__defaults__", (0.1,))
    ready = f'{{"connection": "{controller.path}"}}'
    pretend(monkeypatch, tmp_path, f"trap '' TERM; echo '{ready}'; while :; do sleep 0.05; done")
    with Client(engines=1) as client:
        process = client._link.process.process
    assert process.poll() == -9
    wait_until(lambda: controller.of_type(m.Shutdown))


# --- forks, and the end of the program ----------------------------------------------------------


def run_python(source: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source, *args],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


FORK = """
import os, sys, headway
client = headway.Client(sys.argv[1])
assert client.submit(pow, 2, 3).result(10) == 8
pid = os.fork()
if pid == 0:
    try:
        client.submit(pow, 2, 3)
    except headway.errors.ConnectionLost as error:
        print("child:", error, flush=True)
    client.close()
    with headway.Client(sys.argv[1]) as own:
        print("child's own:", own.submit(pow, 2, 4).result(10), flush=True)
    sys.exit(0)  # with its exit hooks
print("status", os.waitpid(pid, 0)[1], flush=True)
print("parent:", client.submit(pow, 2, 3).result(10), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_cant_use_the_client_and_does_not_harm_it(controller):
    done = run_python(FORK, str(controller.path))
    assert done.stdout.splitlines()[0].startswith("child: this Client belongs to the parent")
    assert done.stdout.splitlines()[1:] == ["child's own: 16", "status 0", "parent: 8"]
    assert (done.returncode, done.stderr) == (0, "")


EXIT = """
import sys, headway
client = headway.Client(sys.argv[1])
futures = client.map(pow, range(100), [2] * 100)
client.gather(futures[:50])
{last}
"""


@pytest.mark.parametrize(
    ("last", "status", "words"),
    [("", 0, ""), ("sys.exit(3)", 3, ""), ("1 / 0", 1, "ZeroDivisionError")],
)
def test_a_program_that_forgets_to_close_ends_quietly(controller, last, status, words):
    done = run_python(EXIT.format(last=last), str(controller.path))
    assert done.returncode == status
    assert words in done.stderr
    assert "headway" not in done.stderr
    wait_until(lambda: controller.of_type(m.Bye))


INTERRUPT = """
import signal, sys, threading, os, time, headway
with headway.Client(sys.argv[1]) as client:
    future = client.submit(pow, 2, 3)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        future.result()
    except KeyboardInterrupt:
        print("interrupted", client.cancel([future]), flush=True)
    print(client.submit(pow, 2, 4).cancel(), flush=True)
print("closed", flush=True)
"""


def test_ctrl_c_leaves_the_client_usable(start_controller):
    controller = start_controller(hold=True)
    done = run_python(INTERRUPT, str(controller.path))
    assert done.stdout.splitlines() == ["interrupted [True]", "True", "closed"]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_callback_that_never_returns_does_not_hold_up_close_forever(
    controller, monkeypatch, caplog
):
    monkeypatch.setattr("headway.client.link._JOIN_S", 0.1)
    controller.hold = True
    client = Client(controller.path)
    entered, leave = threading.Event(), threading.Event()
    future = client.submit(pow, 2, 3)
    future.add_done_callback(lambda _: (entered.set(), leave.wait(DEADLINE_S)))
    controller.release_held()
    assert entered.wait(DEADLINE_S)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < DEADLINE_S
    assert "a callback of a future has kept close() waiting" in caplog.text
    leave.set()
