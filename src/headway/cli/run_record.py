"""What is kept of a run, so that another can go on after it: a folder of its own for each.

    RUN/record.jsonl    the head, then a line for each task that has ended
    RUN/values.pickles  values that other tasks take, one after the other
    RUN/trace.json      what ran when and where, as far as the cluster knew at its end
    RUN/logs/           what commands printed, on engines that were started for the run

A line is one write to the end of the file, and is whole if its newline is there: what was being
written when everything stopped is not. While a run goes on, its record is locked.

What this file must not know: clusters, and what a task is made of.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import re
import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headway.errors import FlowError
from headway.traces.model import TraceData

VERSION = 1
RECORD_FILE = "record.jsonl"
VALUES_FILE = "values.pickles"
TRACE_FILE = "trace.json"
LOGS_DIR = "logs"
#: Of the runs in a folder, so many are kept, the newest.
RUNS_MAX = 100
LAST = "last"

_RUN = re.compile(r"[\w.-]+")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]+")


@dataclass(frozen=True, slots=True)
class End:
    """How a task ended in a run. `value` is where its value lies, if that was kept."""

    id: str
    state: str
    digest: str
    inputs: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """A run that is over."""

    run: str
    folder: Path
    source: str
    ends: dict[str, End] = field(default_factory=dict)

    def value_of(self, end: End) -> Any:
        """The value of a task.

        Raises:
            Exception: it can't be read, for whatever reason.
        """
        return pickle.loads(self.bytes_of(end))

    def bytes_of(self, end: End) -> bytes:
        """The value of a task, pickled.

        Raises:
            OSError, ValueError: it is not there.
        """
        offset, length = map(int, end.value.split("+"))
        with open(self.folder / VALUES_FILE, "rb") as file:
            file.seek(offset)
            data = file.read(length)
        if len(data) < length:
            raise ValueError(f"{self.folder / VALUES_FILE} ends before {end.value}")
        return data


def default_root() -> Path:
    """Where runs are kept: `headway/runs` in XDG_STATE_HOME, or else in ~/.local/state."""
    xdg = os.environ.get("XDG_STATE_HOME", "")
    base = Path(xdg) if xdg.startswith("/") else Path.home() / ".local" / "state"
    return base / "headway" / "runs"


class Record:
    """The record of a run that goes on. `close` it."""

    def __init__(self, root: Path, name: str, head: dict[str, Any]) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        stem = _NOT_IN_NAMES.sub("-", name).strip("-.")[:40] or "run"
        when = time.strftime("%Y%m%d-%H%M%S")
        self.run = f"{stem}-{when}-{secrets.token_hex(2)}"
        self.folder = root / self.run
        self.folder.mkdir(mode=0o700)
        self.logs = self.folder / LOGS_DIR
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self.folder / RECORD_FILE, flags, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._values_bytes = 0
        self._write({"headway": VERSION, "run": self.run, "began_s": time.time(), **head})
        _drop_old(root)

    def _write(self, entry: dict[str, Any]) -> None:
        data = json.dumps(entry).encode() + b"\n"
        written = os.write(self._fd, data)
        if written < len(data):  # a disk that is full: the line has no end, and is none
            raise OSError(28, "No space left on device", str(self.folder / RECORD_FILE))

    def note(self, end: End, **more: Any) -> None:
        """A task has ended, or what is known of it from the run before still holds."""
        entry = {"task": end.id, "state": end.state, "digest": end.digest, **more}
        if end.inputs:
            entry["inputs"] = end.inputs
        if end.value:
            entry["value"] = end.value
        self._write(entry)

    def keep(self, value: Any) -> str:
        """Keep a value; where it lies, or "" if it can't be pickled."""
        try:
            data = pickle.dumps(value, 5)
        except Exception:  # whatever a user's object raises: then its task runs again
            return ""
        return self._keep(data)

    def keep_again(self, past: Past, end: End) -> str:
        """Keep a value of the run before; where it lies now, or "" if it is gone."""
        try:
            data = past.bytes_of(end)
        except (OSError, ValueError):
            return ""
        return self._keep(data)

    def _keep(self, data: bytes) -> str:
        # Before the line that names it: what no line names is not there.
        path = self.folder / VALUES_FILE
        with open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)
        offset, self._values_bytes = self._values_bytes, self._values_bytes + len(data)
        return f"{offset}+{len(data)}"

    def keep_trace(self, trace: TraceData) -> None:
        """Keep what ran when.

        Raises:
            OSError: it can't be written.
        """
        path = self.folder / TRACE_FILE
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(msgspec.json.encode(trace))

    def close(self, how: str) -> None:
        """The run is over, in this way; may be called again."""
        if self._fd >= 0:
            fd = self._fd
            try:
                self._write({"over": how, "at_s": time.time()})
            finally:
                self._fd = -1
                os.close(fd)


