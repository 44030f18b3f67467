"""The store of one nanny: a directory in shared memory, one on the disk, and who may remove them.

A store lives as long as its nanny's process, however that ends: the nanny holds a lock on each
directory, which the system takes from it at its end. Whoever comes after (the next nanny of this
host, or whoever stops a cluster here) removes those that nobody has locked. The lock is on the
directory itself, so there is no moment in which it is there and not locked, but for the first:
that one is looked at again once it is locked. A process id and its start would do as well, but
not between containers that share memory and not their processes.

What this file must not know: which values are needed, and sockets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from headway.errors import StartError
from headway.values import files
from headway.values.layout import Buffer
from headway.wire.connection import check_private

#: Memory that looks like a file system.
_SHARED_MEMORY = Path("/dev/shm")


def roots() -> list[Path]:
    """Where stores of this user are made: in memory, if this system has that; and on the disk."""
    name = f"headway-values-{os.getuid()}"
    found = [Path(tempfile.gettempdir(), name)]
    if sys.platform == "linux" and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
        found.insert(0, _SHARED_MEMORY / name)
    return found


class Store:
    """The directories of one nanny. Must be closed.

    Parameters:
        token: the nanny's.
        among: where to make them, the preferred place first.

    Raises:
        StartError: none can be made, or somebody else made the place for them.
    """

    def __init__(self, token: str, among: Sequence[Path] | None = None) -> None:
        self.directories: list[Path] = []
        #: Where else its values are, for whoever asks: see shared.py.
        self.shared: Path | None = None
        self._locks: list[int] = []
        why = "there is no place for them"
        for root in roots() if among is None else among:
            try:
                self._make(root, token)
            except OSError as error:
                why = f"{root}: {error.strerror}"
        if not self.directories:
            raise StartError(f"large values can't be kept on this host: {why}")

    def _make(self, root: Path, token: str) -> None:
        directory = root / token
        sweep_dead([root])
        while True:
            root.mkdir(mode=0o700, exist_ok=True)
            check_private(root)
            try:
                directory.mkdir(mode=0o700, exist_ok=True)
            except FileNotFoundError:
                continue  # the last other store went just then, and the root with it
            fd = _lock(directory)
            # Between the two somebody may have taken it for one that was left.
            if fd is not None and directory.exists():
                break
            if fd is not None:
                os.close(fd)
        self.directories.append(directory)
        self._locks.append(fd)

    def close(self) -> None:
        """Remove all values. Who has mapped one may go on."""
        for directory in self.directories:
            _remove(directory)
            _remove_if_empty(directory.parent)
        for fd in self._locks:
            os.close(fd)
        self._locks.clear()

    def remove(self, name: str) -> None:
        """Remove one value."""
        for directory in self.directories:
            files.remove(directory, name)

    def names(self) -> list[str]:
        """All values that are there."""
        return [name for directory in self.directories for name in files.names_in(directory)]

    def sweep(self, writer: str) -> None:
        """Remove what an engine that has ended left unfinished."""
        for directory in self.directories:
            files.sweep(directory, writer)

    def find(self, name: str) -> Path | None:
        """Where a value is."""
        if os.sep in name or name.startswith("."):
            return None
        shared = [self.shared] if self.shared is not None else []
        paths = (directory / name for directory in (*self.directories, *shared))
        return next((path for path in paths if path.exists()), None)


def write(
    directories: Sequence[Path],
    name: str,
    writer: str,
    parts: Sequence[Buffer],
    memory_free_part: float,
) -> tuple[Path, int]:
    """Write a value into the first of `directories` that has room; returns where it is, and its
    bytes.

    In all but the last, which is on the disk, `memory_free_part` of the whole stays free: what
    is written there is memory, and others need some.

    Raises:
        OSError: none has room.
    """
    size = sum(memoryview(part).nbytes for part in parts)
    for directory in directories[:-1]:
        try:
            system = os.statvfs(directory)
            left_bytes = system.f_bavail * system.f_frsize - size
            if left_bytes >= memory_free_part * system.f_blocks * system.f_frsize:
                return files.write(directory, name, writer, parts)
        except OSError:
            continue  # another writer was faster; the next place is tried
    return files.write(directories[-1], name, writer, parts)


def sweep_dead(among: Sequence[Path] | None = None) -> None:
    """Remove the stores of this user whose nannies have ended without doing so."""
    for root in roots() if among is None else among:
        with contextlib.suppress(OSError, StartError):  # not there; or not ours, so nothing is
            check_private(root)
            for directory in list(root.iterdir()):
                fd = _lock(directory)
                if fd is not None:
                    _remove(directory)
                    os.close(fd)
            _remove_if_empty(root)


def _lock(directory: Path) -> int | None:
    """Lock `directory`, until the descriptor is closed; None if somebody has, or it is gone."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _remove_if_empty(root: Path) -> None:
    with contextlib.suppress(OSError):  # others have stores there
        root.rmdir()


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
