"""Real clusters for the nemesis: `headway start` with a journal, nannies of other hosts, and
clients, each a process of its own that can be killed and started again.

What this file must not know: what is done to them, and why.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import psutil

from headway.wire.endpoint import read_connection_file, write_connection_file

#: No condition that is waited for takes longer, on the slowest machine we know.
DEADLINE_S = 60.0


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for `condition`.

    Raises:
        TimeoutError: it did not come true.
    """
    end_at = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_at:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        time.sleep(0.02)


class Process:
    """A process that can be stopped, killed, and started again. Must be closed."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str] | None = None):
        self.command = list(command)
        self.log = log
        self._env = env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is not waited for."""
        self._popen(subprocess.DEVNULL)

    def _popen(self, stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
                env=None if self._env is None else {**os.environ, **self._env},
                # Ctrl-C is for who started it, who ends it in order.
                start_new_session=True,
            )
        return self.process

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.is_running:
            assert self.process is not None
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM, within_s: float = DEADLINE_S) -> None:
        """Send it a signal, and wait for its end; nothing if it has ended.

        Raises:
            subprocess.TimeoutExpired: it did not end.
        """
        if self.process is None:
            return
        if number != signal.SIGKILL:
            self.send(signal.SIGCONT)
        self.send(number)
        self.process.wait(within_s)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def close(self) -> None:
        """End it, in order or not."""
        try:
            self.end(within_s=20.0)
        except subprocess.TimeoutExpired:
            self.kill()

    def said(self) -> str:
        """What it wrote on stderr, the end of it."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-4_000:]


class Cluster(Process):
    """`headway start` with a journal, and again.

    Parameters:
        directory: for its connection file, journal and log.
        engines: of its own nanny; 0 for none.
        journal: its journal, if it is to be elsewhere.
        listen: where, if not on this host alone.
        program: what to run instead of `python -m headway`.
        prefix: a command that runs it, such as `ip netns exec NAME`.
        more: further options.
    """

    def __init__(
        self,
        directory: Path,
        engines: int,
        durability: str = "normal",
        *,
        journal: Path | None = None,
        listen: str | None = None,
        program: str = "headway",
        prefix: Sequence[str] = (),
        more: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.connection = directory / "connection.json"
        self.journal = journal or directory / "journal.db"
        command = [
            *prefix,
            *(sys.executable, "-m", program, "start", "-n", str(engines)),
            *("--journal", str(self.journal), "--durability", durability),
            *("--connection", str(self.connection)),
            *more,
        ]
        if listen is not None:
            command += ["--listen", listen]
        super().__init__(command, directory / "log", env)

    def start(self) -> None:
        """Start the controller, and wait until it listens.

        Raises:
            RuntimeError: it does not; with what it said.
        """
        process = self._popen(subprocess.PIPE)
        assert process.stdout is not None
        for line in process.stdout:
            if b"stop it with" in line:
                return
        process.wait(DEADLINE_S)
        raise RuntimeError(f"it did not start: {self.said()}")

    def connection_through(self, address: str, name: str) -> Path:
        """A connection file that leads to `address` instead, such as that of a relay."""
        path = self.directory / f"{name}.json"
        info = read_connection_file(self.connection)
        write_connection_file(path, dataclasses.replace(info, address=address))
        return path


class Nanny(Process):
    """A nanny as one is started on another host, with its engines."""

    def __init__(
        self,
        connection: Path,
        engines: int,
        log: Path,
        prefix: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        command = [
            *prefix,
            *(sys.executable, "-m", "headway.engine.nanny", "--connection", str(connection)),
            *("--engines", str(engines), "--no-lifeline"),
            *("--sys-path", json.dumps([os.getcwd()]), "--cwd", os.getcwd()),
        ]
        super().__init__(command, log, env)


def engines_of(nanny_pid: int) -> list[psutil.Process]:
    """The processes that a nanny looks after: engines, and what it forks them from."""
    try:
        children = psutil.Process(nanny_pid).children()
    except psutil.NoSuchProcess:
        return []
    return sorted((c for c in children if c.status() != psutil.STATUS_ZOMBIE), key=lambda c: c.pid)


def nanny_of(mark_processes: Sequence[psutil.Process]) -> psutil.Process | None:
    """The nanny among these processes that the controller started; None if none lives."""
    for process in mark_processes:
        try:
            if "headway.engine.nanny" in process.cmdline():
                return process
        except psutil.Error:
            continue
    return None
