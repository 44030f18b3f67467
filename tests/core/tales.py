"""Random tales of a living scheduler, written down as a journal would: what it was told, when it
ticked, what it placed.

    tale = Tale(SchedulerConfig(scheme="twobin"), seed=1)
    for act in tale.acts(100):      # each has happened to tale.live, which said act.said
        act.happen_to(another)      # and happens to another scheduler, as the journal tells it

Where test_machine.py asks whether the scheduler does right, tales are told to see that it does the
same: so they know no rules, look into the living scheduler for what may happen next, and draw
everything from one seed. `python -m tests.core.tales 7` prints what the tale of seed 7 leads to.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import msgspec

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core.commands import Assign, Command, Recall
from headway.core.events import ClientId, EngineId, TaskId
from headway.core.explain import explain, explain_all
from headway.core.limits import parse_limit
from headway.core.problems import KIND_IMPOSSIBLE, KIND_TIMEOUT
from headway.core.records import Engine, Task
from headway.core.scheduler import Scheduler
from headway.core.snapshot import dump, pack
from headway.core.states import FINAL_STATES, ON_ENGINE_STATES, RETRIABLE_STATES, TaskState

SCHEMES = ["leastload", "lru", "twobin", "weighted", "plainrandom", "tests.core.tales:moody"]
HWMS: list[int | str] = [1, 3, 0, "auto"]
STATUSES = [*[ev.RAN] * 6, *[ev.RAISED] * 4, ev.REFUSED, ev.STOPPED, ev.OVERRAN]
NEEDS = [{"gpu": 1.0}, {"gpu": 2.0}, {"ram": 3.0}, {"gpu": 1.0, "ram": 0.1}]
ERRORS = [ev.ErrorInfo(["a.Flaky", "builtins.Exception"], "x"), ev.ErrorInfo(["a.Bad"], "y"), None]

T = TypeVar("T")


def moody(loads: Sequence[int], rng: Random) -> int:
    """A user's scheme that would not choose the same twice."""
    moody.calls += 1  # type: ignore[attr-defined]
    return (rng.randrange(len(loads)) + moody.calls) % len(loads)  # type: ignore[attr-defined]


moody.calls = 0  # type: ignore[attr-defined]


class NoChance(Random):
    """For schedulers that must not ask for it."""

    def randrange(self, *args: Any, **kwargs: Any) -> int:
        raise AssertionError("chance was asked")


@dataclass(frozen=True)
class Told:
    """The scheduler was told of an event."""

    now: float
    event: ev.Event
    said: str

    def happen_to(self, scheduler: Scheduler) -> list[Command]:
        """As a journal tells it: another object, with the same in it."""
        packed = msgspec.msgpack.encode(self.event)
        event = msgspec.msgpack.decode(packed, type=type(self.event))
        out: list[Command] = []
        scheduler.handle(event, self.now, out)
        return out


@dataclass(frozen=True)
class Ticked:
    """Time had its due."""

    now: float
    said: str

    def happen_to(self, scheduler: Scheduler) -> list[Command]:
        out: list[Command] = []
        scheduler.tick(self.now, out)
        return out


@dataclass(frozen=True)
class Placed:
    """The scheduler placed, and this is what came of it."""

    now: float
    seats: list[tuple[TaskId, EngineId]]
    said: str

    def happen_to(self, scheduler: Scheduler) -> list[Command]:
        out: list[Command] = []
        scheduler.place_as(self.seats, self.now, out)
        return out


#: `said` is what the scheduler wanted done, in words that tell all of it.
Act = Told | Ticked | Placed


