"""A Slurm of our own on this host: slurmctld, slurmd and munged, of one node, on loopback.

Nothing of the host's own Slurm is touched: all of its files are in one directory, and its ports
are its own. Needs root, and Debian's packages slurm-wlm and munge.

What this file must not know: headway.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "sinfo")
_DEADLINE_S = 60.0
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Unsupported(Exception):
    """There can be no Slurm here; the message says why."""


class Slurm:
    """A Slurm that runs. Must be closed.

    Raises:
        Unsupported: it can't.
    """

    def __init__(self, directory: Path, cpus: int) -> None:
        missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
        if missing:
            raise Unsupported(f"no {', '.join(missing)} here (Debian: slurm-wlm and munge)")
        if os.geteuid() != 0:
            raise Unsupported("slurmd needs root")
        self._directory = directory
        self._daemons: list[subprocess.Popen[bytes]] = []
        host = socket.gethostname().split(".")[0]
        ports = [_free_port(), _free_port()]
        self.config = directory / "slurm.conf"
        self.config.write_text(_config(directory, host, ports, cpus))
        self.environment = {"SLURM_CONF": str(self.config), "PATH": _PATH}
        try:
            self._start_munge()
            self._start("slurmctld", "-D", "-c", "-f", str(self.config))
            self._start("slurmd", "-D", "-f", str(self.config), "-N", host)
            self._wait_idle()
        except BaseException:
            self.close()
            raise

    def _start_munge(self) -> None:
        place = self._directory / "munge"
        place.mkdir(mode=0o700)
        key = place / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        self._start("munged", "--foreground", "--force", f"--key-file={key}",
                    f"--socket={place / 'socket'}", f"--pid-file={place / 'pid'}",
                    f"--log-file={place / 'log'}", f"--seed-file={place / 'seed'}")  # fmt: skip
        _wait(lambda: (place / "socket").exists(), "munged")

    def _start(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=_PATH)
        assert path is not None
        with (self._directory / f"{program}.out").open("ab") as log:
            self._daemons.append(
                subprocess.Popen(
                    [path, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env={**os.environ, **self.environment}, start_new_session=True,
                )
            )  # fmt: skip

    def _wait_idle(self) -> None:
        def is_idle() -> bool:
            ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if ended:
                raise Unsupported(f"{ended[0]} ended: {self.said()}")
            return "idle" in self.run("sinfo", "-h", "-o", "%T")

        try:
            _wait(is_idle, "the node to be idle")
        except TimeoutError as error:
            raise Unsupported(f"{error}: {self.said()}") from None

    def run(self, program: str, *arguments: str) -> str:
        """What one of its commands says."""
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_DEADLINE_S,
            env={**os.environ, **self.environment}, check=False,
        )  # fmt: skip
        return (done.stdout + done.stderr).strip()

    def said(self) -> str:
        """What its daemons say last."""
        found = []
        for log in sorted(self._directory.glob("*.out")):
            found += [f"{log.name}:", *log.read_text(errors="replace").splitlines()[-5:]]
        return "\n".join(found)

    def close(self) -> None:
        """End its jobs, and itself."""
        if len(self._daemons) == 3:
            self.run("scancel", "--full", "--signal=KILL", "-u", "root")
            self.run("scancel", "-u", "root")
            with contextlib.suppress(TimeoutError):
                _wait(lambda: not self.run("squeue", "-h"), "its jobs to end", 10.0)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10.0)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()


@contextlib.contextmanager
def slurm(directory: Path, cpus: int) -> Iterator[Slurm]:
    """A Slurm, while it is needed."""
    made = Slurm(directory, cpus)
    try:
        yield made
    finally:
        made.close()


def _config(directory: Path, host: str, ports: list[int], cpus: int) -> str:
    for name in ("state", "spool"):
        (directory / name).mkdir()
    socket_file = directory / "munge" / "socket"
    lines = [
        "ClusterName=headway", f"SlurmctldHost={host}(127.0.0.1)", "SlurmUser=root",
        "SlurmdUser=root", "AuthType=auth/munge", f"AuthInfo=socket={socket_file}",
        "CredType=cred/munge", f"SlurmctldPort={ports[0]}", f"SlurmdPort={ports[1]}",
        f"StateSaveLocation={directory / 'state'}", f"SlurmdSpoolDir={directory / 'spool'}",
        f"SlurmctldPidFile={directory / 'ctld.pid'}", f"SlurmdPidFile={directory / 'd.pid'}",
        # Without cgroups: those of a container can't be changed.
        "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "SwitchType=switch/none",
        "MpiDefault=none", "ReturnToService=2", "SlurmdParameters=config_overrides",
        "SchedulerType=sched/builtin",
        "SelectTypeParameters=CR_CPU",
        "SchedulerParameters=sched_interval=1", "SelectType=select/cons_tres", "KillWait=10",
        "JobAcctGatherType=jobacct_gather/none", "AccountingStorageType=accounting_storage/none",
        f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN",
        "PartitionName=short Nodes=ALL Default=YES MaxTime=60 State=UP OverSubscribe=YES",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(condition, what: str, deadline_s: float = _DEADLINE_S) -> None:  # type: ignore[no-untyped-def]
    end_at_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_at_s:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        time.sleep(0.1)
