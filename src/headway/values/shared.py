"""Values where every host can read them: in a directory that hosts share, or in an object store.

A cluster has a folder of its own there, by its random name, and in it one for each nanny's store:

    file:///shared/headway-values-1000/CLUSTER/STORE/NAME      a directory: files, as in any store
    s3://bucket/prefix/headway-values/CLUSTER/STORE/NAME       anything that fsspec opens

Who removes what: a value, its nanny, or another one where that is gone; a whole folder, the
controller at the cluster's end. Locks do not work on every file system, and not at all in an
object store: so whoever lives writes the time into `.alive`, now and then, and a folder in which
nobody has for a day is removed by the next cluster in the same place.

What this file must not know: which values are needed, threads, sockets.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from headway.core.events import StoreId
from headway.errors import StartError, ValueLost
from headway.values import files
from headway.values.layout import Buffer, lay_out
from headway.wire.connection import check_private

#: A folder whose `.alive` is older is that of a cluster that could not remove it. Long, since the
#: clocks of hosts differ, and a durable cluster may be away for a night.
DEAD_AFTER_S = 24 * 3600.0
_ALIVE = ".alive"
_FOLDER = "headway-values"
_URL_CHARS_MAX = 1_000
#: Protocols of what one process alone can read.
_OF_ONE_PROCESS = ("memory",)


class Shared(Protocol):
    """The folder of one cluster. Whatever fails raises OSError, StartError, or what fsspec raises.

    `store` is that of a nanny.
    """

    @property
    def directory(self) -> Path | None:
        """Where it is, if it is a directory on this host as well."""

    def write(
        self, store: StoreId, name: str, writer: str, parts: Sequence[Buffer]
    ) -> tuple[str, int]:
        """Keep a value; returns where others find it, and its bytes."""

    def remove(self, store: StoreId, names: Iterable[str]) -> None:
        """Remove values; one that is not there is no error."""

    def names(self, store: StoreId) -> list[str]:
        """The values that are there, whole."""

    def sweep(self, store: StoreId, writer: str) -> None:
        """Remove what `writer`, which has ended, left unfinished; of "*", what anybody did."""

    def touch(self) -> None:
        """Say that this cluster lives."""

    def sweep_dead(self) -> None:
        """Remove the folders of clusters that nobody has touched for long."""

    def remove_all(self) -> None:
        """Remove the folder, with all that is in it: the cluster has ended."""


def check_url(told: str) -> str:
    """The URL of a place for values, or the path of a directory, as a URL.

    Raises:
        ValueError: it is neither, or no other process could read what is there.
    """
    if not told or len(told) > _URL_CHARS_MAX:
        raise ValueError(f"value_store has {len(told):,} characters: it is a URL, or a path")
    if told.startswith("/"):
        return Path(told).as_uri()
    protocol, separator, rest = told.partition("://")
    if not separator or not protocol or "::" in told:
        raise ValueError(
            f"value_store={told!r} is neither the absolute path of a directory, nor a URL such as "
            "s3://bucket/prefix"
        )
    if protocol in _OF_ONE_PROCESS:
        raise ValueError(f"value_store={told!r}: no other process could read what is there")
    if protocol == "file" and not rest.startswith("/"):
        raise ValueError(f"value_store={told!r} needs an absolute path: file:///shared/directory")
    if not rest.strip("/"):
        raise ValueError(f"value_store={told!r} names no place of its own")
    return told.rstrip("/")


def open_shared(url: str, cluster: str) -> Shared:
    """The folder of `cluster` at `url`.

    Raises:
        StartError: what it takes to open it is not installed, or it can't be.
    """
    if url.startswith("file://"):
        return SharedDirectory(Path(unquote(urlsplit(url).path)), cluster)
    return ObjectStore(url, cluster)


def read_url(url: str, size: int) -> memoryview:
    """The value at `url`, read into memory.

    Raises:
        ValueLost: it is gone, cut, or can't be read here.
    """
    try:
        fs, path = _open(url)
        data = fs.cat_file(path)
    except FileNotFoundError:
        raise ValueLost(f"the value at {url} is gone") from None
    except Exception as error:  # of whatever library reads that protocol
        raise ValueLost(
            f"the value at {url} can't be read: {type(error).__name__}: {error}"
        ) from error
    if len(data) != size:
        raise ValueLost(f"the value at {url} has {len(data):,} bytes, and not {size:,}")
    return memoryview(data).toreadonly()


def _is_plain(name: str) -> bool:
    return bool(name) and "/" not in name and not name.startswith(".")


def _is_dead(said: bytes | None, now_s: float) -> bool | None:
    """Whether what stands in `.alive` is long ago; None if nothing is, that could be."""
    try:
        at_s = float(said or b"")
    except ValueError:
        return None
    if not abs(at_s - now_s) < 365 * DEAD_AFTER_S or at_s > now_s + DEAD_AFTER_S:
        return None  # by a clock that is wrong, or was
    return now_s - at_s > DEAD_AFTER_S


class SharedDirectory:
    """A directory that the hosts share. It must be there: where it is not mounted, nothing is
    written into what would then be one of this host alone."""

    def __init__(self, root: Path, cluster: str) -> None:
        self._root = root / f"{_FOLDER}-{os.getuid()}"
        self._cluster = self._root / cluster

    @property
    def directory(self) -> Path | None:
        return self._cluster

    def write(
        self, store: StoreId, name: str, writer: str, parts: Sequence[Buffer]
    ) -> tuple[str, int]:
        directory = self._cluster / store
        try:
            path, size = files.write(directory, name, writer, parts)
        except FileNotFoundError:
            self._make(directory)
            path, size = files.write(directory, name, writer, parts)
        return str(path), size

    def _make(self, directory: Path) -> None:
        self._root.mkdir(mode=0o700, exist_ok=True)  # not its parents: see above
        check_private(self._root)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove(self, store: StoreId, names: Iterable[str]) -> None:
        if _is_plain(store):
            for name in filter(_is_plain, names):
                files.remove(self._cluster / store, name)

    def names(self, store: StoreId) -> list[str]:
        return files.names_in(self._cluster / store) if _is_plain(store) else []

    def sweep(self, store: StoreId, writer: str) -> None:
        if _is_plain(store):
            files.sweep(self._cluster / store, writer)

    def touch(self) -> None:
        self._make(self._cluster)
        _write_alive(self._cluster)

    def sweep_dead(self) -> None:
        now_s = time.time()
        for folder in list(self._root.iterdir()):
            if folder == self._cluster or not folder.is_dir():
                continue
            said = None
            with contextlib.suppress(FileNotFoundError):
                said = (folder / _ALIVE).read_bytes()
            is_dead = _is_dead(said, now_s)
            if is_dead:
                shutil.rmtree(folder, ignore_errors=True)
            elif is_dead is None:
                _write_alive(folder)  # its day begins

    def remove_all(self) -> None:
        shutil.rmtree(self._cluster, ignore_errors=True)
        with contextlib.suppress(OSError):  # others have values there
            self._root.rmdir()


def _write_alive(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # somebody else was as fast to remove it
        (folder / _ALIVE).write_text(f"{time.time():.0f}")


class ObjectStore:
    """Anything that fsspec opens. What is in an object store is there once it is whole; what is in
    another file system may be seen before, yet nobody knows its name by then."""

    def __init__(self, url: str, cluster: str) -> None:
        self._url = f"{url}/{_FOLDER}/{cluster}"
        self._fs, self._root = _open(f"{url}/{_FOLDER}")
        self._cluster = f"{self._root}/{cluster}"

    @property
    def directory(self) -> Path | None:
        return None

    def write(
        self, store: StoreId, name: str, writer: str, parts: Sequence[Buffer]
    ) -> tuple[str, int]:
        pieces, size = lay_out(name, parts)
        path = f"{self._cluster}/{store}/{name}"
        try:
            self._write(path, pieces)
        except BaseException:  # also where the task is interrupted
            with contextlib.suppress(Exception):  # the nanny will find that nobody wants it
                self._fs.rm_file(path)
            raise
        return f"{self._url}/{store}/{name}", size

    def _write(self, path: str, pieces: Sequence[Buffer]) -> None:
        with self._create(path) as file:
            for piece in pieces:
                file.write(piece)

    def _create(self, path: str) -> Any:
        try:
            return self._fs.open(path, "wb")
        except FileNotFoundError:  # one that has folders: not an object store
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            return self._fs.open(path, "wb")

    def remove(self, store: StoreId, names: Iterable[str]) -> None:
        if _is_plain(store):
            for name in filter(_is_plain, names):
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(f"{self._cluster}/{store}/{name}")

    def names(self, store: StoreId) -> list[str]:
        found = self._list(f"{self._cluster}/{store}") if _is_plain(store) else []
        return [name for name in found if _is_plain(name)]

    def _list(self, path: str) -> list[str]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in found]

    def sweep(self, store: StoreId, writer: str) -> None:
        """Nothing: what was not finished has a name that nobody knows, and is found by `names`."""

    def touch(self) -> None:
        self._write(f"{self._cluster}/{_ALIVE}", [f"{time.time():.0f}".encode()])

    def sweep_dead(self) -> None:
        now_s = time.time()
        for cluster in self._list(self._root):
            folder = f"{self._root}/{cluster}"
            if folder == self._cluster:
                continue
            said = None
            with contextlib.suppress(FileNotFoundError):
                said = self._fs.cat_file(f"{folder}/{_ALIVE}")
            is_dead = _is_dead(said, now_s)
            if is_dead:
                self._remove_folder(folder)
            elif is_dead is None:
                self._write(f"{folder}/{_ALIVE}", [f"{now_s:.0f}".encode()])

    def remove_all(self) -> None:
        self._remove_folder(self._cluster)

    def _remove_folder(self, folder: str) -> None:
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(folder, recursive=True)


def _open(url: str) -> tuple[Any, str]:
    """The file system of `url`, and the path in it.

    Raises:
        StartError: fsspec is not installed, or does not know the protocol, or what it takes for
            that is not installed.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise StartError(
            f'the value store {url} needs fsspec: pip install "headway[fsspec]"'
        ) from None
    try:
        fs, path = url_to_fs(url)
    except (ImportError, ValueError) as error:  # what fsspec says which package opens it
        raise StartError(f"the value store {url} can't be opened: {error}") from None
    return fs, str(path).rstrip("/")
