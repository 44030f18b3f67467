"""Which engines stand beside a store: where a task whose large inputs lie there runs best.

The scheme chooses as ever; but for a task with large inputs, an engine beside most of their bytes
is taken instead, if one has room and no more to do than the one that was chosen. So a free engine
there comes first, and nobody ever waits for one. With one store there is nothing to choose.

A choice costs O(1): a bounded number of inputs and of engines is looked at.

What this file must not know: lanes, and why a task is ready.
"""

from __future__ import annotations

from itertools import islice

from headway.core.events import EngineId, StoredValue, StoreId
from headway.core.index import EngineIndex
from headway.core.records import Engine, Task

#: So many inputs of a task are looked at, and so many engines beside a store: as many as most
#: hosts have.
_INPUTS_MAX = 16
_ENGINES_MAX = 64


class Beside:
    """The engines that are here, by the store of their results."""

    def __init__(self) -> None:
        self._engines: dict[StoreId, dict[EngineId, Engine]] = {}

    def joined(self, engine: Engine) -> None:
        """`engine` is here."""
        if engine.store:
            self._engines.setdefault(engine.store, {})[engine.id] = engine

    def left(self, engine: Engine) -> None:
        """It is not any more."""
        engines = self._engines.get(engine.store)
        if engines is not None:
            engines.pop(engine.id, None)
            if not engines:
                del self._engines[engine.store]

    @property
    def has_choice(self) -> bool:
        """Whether it makes a difference where a task runs."""
        return len(self._engines) > 1

    def nearer(self, task: Task, chosen: Engine, room: EngineIndex) -> Engine:
        """The engine for `task`: `chosen` by the scheme, or a better one of those in `room`."""
        store = _store_of_most(task)
        if store is None or store == chosen.store:
            return chosen
        engines = islice(self._engines.get(store, {}).values(), _ENGINES_MAX)
        fit = [engine for engine in engines if engine.load <= chosen.load and engine in room]
        return min(fit, key=lambda engine: (engine.load, engine.stamp), default=chosen)


def _store_of_most(task: Task) -> StoreId | None:
    """The store that has most bytes of the inputs of `task`; None if none has any."""
    found: dict[StoreId, int] = {}
    for node in islice(task.inputs or (), _INPUTS_MAX):
        value = node.result
        if isinstance(value, StoredValue):
            found[value.store] = found.get(value.store, 0) + value.size
    return max(found, key=lambda store: (found[store], store), default=None)
