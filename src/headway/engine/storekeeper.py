"""A nanny's store of large values: made with it, swept after its engines, removed with it.

Whether a value is needed is for the scheduler to say, which names those that are not (DropValues).
What it can't name, since nobody told it of them, is found by taking stock: after the death of an
engine, when the controller was away, and now and then, it is told all that is there.

What this file must not know: what is in a value.
"""

from __future__ import annotations

import socket as net
import sys
from collections.abc import Iterable

from headway.config import ValuesConfig, WireConfig
from headway.core.events import StoreId
from headway.errors import StartError
from headway.values.server import ValueServer
from headway.values.store import Store
from headway.values.writing import StoreInfo
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo

NEVER_S = float("inf")


class Storekeeper:
    """The store of the nanny `token`, and who serves it to other hosts. Must be closed."""

    def __init__(self, token: str, info: ConnectionInfo, wire: WireConfig) -> None:
        """Make it. Where that can't be done, large results travel as others do."""
        self._config = ValuesConfig()
        self._store: Store | None = None
        self._server: ValueServer | None = None
        self._stock_at_s = NEVER_S
        #: What engines are told of it; None where there is none.
        self.info: StoreInfo | None = None
        try:
            self._store = store = Store(token)
        except StartError as error:
            sys.stderr.write(f"{error}\n")
            return
        try:
            self._server = server = ValueServer(store, info, wire)
            address, key = server.address, server.key
        except (StartError, OSError) as error:
            sys.stderr.write(f"large values of this host can't be read from others: {error}\n")
            address, key = "", None
        directories = [str(directory) for directory in store.directories]
        self.info = StoreInfo(StoreId(token), directories, net.gethostname(), address, key)

    def close(self) -> None:
        """Remove all of it."""
        if self._server is not None:
            self._server.close()
        if self._store is not None:
            self._store.close()

    def drop(self, names: Iterable[str]) -> None:
        """Nobody needs these values any more."""
        if self._store is not None:
            for name in names:
                self._store.remove(name)

    def engine_ended(self, token: str, now_s: float) -> None:
        """An engine has ended: what it was writing is no value, and of what it has written the
        controller may not have heard."""
        if self._store is not None:
            self._store.sweep(token)
        self._stock_at_s = min(self._stock_at_s, now_s + self._config.stocktaking_after_s)

    def take_stock(self, now_s: float) -> None:
        """The controller was away, and may have named values that are not needed."""
        self._stock_at_s = min(self._stock_at_s, now_s)

    def stock(self, now_s: float) -> m.Stock | None:
        """What to tell the controller of what is here; None if it is not time for that."""
        if now_s < self._stock_at_s or self._store is None:
            return None
        self._stock_at_s = now_s + self._config.stocktaking_every_s
        names = self._store.names()
        return m.Stock(names) if names else None