def read_past(root: Path, run: str, source: str) -> Past:
    """The run `run` of the flow in the file `source`; or its newest, if `run` is "last".

    Raises:
        FlowError: there is none, it goes on, or its record can't be read.
    """
    if run == LAST:
        for folder in reversed(_folders(root)):
            with contextlib.suppress(FlowError, OSError):
                if _head(folder).get("source") == source:
                    return _read(folder)
        raise FlowError(f"no run of {source} is kept in {root}")
    folder = root / run
    if not _RUN.fullmatch(run) or not (folder / RECORD_FILE).is_file():
        raise FlowError(f"no run {run!r} is kept in {root}: see --record")
    past = _read(folder)
    if past.source != source:
        raise FlowError(f"run {run} is of {past.source}, and not of {source}")
    return past


def read_trace_of(root: Path, run: str) -> TraceData:
    """What ran in the run `run`; or in the newest that has a trace, if `run` is "last".

    Raises:
        FlowError: there is no such run, or it has no trace, or what it has can't be read.
    """
    if run == LAST:
        folder = next((f for f in reversed(_folders(root)) if (f / TRACE_FILE).is_file()), None)
        if folder is None:
            raise FlowError(f"no run with a trace is kept in {root}")
    else:
        folder = root / run
        if not _RUN.fullmatch(run) or not (folder / RECORD_FILE).is_file():
            raise FlowError(f"no run {run!r} is kept in {root}: see --record")
    path = folder / TRACE_FILE
    if not path.is_file():
        raise FlowError(f"run {folder.name} has no trace: it goes on, or was cut off")
    try:
        return msgspec.json.decode(path.read_bytes(), type=TraceData)
    except msgspec.MsgspecError as error:
        raise FlowError(f"{path} is no trace of this version: {error}") from None


def _head(folder: Path) -> dict[str, Any]:
    with open(folder / RECORD_FILE, "rb") as file:
        line = file.readline()
    try:
        head = json.loads(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("headway") != VERSION:
        raise FlowError(f"{folder / RECORD_FILE}, line 1: this is no record of this version")
    return head


def _read(folder: Path) -> Past:
    head = _head(folder)
    path = folder / RECORD_FILE
    if _is_locked(path):
        raise FlowError(f"run {folder.name} goes on: stop it first, or wait for its end")
    ends: dict[str, End] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[1:-1], 2):  # what follows the last newline is not whole
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise TypeError(entry)
            if "task" in entry:
                end = End(
                    str(entry["task"]), str(entry["state"]), str(entry["digest"]),
                    str(entry.get("inputs", "")), str(entry.get("value", "")),
                )  # fmt: skip
                ends[end.id] = end
        except (ValueError, KeyError, TypeError):
            raise FlowError(f"{path}, line {number}: this is no line of a record") from None
    return Past(folder.name, folder, str(head.get("source", "")), ends)


def _is_locked(path: Path) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _folders(root: Path) -> list[Path]:
    """The folders of runs, the oldest first."""
    found = []
    with contextlib.suppress(OSError):
        for folder in root.iterdir():
            with contextlib.suppress(OSError):
                found.append(((folder / RECORD_FILE).stat().st_ctime_ns, folder))
    # By the time of what was written last: a run that goes on is new.
    return [folder for _, folder in sorted(found)]


def _drop_old(root: Path) -> None:
    for folder in _folders(root)[:-RUNS_MAX]:
        with contextlib.suppress(OSError):
            if not _is_locked(folder / RECORD_FILE):
                shutil.rmtree(folder)
