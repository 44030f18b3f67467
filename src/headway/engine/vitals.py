"""What the system says about processes: memory, and kills for want of it.

Where a system does not say, the answer is 0: nothing here raises.
What this file must not know: engines, sockets.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: `ru_maxrss` counts bytes on macOS, and KiB elsewhere.
MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def rss_bytes(pid: int) -> int:
    """The memory that `pid` has resident now."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def count_oom_kills(cgroup_root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> int:
    """How many processes the kernel has killed for want of memory, as near to us as it counts.

    That is in our control group (v2, else v1), or else on the whole machine.
    """
    for path in (*_cgroup_files(cgroup_root, proc), proc / "vmstat"):
        count = _read_count(path)
        if count is not None:
            return count
    return 0


def _cgroup_files(cgroup_root: Path, proc: Path) -> list[Path]:
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    v2: list[Path] = []
    v1: list[Path] = []
    for line in lines:  # number:controllers:group
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        # In a container the group may be named as outside, while its files are at the root.
        groups = [group.lstrip("/"), ""]
        if controllers == "":
            v2 = [cgroup_root / name / "memory.events" for name in groups]
        elif "memory" in controllers.split(","):
            v1 = [cgroup_root / "memory" / name / "memory.oom_control" for name in groups]
    return [*v2, *v1]


def _read_count(path: Path) -> int | None:
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    except (OSError, ValueError):
        pass  # this system does not count here
    return None
