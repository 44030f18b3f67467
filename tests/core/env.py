"""The test kit of the core: a scheduler with a clock that stands still, and builders around it.

    env = Env(hwm=1)
    e0, e1 = env.engines(2)
    task = env.submit(retries=1)                      # Given: builders return ids
    assert env.fail(task) == [env.assign(task, e1)]   # When, Then: whatever happens returns
    env.quiet()                                       #   the commands that it led to

Rules: every event goes through `tell`, which lets the scheduler place after it, checks every
invariant, and keeps count of what was delivered: a task whose end is told twice fails the test
at once. It must not know what the scheduler ought to do: that is for the tests to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core import invariants, problems
from headway.core.commands import Assign, Command, Deliver
from headway.core.events import (
    ClientId,
    ConditionSpec,
    EngineEnd,
    EngineId,
    ErrorInfo,
    Outcome,
    TaskId,
    TaskOptions,
    TaskSpec,
)
from headway.core.records import Task
from headway.core.scheduler import Scheduler
from headway.core.states import TaskState

#: The function that all tasks of the kit call.
DIGEST = b"digest-of-a-func"

#: What a failing task raises, if the test does not say.
ERROR = ErrorInfo(["builtins.ValueError", "builtins.Exception"], "no")

Upstreams = ConditionSpec | Sequence[TaskId]


class Env:
    """A scheduler, one client (`me`), and short words for what can happen.

    Parameters:
        hwm, scheme, config: settings of the scheduler; see SchedulerConfig.
        seed: of the scheduler's chance.
    """

    def __init__(
        self, *, hwm: int | str = 1, scheme: str = "leastload", seed: int = 0, **config: Any
    ) -> None:
        settings = SchedulerConfig(hwm=hwm, scheme=scheme, **config)
        self.scheduler = Scheduler(settings, Random(seed))
        self.now = 0.0
        #: What the latest step led to, and each end that was ever told to a client.
        self.said: list[Command] = []
        self.delivered: dict[TaskId, Deliver] = {}
        self.retried: set[TaskId] = set()
        self._clients = 0
        self._engines = 0
        self._sequences: dict[ClientId, int] = {}
        self.me = self.client()

    # --- telling -------------------------------------------------------------------------------

    def tell(self, *events: ev.Event) -> list[Command]:
        """Let events happen as one batch, and the scheduler place; returns what it wants done."""
        out: list[Command] = []
        for event in events:
            if isinstance(event, ev.RetryAsked):
                self.retried.add(event.task)
            self.scheduler.handle(event, self.now, out)
        return self._done(out)

    def tick(self, after_s: float = 0.0) -> list[Command]:
        """Let time pass, and whatever is due happen."""
        self.now += after_s
        out: list[Command] = []
        self.scheduler.tick(self.now, out)
        return self._done(out)

    def _done(self, out: list[Command]) -> list[Command]:
        self.scheduler.place(self.now, out)
        invariants.check(self.scheduler)
        for command in out:
            if isinstance(command, Deliver):
                again = self.told_again(command)
                assert again or command.task not in self.delivered, f"{command} was told before"
                self.delivered[command.task] = command
        self.said = out
        return out

    def told_again(self, end: Deliver) -> bool:
        """Whether this end may be told twice: its value was missed, or it was tried again."""
        record = self.scheduler.tasks.get(end.task)
        is_lost = end.problem is not None and end.problem.kind == problems.KIND_VALUE_LOST
        if record is None or record.lineage is None:
            return is_lost
        is_again = (
            record.state is TaskState.SUCCEEDED
            or record.lineage.reruns > 0
            or end.task in self.retried
        )
        return is_lost or is_again

    def quiet(self) -> None:
        """Asked again, the scheduler has nothing to add, and every invariant holds."""
        said = self.said
        assert self.tick() == []
        assert self.tell() == []
        self.said = said

    # --- clients -------------------------------------------------------------------------------

    def client(self) -> ClientId:
        """One more client, which has declared the kit's function."""
        self._clients += 1
        client = ClientId(self._clients)
        self._sequences[client] = 0
        self.tell(ev.ClientJoined(client), ev.FunctionsDeclared(client, {DIGEST: b"function"}))
        return client

    def next_id(self, client: ClientId | None = None) -> TaskId:
        """The id of the next node that the client makes."""
        client = client or self.me
        self._sequences[client] += 1
        return ev.task_id(client, self._sequences[client])

    def spec(
        self,
        *,
        client: ClientId | None = None,
        inputs: Iterable[TaskId] = (),
        after: Upstreams | None = None,
        follow: Upstreams | None = None,
        **options: Any,
    ) -> TaskSpec:
        """A task that was not submitted yet. `options` are those of TaskOptions."""
        return TaskSpec(
            self.next_id(client),
            0,
            b"arguments",
            inputs=list(inputs) or None,
            after=_condition(after),
            follow=_condition(follow),
            options=TaskOptions(**options) if options else None,
        )

    def submit(self, **fields: Any) -> TaskId:
        """Submit one task, with the fields of `spec`. `said` has what this led to."""
        spec = self.spec(**fields)
        self.submit_specs(spec)
        return spec.id

    def submit_many(self, count: int, **fields: Any) -> list[TaskId]:
        """Submit `count` such tasks in one batch."""
        specs = [self.spec(**fields) for _ in range(count)]
        self.submit_specs(*specs)
        return [spec.id for spec in specs]

    def submit_specs(self, *specs: TaskSpec, function: bytes = DIGEST) -> list[Command]:
        """Submit these, as one batch of the client that the first names."""
        return self.tell(ev.Submitted(ev.client_of(specs[0].id), [function], [], list(specs)))

    def group(self, members: Iterable[TaskId], *, client: ClientId | None = None) -> TaskId:
        """Submit a group."""
        group = ev.GroupSpec(self.next_id(client), list(members))
        self.tell(ev.Submitted(client or self.me, [DIGEST], [group], []))
        return group.id

    def remember(
        self,
        succeeded: bool = True,
        engine: EngineId | None = None,
        client: ClientId | None = None,
    ) -> TaskId:
        """The shell puts back how a forgotten task ended; returns its new id."""
        past = ev.PastTask(self.next_id(client), succeeded, engine)
        self.tell(ev.Remembered(client or self.me, [past]))
        return past.id

    def cancel(
        self,
        *tasks: TaskId,
        client: ClientId | None = None,
        queued_only: bool = False,
        downstream: bool = False,
    ) -> list[Command]:
        """The client asks for these not to run; `queued_only`: unless they have begun;
        `downstream`: nor what depends on them."""
        event = ev.CancelAsked(client or self.me, list(tasks), queued_only, downstream)
        return self.tell(event)

    def release(self, *nodes: TaskId, client: ClientId | None = None) -> list[Command]:
        """The client lets go of these."""
        return self.tell(ev.Released(client or self.me, list(nodes)))

    # --- engines -------------------------------------------------------------------------------

    def engine(
        self, *, store: str = "", ends_in_s: float | None = None, **resources: float
    ) -> EngineId:
        """One more engine; `said` has what this led to."""
        engine = EngineId(self._engines)
        self._engines += 1
        self.tell(ev.EngineJoined(engine, resources, store=ev.StoreId(store), ends_in_s=ends_in_s))
        return engine

    def expect(self, *engines: int) -> list[Command]:
        """These engines are being started."""
        return self.tell(ev.EnginesExpected([EngineId(engine) for engine in engines]))

    def engines(self, count: int, **resources: float) -> list[EngineId]:
        """So many more engines, all alike."""
        return [self.engine(**resources) for _ in range(count)]

    def kill(
        self,
        engine: EngineId,
        *,
        started: TaskId | None = None,
        busy: bool = True,
        known: bool = True,
        overran: bool = False,
    ) -> list[Command]:
        """The engine dies; `started` is what it began last. See EngineLeft."""
        end = EngineEnd("was killed by SIGKILL", overran=overran)
        return self.tell(ev.EngineLeft(engine, end, started, busy and started is not None, known))

    def leave(
        self, engine: EngineId, *, started: TaskId | None = None, busy: bool = True
    ) -> list[Command]:
        """The engine ends, on purpose."""
        end = EngineEnd("was stopped", wanted=True)
        return self.tell(ev.EngineLeft(engine, end, started, busy and started is not None))

    def drain(self, engine: EngineId) -> list[Command]:
        """The engine takes no more tasks."""
        return self.tell(ev.EngineDraining(engine))

    def resume(self, engine: EngineId) -> list[Command]:
        """The engine takes tasks again."""
        return self.tell(ev.EngineResumed(engine))

    def late(self, task: TaskId, status: int = ev.RAN, attempt: int | None = None) -> list[Command]:
        """An engine that was given up reports how an attempt ended: the latest, if not said."""
        payload = b"late result" if status == ev.RAN else b"late exception"
        outcome = self.outcome(task, status, attempt=attempt, payload=payload)
        return self.tell(ev.LateOutcome(outcome))

    def give_back(
        self, engine: EngineId, *tasks: TaskId, begun: Sequence[TaskId] = ()
    ) -> list[Command]:
        """The engine answers a recall: it has not begun these, but has `begun` those."""
        return self.tell(ev.GaveBack(engine, list(tasks), list(begun)))

    # --- how attempts go -----------------------------------------------------------------------

    def outcome(
        self,
        task: TaskId,
        status: int,
        *,
        attempt: int | None = None,
        payload: ev.Value = b"",
        error: ErrorInfo | None = None,
        run_s: float = 0.0,
        lost: Iterable[str] = (),
    ) -> Outcome:
        """How an attempt at the task ended: the present one, if the test does not say."""
        number = self.task(task).attempt if attempt is None else attempt
        return Outcome(task, number, status, payload, run_s=run_s, error=error, lost=list(lost))

    def start(self, task: TaskId) -> list[Command]:
        """The engine of the task reports that it runs."""
        return self.tell(ev.Started(self._engine_of(task), task))

    def finish(self, task: TaskId, payload: bytes = b"result", run_s: float = 0.0) -> list[Command]:
        """The function returned, after so long."""
        return self._report(task, ev.RAN, payload=payload, run_s=run_s)

    def store(self, task: TaskId, size: int = 1 << 20, store: str = "store") -> list[Command]:
        """The function returned something large, which is kept in a store."""
        return self._report(task, ev.RAN, payload=self.value(task, size, store))

    def value(self, task: TaskId, size: int = 1 << 20, store: str = "store") -> ev.StoredValue:
        """Where the present attempt keeps what it returns."""
        name = ev.value_name(task, self.task(task).attempt)
        return ev.StoredValue(ev.StoreId(store), name, size)

    def lose(self, task: TaskId, *upstreams: TaskId) -> list[Command]:
        """The engine of `task` can't read the values of these."""
        names = [ev.value_name(node, self.task(node).attempt) for node in upstreams]
        return self._report(task, ev.INPUT_LOST, lost=names)

    def miss(self, task: TaskId, client: ClientId | None = None) -> list[Command]:
        """The client can't read the value of its task."""
        name = ev.value_name(task, self.task(task).attempt)
        return self.tell(ev.ValueMissed(client or self.me, task, name))

    def fail(self, task: TaskId, error: ErrorInfo = ERROR) -> list[Command]:
        """The function raised."""
        return self._report(task, ev.RAISED, payload=b"exception", error=error)

    def refuse(self, task: TaskId) -> list[Command]:
        """The engine does not meet the task's functional dependency."""
        return self._report(task, ev.REFUSED, error=ErrorInfo([], "has no GPU"))

    def stopped(self, task: TaskId) -> list[Command]:
        """The engine dropped or interrupted the task."""
        return self._report(task, ev.STOPPED)

    def overran(self, task: TaskId) -> list[Command]:
        """The engine interrupted the task at its run_timeout."""
        return self._report(task, ev.OVERRAN)

    def _report(self, task: TaskId, status: int, **fields: Any) -> list[Command]:
        outcome = self.outcome(task, status, **fields)
        return self.tell(ev.Finished(self._engine_of(task), [outcome]))

    def _engine_of(self, task: TaskId) -> EngineId:
        engine = self.task(task).engine
        assert engine is not None, f"{self.task(task)!r} is on no engine"
        return engine

    # --- looking -------------------------------------------------------------------------------

    def task(self, task: TaskId) -> Task:
        """The record."""
        return self.scheduler.tasks[task]

    def state(self, task: TaskId) -> TaskState:
        """Where it is."""
        return self.scheduler.tasks[task].state

    def states(self, tasks: Iterable[TaskId]) -> list[TaskState]:
        """Where they are."""
        return [self.state(task) for task in tasks]

    def knows(self, node: TaskId) -> bool:
        """Whether the task or group is remembered."""
        return node in self.scheduler.tasks or node in self.scheduler.groups

    def assign(self, task: TaskId, engine: EngineId) -> Assign:
        """The command that puts the task there, to compare with."""
        return Assign(engine, self.task(task))


def placed(commands: Iterable[Command]) -> list[tuple[TaskId, EngineId]]:
    """What was put where, in order."""
    return [(c.task.id, c.engine) for c in commands if isinstance(c, Assign)]


def delivered(commands: Iterable[Command]) -> dict[TaskId, TaskState]:
    """The ends that were told."""
    return {c.task: c.state for c in commands if isinstance(c, Deliver)}


def _condition(upstreams: Upstreams | None) -> ConditionSpec | None:
    if upstreams is None or isinstance(upstreams, ConditionSpec):
        return upstreams
    return ConditionSpec(list(upstreams))
