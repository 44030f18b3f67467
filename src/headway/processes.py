"""Processes that are not our children: told apart from later ones of the same id, and ended.

A process id is used again, at the latest after the host was started anew. So a process that is
to be found again by another one is noted by its *identity*: its id, and when it began.

What this file must not know: headway.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
#: Where a system can't tell of the end of a process that is not our child, it is looked at this
#: often.
_LOOK_S = 0.05


def process_identity(pid: int) -> str:
    """What tells the process `pid` from all others, ever; "" if there is none, or it has ended."""
    began = _when_begun(pid) if pid > 0 else ""
    return f"{pid} {began}" if began else ""


def is_running(identity: str) -> bool:
    """Whether the process that `process_identity` named is there still."""
    return bool(identity) and process_identity(pid_of(identity)) == identity


def send_signal(identity: str, number: signal.Signals) -> None:
    """Send a signal to the process, if it is there still, and never to another one."""
    with _hold(identity) as pidfd, contextlib.suppress(ProcessLookupError):
        # Asked only now that no other one can take its place, where the system has such a hold.
        if not is_running(identity):
            return
        if pidfd is not None:
            signal.pidfd_send_signal(pidfd, number)
        else:
            os.kill(pid_of(identity), number)


def wait_end(identity: str, timeout_s: float) -> bool:
    """Wait for the end of the process. False if it is still there after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    with _hold(identity) as pidfd:
        while is_running(identity):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            if pidfd is not None:
                select.select([pidfd], [], [], left_s)
            else:
                time.sleep(min(left_s, _LOOK_S))
    return True


@contextlib.contextmanager
def _hold(identity: str) -> Iterator[int | None]:
    """A descriptor of the process that has this id now; None where there is none."""
    pidfd = None
    if hasattr(os, "pidfd_open"):
        # There is none, or can be none, or the system only says that it can.
        with contextlib.suppress(OSError, OverflowError):
            pidfd = os.pidfd_open(pid_of(identity))
    try:
        yield pidfd
    finally:
        if pidfd is not None:
            os.close(pidfd)


def pid_of(identity: str) -> int:
    """The process id in an identity; 0 if there is none."""
    pid = identity.partition(" ")[0]
    return int(pid) if pid.isdecimal() else 0


def rss_bytes(pid: int) -> int:
    """The memory that `pid` has resident now; 0 where the system does not say."""
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _when_begun(pid: int) -> str:
    """When `pid` began, in the system's own words; "" if there is none, or only its remains."""
    if (_PROC / "self" / "stat").exists():
        try:
            # After the name, which may have anything in it: state, ..., and as the 22nd of all
            # fields the ticks since the host was started.
            fields = (
                (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
            )
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] in "ZX" else f"{fields[19]} {_boot()}"
    listed = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, began = listed.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else began.strip()


def _boot() -> str:
    """Which start of the host this is."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "-"
