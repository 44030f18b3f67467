"""Which results are kept in stores, as references to them: by store and by name.

A value is in here as long as the task's record refers to it. When it leaves, its store is told
to remove it (DropValue). Everything costs O(1) a value.

What this file must not know: when a value is not needed any more; files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headway.core.commands import Command, DropValue
from headway.core.events import StoredValue, StoreId, TaskId, parse_value_name
from headway.core.records import Task
from headway.core.states import ON_ENGINE_STATES


class StoredValues:
    """The tasks whose results are in stores."""

    def __init__(self) -> None:
        self._stores: dict[StoreId, dict[str, Task]] = {}
        self._bytes: dict[StoreId, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._stores.values()))

    @property
    def bytes(self) -> int:
        """The bytes of all of them."""
        return sum(self._bytes.values())

    def bytes_in(self, store: StoreId) -> int:
        """The bytes of those in one store."""
        return self._bytes.get(store, 0)

    def put(self, task: Task) -> None:
        """`task` has ended with a stored value."""
        value = task.result
        assert isinstance(value, StoredValue)
        names = self._stores.setdefault(value.store, {})
        if names.setdefault(value.name, task) is not task:
            return  # a peer named one value as that of two tasks: it is the first one's
        self._bytes[value.store] = self._bytes.get(value.store, 0) + value.size

    def drop(self, task: Task, out: list[Command]) -> None:
        """The value of `task` is not needed any more, if it is a stored one."""
        value = task.result
        if not isinstance(value, StoredValue):
            return
        task.result = None
        names = self._stores.get(value.store, {})
        if names.get(value.name) is not task:
            return
        del names[value.name]
        self._bytes[value.store] -= value.size
        if not names:
            del self._stores[value.store], self._bytes[value.store]
        out.append(DropValue(value.store, value.name))

    def drop_stale(self, value: object, out: list[Command]) -> None:
        """An outcome that does not count has left a value: nobody will ever ask for it."""
        if isinstance(value, StoredValue) and value.name not in self._stores.get(value.store, ()):
            out.append(DropValue(value.store, value.name))

    def unneeded(
        self, store: StoreId, names: Iterable[str], tasks: Mapping[TaskId, Task]
    ) -> list[str]:
        """Those of `names`, which a store has, that nobody will ever ask for.

        One whose attempt is on an engine is needed: its outcome is on its way.
        """
        known = self._stores.get(store, {})
        return [name for name in names if name not in known and not _is_coming(name, tasks)]


def _is_coming(name: str, tasks: Mapping[TaskId, Task]) -> bool:
    try:
        task_id, attempt = parse_value_name(name)
    except ValueError:
        return False
    task = tasks.get(task_id)
    return task is not None and task.state in ON_ENGINE_STATES and task.attempt == attempt
