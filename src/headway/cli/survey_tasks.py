"""The survey's tasks beside its counting: what the demonstration has engines do with the report.

Engines import this module, so it imports the standard library and survey.py alone. What it must
not know: how tasks are submitted, and how anything is shown.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass

from headway.cli import survey


@dataclass(frozen=True, slots=True)
class Published:
    """Where the report was written, and which engine it was that made and wrote it."""

    path: str
    bytes: int
    host: str
    python: str


def publish(report: survey.Report, folder: str) -> Published:
    """Write `report` into `folder`. Runs on the engine that made it, as a task would that needs
    what another has left on its engine's disk, or on its graphics card.
    """
    path = os.path.join(folder, "report.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(asdict(report), file)
    return Published(path, os.path.getsize(path), platform.node(), platform.python_version())


def clear(folder: str) -> int:
    """Remove what the tasks have left in `folder`: how many files. Runs whatever happened."""
    names = os.listdir(folder)
    for name in names:
        os.remove(os.path.join(folder, name))
    return len(names)
