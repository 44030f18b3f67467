"""A cluster that other hosts can connect to, for tests of what starts engines for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import headway

DEADLINE_S = 60.0


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for `condition`, or fail."""
    end_at_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_at_s, f"waited {deadline_s:g} s for {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def served(directory: Path, *arguments: str) -> Iterator[Path]:
    """The connection file of a cluster without engines that listens on TCP, on loopback."""
    file = directory / "connection.json"
    command = [sys.executable, "-m", "headway", "start", "-n", "0", "--durability", "off",
               "--listen", "tcp://127.0.0.1", "--connection", str(file), *arguments]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"connection file")
            yield file
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


def engines(client: headway.Client) -> int:
    """How many engines are there."""
    return len(client.engines())


def nap_until(path: str, seconds: float) -> int:
    """A task that says that it runs, and then takes its time."""
    Path(path).touch()
    time.sleep(seconds)
    return os.getpid()


def start_here(connection: Path, *arguments: str, **more: object) -> subprocess.Popen[bytes]:
    """`headway engines --connect`."""
    command = [sys.executable, "-m", "headway", "engines", "--connect", str(connection)]
    return subprocess.Popen(
        [*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, **more,
    )  # fmt: skip
