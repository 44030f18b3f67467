"""Keeping a result: an engine writes it into its nanny's store, straight from where it lies.

What this file must not know: what is in a pickle, and who will read it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from headway.config import ValuesConfig
from headway.core.events import StoredValue, StoreId
from headway.values import store
from headway.values.layout import Buffer


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
        info: the store.
        token: the engine's.
    """

    def __init__(self, info: StoreInfo, token: str, config: ValuesConfig) -> None:
        self._info = info
        self._token = token
        self._config = config
        self._directories = [Path(directory) for directory in info.directories]

    def write(self, name: str, parts: Sequence[Buffer]) -> StoredValue:
        """Keep the value `name`: its pickle, and its buffers.

        Raises:
            OSError: there is no room for it.
        """
        path, size = store.write(
            self._directories, name, self._token, parts, self._config.memory_free_part
        )
        info = self._info
        return StoredValue(info.store, name, size, str(path), info.host, info.address, info.key)

    def remove(self, value: StoredValue) -> None:
        """`value` will not be told of: its run was interrupted after all."""
        with contextlib.suppress(OSError):  # the nanny will find that nobody wants it
            Path(value.path).unlink(missing_ok=True)
