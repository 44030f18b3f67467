"""Observers: clients that ask again and again how the cluster is, such as a dashboard.

An observer asks, and is answered once a quarter of a second has passed since its last answer. So
nothing is ever on its way to one that does not read; and when it has not asked for a while, it is
an observer no more. Between two questions what changes is kept, bounded, and the rest is counted.
Nobody pays for this while nobody observes.

What an observer costs has a bound in rows a second, not in looks alone: each has an allowance that
is used up by rows and grows with time (`_Allowance`). A flow of some thousand tasks is told whole;
of a hundred thousand tasks a second a few hundred are, and sums of the rest, which are exact. And
after an answer that had to leave something out, the next comes later.

What this file must not know: sockets, and what is in a payload.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import inf

from msgspec import structs

from headway.controller.peers import ClientPeer, Peers
from headway.core.events import ClientId, EngineId, Outcome, TaskId
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


class _Allowance:
    """How many rows of one kind an observer may be told: so many at once, so many a second."""

    def __init__(self, at_once: int, a_second: float, now: float) -> None:
        self._at_once = at_once
        self._a_second = a_second
        self._left = float(at_once)
        self._grown_at_s = now

    def take(self, rows: int) -> None:
        """So many rows were told."""
        self._left -= rows

    def grow(self, now: float) -> int:
        """Time has passed: how many rows may be told by now."""
        grown = (now - self._grown_at_s) * self._a_second
        self._left = min(self._left + max(grown, 0.0), float(self._at_once))
        self._grown_at_s = now
        return max(int(self._left), 0)


class _Observer:
    """What one observer has not been told yet."""

    def __init__(self, client: ClientPeer, now: float) -> None:
        self.client = client
        self.watcher = Watcher(ob.TASKS_MAX)
        self.tasks_allowed = _Allowance(ob.TASKS_AT_ONCE, ob.TASKS_A_SECOND, now)
        self.runs_allowed = _Allowance(ob.RUNS_AT_ONCE, ob.RUNS_A_SECOND, now)
        self.runs_room = ob.RUNS_MAX
        self.runs: list[ob.Run] = []
        self.runs_more = 0
        self.lines: list[ob.Line] = []
        self.lines_more = 0
        self.is_new = True
        #: Something was left out since all tasks were told; and when they may be told again.
        self.is_behind = False
        self.all_at_s = now
        #: All tasks are told in rounds, a slice an answer: this round's number, who is still to be
        #: told in it, and how many it leaves out.
        self.round = 0
        self.to_tell: deque[TaskId] | None = None
        self.round_more = 0
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
            room = max(observer.runs_room - len(observer.runs), 0)
            observer.runs_more += max(0, len(outcomes) - room)
            if room:
                observer.runs += [
                    ob.Run(engine, each.task, each.started_at_s, each.run_s, each.status)
                    for each in outcomes[:room]
                ]

    def printed(self, engine: EngineId | None, lines: Iterable[m.Printed]) -> None:
        """Tasks on `engine`, or the engine itself, printed something."""
        for observer in self._observers.values():
            for line in lines:
                if len(observer.lines) >= ob.LINES_MAX:
                    observer.lines_more += 1
                else:
                    text = line.text[: ob.LINE_CHARS_MAX]
                    observer.lines.append(ob.Line(engine, line.task, line.stream, text))

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
            seen = self._look(observer, now)
            told.append((observer.client, m.Answer(observer.question, structs.asdict(seen))))
            observer.question = None
            is_busy = seen.tasks_more or seen.runs_more
            observer.due_at_s = now + (ob.BUSY_INTERVAL_S if is_busy else ob.INTERVAL_S)
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
        is_first, observer.is_new = observer.is_new, False
        tasks, tasks_more = observer.watcher.take()
        observer.is_behind = observer.is_behind or tasks_more > 0
        is_quiet = not tasks_more and now >= observer.all_at_s
        if observer.to_tell is None and (is_first or (observer.is_behind and is_quiet)):
            self._begin_round(observer)
        observer.tasks_allowed.take(len(tasks))
        is_round_end = False
        if observer.to_tell is not None:
            tasks += self._slice(observer, {row.id for row in tasks})
            is_round_end = not observer.to_tell
            if is_round_end:
                observer.to_tell = None
                observer.all_at_s = now + ob.AGAIN_S
                tasks_more += observer.round_more
        observer.watcher.tasks_max = min(observer.tasks_allowed.grow(now), ob.TASKS_MAX)
        runs, observer.runs = observer.runs, []
        runs_more, observer.runs_more = observer.runs_more, 0
        observer.runs_allowed.take(len(runs))
        observer.runs_room = min(observer.runs_allowed.grow(now), ob.RUNS_MAX)
        lines, observer.lines = observer.lines, []
        lines_more, observer.lines_more = observer.lines_more, 0
        engines = list(islice(scheduler.engines.values(), ob.ENGINES_MAX))
        return ob.Observed(
            is_first=is_first,
            is_all=is_round_end,
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
            round=observer.round,
            lines=lines,
            lines_more=lines_more,
        )

    def _begin_round(self, observer: _Observer) -> None:
        """All tasks that there are now are to be told; the newest, where there are many."""
        ids = list(islice(reversed(self._scheduler.tasks), ob.ALL_TASKS_MAX))
        observer.round += 1
        observer.round_more = len(self._scheduler.tasks) - len(ids)
        observer.to_tell = deque(ids)  # the newest first; `_slice` takes from the other end
        observer.is_behind = False

    def _slice(self, observer: _Observer, told: set[TaskId]) -> list[TaskRow]:
        """The next of a round; not those in `told`, which this answer has already."""
        tasks = self._scheduler.tasks
        to_tell = observer.to_tell
        assert to_tell is not None
        rows: list[TaskRow] = []
        while to_tell and len(rows) < ob.SLICE_MAX:
            task = tasks.get(to_tell.pop())
            if task is not None and task.id not in told:
                rows.append(row_of(task))
        return rows

    def _engine(self, engine: Engine) -> ob.EngineRow:
        peer = self._peers.engines.get(engine.id)
        assigned = islice(engine.assigned.values(), 1 + ob.PREFETCHED_MAX)
        task = next(assigned, None)
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
            prefetched=[each.id for each in assigned],
            resources=engine.resources,
        )
