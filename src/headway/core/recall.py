"""When tasks queued on one engine are asked back, to run on another.

Tasks are sent to an engine before it is done with the ones before, so that it never waits. If
the one it runs takes long, those behind it wait although another engine may be idle. So: while
some engine is idle, an engine with tasks queued that has shown no progress for `recall_after_s`
is asked to give back half of those that an idle engine may run, the last first. It answers with
those that it had not begun (event: GaveBack); only then do they run elsewhere, so that none runs
twice.

Engines that hold two tasks or more are kept in the order of their last sign of progress: who is
due stands first, whatever the number of engines. One that has nothing for the idle engines goes
to the end of the line; so each comes to its turn, and each of its tasks is seen in time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from math import inf
from operator import attrgetter
from typing import NamedTuple

from headway.core.commands import Command, Recall
from headway.core.events import EngineId
from headway.core.ready import Lane, Lanes
from headway.core.records import Engine, Task

#: How many of an engine's tasks are looked at in one stretch to find some that may go elsewhere.
_LOOK_MAX = 1024
#: A call looks at no further engine after so many tasks: a turn stays in milliseconds.
_LOOKS_A_CALL_MAX = 1024


class Standing(NamedTuple):
    """The idle engines, and those with tasks queued, each with its time: both in order; and how
    far the tasks of some were looked at in vain."""

    idle: list[EngineId]
    queued: list[tuple[EngineId, float]]
    looked_to: list[tuple[EngineId, int]]


class Recalls:
    """Which engines are idle, and which have tasks queued, the longest silent first."""

    def __init__(self, lanes: Lanes, recall_after_s: float) -> None:
        self._lanes = lanes
        self._recall_after_s = recall_after_s
        self._idle: dict[EngineId, Engine] = {}
        #: Engines with tasks queued, and when each was last seen to progress (or asked).
        self._queued: OrderedDict[EngineId, float] = OrderedDict()
        self._engines: dict[EngineId, Engine] = {}
        #: How far into a long queue an engine's tasks were looked at in vain.
        self._looked_to: dict[EngineId, int] = {}

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
        self._looked_to.pop(engine.id, None)
        self._idle.pop(engine.id, None)
        if self._queued.pop(engine.id, None) is not None:
            del self._engines[engine.id]

    def standing(self) -> Standing:
        """All that is remembered here, for a snapshot."""
        looked_to = sorted(self._looked_to.items())
        return Standing(list(self._idle), list(self._queued.items()), looked_to)

    def put_back(self, standing: Standing, engines: Mapping[EngineId, Engine]) -> None:
        """`engines` stand behind the others again, as in a snapshot."""
        self._idle.update((engine, engines[engine]) for engine in standing.idle)
        for engine, at_s in standing.queued:
            self._queued[engine] = at_s
            self._engines[engine] = engines[engine]
        self._looked_to.update(standing.looked_to)

    def next_s(self) -> float | None:
        """When an engine will have been silent for too long while another idles; None for never."""
        if not self._idle or not self._queued or self._recall_after_s == inf:
            return None
        return next(iter(self._queued.values())) + self._recall_after_s

    def recall_due(self, now: float, out: list[Command]) -> None:
        """Ask silent engines to give tasks back that idle engines may run now.

        Those that are due are looked at, until no idle engine is left or it has cost enough:
        whoever is still due then, is so at the next call.
        """
        at_s = self.next_s()
        if at_s is None or at_s > now:
            return
        takers = _Takers(self._lanes, self._idle)
        for _ in range(len(self._queued)):
            if not takers.has_any or takers.looked >= _LOOKS_A_CALL_MAX:
                return
            silent_id, since_s = next(iter(self._queued.items()))
            if since_s + self._recall_after_s > now:
                return
            silent = self._engines[silent_id]
            tasks = self._movable(silent, takers)
            if tasks:
                self._ask(silent, tasks, out)
            else:
                # Nothing there that may run on an idle one: look again in a while.
                self._queued[silent_id] = now
                self._queued.move_to_end(silent_id)

    def recall_all(self, engine: Engine, out: list[Command]) -> None:
        """Ask `engine` to give back whatever it has not begun."""
        tasks = [task for task in engine.assigned.values() if task.id != engine.blocked]
        if tasks:
            self._ask(engine, tasks, out)

    def _ask(self, engine: Engine, tasks: list[Task], out: list[Command]) -> None:
        engine.recalling = True
        self.engine_changed(engine)
        out.append(Recall(engine.id, [task.id for task in tasks]))

    def _movable(self, silent: Engine, takers: _Takers) -> list[Task]:
        """Up to half of what is queued on `silent`, in order, that may run on idle engines now."""
        assigned = silent.assigned
        wanted = max(1, min(len(assigned) // 2, _LOOK_MAX))
        # All but the first in line, which is the one that runs.
        behind = len(assigned) - 1
        last = islice(reversed(assigned.values()), min(behind, _LOOK_MAX))
        found = takers.take(silent, last, wanted)
        if found:
            found.reverse()
            return found
        ahead = behind - _LOOK_MAX
        if ahead <= 0:
            return []
        # A stretch of what is further ahead, another one each time: nothing stays unseen.
        start = self._looked_to.get(silent.id, 0)
        end = start + _LOOK_MAX
        self._looked_to[silent.id] = end if end < ahead else 0
        return takers.take(silent, islice(assigned.values(), 1 + start, 1 + end), wanted)


class _Takers:
    """The idle engines, during one look at those that are silent.

    Each takes tasks of one silent engine only, and no more than it may have. Nothing is reserved:
    where the tasks go once they are given back is for the scheme to say.
    """

    def __init__(self, lanes: Lanes, idle: dict[EngineId, Engine]) -> None:
        self._lanes = lanes
        self._idle = idle
        #: Who takes tasks, of which silent engine, and how many more it could.
        self._taking: dict[Engine, tuple[Engine, int]] = {}
        #: For each lane, who may take its tasks now, and who may when that one takes no more.
        self._first: dict[Lane, Engine | None] = {}
        self._further: dict[Lane, Iterator[Engine]] = {}
        #: Tasks looked at so far.
        self.looked = 0

    @property
    def has_any(self) -> bool:
        """Whether an idle engine is left that takes nothing yet."""
        return len(self._taking) < len(self._idle)

    def take(self, silent: Engine, tasks: Iterable[Task], wanted: int) -> list[Task]:
        """The first of `tasks`, which are on `silent`, that idle engines take."""
        found: list[Task] = []
        for task in tasks:
            if len(found) == wanted:
                break
            self.looked += 1
            if not task.cancelled and self._find(silent, self._lanes.lane_of(task)):
                found.append(task)
        return found

    def _find(self, silent: Engine, lane: Lane) -> bool:
        """Find an idle engine that takes one more task of `lane`. O(1), but for engines that are
        passed over: each once for a lane, and the fewer of the idle and of those with room."""
        further = self._further.get(lane)
        if further is None:
            further = self._further[lane] = self._candidates(lane)
            self._first[lane] = next(further, None)
        while (engine := self._first[lane]) is not None:
            limit = int(min(engine.limit, _LOOK_MAX))
            takes_from, left = self._taking.get(engine, (silent, limit))
            if takes_from is silent and left:
                self._taking[engine] = (silent, left - 1)
                return True
            self._first[lane] = next(further, None)
        return False

    def _candidates(self, lane: Lane) -> Iterator[Engine]:
        if len(lane.room) < len(self._idle):
            # An index has its engines in whatever order it came by them.
            idle = (engine for engine in lane.room if not engine.assigned)
            return iter(sorted(idle, key=attrgetter("stamp")))
        return (engine for engine in self._idle.values() if engine in lane.room)
