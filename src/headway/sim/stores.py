"""Simulated stores of large values: what each living nanny keeps, by the value's name.

What this file must not know: who needs a value.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway.core.events import StoredValue, StoreId, Value
from headway.sim.world import World


class Stores:
    """The stores of all nannies: whoever is not cut off from the world reads from any of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stores: dict[StoreId, dict[str, bytes]] = {}

    def keep(self, store: StoreId, name: str, value: bytes) -> StoredValue:
        """An engine writes a value."""
        self._stores.setdefault(store, {})[name] = value
        return StoredValue(store, name, len(value))

    def read(self, value: Value) -> bytes | None:
        """A value, or None if it is lost."""
        if isinstance(value, StoredValue):
            return self._stores.get(value.store, {}).get(value.name)
        return value

    def missing(self, values: Sequence[Value]) -> list[str]:
        """The names of those that are lost."""
        return [v.name for v in values if isinstance(v, StoredValue) and self.read(v) is None]

    def names(self, store: StoreId) -> list[str]:
        """What a store has."""
        return list(self._stores.get(store, {}))

    def drop(self, store: StoreId, names: Sequence[str]) -> None:
        """A store removes values."""
        for name in names:
            self._stores.get(store, {}).pop(name, None)

    def end(self, store: StoreId) -> None:
        """A store is gone, with its nanny."""
        self._stores.pop(store, None)

    def lose_some(self) -> None:
        """Somebody removes files."""
        for store, values in self._stores.items():
            for name in [name for name in values if self._world.rng.random() < 0.3]:
                self._world.say(f"the value {name} is lost from {store}")
                del values[name]

    def left(self) -> list[str]:
        """All values that are in any store."""
        return [name for values in self._stores.values() for name in values]
