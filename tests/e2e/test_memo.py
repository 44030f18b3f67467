"""Promise: large results are kept whole; and a program that was cut off goes on where it was."""

from __future__ import annotations

import gc
import json
import os
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
    with headway.Client(engines=2, memo_dir=folder + "/memo", run="night") as client:
        parts = client.map(step, range(6), [folder] * 6)
        for x, part in enumerate(parts):
            heard = pathlib.Path(folder) / f"{x}.heard"
            part.add_done_callback(lambda _, heard=heard: heard.touch())
        print(client.submit(total, parts).result())
"""

RESUMER = """
import json, sys
import headway

if __name__ == "__main__":
    with headway.Client(engines=2, memo_dir=sys.argv[1] + "/memo") as client:
        futures = client.resume("night")
        print(json.dumps([[f.is_hit for f in futures], futures[-1].result(60)]))
"""


@pytest.mark.usefixtures("nothing_left")
def test_after_ctrl_c_resume_runs_what_had_not_ended(tmp_path: Path):
    script, resumer = tmp_path / "script.py", tmp_path / "resumer.py"
    script.write_text(SCRIPT)
    resumer.write_text(RESUMER)
    program = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wanted = [tmp_path / name for name in ("0.heard", "1.heard", "2.heard", "3.ran", "4.ran")]
    wait_until(lambda: all(path.exists() for path in wanted), "the first three to have ended")
    os.kill(program.pid, signal.SIGINT)
    assert program.wait(60) not in (0, None)

    (tmp_path / "go").touch()
    done = subprocess.run(
        [sys.executable, str(resumer), str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[True] * 3 + [False] * 4, 6_000_000]
    times = [len((tmp_path / f"{x}.ran").read_text()) for x in range(6)]
    assert times[:3] == [1, 1, 1] and times[5] == 1


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
