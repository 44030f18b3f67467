"""A cluster that grows and shrinks: what the policy (core/adaptive.py) is told, and does.

Once a heartbeat it is looked how long the work that waits will take. How long a function takes is
learned from what was reported; of one that has never ended, it is at least as long as its first
runs have been going on. So a burst of tasks that nobody knows is let run for a moment first.

Engines come and go through a `Fleet`: the nannies of the hosts that are there, or whatever can
start engines elsewhere.

What this file must not know: sockets, and how engines are started.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

from headway.core.adaptive import IDLE_S, Adaptive, Look
from headway.core.events import EngineId, Outcome, format_engine_id
from headway.core.records import Engine, Task
from headway.core.scheduler import Scheduler
from headway.logbook import Event, note

#: Functions whose durations are remembered, the most recent.
_FUNCTIONS_MAX = 10_000
#: So many tasks of a queue are looked at; the others are taken to be like them.
_SAMPLE = 200
#: So many queues are looked at: tasks are in few, unless each needs something else.
_LANES_MAX = 100
#: The mean of durations leans on the recent.
_RECENT = 8
#: An engine that was asked for and has not joined by then did not start.
_START_S = 60.0


class Fleet(Protocol):
    """Who starts engines, and takes them back."""

    def start_engines(self, count: int) -> str:
        """Begin to start `count` engines; what was begun, in words.

        Raises:
            LookupError: it can't, and why.
        """
        ...

    def give_back(self, engine: EngineId, now: float) -> None:
        """`engine`, which has nothing to do, takes no more tasks and ends: no task is charged."""
        ...


def _own(scheduler: Scheduler) -> dict[EngineId, Engine]:
    """The engines, without those that stand in for others: they come and go on their own account,
    with what waits inside of tasks."""
    return {number: e for number, e in scheduler.engines.items() if not e.stands_in}


class Scaling:
    """The size of one cluster.

    Parameters:
        scheduler: to be looked at.
        fleet: who starts engines, and stops them.
    """

    def __init__(self, scheduler: Scheduler, fleet: Fleet) -> None:
        self._scheduler = scheduler
        self._fleet = fleet
        self._policy: Adaptive | None = None
        #: By digest, seconds.
        self._mean_s: OrderedDict[bytes, float] = OrderedDict()
        self._idle_since_s: dict[EngineId, float] = {}
        #: For each engine that was asked for and has not joined, when it is given up.
        self._starting: list[float] = []
        self._known: set[EngineId] = set()
        self._said = ""

    @property
    def is_on(self) -> bool:
        """Whether the cluster changes its size by itself."""
        return self._policy is not None

    def set_bounds(self, least: int, most: int, idle_s: float = IDLE_S) -> None:
        """From now on there are `least` to `most` engines; one that has idled for `idle_s` may be
        given back.

        Raises:
            ValueError: there can't be.
        """
        if not 0 <= least <= most or most < 1:
            raise ValueError(
                f"a cluster can't have {least} to {most} engines: from 0 on, in order, not 0 to 0"
            )
        if self._policy is None:
            self._known = set(_own(self._scheduler))
            self._starting = []
            self._policy = Adaptive(least, most)
        self._policy.least, self._policy.most = least, most
        self._policy.idle_s = idle_s

    def ran(self, outcomes: Sequence[Outcome]) -> None:
        """Attempts are about to be ended, so."""
        tasks, means = self._scheduler.tasks, self._mean_s
        for outcome in outcomes:
            task = tasks.get(outcome.task)
            if task is None or task.function is None or not 0.0 <= outcome.run_s < 1e9:
                continue
            digest, run_s = task.function.digest, outcome.run_s
            old = means.get(digest)
            means[digest] = run_s if old is None else old + (run_s - old) / _RECENT
            if old is None and len(means) > _FUNCTIONS_MAX:
                means.popitem(last=False)

    def start_failed(self, why: str, now: float) -> str:
        """Engines do not start. Returns what people should read; "" if they have."""
        if self._policy is None:
            return ""
        self._starting.clear()
        pause_s = self._policy.start_failed(now)
        if why == self._said:
            return ""
        self._said = why
        return f"{why}; it is tried again in {pause_s:g} s, and then less and less often"

    def look(self, now: float) -> str:
        """Once a heartbeat: ask for engines, or give some back. Returns what people should read."""
        if self._policy is None:
            return ""
        late = self._note_engines(now)
        if late:
            return self.start_failed(f"{late} of the engines that were asked for did not join", now)
        decision = self._policy.decide(self._see(now), now)
        for engine in decision.give_back:
            note(Event.ENGINE_GIVEN_BACK, engine=format_engine_id(engine))
            self._fleet.give_back(engine, now)
        if decision.start:
            try:
                self._fleet.start_engines(decision.start)
            except LookupError as error:
                return self.start_failed(str(error.args[0]), now)
            note(Event.ENGINES_WANTED, count=decision.start)
            self._starting += [now + _START_S] * decision.start
        return ""

    def _note_engines(self, now: float) -> int:
        """Who has joined and left, who idles; how many are overdue."""
        assert self._policy is not None
        engines = _own(self._scheduler)
        joined = len(engines.keys() - self._known)
        self._known = set(engines)
        if joined:
            self._policy.started()
            self._said = ""
            del self._starting[:joined]
        for engine in engines.values():
            if engine.assigned or engine.draining:
                self._idle_since_s.pop(engine.id, None)
            else:
                self._idle_since_s.setdefault(engine.id, max(engine.progress_at_s, 0.0))
        for gone in self._idle_since_s.keys() - engines.keys():
            del self._idle_since_s[gone]
        late = sum(at_s <= now for at_s in self._starting)
        self._starting = [at_s for at_s in self._starting if at_s > now]
        return late

    def _see(self, now: float) -> Look:
        scheduler = self._scheduler
        present = [e for e in _own(scheduler).values() if not e.draining]
        least_s = self._least_durations(now)
        waiting, waiting_s = 0, 0.0
        for lane in islice((lane for lane in scheduler.lanes if lane.count), _LANES_MAX):
            count = lane.count
            for tag in lane.tags:  # more than these could not run, with however many engines
                if tag.limit.at_once is not None:
                    count = min(count, max(0, tag.limit.at_once - tag.held))
            if not count or scheduler.lanes.is_hopeless(lane):
                continue
            if lane.restriction.allowed is not None:
                continue  # a new engine is none of those
            waiting += count
            waiting_s += count * self._mean_of(lane.waiting(), least_s)
        for engine in present:  # what is queued there behind what runs
            queued = len(engine.assigned) - 1
            if queued > 0:
                waiting += queued
                behind = islice(engine.assigned.values(), 1, None)
                waiting_s += queued * self._mean_of(behind, least_s)
        idle = sorted((since_s, engine) for engine, since_s in self._idle_since_s.items())
        return Look(waiting, waiting_s, len(present), idle, len(self._starting))

    def _mean_of(self, tasks: Iterator[Task], least_s: dict[bytes, float]) -> float:
        """How long one of `tasks` takes, by the first of them."""
        total_s, count = 0.0, 0
        for task in islice(tasks, _SAMPLE):
            assert task.function is not None
            digest = task.function.digest
            learned = self._mean_s.get(digest)
            total_s += least_s.get(digest, 0.0) if learned is None else learned
            count += 1
        return total_s / count if count else 0.0

    def _least_durations(self, now: float) -> dict[bytes, float]:
        """Of functions that have never ended: how long one of them has been going on."""
        found: dict[bytes, float] = {}
        for engine in self._scheduler.engines.values():
            task = next(iter(engine.assigned.values()), None)
            if task is not None and task.function is not None:
                digest = task.function.digest
                if digest not in self._mean_s:
                    found[digest] = max(found.get(digest, 0.0), now - task.since_s)
        return found
