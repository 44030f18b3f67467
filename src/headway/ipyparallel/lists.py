"""The seed's two lists, `targets` and `loads`, and placing tasks by them.

For subclasses that keep other orders or other loads, and for schemes of the user's own: whatever
they do to the lists decides. A task costs O(lanes x engines) to place in this way, where the
core's own index costs O(1). What this file must not know: sockets, messages, replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from headway.core.events import EngineId
from headway.core.ready import Lane
from headway.core.schemes import checked_choice
from headway.ipyparallel.bridge import Bridge, Job
from headway.ipyparallel.schemes import Scheme, leastload


class EngineLists:
    """`targets` and `loads`, made from what the core knows, and kept from then on.

    Parameters:
        report: called with what went wrong when the scheme failed.
    """

    def __init__(self, bridge: Bridge, report: Callable[[str], None]) -> None:
        self._bridge = bridge
        self._report = report
        self.scheme: Scheme = leastload
        core = bridge.core
        present = [
            (engine.stamp, entry.uuid, engine.load)
            for entry in bridge.engines
            if (engine := core.engines.get(entry.id)) is not None and entry.leaving_at_s is None
        ]
        present.sort()
        self.targets: list[bytes] = [uuid for _, uuid, _ in present]
        self.loads: list[int] = [load for _, _, load in present]
        # Loads are the lists' to bound now, and may be other than the numbers of tasks.
        core.set_hwm(0)

    def joined(self, uuid: bytes) -> None:
        """A new engine is at the head of the line."""
        if uuid not in self.targets:
            self.targets.insert(0, uuid)
            self.loads.insert(0, 0)

    def left(self, uuid: bytes) -> None:
        """No more tasks for this engine."""
        idx = self.index_of(uuid)
        if idx is not None:
            del self.targets[idx], self.loads[idx]

    def index_of(self, uuid: bytes) -> int | None:
        """Where `uuid` is in the lists, None if it is not."""
        try:
            return self.targets.index(uuid)
        except ValueError:
            return None

    def indices_for(self, job: Job, available: Sequence[int]) -> list[int]:
        """Those of the available engines on which `job`, if it is ready, may run now."""
        task = self._bridge.task(job)
        if task is None or task.lane is None:
            return []
        return self._admitted(task.lane, available)

    def choose(self, indices: Sequence[int]) -> int:
        """The one of `indices` that the scheme chooses by their loads."""
        loads = [self.loads[idx] for idx in indices]
        try:
            choice = checked_choice(self._name(), self.scheme(list(loads)), len(loads))
        except Exception as failure:  # a user's function may raise anything
            self._report(f"{type(failure).__name__}: {failure}")
            choice = leastload(loads)
        return indices[choice]

    def placements(
        self, available: Callable[[], Sequence[int]]
    ) -> Iterator[tuple[Job, Sequence[int]]]:
        """Each job that can be placed, with the engines it may be placed on, in turn. The caller
        places it before it asks for the next."""
        #: Lanes whose head was not placed, and the engines that it could have been placed on.
        refused: dict[Lane, set[EngineId]] = {}
        while free := available():
            for lane in sorted(self._waiting_lanes(), key=Lane.order_key):
                indices = self._admitted(lane, free)
                room, before = {engine.id for engine in lane.room}, refused.get(lane)
                # Again only if one was ruled out meanwhile, since it could not be reached.
                if not indices or (before is not None and not room < before):
                    continue
                task = lane.head()
                yield self._bridge.job_of(task.id), indices
                if task.lane is lane:
                    refused[lane] = room
                break
            else:
                return

    def _waiting_lanes(self) -> Iterator[Lane]:
        return (lane for lane in self._bridge.core.lanes if lane.count)

    def _admitted(self, lane: Lane, available: Sequence[int]) -> list[int]:
        room = {self._bridge.uuid_of(engine.id) for engine in lane.room}
        targets = self.targets
        return [idx for idx in available if idx < len(targets) and targets[idx] in room]

    def _name(self) -> str:
        return getattr(self.scheme, "__name__", repr(self.scheme))
