"""The survey as tasks: what the demonstration submits, and engines run.

Each task that counts returns its value `Timed`: when and where it ran rides beside the value,
so that the value itself is exactly what the bare function of survey.py gives. A task whose
arguments are such values takes them out first.

Engines import this module, so it imports the standard library and survey.py alone. What it must
not know: how tasks are submitted, and how anything is shown.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from headway.cli import survey

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """What a task returned, when it started (wall clock), what it took, and in which process."""

    value: T
    started_at_s: float
    run_s: float
    pid: int


@dataclass(frozen=True, slots=True)
class Published:
    """Where the report was written, and which engine it was that made and wrote it."""

    path: str
    bytes: int
    host: str
    python: str


def count_file(folder: str, path: str) -> Timed[survey.Counts]:
    """One task for each file."""
    return _timed(survey.count_file, folder, path)


def merge_files(name: str, *files: Timed[survey.Counts]) -> Timed[survey.Package]:
    """One task for each package: its arguments are what the tasks of its files return."""
    return _timed(survey.merge_files, name, *[file.value for file in files])


def merge_packages(*packages: Timed[survey.Package]) -> Timed[survey.Report]:
    """One task: its arguments are what the tasks of the packages return."""
    return _timed(survey.merge_packages, *[package.value for package in packages])


def publish(report: Timed[survey.Report], folder: str) -> Timed[Published]:
    """Write `report` into `folder`. Runs on the engine that made it, as a task would that needs
    what another has left on its engine's disk, or on its graphics card.
    """
    return _timed(_publish, report.value, folder)


def clear(folder: str) -> Timed[int]:
    """Remove what the tasks have left in `folder`: how many files. Runs whatever happened."""
    return _timed(_clear, folder)


def _timed(function: Callable[..., T], *args: Any) -> Timed[T]:
    started_at_s = time.time()
    start = time.perf_counter()
    value = function(*args)
    return Timed(value, started_at_s, time.perf_counter() - start, os.getpid())


def _publish(report: survey.Report, folder: str) -> Published:
    path = os.path.join(folder, "report.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(asdict(report), file)
    return Published(path, os.path.getsize(path), platform.node(), platform.python_version())


def _clear(folder: str) -> int:
    names = os.listdir(folder)
    for name in names:
        os.remove(os.path.join(folder, name))
    return len(names)
