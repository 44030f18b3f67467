"""Processes of tests: how a server is ended, and the mark by which all that a test started is found
again, whatever became of it.

The mark is inherited in the environment, also by what tasks start, and by what survives its parent.
"""

from __future__ import annotations

import os
import signal
import subprocess

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


def end_served(process: subprocess.Popen[str], deadline_s: float) -> str:
    """End a server as a service manager would, by SIGTERM, which is its success; what it said on
    stderr."""
    process.send_signal(signal.SIGTERM)
    try:
        _, err = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, err
    return err
