"""`headway memo`: what is kept under `memo` and `run`; and forgetting it.

What this file must not know: clusters.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from headway.cli import show
from headway.errors import HeadwayError
from headway.memo.database import default_folder
from headway.memo.runs import OPEN, Runs
from headway.memo.store import Store


def memo(folder: Path | None, clear: bool, as_json: bool) -> None:
    """Say what is kept in `folder`, or delete it first.

    Raises:
        HeadwayError: it can't be read, or deleted.
    """
    folder = folder or default_folder()
    runs: list[dict[str, Any]] = []
    values = size = 0
    try:
        if folder.is_dir():
            runs, values, size = _look(folder, clear)
    except sqlite3.Error as error:
        raise HeadwayError(f"the memo folder {folder} can't be read: {error}") from error
    if as_json:
        facts = {"folder": str(folder), "results": values, "bytes": size, "runs": runs}
        show.say_json(facts)
        return
    done = "cleared: " if clear else ""
    show.say(f"{done}{values:,} results, {size / 1e6:,.1f} MB in {folder}")
    if runs:
        rows = []
        for row in runs:
            tasks = dict(row["tasks"])
            succeeded, not_ended = tasks.pop("succeeded", 0), tasks.pop(OPEN, 0)
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["began_at"]))
            rows.append((row["run"], when, succeeded, sum(tasks.values()), not_ended))
        columns = ["run", "began", ">succeeded", ">failed", ">not ended"]
        show.console().print(show.table(columns, rows))


def _look(folder: Path, clear: bool) -> tuple[list[dict[str, Any]], int, int]:
    store, runs = Store(folder), Runs(folder)
    try:
        if clear:
            store.clear()
            runs.clear()
        return runs.listing(), *store.totals()
    finally:
        runs.close()
        store.close()
