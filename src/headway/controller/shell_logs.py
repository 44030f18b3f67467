"""What is left on disk of shell tasks: removed with the tasks that it belongs to.

What this file must not know: what is in it, and who wrote it: see doors/shell.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from headway.core.events import TaskId, format_task_id
from headway.wire.connection import LOG_SUFFIXES


def remove_logs(folder: Path, tasks: Iterable[TaskId]) -> None:
    """Remove what `tasks` have written into `folder`; most have written nothing."""
    for task in tasks:
        for suffix in LOG_SUFFIXES:
            with contextlib.suppress(OSError):  # none, or it can't be: it goes with the cluster
                (folder / f"{format_task_id(task)}{suffix}").unlink()
