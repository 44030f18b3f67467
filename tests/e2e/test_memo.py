"""Promise: large results are kept whole; and a program that was cut off goes on where it was."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import headway
from tests.e2e.conftest import wait_until

SCRIPT = """
import pathlib, sys, time
import headway

def step(x, folder):
    (pathlib.Path(folder) / f"{x}.ran").open("a").write("x")
    while x >= 3 and not (pathlib.Path(folder) / "go").exists():
        time.sleep(0.01)
    return bytes([x]) * 1_000_000

def total(parts):
    return sum(map(len, parts))

if __name__ == "__main__":
    folder = sys.argv[1]
    with headway.Client(sys.argv[2], memo_dir=folder + "/memo", run="night") as client:
        parts = client.map(step, range(6), [folder] * 6)
        for x, part in enumerate(parts):
            heard = pathlib.Path(folder) / f"{x}.heard"
            part.add_done_callback(lambda _, heard=heard: heard.touch())
        print(client.submit(total, parts).result())
"""


def test_after_ctrl_c_resume_runs_what_had_not_ended(
    client: headway.Client, tmp_path: Path, nothing_left: str
):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path), str(client.connection_file)]
    program = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wanted = [tmp_path / f"{x}.heard" for x in range(3)]
        stuck = [tmp_path / f"{x}.ran" for x in range(3, 6)]
        wait_until(lambda: all(path.exists() for path in wanted), "the first three to have ended")
        wait_until(lambda: sum(path.exists() for path in stuck) == 2, "both engines to be stuck")
    finally:
        program.send_signal(signal.SIGINT)
        code = program.wait(60)
    assert code not in (0, None)

    (tmp_path / "go").touch()
    with headway.Client(client.connection_file, memo_dir=tmp_path / "memo") as second:
        futures = second.resume("night")
        assert [future.is_hit for future in futures] == [True] * 3 + [False] * 4
        assert futures[-1].result(60) == 6_000_000
    times = [len((tmp_path / f"{x}.ran").read_text()) for x in range(6)]
    assert times[:3] == [1, 1, 1]
    assert sum(times[3:]) == 5


def make(size: int):
    import numpy

    return numpy.arange(size, dtype="f8")


def test_a_large_result_is_kept_whole_also_if_nobody_holds_it(
    client: headway.Client, tmp_path: Path, nothing_left: str
):
    numpy = pytest.importorskip("numpy")
    size = 300_000
    with headway.Client(client.connection_file, memo_dir=tmp_path) as first:
        kept = first.options(memo=True)
        ended = threading.Event()
        kept.submit(make, size).add_done_callback(lambda _: ended.set())  # held by nobody else
        future = kept.submit(make, 2 * size)
        assert ended.wait(30)
        assert future.result(30).nbytes == 16 * size
        del future
        gc.collect()
    with headway.Client(client.connection_file, memo_dir=tmp_path) as second:
        kept = second.options(memo=True)
        for count in (1, 2):
            hit = kept.submit(make, count * size)
            assert hit.is_hit
            assert numpy.array_equal(hit.result(), make(count * size))
            assert not hit.result().flags.writeable
            assert second.submit(float.__add__, 1.0, 1.0).result(30) == 2.0
            assert second.submit(numpy.sum, hit).result(30) == make(count * size).sum()
