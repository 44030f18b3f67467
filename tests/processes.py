"""The mark by which everything that a test started is found again, whatever became of it.

It is inherited in the environment, also by what tasks start, and by what survives its parent.
"""

from __future__ import annotations

import os

import psutil

#: In the environment of everything that tests start.
MARK = "HEADWAY_TEST_MARK"


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that carry `mark`, but for this one."""
    found = []
    for process in psutil.process_iter():
        try:
            carries = process.environ().get(MARK) == mark
            dead = process.status() == psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            continue
        if carries and not dead and process.pid != os.getpid():
            found.append(process)
    return found
