"""When tasks queued on one engine are asked back, to run on another.

Tasks are sent to an engine before it is done with the ones before, so that it never waits. If
the one it runs takes long, those behind it wait although another engine may be idle. So: while
some engine is idle, an engine with tasks queued that has shown no progress for `recall_after_s`
is asked to give back half of them, the last first. It answers with those that it had not begun
(event: GaveBack); only then do they run elsewhere, so that none runs twice.

Engines that hold two tasks or more are kept in the order of their last sign of progress: who is
due stands first, whatever the number of engines.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from math import inf

from headway.core.commands import Command, Recall
from headway.core.events import EngineId
from headway.core.ready import Lanes
from headway.core.records import Engine, Task

#: How many of an engine's tasks are looked at, at most, to find some that may go elsewhere.
_LOOK_MAX = 1024


class Recalls:
    """Which engines are idle, and which have tasks queued, the longest silent first."""

    def __init__(self, lanes: Lanes, recall_after_s: float) -> None:
        self._lanes = lanes
        self._recall_after_s = recall_after_s
        self._idle: dict[EngineId, Engine] = {}
        #: Engines with tasks queued, and when each was last seen to progress (or asked).
        self._queued: OrderedDict[EngineId, float] = OrderedDict()
        self._engines: dict[EngineId, Engine] = {}

    def engine_changed(self, engine: Engine) -> None:
        """The load of `engine`, its limit or its progress changed."""
        load = len(engine.assigned)
        if load == 0 and engine.limit:
            self._idle[engine.id] = engine
        else:
            self._idle.pop(engine.id, None)
        if load < 2 or engine.recalling:
            if self._queued.pop(engine.id, None) is not None:
                del self._engines[engine.id]
        elif self._queued.get(engine.id, -1.0) < engine.progress_at_s:
            self._queued[engine.id] = engine.progress_at_s
            self._queued.move_to_end(engine.id)
            self._engines[engine.id] = engine

    def engine_left(self, engine: Engine) -> None:
        """`engine` is gone."""
        self._idle.pop(engine.id, None)
        if self._queued.pop(engine.id, None) is not None:
            del self._engines[engine.id]

    def standing(self) -> tuple[list[EngineId], list[tuple[EngineId, float]]]:
        """The idle engines, and those with tasks queued, each with its time: both in order."""
        return list(self._idle), list(self._queued.items())

    def put_back(self, idle: Iterable[Engine], queued: Iterable[tuple[Engine, float]]) -> None:
        """These stand behind the others again, as in a snapshot."""
        self._idle.update((engine.id, engine) for engine in idle)
        for engine, at_s in queued:
            self._queued[engine.id] = at_s
            self._engines[engine.id] = engine

    def next_s(self) -> float | None:
        """When an engine will have been silent for too long while another idles; None for never."""
        if not self._idle or not self._queued or self._recall_after_s == inf:
            return None
        return next(iter(self._queued.values())) + self._recall_after_s

    def recall_due(self, now: float, out: list[Command]) -> None:
        """For each idle engine, ask one silent engine to give tasks back."""
        at_s = self.next_s()
        if at_s is None or at_s > now:
            return  # before the idle engines are listed, of which there may be many
        for idle in list(self._idle.values()):
            at_s = self.next_s()
            if at_s is None or at_s > now:
                return
            silent_id = next(iter(self._queued))
            silent = self._engines[silent_id]
            tasks = self._movable(silent, idle)
            if tasks:
                self._ask(silent, tasks, out)
            else:
                # Nothing there that may run on the idle one: look again in a while.
                self._queued[silent_id] = now
                self._queued.move_to_end(silent_id)

    def recall_all(self, engine: Engine, out: list[Command]) -> None:
        """Ask `engine` to give back whatever it has not begun."""
        if engine.assigned:
            self._ask(engine, list(engine.assigned.values()), out)

    def _ask(self, engine: Engine, tasks: list[Task], out: list[Command]) -> None:
        engine.recalling = True
        self.engine_changed(engine)
        out.append(Recall(engine.id, [task.id for task in tasks]))

    def _movable(self, silent: Engine, idle: Engine) -> list[Task]:
        """Up to half of what is queued on `silent`, in order, that may run on `idle` now."""
        wanted = max(1, min(len(silent.assigned) // 2, int(min(idle.limit, _LOOK_MAX))))
        found: list[Task] = []
        # All but the first in line, which is the one that runs.
        look_max = min(len(silent.assigned) - 1, _LOOK_MAX)
        for task in islice(reversed(silent.assigned.values()), look_max):
            if len(found) == wanted:
                break
            if not task.cancelled and idle in self._lanes.lane_of(task).room:
                found.append(task)
        found.reverse()
        return found
