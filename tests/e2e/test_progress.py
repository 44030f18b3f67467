"""Promise: `map(..., progress=True)` and `headway.progress` show how far tasks are, wherever the
program runs, in its way of none; and notebooks show clients, futures and groups."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import headway
from tests.e2e.conftest import DEADLINE_S, wait_until


def odd(n: int) -> int:
    if n % 2:
        raise ValueError("odd")
    return n


def test_lines_are_told_where_there_is_no_terminal(client: headway.Client, capsys):
    good = client.options(label="good").map(abs, range(10), progress=True)
    assert isinstance(good, headway.Group)
    wait_until(lambda: "10 of 10 ended" in capsys.readouterr().err, "the last line")
    bad = client.options(label="bad").map(odd, range(4), progress=False)

    assert headway.progress([good, bad, bad[0]]) == [good, bad, bad[0]]
    out, err = capsys.readouterr()
    assert out == ""
    assert "14 of 14 ended (2 failed)" in err
    assert "  bad: 2 failed, 2 succeeded\n" in err
    assert client.gather(headway.progress(future for future in good)) == list(range(10))
    capsys.readouterr()
    assert headway.progress(good[0], wait=False) is good[0]
    wait_until(lambda: "1 of 1 ended" in capsys.readouterr().err, "what is shown meanwhile")


def test_a_map_that_fails_on_the_way_ends_its_showing(client: headway.Client, capsys):
    with pytest.raises(headway.errors.SerializationError):
        client.map(abs, [1, threading.Lock()], progress=True)
    assert "of 2 ended" in capsys.readouterr().err
    assert client.gather(client.map(abs, [], progress=True)) == []


@pytest.mark.parametrize("futures", [5, "1-1", [5], None])
def test_what_is_no_future_is_refused(futures: object):
    with pytest.raises(TypeError, match="progress takes futures, not"):
        headway.progress(futures)


def test_wishes_are_checked(client: headway.Client):
    with pytest.raises(TypeError, match="wait=1 is not True or False"):
        headway.progress([], wait=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="progress='yes' is not True or False"):
        client.map(abs, [1], progress="yes")  # type: ignore[arg-type]
    raised: list[BaseException] = []

    def in_a_callback(future: headway.Future[int]) -> None:
        try:
            headway.progress([client.submit(abs, 1)])
        except RuntimeError as error:
            raised.append(error)

    client.submit(time.sleep, 0.05).add_done_callback(in_a_callback)
    wait_until(lambda: raised, "the callback")
    assert "callback" in str(raised[0])


def test_ctrl_c_ends_the_waiting_and_not_the_tasks(client: headway.Client, capsys):
    task = client.submit(time.sleep, 600)
    wait_until(lambda: task.state in ("assigned", "running"), "it to begin")
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        headway.progress([task])
    timer.join()
    assert "0 of 1 ended" in capsys.readouterr().err
    assert not task.done()
    assert task.cancel()


SCRIPT = """
import headway

def say(n):
    print("said", n)
    return n

with headway.Client(engines=1) as client:
    futures = client.options(label="clean").map(say, range(3), progress=True)
    print(client.gather(headway.progress(futures)))
"""


@pytest.mark.usefixtures("nothing_left")
def test_a_terminal_shows_bars_and_what_is_piped_stays_clean():
    master, slave = os.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=slave, text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    try:
        while piece := os.read(master, 65536):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(master)
    out, _ = done.communicate(timeout=DEADLINE_S)
    assert done.returncode == 0, shown
    lines = out.splitlines()
    assert sorted(line.partition("] ")[2] for line in lines[:-1]) == ["said 0", "said 1", "said 2"]
    assert lines[-1] == "[0, 1, 2]"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"clean +━+ +3/3 ", plain), plain
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")


CELL = """
import headway
with headway.Client(engines=1, output=False) as client:
    futures = client.options(label="<b>").map(abs, range(5), progress=True)
    headway.progress(futures)
"""


@pytest.mark.usefixtures("nothing_left")
def test_a_notebook_shows_one_output_that_changes(tmp_path: Path, monkeypatch):
    manager = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    kernel, channel = manager.start_new_kernel(kernel_name="python3")
    try:
        seen: list[dict] = []
        reply = channel.execute_interactive(CELL, output_hook=seen.append, timeout=DEADLINE_S)
        assert reply["content"]["status"] == "ok", reply
        first = [m["content"] for m in seen if m["msg_type"] == "display_data"]
        later = [m["content"] for m in seen if m["msg_type"] == "update_display_data"]
        assert len(first) == 2  # of map, and of progress
        # Each update is one of an output that is there; the last of progress has everything.
        ids = [content["transient"]["display_id"] for content in first]
        last = [c for c in later if c["transient"]["display_id"] == ids[1]][-1]["data"]
        assert "5 of 5" in last["text/html"]
        assert "&lt;b&gt;" in last["text/html"]
        assert last["text/plain"].startswith("5 of 5 ended")
        assert not [m for m in seen if m["msg_type"] == "stream"]
    finally:
        channel.stop_channels()
        kernel.shutdown_kernel(now=True)


def test_notebooks_see_clients_futures_and_groups(client: headway.Client):
    page = client._repr_html_()
    assert client.cluster in page
    assert "<td" in page
    assert re.search(r">engines</th><td[^>]*>2<", page)

    bad = client.options(label="<script>").submit(odd, 1)
    wait_until(bad.done, "it to fail")
    page = bad._repr_html_()
    assert "raised ValueError: odd" in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    starved = client.options(resources={"gpu": 1}).submit(abs, 1)
    wait_until(lambda: starved.state == "ready", "it to be known")
    assert "lacks gpu=1" in starved._repr_html_()
    group = client.group([bad, starved, client.submit(abs, 1)])
    group[2].result()
    page = group._repr_html_()
    assert "2 of 3" in page
    assert "1 failed" in page
    starved.cancel()


def test_pictures_of_what_is_over_say_so():
    with headway.Client(engines=1) as client:
        future = client.submit(abs, -1)
        assert future.result() == 1
    assert "this client was closed" in client._repr_html_()
    assert f"task {future.id} succeeded on e0" in future._repr_html_()
