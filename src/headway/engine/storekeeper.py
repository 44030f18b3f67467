"""A nanny's store of large values: made with it, swept after its engines, removed with it.

Whether a value is needed is for the scheduler to say, which names those that are not (DropValues).
What it can't name, since nobody told it of them, is found by taking stock: after the death of an
engine, when the controller was away, and now and then, it is told all that is there. The same for
what the cluster's hosts share, by a janitor in a thread of its own.

What this file must not know: what is in a value.
"""

from __future__ import annotations

import contextlib
import socket as net
import sys
from collections.abc import Sequence

from headway.config import ValuesConfig, WireConfig
from headway.core.events import StoreId
from headway.errors import StartError
from headway.values.janitor import Janitor
from headway.values.server import ValueServer
from headway.values.shared import open_shared
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
        self._token = token
        self._janitor: Janitor | None = None
        self._touch_at_s = NEVER_S
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

    def share(self, url: str, cluster: str, now_s: float) -> None:
        """Values are kept where the hosts of `cluster` share them; "" for nowhere."""
        if url == (self._janitor.url if self._janitor is not None else ""):
            return
        self._stop_sharing()
        if not url:
            return
        self._janitor = Janitor(url, cluster)
        self._touch_at_s = now_s
        with contextlib.suppress(StartError):  # the janitor says so
            directory = open_shared(url, cluster).directory
            if self._store is not None and directory is not None:
                self._store.shared = directory / self._token

    def _stop_sharing(self) -> None:
        if self._janitor is not None:
            self._janitor.close()
            self._janitor = None
        self._touch_at_s = NEVER_S

    def close(self) -> None:
        """Remove all of it. What is shared stays, for others: it goes with the cluster."""
        self._stop_sharing()
        if self._server is not None:
            self._server.close()
        if self._store is not None:
            self._store.close()

    def drop(self, names: Sequence[str], store: str = "") -> None:
        """Nobody needs these values any more; of another `store`, whose nanny is gone, those that
        are shared."""
        if self._store is not None and store in ("", self._token):
            for name in names:
                self._store.remove(name)
        if self._janitor is not None:
            self._janitor.remove(StoreId(store or self._token), names)

    def engine_ended(self, token: str, now_s: float) -> None:
        """An engine has ended: what it was writing is no value, and of what it has written the
        controller may not have heard."""
        if self._store is not None:
            self._store.sweep(token)
        if self._janitor is not None:
            self._janitor.sweep(StoreId(self._token), token)
        self._stock_at_s = min(self._stock_at_s, now_s + self._config.stocktaking_after_s)

    def take_stock(self, now_s: float) -> None:
        """The controller was away, and may have named values that are not needed."""
        self._stock_at_s = min(self._stock_at_s, now_s)

    def take_stock_of(self, store: str) -> None:
        """The nanny of another `store` is gone, and what it left where values are shared is ours
        to list."""
        if self._janitor is not None:
            self._janitor.sweep(StoreId(store), "*")
            self._janitor.take_stock(StoreId(store))

    def stock(self, now_s: float) -> list[m.Stock]:
        """What to tell the controller of what is here, where it is time for that."""
        found = []
        if self._janitor is not None:
            if now_s >= self._touch_at_s:
                self._touch_at_s = now_s + self._config.alive_every_s
                self._janitor.touch()
            found += [m.Stock(names, store) for store, names in self._janitor.found()]
        if now_s < self._stock_at_s:
            return found
        self._stock_at_s = now_s + self._config.stocktaking_every_s
        if self._janitor is not None:
            self._janitor.take_stock(StoreId(self._token))
        if self._store is not None and (names := self._store.names()):
            found.append(m.Stock(names))
        return found