class Tale:
    """One tale, and the scheduler that lives it."""

    def __init__(self, config: SchedulerConfig, seed: int) -> None:
        moody.calls = 0  # type: ignore[attr-defined]
        self.live = Scheduler(config, Random(seed))
        self._rng = Random(seed)
        self._now = 0.0
        self._clients = 0
        self._engines = 0
        self._last: dict[ClientId, int] = {}
        self._recalls: list[Recall] = []
        self._kinds: list[tuple[int, Callable[[], ev.Event | None]]] = [
            (14, self._submit),
            (16, self._finish),
            (3, self._join),
            (2, self._leave),
            (1, self._drain_or_resume),
            (1, self._expect),
            (1, self._undeliver),
            (3, self._start),
            (4, self._give_back),
            (2, self._cancel),
            (3, self._release),
            (1, self._client),
            (1, self._declare_or_drop),
            (1, self._late),
            (2, self._miss),
            (2, self._retry),
            (1, self._abandon),
            (2, self._limit),
            (1, self._remember),
            (2, self._block_or_go_on),
        ]

    def acts(self, count: int) -> Iterator[Act]:
        """The next `count` acts or so. Each has happened when it is given."""
        if not self._clients:
            yield from self._welcome()
            for _ in range(self._rng.randrange(1, 4)):
                yield from self._tell(self._join())
        kinds = [kind for _, kind in self._kinds]
        weights = [weight for weight, _ in self._kinds]
        for _ in range(count):
            if self._once_in(3):
                self._now += self._rng.choice([0.0, 0.001, 0.05, 0.5, 3.0])
            (kind,) = self._rng.choices(kinds, weights)
            yield from self._tell(kind())
            if self._once_in(4):
                self._ask()
            if self._once_in(3):
                deadline_s = self.live.next_deadline_s()
                if deadline_s is not None and deadline_s <= self._now:
                    yield self._tick()
            if self._once_in(2):
                yield self._place()

    def _tell(self, event: ev.Event | None) -> Iterator[Act]:
        if event is not None:
            out: list[Command] = []
            self.live.handle(event, self._now, out)
            yield Told(self._now, event, self._heard(out))

    def _tick(self) -> Ticked:
        out: list[Command] = []
        self.live.tick(self._now, out)
        return Ticked(self._now, self._heard(out))

    def _place(self) -> Placed:
        out: list[Command] = []
        self.live.place(self._now, out)
        seats = [(command.task.id, command.engine) for command in out if type(command) is Assign]
        return Placed(self._now, seats, self._heard(out))

    def _heard(self, out: list[Command]) -> str:
        self._recalls += [command for command in out if isinstance(command, Recall)]
        return repr(out)

    def _ask(self) -> None:
        """Questions, which must make no difference."""
        self.live.next_deadline_s()
        self.live.statistics()
        explain_all(self.live, self._now)
        for task in self._some(list(self.live.tasks), 2):
            explain(self.live, task, self._now)
            self.live.redeliver(ev.client_of(task), [task], [])

    # --- drawing -------------------------------------------------------------------------------

    def _once_in(self, times: int) -> bool:
        return self._rng.randrange(times) == 0

    def _pick(self, choices: Sequence[T]) -> T | None:
        return self._rng.choice(choices) if choices else None

    def _some(self, choices: Sequence[T], most: int) -> list[T]:
        return self._rng.sample(choices, min(len(choices), self._rng.randint(0, most)))

    def _engine(self) -> Engine | None:
        return self._pick(list(self.live.engines.values()))

    def _tasks(self, *states: TaskState) -> list[Task]:
        return [task for task in self.live.tasks.values() if task.state in states]

    # --- clients -------------------------------------------------------------------------------

    def _welcome(self) -> Iterator[Act]:
        self._clients += 1
        client = ClientId(self._clients)
        self._last[client] = 0
        yield from self._tell(ev.ClientJoined(client))
        functions = {b"shared": b"f", b"own %d" % client: b"g" * client}
        yield from self._tell(ev.FunctionsDeclared(client, functions))

    def _client(self) -> ev.Event | None:
        """A client leaves, or one that has no function joins: its batches are refused."""
        if len(self.live.clients) > 2:
            leaver = self._pick(list(self.live.clients)) or ClientId(0)
            known = self.live.clients.get(leaver)
            if known is not None and not known.keeps and self._once_in(2):
                return ev.KeepAsked(leaver)
            return ev.ClientLeft(leaver)
        self._clients += 1
        client = ClientId(self._clients)
        self._last[client] = 0
        return ev.ClientJoined(client)

    def _declare_or_drop(self) -> ev.Event | None:
        client = self._pick(list(self.live.clients))
        if client is None:
            return None
        if self._once_in(3):
            return ev.FunctionsDropped(client, [b"own %d" % client])
        return ev.FunctionsDeclared(client, {b"shared": b"f", b"own %d" % client: b"g"})

    def _id(self, client: ClientId) -> TaskId:
        self._last[client] += 1
        return ev.task_id(client, self._last[client])

    def _submit(self) -> ev.Event | None:
        client = self._pick(list(self.live.clients))
        if client is None:
            return None
        functions = sorted(self.live.clients[client].functions)
        groups, tasks, batch = [], [], []
        for _ in range(self._rng.choice([1, 2, 5])):
            node = self._id(client)
            if self._once_in(8):
                groups.append(ev.GroupSpec(node, self._some([*self.live.tasks, *batch], 6)))
            elif functions:
                tasks.append(self._task(node, self._rng.randrange(len(functions)), batch))
                batch.append(node)
        return ev.Submitted(client, functions, groups, tasks)

    def _task(self, node: TaskId, function: int, batch: list[TaskId]) -> ev.TaskSpec:
        tasks = [*self.live.tasks, *batch]
        inputs = self._some(tasks[-8:], 2) if self._once_in(4) else None
        after = follow = None
        if self._once_in(2):
            after = self._condition([*tasks[-12:], *self.live.groups])
        if self._once_in(3):
            follow = self._condition(tasks[-12:])
        options = None if self._once_in(3) else self._options()
        args = b"args of %d" % node
        return ev.TaskSpec(
            node, function, args, inputs, after, follow, options, parent=self._parent()
        )

    def _parent(self) -> ev.Parent | None:
        """A run that submits it, seldom one that is over."""
        engine = self._engine() if self._once_in(4) else None
        task = self._pick(list(engine.assigned.values())) if engine is not None else None
        return task and ev.Parent(task.id, task.attempt - self._once_in(8))

    def _condition(self, nodes: list[TaskId]) -> ev.ConditionSpec:
        upstreams = self._some(nodes, 4)
        need = min(self._rng.choice([ev.NEED_ALL, 1, 2]), len(upstreams))
        return ev.ConditionSpec(upstreams, need, self._rng.choice([1, 3, 1, 3, 2]))

    def _options(self) -> ev.TaskOptions:
        once_in, choice = self._once_in, self._rng.choice
        targets = None
        if once_in(4):
            targets = [EngineId(n) for n in self._some(range(self._engines + 1), 3)] or None
        return ev.TaskOptions(
            targets=targets,
            wait_for_engines=once_in(3),
            timeout_s=choice([0.5, 3.0]) if once_in(6) else None,
            retries=choice([0, 1, 3]),
            retry_on=["a.Flaky"] if once_in(4) else None,
            backoff_s=choice([0.0, 0.05, 0.5]),
            crash_limit=choice([1, 2, 3]),
            at_most_once=once_in(6),
            priority=choice([0, 0, 1, -1]),
            resources=choice(NEEDS) if once_in(4) else None,
            label=choice(["", "tea"]),
            retry_elsewhere=once_in(4),
            fair=once_in(2),
            share=choice(["", "", "day"]),
            weight=choice([1, 1, 3]),
            tags=choice([["db"], ["api"], ["api", "db"], ["free", "free"]]) if once_in(3) else None,
        )

    def _cancel(self) -> ev.Event:
        """Of any tasks, or of those that engines have: these may be asked back."""
        known = self.live.tasks.values()
        on_engines = [t.id for t in known if t.state in ON_ENGINE_STATES]
        chosen = on_engines if self._once_in(2) else [t.id for t in known]
        return ev.CancelAsked(ClientId(1), self._some(chosen, 2), self._once_in(2))

    def _release(self) -> ev.Event | None:
        client = self._pick(list(self.live.clients.values()))
        return client and ev.Released(client.id, self._some(sorted(client.nodes), 6))

    def _remember(self) -> ev.Event | None:
        client = self._pick(list(self.live.clients))
        if client is None:
            return None
        engine = self._pick([None, *self.live.engines])
        past = ev.PastTask(self._id(client), not self._once_in(3), engine, "before")
        return ev.Remembered(client, [past])

    # --- engines -------------------------------------------------------------------------------

    def _join(self) -> ev.Event | None:
        if len(self.live.engines) > 4:
            return None
        engine = EngineId(self._engines)
        self._engines += 1
        resources = self._rng.choice([{}, {}, {"gpu": 1.0}, {"gpu": 2.0, "ram": 4.1}])
        host = f"host-{engine % 2}"
        ends_in_s = self._rng.choice([None, None, 2.0, 40.0])
        stands_in = self._once_in(8)
        store = ev.StoreId(host)
        return ev.EngineJoined(engine, resources, host, 1_000 + engine, store, ends_in_s, stands_in)

    def _block_or_go_on(self) -> ev.Event | None:
        """A task begins to wait for its own, or goes on; said at times when it is not so."""
        engine = self._engine()
        if engine is None or (engine.blocked is not None and not self._once_in(4)):
            return engine and ev.EngineUnblocked(engine.id)
        task = self._pick(list(engine.assigned.values()))
        return task and ev.EngineBlocked(engine.id, task.id, task.attempt)

    def _leave(self) -> ev.Event | None:
        engine = self._engine()
        if engine is None:
            return None
        started = self._pick([*engine.assigned, None])
        overran, wanted = self._once_in(6), self._once_in(3)
        end = ev.EngineEnd("died", wanted, overran and not wanted)
        busy = started is not None and not self._once_in(3)
        return ev.EngineLeft(engine.id, end, started, busy, not self._once_in(4))

    def _drain_or_resume(self) -> ev.Event | None:
        engine = self._engine()
        if engine is None:
            return None
        return ev.EngineResumed(engine.id) if engine.draining else ev.EngineDraining(engine.id)

    def _expect(self) -> ev.Event:
        return ev.EnginesExpected([EngineId(self._engines + n) for n in range(2)])

    def _undeliver(self) -> ev.Event | None:
        task = self._pick(self._tasks(TaskState.ASSIGNED))
        if task is None or task.engine is None:
            return None
        return ev.Undelivered(task.engine, task.id, self._now - self._rng.choice([0.0, 0.5]))

    def _finish(self) -> ev.Event | None:
        engine = self._pick([e for e in self.live.engines.values() if e.assigned])
        if engine is None:
            return None
        tasks = list(engine.assigned.values())[: self._rng.choice([1, 2, 4])]
        outcomes = [self._outcome(task) for task in tasks]
        return ev.Finished(engine.id, outcomes * 2 if self._once_in(9) else outcomes)

    def _outcome(self, task: Task) -> ev.Outcome:
        status = self._rng.choice(STATUSES)
        error = self._rng.choice(ERRORS) if status == ev.RAISED else None
        run_s = self._rng.choice([0.0001, 0.004, 0.3, 1.5, 20.0])
        lost: list[str] = []
        stored = [node.result for node in task.inputs or () if _is_stored(node)]
        if stored and self._once_in(3):
            status = ev.INPUT_LOST
            lost = [value.name for value in self._some(stored, 2)]  # type: ignore[union-attr]
        payload: ev.Value = b"of %d" % task.id
        if status == ev.RAN and self._once_in(2):
            name = ev.value_name(task.id, task.attempt)
            payload = ev.StoredValue(ev.StoreId(f"host-{(task.engine or 0) % 2}"), name, 1 << 20)
        return ev.Outcome(task.id, task.attempt, status, payload, 0.0, run_s, error, lost)

    def _start(self) -> ev.Event | None:
        engine = self._pick([e for e in self.live.engines.values() if e.assigned])
        return engine and ev.Started(engine.id, next(iter(engine.assigned)))

    def _give_back(self) -> ev.Event | None:
        if not self._recalls:
            return None
        recall = self._recalls.pop(self._rng.randrange(len(self._recalls)))
        begun = self._some(recall.tasks, 1)
        return ev.GaveBack(recall.engine, [t for t in recall.tasks if t not in begun], begun)

    def _late(self) -> ev.Event | None:
        task = self._pick(self._tasks(TaskState.WAITING, TaskState.READY))
        return task and ev.LateOutcome(self._outcome(task))

    def _miss(self) -> ev.Event | None:
        """A client can't read a value: that which is there, or one that was."""
        task = self._pick([t for t in self.live.tasks.values() if _is_stored(t)])
        if task is None:
            return None
        name = ev.value_name(task.id, task.attempt - self._rng.choice([0, 0, 1]))
        return ev.ValueMissed(ev.client_of(task.id), task.id, name)

    def _retry(self) -> ev.Event | None:
        """Somebody wants another try, of what may have one or may not."""
        task = self._pick(self._tasks(*RETRIABLE_STATES, TaskState.SUCCEEDED))
        return task and ev.RetryAsked(task.id)

    def _abandon(self) -> ev.Event | None:
        task = self._pick([t for t in self.live.tasks.values() if t.state not in FINAL_STATES])
        kind = self._rng.choice([KIND_IMPOSSIBLE, KIND_TIMEOUT])
        attempt = task.attempt if task is not None else 0
        return task and ev.Abandoned(task.id, kind, "the shell says so", attempt)

    def _limit(self) -> ev.Event:
        limits = ["1", "2", "none", "2/s", "1, 30/min", "0"]
        tag, limit = self._rng.choice(["db", "api"]), self._rng.choice(limits)
        return ev.LimitSet(tag, parse_limit(limit))


def _is_stored(task: Task) -> bool:
    return isinstance(task.result, ev.StoredValue)


def outcome_of(seed: int) -> str:
    """What a tale leads to, in a few letters: lived, and replayed."""
    digest = hashlib.sha256()
    for scheme in SCHEMES:
        config = SchedulerConfig(scheme=scheme)
        tale, replayed = Tale(config, seed), Scheduler(config, NoChance())
        for act in tale.acts(150):
            act.happen_to(replayed)
        for scheduler in (tale.live, replayed):
            digest.update(b"".join(map(pack, dump(scheduler))))
    return digest.hexdigest()


if __name__ == "__main__":
    print(outcome_of(int(sys.argv[1])))
