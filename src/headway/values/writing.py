"""Keeping a result: an engine writes it into its nanny's store, straight from where it lies; or, if
the cluster has one, into the place that its hosts share.

What this file must not know: what is in a pickle, and who will read it.
"""

from __future__ import annotations

import contextlib
import errno
import socket as net
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from headway.config import ValuesConfig
from headway.core.events import StoredValue, StoreId
from headway.errors import StartError
from headway.values import store
from headway.values.layout import Buffer
from headway.values.shared import Shared, open_shared


class StoreInfo(Struct, frozen=True):
    """A store, as its nanny tells its engines of it, in JSON."""

    store: StoreId
    directories: list[str]
    host: str
    address: str = ""
    key: str | None = None


class Writer:
    """Writes values for one engine.

    Parameters:
        info: the store of its nanny; without directories where it could make none.
        token: the engine's.
    """

    def __init__(self, info: StoreInfo, token: str, config: ValuesConfig) -> None:
        self._info = info
        self._token = token
        self._config = config
        self._directories = [Path(directory) for directory in info.directories]
        self._shared: Shared | None = None
        self._shared_url = ""
        #: The last reason why nothing could be written there.
        self._said = ""

    def share(self, url: str, cluster: str) -> None:
        """From now on values go to where the hosts of `cluster` share them, if that works."""
        if url == self._shared_url:
            return
        self._shared_url, self._shared = url, None
        try:
            self._shared = open_shared(url, cluster) if url else None
        except StartError as error:
            self._say(str(error))

    def write(self, name: str, parts: Sequence[Buffer]) -> StoredValue:
        """Keep the value `name`: its pickle, and its buffers.

        Raises:
            OSError: there is no room for it.
        """
        value = self._write_shared(name, parts) if self._shared is not None else None
        return value or self._write_here(name, parts)

    def _write_shared(self, name: str, parts: Sequence[Buffer]) -> StoredValue | None:
        info = self._info
        assert self._shared is not None
        try:
            path, size = self._shared.write(info.store, name, self._token, parts)
        except Exception as error:  # of whatever library writes there: the host's own store does it
            self._say(f"{self._shared_url}: {type(error).__name__}: {error}")
            return None
        if self._shared.directory is None:
            return StoredValue(info.store, name, size, path, info.host or net.gethostname())
        # Where that directory is not mounted, it is fetched from here.
        return StoredValue(info.store, name, size, path, info.host, info.address, info.key)

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            sys.stderr.write(f"large results stay on this host: {why}\n")

    def _write_here(self, name: str, parts: Sequence[Buffer]) -> StoredValue:
        if not self._directories:
            raise OSError(errno.ENODEV, "it has none")
        path, size = store.write(
            self._directories, name, self._token, parts, self._config.memory_free_part
        )
        info = self._info
        return StoredValue(info.store, name, size, str(path), info.host, info.address, info.key)

    def remove(self, value: StoredValue) -> None:
        """`value` will not be told of: its run was interrupted after all."""
        # The nanny will find that nobody wants it.
        if "://" in value.path:
            with contextlib.suppress(Exception):
                assert self._shared is not None
                self._shared.remove(value.store, [value.name])
            return
        with contextlib.suppress(OSError):
            Path(value.path).unlink(missing_ok=True)
