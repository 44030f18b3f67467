"""The scheduler: events in, commands out.

    scheduler.handle(event, now, out)    # take in what happened; as often as there are events
    scheduler.tick(now, out)             # when next_deadline_s() has come
    scheduler.place(now, out)            # then place, once for all of them

It is a pure state machine: the time is an argument, chance comes from the `rng` that it was
given, and what it wants done is appended to `out`. The same object serves the native wire, the
IPython.parallel wire, the simulator and recovery, which tells it the same events again, and what
`place` then did (`place_as`). What is asked between them makes no difference to what it does next.

What happens to a task is in life.py. Which of its steps an event asks for, and what a peer may
say, is in client_events.py, engine_events.py and outcome_events.py.

Each handler leaves the records consistent (invariants.py), except that tasks may be placeable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from random import Random

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core import words
from headway.core.client_events import ClientEvents
from headway.core.commands import Command, Deliver
from headway.core.engine_events import EngineEvents
from headway.core.events import ClientId, EngineId, TaskId
from headway.core.life import Life, delivery
from headway.core.outcome_events import OutcomeEvents
from headway.core.prefetch import limit_of, load_max
from headway.core.records import Task
from headway.core.replay import choices_made
from headway.core.states import FINAL_STATES, Cause, TaskState
from headway.core.statistics import Statistics
from headway.core.timers import Timer

WAITING, READY, ASSIGNED = TaskState.WAITING, TaskState.READY, TaskState.ASSIGNED

Commands = list[Command]


class Scheduler:
    """Tasks, engines and clients, and every decision about them.

    Parameters:
        config: how to place tasks.
        rng: the source of chance for the random schemes; its seed makes a run repeatable.
    """

    def __init__(self, config: SchedulerConfig, rng: Random) -> None:
        self._life = life = Life(config)
        self.tasks = life.tasks
        self.groups = life.groups
        self.engines = life.engines
        self.clients = life.clients
        self.functions = life.functions
        self.kept = life.kept
        self.lanes = life.lanes
        self.limits = life.limits
        self.families = life.families
        self.timers = life.timers
        self.recalls = life.recalls
        self.counters = life.counters
        self.ended_as = life.ended_as
        self.stored = life.stored
        self.lineages = life.lineages
        self.stamps = life.stamps
        #: Those who look on: see watched.py.
        self.watchers = life.watchers
        #: No engine has had more tasks at once: see prefetch.py.
        self.load_max = load_max(config)
        self._rng = rng
        self._handlers = {
            **ClientEvents(life).handlers,
            **EngineEvents(life).handlers,
            **OutcomeEvents(life).handlers,
        }

    @property
    def config(self) -> SchedulerConfig:
        """How tasks are placed; see `set_hwm`."""
        return self._life.config

    # --- the three verbs -----------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float, out: Commands) -> None:
        """Take in one event, at the time `now` in seconds; then call `place`."""
        self._pass_time(now)
        self._handlers[type(event)](event, now, out)
        self._life.settle(now, out)

    def tick(self, now: float, out: Commands) -> None:
        """Do what has become due by `now`; then call `place`."""
        self._pass_time(now)
        for task_id, timer in self.timers.take_due(now):
            task = self.tasks[TaskId(task_id)]
            if timer is Timer.BACKOFF:
                self._life.make_ready(task, Cause.BACKOFF_OVER, now, out)
            else:
                self._life.end(task, Cause.DEADLINE, words.queue_timeout(task), out)
        for tag in self.limits.take_due(now):
            self.lanes.look_again(tag)
        self._life.settle(now, out)
        self.recalls.recall_due(now, out)

    def _pass_time(self, now: float) -> None:
        lanes = self.lanes
        lanes.now_s = now
        if now >= lanes.tight_at_s:
            lanes.look_at_ends()

    def next_deadline_s(self) -> float | None:
        """When `tick` has something to do, None if nothing is due ever."""
        lanes_s = self.lanes.next_s()
        due = (self.timers.next_s(), self.recalls.next_s(), self.limits.next_s(), lanes_s)
        return min((t for t in due if t is not None), default=None)

    def place(self, now: float, out: Commands) -> None:
        """Place every task that can be placed: afterwards no task waits that an engine has
        room for, unless a limit holds it up."""
        for task, engine in self.lanes.choices(self._rng, now):
            self._life.seat(task, engine, now, out)

    def place_as(self, seats: Iterable[tuple[TaskId, EngineId]], now: float, out: Commands) -> None:
        """Place what `place` once placed at this point, as a journal tells: each task with its
        engine, in the same order. Chance is not asked, nor is the scheme.

        Raises:
            ReplayError: the placements do not fit this state. It is of no use any more.
        """
        for task, engine in choices_made(self, seats, now):
            self._life.seat(task, engine, now, out)

    def place_task(
        self, task_id: TaskId, now: float, out: Commands, among: Collection[EngineId] | None = None
    ) -> bool:
        """Place this one task now, before its turn, if it is ready and an engine has room for it.

        Parameters:
            among: the engines that may be chosen, of which the least loaded is; None is what
                the scheme chooses.

        Returns whether it was placed.
        """
        task = self.tasks.get(task_id)
        if task is None or task.lane is None:
            return False
        lane = task.lane
        if self.limits.blocking(lane.tags, now) is not None:
            return False
        if among is None:
            engine = lane.room.choose(self._rng) if lane.room else None
        else:
            found = [self.engines[e] for e in among if e in self.engines]
            having_room = [engine for engine in found if engine in lane.room]
            engine = min(having_room, key=lambda e: (e.load, e.stamp), default=None)
        if engine is None:
            return False
        lane.leave(task)
        self.lanes.look_at_heads()
        self._life.seat(task, engine, now, out)
        return True

    def redeliver(self, client: ClientId, tasks: Iterable[TaskId], out: Commands) -> None:
        """Tell a client that lost its connection how those of `tasks` ended that have ended.

        It hears of the others when they end. One that is not known, or not this client's, is
        LOST to it. This changes nothing in the scheduler.
        """
        for task_id in tasks:
            task = self.tasks.get(task_id)
            if task is None or task.client != client:
                problem = words.unknown(task_id)
                out.append(Deliver(client, task_id, TaskState.LOST, None, None, problem))
            elif task.state in FINAL_STATES:
                out.append(delivery(task))

    def watch(self, client: ClientId, nodes: Iterable[TaskId], out: Commands) -> list[TaskId]:
        """Tell `client` how those of `nodes` ended that have ended, whoever submitted them.

        One that is not known is LOST to it. Returns the others: the end of each will be a Deliver,
        which the shell passes on to who watches it. This changes nothing in the scheduler.
        """
        open_ = []
        for task_id in nodes:
            task = self.tasks.get(task_id)
            if task is None:
                problem = words.unknown(task_id)
                out.append(Deliver(client, task_id, TaskState.LOST, None, None, problem))
            elif task.state in FINAL_STATES:
                told = delivery(task)
                told.client = client
                out.append(told)
            else:
                open_.append(task_id)
        return open_

    def set_hwm(self, hwm: int | str) -> None:
        """Another `hwm` from now on; what engines have already stays there. Then call `place`."""
        self._life.config = replace(self.config, hwm=hwm)
        self.load_max = max(self.load_max, load_max(self.config))
        for engine in self.engines.values():
            engine.limit = limit_of(engine, self.config)
            self.lanes.engine_changed(engine)
            self.recalls.engine_changed(engine)

    def count_unfinished(self, task: Task) -> None:
        """`task`, which has not ended, was put back from a snapshot."""
        self._life.count_unfinished(task)

    @property
    def unfinished_bytes(self) -> int:
        """The bytes of the arguments of all tasks that have not ended."""
        return self._life.unfinished_bytes

    @property
    def scheme_failure(self) -> str:
        """How a user's scheme failed last, for people; "" if it has not."""
        return getattr(self._life.scheme, "failure", "")

    def statistics(self) -> Statistics:
        """A frozen snapshot of the counts."""
        return self.counters.snapshot(self)
