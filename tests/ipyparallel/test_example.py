"""Promise: examples/ipyparallel_cluster.py does what it says, in a cluster that a user started."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

import ipyparallel as ipp
from tests.house import source

DEADLINE_S = 90.0
EXAMPLE = source.ROOT / "examples" / "ipyparallel_cluster.py"
#: What it prints, line by line.
EXPECTED = [
    r"connected to 4 engines",
    r"after: the second task began \d+\.\d ms after the first had ended",
    r"follow: 3 tasks ran on engine (\d), where the task that they follow had run: \1",
    r"retries: a task failed on engine (\d), and ran again on engine (?!\1)\d: done",
    r"killed engine \d, process \d+, under a task with no retry",
    r"killed engine \d, process \d+, under a task with one retry",
    r"  no retry: EngineError: .* died .*",
    r"  the task after that one: ImpossibleDependency: .+ ended with EngineError: .+",
    r"  one retry: it ran again on engine \d: done",
    r"2 engines are left, and made 100 squares",
]
pytestmark = [
    pytest.mark.timeout(300),
    # ipyparallel's own: sockets and loops that it leaves to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def wait_for_file(path, process):
    """`path` is there, written by a process that lives."""
    deadline_at = time.monotonic() + DEADLINE_S
    while not path.exists() or not path.read_text().endswith("}"):
        assert process.poll() is None, "ipcluster ended"
        assert time.monotonic() < deadline_at, f"{path.name} did not come"
        time.sleep(0.05)


@pytest.fixture
def profile(home):
    """The profile of `ipcluster start -n 4 --controller=headway`, with its engines there."""
    directory = home / "profile"
    command = [sys.executable, "-m", "ipyparallel.cluster", "start"]
    with (home / "log").open("w") as log:
        cluster = subprocess.Popen(
            [*command, "-n", "4", "--controller=headway", f"--profile-dir={directory}"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    processes: list[psutil.Process] = []
    try:
        wait_for_file(directory / "security" / "ipcontroller-client.json", cluster)
        with ipp.Client(profile_dir=str(directory), timeout=DEADLINE_S) as client:
            client.wait_for_engines(4, timeout=DEADLINE_S)
        # Those of a parent that has ended can't be found any more.
        processes = psutil.Process(cluster.pid).children(recursive=True)
        yield directory
        cluster.send_signal(signal.SIGINT)
        assert cluster.wait(timeout=DEADLINE_S) == 0, (home / "log").read_text()[-2000:]
    finally:
        if cluster.poll() is None:
            processes += psutil.Process(cluster.pid).children(recursive=True)
            cluster.kill()
            cluster.wait()
        _, alive = psutil.wait_procs(processes, timeout=DEADLINE_S / 4)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=5)
    assert not alive, "ipcluster left processes behind"


def test_the_example_shows_after_follow_retries_and_killed_engines(profile):
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), f"--profile-dir={profile}"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(EXPECTED), done.stdout
    for line, expected in zip(lines, EXPECTED, strict=True):
        assert re.fullmatch(expected, line)


def test_without_a_cluster_the_example_says_how_to_start_one(home):
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), f"--profile-dir={home / 'nothing'}"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert done.returncode == 1
    assert "To start one: ipcluster start -n 4 --controller=headway" in done.stderr
    assert "Traceback" not in done.stderr
