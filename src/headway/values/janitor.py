"""What a nanny does in a shared place for values, in a thread of its own.

A network's file system may take its time, or hang, while the nanny must go on to answer: it
leaves orders here, and takes what was found. Orders are bounded: one that finds no room is
forgotten, and the next stocktaking finds what it would have removed.

What this file must not know: which values are needed, and the controller.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable

from headway.core.events import StoreId
from headway.values.shared import Shared, open_shared

_ORDERS_MAX = 1_000
_JOIN_S = 5.0

#: A store, and the names of the values in it.
Stock = tuple[StoreId, list[str]]
_Job = Callable[[Shared], None]


class Janitor:
    """Removes and lists values of the cluster's folder. Must be closed.

    Parameters:
        url: where values are shared.
        cluster: the cluster's random name.
    """

    def __init__(self, url: str, cluster: str) -> None:
        self.url = url
        self._cluster = cluster
        self._shared: Shared | None = None
        self._orders: queue.Queue[_Job | None] = queue.Queue(_ORDERS_MAX)
        self._found: deque[Stock] = deque(maxlen=_ORDERS_MAX)
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="headway-janitor", daemon=True)
        self._thread.start()

    def remove(self, store: StoreId, names: Iterable[str]) -> None:
        """Remove these values."""
        named = list(names)
        self._order(lambda shared: shared.remove(store, named))

    def sweep(self, store: StoreId, writer: str) -> None:
        """Remove what an engine that has ended left unfinished; of "*", what anybody did."""
        self._order(lambda shared: shared.sweep(store, writer))

    def touch(self) -> None:
        """Say that this cluster lives."""
        self._order(lambda shared: shared.touch())

    def take_stock(self, store: StoreId) -> None:
        """List the values of `store`, for `found`."""
        self._order(lambda shared: self._found.append((store, shared.names(store))))

    def found(self) -> list[Stock]:
        """What was listed since this was last asked, where there is anything."""
        taken = [self._found.popleft() for _ in range(len(self._found))]
        return [stock for stock in taken if stock[1]]

    def close(self) -> None:
        """Do what was ordered, if that does not take long, and end."""
        self._order(None)
        self._thread.join(_JOIN_S)

    def _order(self, job: _Job | None) -> None:
        try:
            self._orders.put_nowait(job)
        except queue.Full:
            self._say("it is too slow: some of what nobody needs stays until it is listed again")

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        # They are the main thread's.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD})
        while (job := self._orders.get()) is not None:
            try:
                if self._shared is None:
                    self._shared = open_shared(self.url, self._cluster)
                job(self._shared)
            except Exception as error:  # of whatever library opens it; and the next job may work
                self._say(f"{type(error).__name__}: {error}")

    def _say(self, why: str) -> None:
        """Say why something could not be done; not the same again and again."""
        if why != self._said:
            self._said = why
            sys.stderr.write(f"the value store {self.url}: {why}\n")
