"""A disk that is full: the journal on a small file system of its own, which fills up while tasks
are submitted. What was acknowledged must stay, who submits must be told, and once there is room
the controller goes on; or, if that took longer than it waits, the same command does.

What this file must not know: how a journal is written.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

import headway
from tests.nemesis import tasks
from tests.nemesis.cluster import Cluster, wait_until
from tests.nemesis.result import Result
from tests.nemesis.warned import Warnings
from tests.processes import MARK, marked

#: Twice what all the tasks need, and as much again for when the log is brought into the file.
_DISK_BYTES = 48 << 20
_ARGUMENT_BYTES = 20_000
_TASKS = 400


class Unsupported(Exception):
    """No file system can be mounted here; the message says why."""


@contextlib.contextmanager
def small_disk(directory: Path, size: int = _DISK_BYTES) -> Iterator[Path]:
    """A file system of so many bytes.

    Raises:
        Unsupported: it can't be mounted.
    """
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise Unsupported("to mount a small file system needs root, and mount")
    place = directory / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "headway-test", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unsupported(f"mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # Lazily: should a process be left that has a file open there, that is told elsewhere.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, left_bytes: int) -> Path:
    """Leave so much room; the file that fills the rest."""
    filler = place / "filler"
    found = os.statvfs(place)
    filler.write_bytes(bytes(max(0, found.f_bavail * found.f_frsize - left_bytes)))
    return filler


def give(number: int, runs: str, data: bytes) -> int:
    """A task: notes its run, and gives its number."""
    tasks.note(runs, "begin", number)
    return number + len(data)


def run(seed: int, *, must_end: bool | None = None, program: str = "headway") -> Result:
    """Fill the disk of a controller. `must_end`: until it has given up; default: by the seed."""
    result = Result("disk", seed)
    directory = Path(tempfile.mkdtemp(prefix="hwn-"))
    if must_end is None:
        must_end = random.Random(seed).random() < 0.5
    began_s = time.monotonic()
    try:
        with small_disk(directory) as place:
            _fill_and_free(place, directory, must_end, program, random.Random(seed), result)
    except Unsupported as why:
        result.note = f"skipped: {why}"
    except (TimeoutError, RuntimeError, headway.errors.HeadwayError) as error:
        result.violations.append(f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    result.wall_s = time.monotonic() - began_s
    return result


def _fill_and_free(
    place: Path,
    directory: Path,
    must_end: bool,
    program: str,
    rng: random.Random,
    result: Result,
) -> None:
    mark, runs = uuid.uuid4().hex, str(directory / "runs")
    env = {MARK: mark, "XDG_RUNTIME_DIR": str(directory)}
    cluster = Cluster(directory, 2, journal=place / "journal.db", program=program, env=env)
    cluster.start()
    try:
        with Warnings() as warnings, headway.Client(cluster.connection, output=False) as client:
            # Given tasks that were acknowledged, and are done
            data = rng.randbytes(_ARGUMENT_BYTES)
            before = [client.submit(give, n, runs, data) for n in range(20)]
            client.gather(before, timeout=60)
            # When the disk fills up while more are submitted
            filler = fill(place, _ARGUMENT_BYTES * rng.randint(10, 60))
            futures = [client.submit(give, n, runs, data) for n in range(20, _TASKS)]
            result.faults["disk full"] += 1
            # Then who submits is told so
            wait_until(lambda: warnings.has("Its disk is full: make room there"), "the warning")
            if must_end:
                wait_until(lambda: not cluster.is_running, "the controller to give up")
                said = cluster.said()
                if "make room there" not in said or "its engines go on" not in said:
                    result.violations.append(f"it ended without a word: {cluster.said()}")
                cluster.kill()  # it has ended; its pipe has not
            # And once there is room, all is done
            filler.unlink()
            if must_end:
                cluster.start()
            found = client.gather([*before, *futures], timeout=60)
    finally:
        _end(cluster, mark, result)
    noted = Counter(tasks.read_runs(runs))
    result.tasks, result.runs = _TASKS, sum(noted.values())
    result.states["succeeded"] = len(found)
    result.note = "it gave up, and was started again" if must_end else "it waited"
    result.violations += [
        f"task {n} gave {value}" for n, value in enumerate(found) if value != n + len(data)
    ]
    result.violations += [
        f"task {n} ran {noted['begin', n]} times" for n in range(_TASKS) if noted["begin", n] != 1
    ]


def _end(cluster: Cluster, mark: str, result: Result) -> None:
    """End it all; what does not end by itself is killed, and a violation."""
    cluster.close()
    try:
        wait_until(lambda: not marked(mark), "all processes to end", 20.0)
    except TimeoutError:
        for process in marked(mark):
            result.violations.append(f"a process was left: {process.pid} {process.cmdline()}")
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
