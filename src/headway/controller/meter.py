"""The numbers of a controller, for whoever asks for them: Prometheus, a probe.

What the core counts anyway is read when somebody asks. What costs something for each task, how long
it waited and ran, is measured from the first question on, as long as somebody goes on asking: the
counts stay when nobody does. So nobody pays for metrics that nobody wants, and no count ever falls
while this controller lives, whoever asks, and however often they reconnect.

A label has bounded values: states, reasons, and some names of tags and shares. No client, task or
engine is a label, since there is no end to them.

What this file must not know: sockets, and what the numbers are called outside.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from headway.controller.peers import Peers
from headway.core.events import Outcome
from headway.core.records import Task
from headway.core.scheduler import Scheduler
from headway.core.states import TaskState
from headway.processes import rss_bytes
from headway.wire.metrics import (
    BOUNDS_S,
    END_REASONS,
    ENGINE_STATES,
    NAMES_MAX,
    REST,
    Histogram,
    JournalMetrics,
    Metrics,
)

#: The word by which a client asks.
METRICS = "metrics"
#: When nobody has asked for so long, times are measured no more. Prometheus asks once a minute, or
#: once in some minutes.
_PATIENCE_S = 900.0
#: So many queues are looked at for who waits there: tasks are in few.
_LANES_MAX = 1_000
#: No run takes longer: a peer may say anything.
_TIME_S_MAX = 1e9

_ASSIGNED = TaskState.ASSIGNED


class _Times:
    """A histogram that is being filled."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, took_s: float) -> None:
        """It took so long, once."""
        if 0.0 <= took_s < _TIME_S_MAX:  # and no NaN
            self._counts[bisect_left(BOUNDS_S, took_s)] += 1
            self._sum_s += took_s

    def read(self) -> Histogram:
        """What it is now."""
        return Histogram(list(self._counts), self._sum_s)


class Meter:
    """Reads the numbers of one controller. It watches the scheduler while somebody asks.

    Parameters:
        epoch: how many controllers this cluster has had.
        wall_s: when this one began, by the clock on the wall.
    """

    def __init__(self, scheduler: Scheduler, peers: Peers, epoch: int, wall_s: float) -> None:
        self._scheduler = scheduler
        self._peers = peers
        self._epoch = epoch
        self._started_at_s = wall_s
        self._run = _Times()
        self._queued = _Times()
        self._asked_at_s = 0.0
        #: Whether times are measured.
        self.is_on = False
        #: The time of this turn, for what is noted in it.
        self.now = 0.0
        #: Written by reception.py: who came and went.
        self.engines_joined = 0
        self.engine_ends = dict.fromkeys(END_REASONS, 0)
        self.peers_refused = 0

    def engine_ended(self, reason: str) -> None:
        """An engine ended, for one of END_REASONS, or for another that its nanny's newer version
        knows."""
        self.engine_ends[reason if reason in self.engine_ends else REST] += 1

    def note(self, task: Task) -> None:
        """`task` changes its state: called by the scheduler, while times are measured."""
        if task.state is _ASSIGNED:
            self._queued.add(self.now - task.since_s)

    def ran(self, outcomes: Sequence[Outcome]) -> None:
        """Attempts have ended: to be called while times are measured."""
        for outcome in outcomes:
            self._run.add(outcome.run_s)

    def look(self, now: float) -> None:
        """Once a heartbeat: nobody may have asked for long."""
        if self.is_on and now > self._asked_at_s + _PATIENCE_S:
            self.is_on = False
            self._scheduler.watchers.remove(self)

    def read(self, now: float, journal: JournalMetrics | None) -> Metrics:
        """Somebody asks: the numbers as they are."""
        self._asked_at_s = now
        if not self.is_on:
            self.is_on = True
            self._scheduler.watchers.append(self)
        scheduler, peers, counters = self._scheduler, self._peers, self._scheduler.counters
        return Metrics(
            started_at_s=self._started_at_s,
            epoch=self._epoch,
            rss_bytes=rss_bytes(os.getpid()),
            cpu_s=time.process_time(),
            tasks=list(counters.by_state),
            ended=list(scheduler.ended_as),
            submitted=counters.submitted,
            retried=counters.retried,
            crashed=counters.crashed,
            recalled=counters.recalled,
            recomputed=counters.recomputed,
            refused=counters.refused,
            stale=counters.stale,
            invalid=counters.invalid,
            unfinished_bytes=scheduler.unfinished_bytes,
            clients=len(scheduler.clients),
            clients_held=sum(peer.is_held for peer in peers.clients.values()),
            nannies=len(peers.nannies),
            engines=self._engines(),
            engines_rss_bytes=sum(peer.rss_bytes for peer in peers.engines.values()),
            engines_joined=self.engines_joined,
            engine_ends=dict(self.engine_ends),
            peers_refused=self.peers_refused,
            stored_values=len(scheduler.stored),
            stored_bytes=scheduler.stored.bytes,
            tags=self._tags(now),
            shares=self._shares(),
            run=self._run.read(),
            queued=self._queued.read(),
            journal=journal,
        )

    def _engines(self) -> dict[str, int]:
        found = dict.fromkeys(ENGINE_STATES, 0)
        for engine in self._scheduler.engines.values():
            peer = self._peers.engines.get(engine.id)
            if peer is not None and not peer.is_here:
                found["away"] += 1
            elif engine.draining:
                found["draining"] += 1
            else:
                found["busy" if engine.assigned else "idle"] += 1
        return found

    def _tags(self, now: float) -> dict[str, tuple[int, int]]:
        """Tasks on engines and tasks that wait, by tag: the tags known longest by name."""
        found: dict[str, tuple[int, int]] = {}
        for name, row in self._scheduler.limits.rows(now).items():
            known = name if name in found or len(found) < NAMES_MAX else REST
            held, waiting = found.get(known, (0, 0))
            found[known] = held + row["held"], waiting + row["waiting"]
        return found

    def _shares(self) -> dict[str, int]:
        """Tasks that wait, by the share that they name: the largest by name."""
        waiting: Counter[str] = Counter()
        for lane in islice(self._scheduler.lanes, _LANES_MAX):
            for key, count in lane.waiting_by_party():
                if isinstance(key, str):  # and not a client
                    waiting[key] += count
        most = waiting.most_common()
        found = dict(most[:NAMES_MAX])
        rest = sum(count for _, count in most[NAMES_MAX:])
        if rest:
            found[REST] = found.get(REST, 0) + rest
        return found
