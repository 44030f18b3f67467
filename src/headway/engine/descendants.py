"""The processes that tasks have started: found by the session of their engine, and ended.

An engine leads a session, which all that its tasks start belongs to, unless it left on purpose
(a daemon does). A process may have a group of its own in it, as `timeout` and shells give
themselves: so killing the engine's group is not enough. Rule: a process is held by a descriptor
while it is looked at and killed, so that no other one that has got its number is hit.

Where there is no /proc, nothing is found. What this file must not know: tasks, and why
something is ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

#: Whoever is found in one round may have forked until it was killed: until a round finds none.
_ROUNDS_MAX = 10

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Fields of /proc/PID/stat behind the name, which may hold anything: proc(5), field 3 is the first.
_STATE, _STARTED_AT = 0, 19


def end_own(since_s: float) -> None:
    """In an engine: kill what its tasks have started since `since_s` of the monotonic clock.

    The kernel notes starts by the hundredth of a second: what started a moment before counts too,
    or else what a run starts first would be missed.
    """
    for pid in kill_session(os.getpid(), since_s):
        # Nobody else waits for it any more. One that is not our own child, or takes longer to
        # die, is somebody else's to wait for: there may be one.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def kill_session(leader: int, since_s: float = float("-inf")) -> set[int]:
    """Kill all processes of the session that `leader` leads, but for `leader` itself, that have
    started since `since_s` of the monotonic clock; returns which those were.

    Its number must be its own still: it lives, or nobody has waited for it yet.
    """
    since_ticks = _boot_ticks(since_s)
    killed: set[int] = set()
    for _ in range(_ROUNDS_MAX):
        found = [pid for pid in _all_pids() if _is_member(pid, leader, since_ticks)]
        if not found:
            break
        for pid in found:
            _kill(pid, leader, since_ticks)
        killed.update(found)
    return killed


def _boot_ticks(monotonic_s: float) -> float:
    """`monotonic_s` on the clock by which the system notes the starts of processes, rounded down
    as there."""
    if not hasattr(time, "CLOCK_BOOTTIME") or monotonic_s == float("-inf"):
        return float("-inf")
    ahead_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return (monotonic_s + ahead_s) * _TICKS_PER_S // 1


def _all_pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def _is_member(pid: int, leader: int, since_ticks: float) -> bool:
    """Whether it lives, in that session, and started then or later."""
    try:
        if pid == leader or os.getsid(pid) != leader:  # for most, this is all: it is cheap
            return False
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:  # it has ended meanwhile
        return False
    return fields[_STATE] not in (b"Z", b"X") and int(fields[_STARTED_AT]) >= since_ticks


def _kill(pid: int, leader: int, since_ticks: float) -> None:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        fd = os.pidfd_open(pid)
        try:
            if _is_member(pid, leader, since_ticks):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
