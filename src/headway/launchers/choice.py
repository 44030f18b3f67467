"""A launcher by its name, as the command line and configuration files have it.

A file is TOML, with one table:

    [launcher]
    name = "slurm"
    nodes = 2
    per_node = 8
    walltime = "1h"

What this file must not know: what any launcher does.
"""

from __future__ import annotations

import difflib
import inspect
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headway.launchers import batch
from headway.launchers.base import Launcher
from headway.launchers.ipython import IPyParallel
from headway.launchers.local import Local
from headway.launchers.ssh import SSH

#: By what they are called.
LAUNCHERS: dict[str, type[Launcher]] = {
    kind.name: kind
    for kind in (
        Local,
        SSH,
        IPyParallel,
        batch.Slurm,
        batch.PBS,
        batch.LSF,
        batch.SGE,
        batch.HTCondor,
        batch.Kubernetes,
        batch.AWS,
        batch.GoogleCloud,
    )
}


def make(name: str, settings: Mapping[str, Any]) -> Launcher:
    """The launcher of that name, with these settings.

    Raises:
        ValueError: there is none, or a setting is unknown or wrong.
    """
    kind = LAUNCHERS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, LAUNCHERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is no launcher: there are {', '.join(LAUNCHERS)}{hint}")
    has = inspect.signature(kind).parameters
    unknown = [setting for setting in settings if setting not in has]
    if unknown and not any(each.kind is each.VAR_KEYWORD for each in has.values()):
        raise ValueError(
            f"the launcher {name} has no {', '.join(unknown)}: it has {', '.join(has)}"
        )
    try:
        return kind(**settings)
    except TypeError as error:  # one is missing, in Python's own words; or of another type
        raise ValueError(f"the launcher {name}: {error}") from None


def from_file(path: str | os.PathLike[str], settings: Mapping[str, Any] = {}) -> Launcher:
    """The launcher that a file describes; `settings` go before those of the file.

    Raises:
        ValueError: it is no such file.
        OSError: it can't be read.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("launcher")
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise ValueError(f"{path} has no table [launcher] with a name")
    found = {**table, **settings}
    return make(found.pop("name"), found)
