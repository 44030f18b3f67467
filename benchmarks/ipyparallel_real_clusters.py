"""Real IPython clusters for a benchmark: started, taken apart into their processes, and ended.

Whatever happens, no process is left: not after an error, Ctrl-C or SIGTERM, at whatever moment it
comes. Only SIGKILL can't be helped; ipyparallel's processes don't watch who has started them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from timing import cpu_s, say

import ipyparallel as ipp

START_TIMEOUT_S = 120
QUIET_TIMEOUT_S = 120
#: The nanny of an engine looks for it every few seconds, and need not be waited for.
END_TIMEOUT_S = 1
#: A cluster is quiet if all its processes together use less of one core than this.
QUIET_SHARE = 0.03
_LOOK_EVERY_S = 0.2

TASK_SCHEDULER = "task scheduler"
HUB = "Hub and relays"
ENGINES = "engines"


class RealCluster:
    """A controller, its engines and a client; a context manager.

    Parameters:
        controller: the launcher: "local" is ipyparallel's own, "headway" is headway's.
        engines: how many.
        hwm: tasks that an engine has at most.
    """

    #: An ipyparallel.Client, once the cluster has started.
    client: Any

    def __init__(self, controller: str, engines: int, hwm: int) -> None:
        self._controller = controller
        self._n = engines
        self._hwm = hwm
        self._stack = contextlib.ExitStack()
        self._parts: dict[str, list[int]] = {}

    def __enter__(self) -> RealCluster:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, and remove all files."""
        with deaf():
            self._stack.close()

    def _start(self) -> None:
        directory = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="headway-bench-", ignore_cleanup_errors=True)
        )
        started = self._stack.enter_context(nothing_left())
        log = logging.getLogger(f"benchmark.{self._controller}")
        log.setLevel(logging.ERROR)
        cluster = ipp.Cluster(
            controller=self._controller,
            n=self._n,
            controller_args=[f"--TaskScheduler.hwm={self._hwm}"],
            profile_dir=str(Path(directory) / "profile"),
            log=log,
            shutdown_atexit=False,  # this stack stops it, and nobody else
        )
        self._stack.callback(cluster.stop_cluster_sync)
        # Called before that: those whose parent has ended can't be found any more.
        self._stack.callback(started.look)
        cluster.start_cluster_sync()
        self.client = cluster.connect_client_sync()
        self._stack.callback(self.client.close)
        self.client.wait_for_engines(self._n, timeout=START_TIMEOUT_S, interactive=False)
        self._check_scheduler()
        self._parts = self._find_parts(cluster)

    def _check_scheduler(self) -> None:
        """It runs tasks, and is the scheduler that was asked for: headway's errors have a text."""
        view = self.client.load_balanced_view()
        for result in [view.apply_async(os.getpid) for _ in range(self._n * 2)]:
            result.get(timeout=START_TIMEOUT_S)
        with view.temp_flags(after=["no-such-task"]):
            unknown = view.apply_async(os.getpid)
        try:
            unknown.get(timeout=START_TIMEOUT_S)
        except ipp.RemoteError as error:
            is_headways = "no-such-task" in str(error)
        if is_headways != (self._controller == "headway"):
            raise RuntimeError(f"controller={self._controller!r} started another scheduler")

    def _find_parts(self, cluster: Any) -> dict[str, list[int]]:
        """Part -> its processes. The task scheduler is the one that listens at the task port."""
        port = json.loads(Path(cluster.controller.connection_files["client"]).read_text())["task"]
        controller = psutil.Process(cluster.controller.pid)
        inside = controller.children(recursive=True)
        schedulers = [
            process.pid
            for process in inside
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        ]
        if len(schedulers) != 1:
            raise RuntimeError(f"{len(schedulers)} processes listen at port {port}, not one")
        hub = {controller.pid, *(process.pid for process in inside)} - set(schedulers)
        engines = [
            process.pid
            for engine_set in cluster.engines.values()
            for engine in engine_set.launchers.values()
            for process in [engine.process, *engine.process.children(recursive=True)]
        ]
        return {TASK_SCHEDULER: schedulers, HUB: sorted(hub), ENGINES: engines}

    def cpu_s(self) -> dict[str, float]:
        """Part -> the CPU seconds of its processes so far."""
        return {part: sum(map(cpu_s, pids)) for part, pids in self._parts.items()}

    def until_quiet(self) -> None:
        """Wait until it has worked off what it does after the last result, such as the Hub's
        records: else that would be counted for whoever comes next."""
        deadline_at = time.monotonic() + QUIET_TIMEOUT_S
        while time.monotonic() < deadline_at:
            before_s = sum(self.cpu_s().values())
            time.sleep(_LOOK_EVERY_S)
            if sum(self.cpu_s().values()) - before_s < QUIET_SHARE * _LOOK_EVERY_S:
                return
        say(f"the cluster of {self._controller} was still busy after {QUIET_TIMEOUT_S} s")


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait: what ends processes is not to be interrupted."""
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: heard.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        signal.raise_signal(heard[0])


class Started:
    """The processes below this one that were not there before."""

    def __init__(self) -> None:
        self._before = set(psutil.Process().children(recursive=True))
        self.processes: set[psutil.Process] = set()

    def look(self) -> None:
        """Remember those that are there now."""
        self.processes |= set(psutil.Process().children(recursive=True)) - self._before


@contextlib.contextmanager
def nothing_left() -> Iterator[Started]:
    """What was started within ends with it, by force where asking did not help."""
    started = Started()
    try:
        yield started
    finally:
        started.look()
        _, alive = psutil.wait_procs(started.processes, timeout=END_TIMEOUT_S)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=END_TIMEOUT_S)
