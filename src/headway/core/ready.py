"""Tasks that are ready, indexed by what restricts them.

A `Lane` holds the ready tasks that may run on the same engines and need the same resources, in
the order of their priority and then of their becoming ready, beside an index of those engines
that have room now. A task at its head costs O(1) to take; a task in one lane costs nothing to
the tasks of another, however many wait.

`Lanes` finds a task's lane and keeps each lane's engines true as engines join, leave and gain
or lose room. `placeable` names the lanes that have both a task and room: the scheduler looks
nowhere else. What this file must not know: why a task is ready, and what happens to it next.

A change of an engine costs O(lanes that it is in): lanes are as many as there are different
restrictions among waiting tasks, usually one.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Iterator
from math import inf
from random import Random

from headway.core.beside import Beside
from headway.core.events import EngineId
from headway.core.fair import Entry, FairQueue, Key, is_living
from headway.core.index import EngineIndex, make_index
from headway.core.lifetimes import (
    last_end_s,
    last_likely_start_s,
    last_start_s,
    likely_s,
)
from headway.core.limits import Limits, Tag
from headway.core.records import Engine, Task
from headway.core.restriction import Restriction
from headway.core.schemes import Scheme

#: Empty lanes are kept, since their like will come again, but not more of them than this.
_EMPTY_LANES_MAX = 64
#: The dead entries of a lane are swept out when they are more than its tasks, and so many.
_DEAD_SPARE = 64


class Lane:
    """The ready tasks of one restriction. A deque for each priority, highest first."""

    __slots__ = (
        "_dead", "_priorities", "_queues", "count", "engines", "last_end_s", "likely_s",
        "restriction", "room", "tags",
    )  # fmt: skip

    def __init__(
        self, restriction: Restriction, room: EngineIndex, tags: tuple[Tag, ...] = ()
    ) -> None:
        self.restriction = restriction
        #: The tags of its tasks, whose limits hold for all of them.
        self.tags = tags
        #: The engines that may run its tasks, and those of them that have room.
        self.engines: dict[EngineId, Engine] = {}
        self.room = room
        #: How long the task whose turn it is will likely run, where that rules out engines that end
        #: sooner; and when the last of the engines ends. Written by `Lanes.look_at_heads`.
        self.likely_s: float | None = None
        self.last_end_s = inf
        #: Tasks ready here. The deques may hold more: the entry of a task that left before its
        #: turn stays, dead, until it surfaces or the dead are the most.
        self.count = 0
        #: Entries that are dead, at most.
        self._dead = 0
        #: A deque of the tasks of each priority, or turns once a fair one came.
        self._queues: dict[int, deque[Entry] | FairQueue] = {}
        #: A heap of them, negated: the highest priority first.
        self._priorities: list[int] = []

    def last_start_s(self, engine: Engine) -> float:
        """By when its next task must have been sent to `engine`, to end before that does."""
        if engine.ends_at_s is None:
            return inf
        if self.restriction.run_s is not None:
            return last_start_s(engine, self.restriction.run_s)
        return inf if self.likely_s is None else last_likely_start_s(engine, self.likely_s)

    def push(self, task: Task, ticket: int, front: bool) -> None:
        """Queue `task`: at the front, or at the back."""
        task.lane = self
        task.ticket = ticket
        priority = task.options.priority
        queue = self._queues.get(priority)
        if queue is None:
            queue = self._queues[priority] = deque()
            heapq.heappush(self._priorities, -priority)
        if task.options.fair and type(queue) is deque:
            fair = FairQueue(filter(is_living, queue))
            self._dead -= len(queue) - len(fair)
            queue = self._queues[priority] = fair
        if front:
            queue.appendleft((ticket, task))
        else:
            queue.append((ticket, task))
        self.count += 1

    def head(self) -> Task:
        """The task whose turn it is. There must be one: see `count`."""
        while True:
            queue = self._queues[-self._priorities[0]]
            while queue:
                ticket, task = queue[0]
                if task.ticket == ticket:  # is_living, without the call
                    return task
                queue.popleft()
                self._dead -= 1
            if self._priorities[0] != 0 or len(self._priorities) > 1:
                del self._queues[-heapq.heappop(self._priorities)]

    def take(self) -> Task:
        """Take the head out; the caller seats it in the same step."""
        task = self.head()
        self._queues[-self._priorities[0]].popleft()
        self.count -= 1
        task.lane = None
        task.ticket = 0
        return task

    def leave(self, task: Task) -> None:
        """`task` leaves before its turn."""
        task.lane = None
        task.ticket = 0
        self.count -= 1
        queue = self._queues[task.options.priority]
        if type(queue) is FairQueue:
            queue.leave(task)  # it drops its dead by itself, but it is still here when it is empty
            if queue:
                return
        self._dead += 1
        if self._dead > self.count + _DEAD_SPARE:
            self._sweep()

    def waiting(self) -> Iterator[Task]:
        """The tasks here, in the order of their turns as they stand now."""
        for priority in sorted(self._priorities):
            for _, task in filter(is_living, self._queues[-priority]):
                yield task

    def by_party(self) -> Iterator[Task]:
        """The tasks here, the highest priority first; of fair turns, party after party."""
        for priority in sorted(self._priorities):
            queue = self._queues[-priority]
            in_order = queue.by_party() if isinstance(queue, FairQueue) else iter(queue)
            for _, task in filter(is_living, in_order):
                yield task

    def waiting_by_party(self) -> Iterator[tuple[Key, int]]:
        """How many tasks of each party wait for their turns; those that take none are left out."""
        for queue in self._queues.values():
            if isinstance(queue, FairQueue):
                yield from queue.waiting_by_party()

    def turns_taken(self) -> list[tuple[int, int]]:
        """The priorities whose turn has begun, and how much of it was had."""
        return [
            (-priority, queue.taken)
            for priority in sorted(self._priorities)
            if isinstance(queue := self._queues[-priority], FairQueue) and queue.taken
        ]

    def put_back_turns(self, turns: list[tuple[int, int]]) -> None:
        """These turns have begun, as `turns_taken` told."""
        for priority, taken in turns:
            queue = self._queues[priority]
            if isinstance(queue, FairQueue):
                queue.taken = taken

    def order_key(self) -> tuple[int, int, int]:
        """What decides between lanes: the head's priority, its depth, then its place in time."""
        task = self.head()
        return -task.options.priority, -self.restriction.depth, task.ticket

    def _sweep(self) -> None:
        """Drop the dead."""
        for priority, queue in list(self._queues.items()):
            if type(queue) is deque:
                queue = self._queues[priority] = deque(filter(is_living, queue))
            if not queue:
                del self._queues[priority]
        self._priorities = sorted(-priority for priority in self._queues)
        self._dead = 0


