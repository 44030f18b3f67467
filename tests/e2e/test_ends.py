"""However a program ends, nothing that it started stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO

import pytest

import headway
from tests.e2e.conftest import wait_until
from tests.processes import marked

SCRIPT = """
import headway, sys, time

def slow(n):
    time.sleep(n)
    return n

def main():
    client = headway.Client(engines=2)
    client.wait_for_engines(2)
    {body}

if __name__ == "__main__":
    main()
"""


def run(body: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen:
    """A script that has a client and does `body`."""
    script = SCRIPT.format(body=textwrap.indent(textwrap.dedent(body), "    ").strip())
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=stdout, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.usefixtures("nothing_left")
def test_a_script_that_ends_without_close_leaves_nothing():
    process = run("client.submit(slow, 60); print(client.submit(abs, -3).result())")
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("3\n", 0), err
    assert "Traceback" not in err


@pytest.mark.usefixtures("nothing_left")
def test_a_script_that_raises_ends_with_its_own_error():
    process = run("client.submit(slow, 60); raise RuntimeError('mine')")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.strip().endswith("RuntimeError: mine")


@pytest.mark.usefixtures("nothing_left")
def test_ctrl_c_while_waiting_for_a_result_ends_at_once():
    process = run("future = client.submit(slow, 60); print('ready', flush=True); future.result()")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 1, 130)
    assert "KeyboardInterrupt" in err


def test_a_client_that_is_killed_takes_its_cluster_along(nothing_left: str):
    process = run("client.submit(slow, 60); print('ready', flush=True); time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(marked(nothing_left)) >= 5  # itself, controller, nanny, two engines
    process.kill()
    process.communicate()


@pytest.mark.parametrize("role", ["headway.controller", "headway.engine.nanny"])
def test_what_is_left_ends_when_a_part_in_the_middle_is_killed(nothing_left: str, role: str):
    process = run(
        """
        future = client.submit(slow, 60)
        print('ready', flush=True)
        try:
            future.result(timeout=50)
        except headway.errors.HeadwayError as error:
            print(type(error).__name__, client.connection_file.parent, flush=True)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (victim,) = [p for p in marked(nothing_left) if role in p.cmdline()]
    os.kill(victim.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    error, directory = out.split()
    assert error in ("ConnectionLost", "StartError", "EngineError"), (out, err)
    assert not os.path.exists(directory)
    wait_until(lambda: not marked(nothing_left), "everything to end")


@pytest.mark.usefixtures("nothing_left")
def test_tasks_print_to_the_terminal_of_the_client_prefixed_or_not_at_all():
    body = """
    def speak():
        print('hello'); print('trouble', file=sys.stderr)
        import os; os.write(1, b'raw\\n')
    client.submit(speak).result()
    quiet = headway.Client(engines=1, output=False)
    quiet.submit(print, 'unheard').result()
    quiet.close()
    client.close()
    """
    process = run(body)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "] hello\n" in out
    assert "] trouble\n" in err
    assert "] raw\n" in out
    assert "unheard" not in out + err


def test_a_task_that_prints_without_end_to_a_stopped_client_fills_no_memory(
    nothing_left: str, tmp_path: Path
):
    body = f"""
    import pathlib
    def shout():
        pathlib.Path({str(tmp_path / "begun")!r}).touch()
        while not pathlib.Path({str(tmp_path / "shout")!r}).exists():
            time.sleep(0.01)
        for _ in range(120):
            print('x' * 1_000_000)
    future = client.submit(shout)
    print(client.connection_file, file=sys.stderr, flush=True)
    future.result()
    client.close()
    """
    with (tmp_path / "shown").open("w") as shown:
        process = run(body, stdout=shown)
    assert process.stderr is not None
    path = process.stderr.readline().strip()
    wait_until((tmp_path / "begun").exists, "the task to begin")
    # Given a client that is stopped, as by Ctrl-Z
    process.send_signal(signal.SIGSTOP)
    try:
        # When a task prints 120 MB
        (tmp_path / "shout").touch()
        with headway.Client(path, output=False) as witness:
            wait_until(lambda: witness.statistics()["tasks"]["succeeded"] == 1, "it to end")
        # Then the controller, which has heard all of it, has kept only some
        (controller,) = [p for p in marked(nothing_left) if "headway.controller" in p.cmdline()]
        assert controller.memory_info().rss < 110_000_000
    finally:
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=60)
    # And the client, once it goes on, says how much is missing
    assert process.returncode == 0, err
    assert "characters that tasks printed were dropped" in err
    assert (tmp_path / "shown").stat().st_size < 60_000_000


@pytest.mark.usefixtures("nothing_left")
def test_a_fork_of_the_client_neither_uses_nor_ends_its_cluster():
    body = """
    import os
    pid = os.fork()
    if not pid:
        try:
            client.submit(abs, 1)
        except headway.errors.HeadwayError:
            os._exit(7)
        os._exit(8)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    print(client.submit(abs, -5).result())
    """
    process = run(body)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("5\n", 0), err


@pytest.mark.usefixtures("nothing_left")
def test_very_many_submits_in_a_loop_neither_hang_nor_grow_the_clients_buffers():
    body = """
    total = 0
    for n in range(100_000):
        client.submit(abs, n)          # nobody keeps the future
    last = client.submit(abs, -1)
    assert last.result(timeout=50) == 1
    for _ in range(500):
        tasks = client.statistics()['tasks']
        if sum(tasks.values()) <= 1:
            break
        time.sleep(0.05)
    print(sum(tasks.values()))
    """
    process = run(body)
    out, err = process.communicate(timeout=100)
    assert (out, process.returncode) == ("1\n", 0), err


@pytest.mark.usefixtures("nothing_left")
def test_submits_without_end_in_a_loop_keep_the_clients_buffers_within_the_window():
    body = """
    session, wire = client._link.session, headway.config.WireConfig()
    most = [0] * 5
    for n in range(400_000):           # many times what may be on its way
        client.submit(int)
        if not n % 200:
            now = (len(session._asked), session.window_tasks, session.window_bytes,
                   len(session._unacknowledged), len(session.released))
            most = list(map(max, most, now))
    assert client.options(priority=1).submit(abs, -1).result(timeout=50) == 1
    asked, tasks, size, batches, released = most
    assert 0 < tasks <= wire.window_tasks, most
    assert asked <= wire.window_tasks, most
    assert size <= wire.window_bytes, most
    assert batches < 1_000, most      # each has a task at least; mostly some hundred
    assert released < 250_000, most   # what has ended between two turns of the io thread
    print('bounded')
    """
    process = run(body)
    out, err = process.communicate(timeout=100)
    assert (out, process.returncode) == ("bounded\n", 0), err
