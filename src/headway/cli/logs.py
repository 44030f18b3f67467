"""`headway logs`: what shell tasks have printed; with --follow, also what they print from now on.

The files lie in the cluster's directory, where the engine wrote them: on its own host. What this
file must not know: how they came there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import headway
from headway.cli import show, which
from headway.client import attaching, dependency, steering
from headway.core.events import format_task_id
from headway.errors import HeadwayError
from headway.wire.connection import LOG_SUFFIXES
from headway.wire.endpoint import LOGS_DIR, cluster_dir, read_connection_file

#: A file that grows is looked at this often.
_LOOK_S = 0.1
_READ_BYTES = 1 << 16


def logs(where: str | None, node: str, follow: bool, as_json: bool) -> None:
    """Show what a task has printed; of a group: each of its tasks.

    Raises:
        HeadwayError: there is no such task.
        ValueError: several were to be followed.
    """
    with which.connect(where) as client:
        folder = cluster_dir(read_connection_file(client.connection_file)) / LOGS_DIR
        group = steering.group(client, dependency.as_node(node))
        members = [format_task_id(each) for each in attaching.members_of(group)] if group else []
        if group and follow:
            raise ValueError(f"{node} is a group of {len(members)} tasks: follow one of them")
        if as_json:
            show.say_json([_as_json(folder, each) for each in members or [node]])
        elif group:
            for each in members:
                show.say(f"== {each}")
                _copy_all(folder, each)
        else:
            _logs_of_one(client, folder, node, follow)


def _logs_of_one(client: headway.Client, folder: Path, node: str, follow: bool) -> None:
    files = _files(folder, node)
    if not follow and _copy_all(folder, node):
        return
    facts = steering.task(client, dependency.as_node(node))
    if facts["state"] == "unknown":
        raise HeadwayError(client.explain(node))
    if follow:
        _follow(client, files, node)
    else:
        sys.stderr.write(f"task {node} has printed nothing here: {client.explain(node)}\n")


def _follow(client: headway.Client, files: Sequence[Path], node: str) -> None:
    """Show what is written, until the task has ended."""
    future = client.attach(node)
    opened: dict[int, IO[bytes]] = {}
    try:
        while True:
            is_over = future.done()  # asked first: what it wrote before is there by now
            for number, path in enumerate(files):
                if number not in opened and path.is_file():
                    opened[number] = path.open("rb")
                if number in opened:
                    _copy(opened[number], _streams()[number])
            if is_over:
                return
            time.sleep(_LOOK_S)
    finally:
        for file in opened.values():
            file.close()


def _copy_all(folder: Path, node: str) -> bool:
    """Show both files of a task; whether there is one."""
    found = False
    for path, stream in zip(_files(folder, node), _streams(), strict=True):
        if path.is_file():
            found = True
            with path.open("rb") as file:
                _copy(file, stream)
    return found


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while chunk := source.read(_READ_BYTES):
        target.write(chunk)
    target.flush()


def _files(folder: Path, node: str) -> list[Path]:
    return [folder / f"{node}{suffix}" for suffix in LOG_SUFFIXES]


def _streams() -> list[IO[bytes]]:
    return [sys.stdout.buffer, sys.stderr.buffer]


def _as_json(folder: Path, node: str) -> dict[str, Any]:
    out, err = (
        path.read_bytes().decode("utf-8", "replace") if path.is_file() else None
        for path in _files(folder, node)
    )
    return {"id": node, "stdout": out, "stderr": err}
