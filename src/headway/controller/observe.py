"""Observers: clients that ask again and again how the cluster is, such as a dashboard.

An observer asks, and is answered once a quarter of a second has passed since its last answer. So
nothing is ever on its way to one that does not read; and when it has not asked for a while, it is
an observer no more. Between two questions what changes is kept, bounded, and the rest is counted.
Nobody pays for this while nobody observes.

What this file must not know: sockets, and what is in a payload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from math import inf

from msgspec import structs

from headway.controller.peers import ClientPeer, Peers
from headway.core.events import ClientId, EngineId, Outcome
from headway.core.records import Engine
from headway.core.scheduler import Scheduler
from headway.core.watched import TaskRow, Watcher, row_of
from headway.wire import messages as m
from headway.wire import observed as ob

#: The word by which a client asks.
OBSERVE = "observe"
#: Who has not asked again for so long observes no more; if it asks later, it begins anew.
_PATIENCE_S = 10.0
#: More at once are refused: each costs every task a little.
_OBSERVERS_MAX = 16


class _Observer:
    """What one observer has not been told yet."""

    def __init__(self, client: ClientPeer, now: float) -> None:
        self.client = client
        self.watcher = Watcher(ob.TASKS_MAX)
        self.runs: list[ob.Run] = []
        self.runs_more = 0
        self.is_new = True
        #: Something was left out since all tasks were told; and when they may be told again.
        self.is_behind = False
        self.all_at_s = now
        #: The number of its open question, and when that may be answered; when it last asked.
        self.question: int | None = None
        self.due_at_s = now
        self.asked_at_s = now


class Observers:
    """Who observes.

    Parameters:
        wall_s: reads the clock on the wall.
    """

    def __init__(self, scheduler: Scheduler, peers: Peers, wall_s: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._peers = peers
        self._wall_s = wall_s
        self._observers: dict[ClientId, _Observer] = {}
        #: When the next question may be answered; infinity while there is none.
        self.due_at_s = inf

    def __len__(self) -> int:
        return len(self._observers)

    def ask(self, client: ClientPeer, number: int, now: float) -> m.Answer | None:
        """`client` asks how things are. Returns what it is to be told at once: that its question
        was refused, or that an older one was given up for this."""
        observer = self._observers.get(client.number)
        told = None
        if observer is None:
            if len(self._observers) >= _OBSERVERS_MAX:
                return m.Answer(number, error=f"{_OBSERVERS_MAX} clients observe already")
            observer = self._observers[client.number] = _Observer(client, now)
            self._scheduler.watchers.append(observer.watcher)
        elif observer.question is not None and observer.question != number:
            error = "this client asked again before this was answered"
            told = m.Answer(observer.question, error=error)
        observer.client = client
        observer.question = number
        observer.asked_at_s = now
        self.due_at_s = min(self.due_at_s, observer.due_at_s)
        return told

    def ran(self, engine: EngineId, outcomes: Sequence[Outcome]) -> None:
        """Attempts ended on `engine`."""
        for observer in self._observers.values():
            room = ob.RUNS_MAX - len(observer.runs)
            observer.runs_more += max(0, len(outcomes) - room)
            observer.runs += [
                ob.Run(engine, each.task, each.started_at_s, each.run_s, each.status)
                for each in outcomes[:room]
            ]

    def answers(self, now: float) -> list[tuple[ClientPeer, m.Answer]]:
        """The answers that are due."""
        if now < self.due_at_s:
            return []
        told = []
        self.due_at_s = inf
        for observer in self._observers.values():
            if observer.question is None:
                continue
            if observer.due_at_s > now:
                self.due_at_s = min(self.due_at_s, observer.due_at_s)
                continue
            body = structs.asdict(self._look(observer, now))
            told.append((observer.client, m.Answer(observer.question, body)))
            observer.question = None
            observer.due_at_s = now + ob.INTERVAL_S
        return told

    def forget_silent(self, now: float) -> None:
        """Who has gone, or has not asked for long, observes no more. Once a heartbeat."""
        for number, observer in list(self._observers.items()):
            is_gone = self._peers.clients.get(number) is not observer.client
            is_silent = observer.question is None and now > observer.asked_at_s + _PATIENCE_S
            if is_gone or is_silent:
                del self._observers[number]
                self._scheduler.watchers.remove(observer.watcher)

    def _look(self, observer: _Observer, now: float) -> ob.Observed:
        scheduler = self._scheduler
        counters = scheduler.counters
        tasks, tasks_more = observer.watcher.take()
        is_first, observer.is_new = observer.is_new, False
        is_quiet = not tasks_more and now >= observer.all_at_s
        is_all = is_first or (observer.is_behind and is_quiet)
        observer.is_behind = not is_all and (observer.is_behind or tasks_more > 0)
        if is_all:
            # What ended meanwhile and is not there any more goes before.
            ended = [row for row in tasks if row.id not in scheduler.tasks]
            tasks, tasks_more = self._all_tasks()
            tasks = ended + tasks
            observer.all_at_s = now + ob.AGAIN_S
        runs, observer.runs = observer.runs, []
        runs_more, observer.runs_more = observer.runs_more, 0
        engines = list(islice(scheduler.engines.values(), ob.ENGINES_MAX))
        return ob.Observed(
            is_first=is_first,
            is_all=is_all,
            now_s=now,
            wall_s=self._wall_s(),
            states=list(counters.by_state),
            ended=list(observer.watcher.ended),
            submitted=counters.submitted,
            retried=counters.retried,
            crashed=counters.crashed,
            clients=len(scheduler.clients),
            engines_all=len(scheduler.engines),
            engines=[self._engine(engine) for engine in engines],
            engines_more=len(scheduler.engines) - len(engines),
            tasks=tasks,
            tasks_more=tasks_more,
            runs=runs,
            runs_more=runs_more,
        )

    def _all_tasks(self) -> tuple[list[TaskRow], int]:
        """The tasks that there are, the newest of them where there are many."""
        tasks = self._scheduler.tasks
        newest = list(islice(reversed(tasks.values()), ob.ALL_TASKS_MAX))
        newest.reverse()
        return [row_of(task) for task in newest], len(tasks) - len(newest)

    def _engine(self, engine: Engine) -> ob.EngineRow:
        peer = self._peers.engines.get(engine.id)
        task = next(iter(engine.assigned.values()), None)
        return ob.EngineRow(
            id=engine.id,
            host=engine.host,
            pid=engine.pid,
            state="draining" if engine.draining else "ready",
            load=engine.load,
            limit=None if engine.limit == inf else int(engine.limit),
            done=engine.done,
            rss_bytes=peer.rss_bytes if peer is not None else 0,
            task=task.id if task is not None else None,
            since_s=task.since_s if task is not None else None,
        )
