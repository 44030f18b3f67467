"""Whether the kernel killed a process for want of memory: its counters, and its log.

Counters say that some process was killed, the log says which; either may be closed to us, and
then there is no evidence. Nothing here raises: it is asked while an engine is being buried.

What this file must not know: engines, and what a report says.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from headway.engine import vitals
from headway.engine.death import Evidence

#: Records read from the log at once: a log that is flooded must not hold the nanny up.
_RECORDS_MAX = 5_000
_RECORD_BYTES_MAX = 8192  # the kernel's own limit

#: "Memory cgroup out of memory: Killed process 7536 (python3) total-vm:407192kB, ..."
_KILLED = re.compile(r"[Oo]ut of memory.*?Killed process (\d+) ")
#: How many killed processes are remembered: only those that have just ended are asked for.
_REMEMBERED_MAX = 100


class OomWatch:
    """What the kernel says from now on. Must be closed."""

    def __init__(self, log: Path = Path("/dev/kmsg")) -> None:
        self._killed: dict[int, str] = {}
        self._fd: int | None = None
        with contextlib.suppress(OSError):  # closed to us, or not there
            self._fd = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)

    def close(self) -> None:
        """Give the log back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def begin(self, pid: int) -> int:
        """`pid` has started: what was said of an earlier process of that number does not count.

        Returns the kernel's count of such kills until now, for `evidence`.
        """
        if self._fd is not None:
            self._read_log()
            self._killed.pop(pid, None)
        return vitals.count_oom_kills()

    def evidence(self, pid: int, count_before: int) -> Evidence:
        """What speaks for such a kill of `pid`, which has ended. Its number may be another one to
        the kernel, where we are in a container: then the log is silent about it."""
        self._read_log()
        return Evidence(max(0, vitals.count_oom_kills() - count_before), self._killed.pop(pid, ""))

    def _read_log(self) -> None:
        if self._fd is None:
            return
        for _ in range(_RECORDS_MAX):
            try:
                record = os.read(self._fd, _RECORD_BYTES_MAX)
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # records were overwritten before we read them: on with the next
            except OSError:
                self.close()
                break
            if not record:
                break
            for line in record.decode("utf-8", "replace").splitlines():
                self._note(line)

    def _note(self, line: str) -> None:
        text = line.partition(";")[2]  # priority,sequence,microseconds,flags;the text
        found = _KILLED.search(text)
        if found:
            self._killed[int(found[1])] = text
            while len(self._killed) > _REMEMBERED_MAX:
                del self._killed[next(iter(self._killed))]
