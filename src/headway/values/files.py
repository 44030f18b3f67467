"""The files of values: written once, read by mapping, removed. One file a value.

Rule 1: a file has its name only when it is whole: it is written under another, in the same
directory, and renamed. Rule 2: it is never changed after that, so that whoever has mapped it may go
on reading; also once it is removed, since the system keeps what is mapped. It does not where
another host removes a file of a network's file system: what is there is copied, not mapped. Rule 3:
what is read is a file of ours that only we can write to, since it is a pickle.

What this file must not know: which values are needed, and sockets.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from headway.errors import ValueLost
from headway.values.layout import Buffer, lay_out

#: What a file is called while it is written: this, the token of its writer, a dot, its name.
_UNFINISHED = ".writing-"
#: Pieces that one call writes, and bytes: what every system takes.
_PIECES_MAX = 1024
_WRITE_BYTES_MAX = 1 << 30
#: File systems that serve several hosts, and may forget a file that one of them has mapped when
#: another removes it. Those for large machines (Lustre, GPFS) are not among them: they don't.
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph", "vboxsf"}
)


def write(directory: Path, name: str, writer: str, parts: Sequence[Buffer]) -> tuple[Path, int]:
    """Write a value, straight from its buffers; returns where it is and its bytes.

    Parameters:
        writer: the token of who writes; see `sweep`.

    Raises:
        OSError: there is no room, or no directory.
    """
    pieces, size = lay_out(name, parts)
    unfinished = directory / f"{_UNFINISHED}{writer}.{name}"
    path = directory / name
    try:
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, pieces)
        finally:
            os.close(fd)
        unfinished.rename(path)
    except BaseException:  # also where the task is interrupted
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    return path, size


def _write_all(fd: int, pieces: Sequence[Buffer]) -> None:
    left = [memoryview(piece).cast("B") for piece in pieces if memoryview(piece).nbytes]
    at = 0
    while at < len(left):
        some: list[memoryview] = []
        room = _WRITE_BYTES_MAX
        for piece in left[at : at + _PIECES_MAX]:
            some.append(piece[:room])
            room -= len(some[-1])
            if room <= 0:
                break
        written = os.writev(fd, some)
        while at < len(left) and written >= len(left[at]):
            written -= len(left[at])
            at += 1
        if written:
            left[at] = left[at][written:]


def map_file(path: str | Path, may_copy: bool = True) -> memoryview:
    """The whole file at `path`, mapped: it costs no memory of its own, and can't be written to.

    Parameters:
        may_copy: whether one that can't be mapped, see rule 2, is read into memory instead.

    Raises:
        FileNotFoundError: there is none; it may be on another host. Or it would be copied.
        ValueLost: it is not a file of ours alone, or can't be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(errno.ENOENT, f"no value at {path}") from None
    except OSError as error:
        raise ValueLost(f"the value at {path} can't be read: {error.strerror}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueLost(f"{path} is no regular file, so no value")
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ValueLost(
                f"{path} belongs to user {found.st_uid} and has mode "
                f"{stat.S_IMODE(found.st_mode):04o}: a value is a file that only we can read"
            )
        if not found.st_size:
            raise ValueLost(f"the value at {path} was cut: it is empty")
        if keeps_removed(found.st_dev):
            return memoryview(_map(fd, found.st_size))
        if not may_copy:
            raise FileNotFoundError(errno.ENOENT, f"the value at {path} would be copied")
        return memoryview(b"".join(_read_all(fd, found.st_size)))
    finally:
        os.close(fd)


@functools.cache
def keeps_removed(device: int) -> bool:
    """Whether the file system with that `st_dev` keeps a file that is mapped, whoever removes it.

    What is not in the table is taken for one of this host's own: parts of a btrfs have numbers of
    their own.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            if fields.split()[2:3] == [number]:
                kind = rest.partition(" ")[0]
                return kind not in _NETWORK and not kind.startswith("fuse")
    return True


def _map(fd: int, size: int) -> mmap.mmap | bytes:
    try:
        if sys.version_info >= (3, 13):
            return mmap.mmap(fd, size, access=mmap.ACCESS_READ, trackfd=False)
        return mmap.mmap(fd, size, access=mmap.ACCESS_READ)
    except OSError as error:
        # Before Python 3.13 a mapping keeps a descriptor of its own: when there are no more, a
        # copy does as well.
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise ValueLost(f"a value can't be mapped: {error.strerror}") from None
        return b"".join(_read_all(fd, size))


def _read_all(fd: int, size: int) -> Iterator[bytes]:
    at = 0
    while at < size:
        data = os.pread(fd, min(size - at, _WRITE_BYTES_MAX), at)
        if not data:
            return  # cut: seen by who takes it apart
        at += len(data)
        yield data


def remove(directory: Path, name: str) -> None:
    """Remove a value; one that is not there is no error."""
    if os.sep not in name:
        (directory / name).unlink(missing_ok=True)


def names_in(directory: Path) -> list[str]:
    """The values that are there, whole."""
    with contextlib.suppress(FileNotFoundError):
        return [entry.name for entry in os.scandir(directory) if not entry.name.startswith(".")]
    return []


def sweep(directory: Path, writer: str) -> None:
    """Remove what `writer`, which has ended, left unfinished."""
    for path in directory.glob(f"{_UNFINISHED}{writer}.*"):
        path.unlink(missing_ok=True)