class Lanes:
    """All lanes, and which engines are in them."""

    def __init__(self, scheme_name: str, scheme: Scheme, limits: Limits) -> None:
        self.limits = limits
        self._scheme_name = scheme_name
        self._scheme = scheme
        self._engines: dict[EngineId, Engine] = {}
        self._lanes: dict[Restriction, Lane] = {}
        self._sweep_at = _EMPTY_LANES_MAX
        #: Lanes told of changes of their engines since the empty ones were dropped.
        self._told = 0
        #: The last tickets given at either end: fronts are negative, and grow downwards.
        self.back = 0
        self.front = 0
        #: Engines that are being started: none of them is here.
        self.expected: set[EngineId] = set()
        self._beside = Beside()
        #: The time of the last event; engines that end; and before when each has the room that it
        #: had then.
        self.now_s = 0.0
        self._ending: dict[EngineId, Engine] = {}
        self._by_end: list[tuple[float, EngineId]] = []
        self.tight_at_s = inf
        #: When a guess about a run holds no more, since no engine is left for it.
        self.loose_at_s = inf
        self._ends_changed = False
        #: Engines below their limit, as the lanes were told: no other is in any lane's room.
        self._with_seat: set[EngineId] = set()
        #: Lanes that may have both a task and room. The scheduler empties it by placing.
        self.placeable: dict[Lane, None] = {}
        #: The lane of tasks that may run anywhere: nearly all of them.
        self.common = self._new_lane(Restriction())

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def lane_of(self, task: Task) -> Lane:
        """The lane in which `task`, as it stands, queues."""
        options = task.options
        if (
            task.follow is None
            and task.excluded is None
            and options.targets is None
            and not options.resources
            and options.tags is None
            and options.run_timeout_s is None
            and task.nest is None
        ):
            return self.common
        return self.lane_like(Restriction.of(task))

    def lane_like(self, restriction: Restriction) -> Lane:
        """The lane of that restriction."""
        return self._lanes.get(restriction) or self._new_lane(restriction)

    def is_hopeless(self, lane: Lane) -> bool:
        """Whether no engine is left for its tasks, and none that may come will do."""
        return (
            not lane.engines
            and lane.restriction.is_narrow
            and not lane.restriction.leaves_any(self.expected)
        )

    def awaited(self, lane: Lane) -> list[EngineId]:
        """The engines that are being started and may run its tasks, as far as is known."""
        return sorted(e for e in self.expected if lane.restriction.leaves_any({e}))

    def push(self, task: Task, lane: Lane, front: bool) -> None:
        """Queue `task` in `lane`."""
        if front:
            self.front -= 1
            lane.push(task, self.front, front=True)
        else:
            self.back += 1
            lane.push(task, self.back, front=False)
        if lane.room:
            self.placeable[lane] = None

    def put_back(self, task: Task, lane: Lane) -> None:
        """Queue `task` as it was when a snapshot was made: those of a lane come in the order of
        `Lane.by_party`, each with the ticket that it has."""
        lane.push(task, task.ticket, front=False)
        if lane.room:
            self.placeable[lane] = None

    def engines_expected(self, engines: list[EngineId]) -> None:
        """These are being started."""
        self.expected.update(engine for engine in engines if engine not in self._engines)

    def engine_joined(self, engine: Engine) -> list[Lane]:
        """`engine` is there for the lanes that admit it. Returns those whose last hope it was,
        and whose tasks it can't run, in the order of their turns."""
        self._engines[engine.id] = engine
        if engine.ends_at_s is not None:
            self._ending[engine.id] = engine
            insort(self._by_end, (engine.ends_at_s, engine.id))
        self._ends_changed = True
        self._beside.joined(engine)
        was_expected = engine.id in self.expected
        self.expected.discard(engine.id)
        for lane in self._lanes.values():
            if lane.restriction.admits(engine):
                lane.engines[engine.id] = engine
                engine.lanes[lane] = None
        self.engine_changed(engine)
        if not was_expected:
            return []
        stranded = (lane for lane in self._lanes.values() if lane.count and self.is_hopeless(lane))
        return sorted(stranded, key=Lane.order_key)

    def engine_left(self, engine: Engine) -> list[Lane]:
        """`engine` is gone. Returns the lanes whose tasks have no engine left that may come, in
        the order of their turns."""
        del self._engines[engine.id]
        if self._ending.pop(engine.id, None) is not None:
            assert engine.ends_at_s is not None
            self._by_end.remove((engine.ends_at_s, engine.id))
            if not self._ending:
                self._forget_guesses()
        self._ends_changed = True
        self._beside.left(engine)
        self._with_seat.discard(engine.id)
        stranded = []
        for lane in engine.lanes:
            del lane.engines[engine.id]
            lane.room.discard(engine)
            if lane.count and self.is_hopeless(lane):
                stranded.append(lane)
        engine.lanes.clear()
        # Not in the order in which an engine has them: that tells which lanes were empty for a
        # while and dropped, which ought to make no difference to anybody.
        stranded.sort(key=Lane.order_key)
        return stranded

    def engine_changed(self, engine: Engine) -> None:
        """The load, the limit or the free resources of `engine` changed."""
        has_seat = len(engine.assigned) < engine.limit
        if has_seat:
            self._with_seat.add(engine.id)
        elif engine.id in self._with_seat:
            self._with_seat.discard(engine.id)
        else:
            return  # no lane has it among its room, and none is to
        self._told += len(engine.lanes)
        for lane in engine.lanes:
            is_plain = lane.restriction.is_plain and lane.likely_s is None
            if has_seat and (is_plain or self._finds_room(lane, engine)):
                lane.room.add(engine)
                if lane.count:
                    self.placeable[lane] = None
            else:
                lane.room.discard(engine)

    def look_again(self, tag: Tag) -> None:
        """`tag` may allow more than it did."""
        for lane in tag.lanes:
            if lane.count and lane.room:
                self.placeable[lane] = None

    def fits(self, lane: Lane, engine: Engine) -> bool:
        """Whether `engine`, which `lane` admits, has the resources free now, and the time."""
        restriction = lane.restriction
        if restriction.needs and not restriction.fits(engine):
            return False
        return engine.ends_at_s is None or self.now_s < lane.last_start_s(engine)

    def _finds_room(self, lane: Lane, engine: Engine) -> bool:
        """`fits`; and until when it does is noted."""
        if not self.fits(lane, engine):
            return False
        if engine.ends_at_s is not None:
            self.tight_at_s = min(self.tight_at_s, lane.last_start_s(engine))
        return True

    def look_at_ends(self) -> None:
        """It is `tight_at_s`: an engine that ends may have no room any more for what takes long.

        Nothing has to be done just when that comes: with the next event is soon enough.
        """
        self.tight_at_s = inf
        for engine in self._ending.values():
            for lane in engine.lanes:
                if engine in lane.room and not self._finds_room(lane, engine):
                    lane.room.discard(engine)

    def drains_changed(self) -> None:
        """An engine takes no more tasks, or does again."""
        self._ends_changed = True

    def next_s(self) -> float | None:
        """When tasks may run on engines that a guess kept them from; None for never."""
        return self.loose_at_s if self.loose_at_s < inf else None

    def look_at_heads(self) -> None:
        """The end of each event, and each placement, where engines end: see what is guessed of the
        tasks whose turn it is, and of nobody else."""
        if not self._ending:
            return
        if self._ends_changed:
            self._ends_changed = False
            for lane in self._lanes.values():
                lane.last_end_s = last_end_s(lane.engines.values())
        self.loose_at_s = inf
        for lane in self._lanes.values():
            self._look_at_head(lane)

    def _look_at_head(self, lane: Lane) -> None:
        if lane.restriction.run_s is not None:
            return
        guess_s = likely_s(lane.head()) if lane.count else None
        if guess_s is not None:
            loose_at_s = lane.last_end_s - guess_s
            if self.now_s < loose_at_s:
                self.loose_at_s = min(self.loose_at_s, loose_at_s)
            else:
                guess_s = None
        if guess_s == lane.likely_s:
            return
        longer_s = max(guess_s or 0.0, lane.likely_s or 0.0)
        lane.likely_s = guess_s
        for ends_at_s, engine_id in self._by_end:
            if ends_at_s > self.now_s + 2 * longer_s:
                # Whoever stays for longer fits as well as before, until then.
                self.tight_at_s = min(self.tight_at_s, ends_at_s - 2 * longer_s)
                break
            engine = self._ending[engine_id]
            if engine_id not in lane.engines:
                continue
            has_seat = engine.id in self._with_seat and len(engine.assigned) < engine.limit
            if has_seat and self._finds_room(lane, engine):
                lane.room.add(engine)
            else:
                lane.room.discard(engine)
        if lane.count and lane.room:
            self.placeable[lane] = None

    def _forget_guesses(self) -> None:
        """No engine ends."""
        self.loose_at_s = inf
        for lane in self._lanes.values():
            lane.likely_s = None

    def choices(self, rng: Random, now: float) -> Iterator[tuple[Task, Engine]]:
        """Take out every task that an engine has room for, each with the engine to seat it on.

        The caller seats it, and tells of the engine's change, before it asks for the next.
        """
        placeable = self.placeable
        if len(placeable) > 1:
            yield from self._choices_in_turn(rng, now)
        for lane in list(placeable):
            while lane.count and lane.room:
                if lane.tags and self.limits.blocking(lane.tags, now):
                    break
                yield self._choice(lane, rng)
        self.all_placed(now)

    def _choice(self, lane: Lane, rng: Random) -> tuple[Task, Engine]:
        engine = lane.room.choose(rng)
        task = lane.take()
        if task.inputs is not None and self._beside.has_choice:
            engine = self._beside.nearer(task, engine, lane.room)
        if self._ending:  # as `take`, without the call: once for each task
            self._look_at_head(lane)
        return task, engine

    def take(self, lane: Lane) -> Task:
        """Take the head of `lane` out; the caller seats it, and looks at no other before."""
        task = lane.take()
        if self._ending:
            self._look_at_head(lane)
        return task

    def all_placed(self, now: float) -> None:
        """No task waits any more that an engine has room for, unless a limit holds it up: then its
        lane is looked at again when the limit allows more."""
        for lane in self.placeable:
            if lane.tags and lane.count and lane.room:
                tag = self.limits.blocking(lane.tags, now)
                assert tag is not None
                self.limits.wait_for(tag)
        self.placeable.clear()
        if len(self._lanes) > _EMPTY_LANES_MAX and self._told > 2 * len(self._lanes):
            # Telling the lanes has cost more than a look at all of them: many may be empty.
            self._drop_empty_lanes()

    def _choices_in_turn(self, rng: Random, now: float) -> Iterator[tuple[Task, Engine]]:
        """From several lanes: always from the one whose head has the first turn."""
        lanes = [lane for lane in self.placeable if lane.count and lane.room]
        self.placeable.clear()
        turns = [(lane.order_key(), n, lane) for n, lane in enumerate(lanes)]
        heapq.heapify(turns)
        while turns and self._with_seat:
            _, n, lane = turns[0]
            if not lane.room or (lane.tags and self.limits.blocking(lane.tags, now)):
                self.placeable[lane] = None  # for all_placed
                heapq.heappop(turns)
                continue
            yield self._choice(lane, rng)
            if lane.count:
                heapq.heapreplace(turns, (lane.order_key(), n, lane))
            else:
                heapq.heappop(turns)

    def _new_lane(self, restriction: Restriction) -> Lane:
        if len(self._lanes) >= self._sweep_at:
            self._drop_empty_lanes()
        tags = tuple(self.limits.tag(name) for name in restriction.tags)
        lane = Lane(restriction, make_index(self._scheme_name, self._scheme), tags)
        for tag in tags:
            tag.lanes[lane] = None
        self._lanes[restriction] = lane
        allowed = restriction.allowed
        among = (
            self._engines.values()
            if allowed is None
            else [self._engines[e] for e in sorted(allowed) if e in self._engines]
        )
        for engine in among:
            if restriction.admits(engine):
                lane.engines[engine.id] = engine
                engine.lanes[lane] = None
                # One whose change was not told yet will be: see engine_changed.
                has_seat = engine.id in self._with_seat and len(engine.assigned) < engine.limit
                if has_seat and self._finds_room(lane, engine):
                    lane.room.add(engine)
        lane.last_end_s = last_end_s(lane.engines.values())
        return lane

    def _drop_empty_lanes(self) -> None:
        for restriction, lane in list(self._lanes.items()):
            if lane.count == 0 and lane is not self.common:
                for engine in lane.engines.values():
                    del engine.lanes[lane]
                del self._lanes[restriction]
                self.placeable.pop(lane, None)
                for tag in lane.tags:
                    del tag.lanes[lane]
                    self.limits.forget_if_idle(tag)
        self._told = 0
        self._sweep_at = max(_EMPTY_LANES_MAX, 2 * len(self._lanes))
