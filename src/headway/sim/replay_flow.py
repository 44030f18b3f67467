"""A flow in virtual time: the real scheduler and the real queues of engines, with tasks that take
as long as they were recorded to.

    replay(flow, Choice(engines=64, hwm=4, scheme="lru"), Circumstances()).makespan_s

All tasks are submitted at once, at 0. A message between controller and engine travels for half of
the dispatch's round trip; a task runs for its recorded time; nothing else takes any. So what is
decided is decided by the code that decides in a real cluster, and what is left out is what would
blur the comparison: the sizes of values, other load on the hosts, the controller's own work.

What this file must not know: files, and how a result is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random
from typing import NamedTuple

from headway.config import HWM_AUTO, SchedulerConfig
from headway.core import events as ev
from headway.core.commands import Assign, Command, Deliver, Recall
from headway.core.events import ClientId, ConditionSpec, EngineId, TaskId
from headway.core.scheduler import Scheduler
from headway.core.states import TaskState
from headway.engine.queue import Assigned, TaskQueue
from headway.engine.runner import Function
from headway.errors import InvariantViolation
from headway.flows.flow import Flow
from headway.sim.world import World
from headway.wire.messages import Assignment

#: The round trip of one task through an idle cluster, as README.md has it from `make bench` on two
#: cores. It has the client's part in it too, so that no dispatch should take longer.
DISPATCH_ROUND_TRIP_S = 665e-6
#: A probability of failure above this is refused: a task would be tried hundreds of times.
FAILURES_MAX = 0.95

_CLIENT = ClientId(1)
_FUNCTION = Function(b"replayed", b"")
_SUBMIT_TASKS_MAX = 2_000
#: So many ends between two calls of `on_progress`.
_PROGRESS_TASKS = 500
_AGAIN_AND_AGAIN = 1 << 32


@dataclass(frozen=True, slots=True)
class Choice:
    """What a user chooses, and a replay compares."""

    engines: int
    hwm: int | str = HWM_AUTO
    scheme: str = "leastload"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is the same for all choices.

    Parameters:
        overhead_s: the round trip of a dispatch, beside the task's own time.
        scale: what recorded runtimes are multiplied by.
        seed: of the schemes with chance in them, and of failures.
        failures: the probability that a run raises, at some point of its time, and is tried
            again. Which runs these are is the same for each choice.
    """

    overhead_s: float = DISPATCH_ROUND_TRIP_S
    scale: float = 1.0
    seed: int = 0
    failures: float = 0.0


class Run(NamedTuple):
    """One run of one task: the numbers of both, from 0, and its time since the beginning."""

    engine: int
    task: int
    began_s: float
    ended_s: float
    has_failed: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """What a choice came to.

    `bound_s` is a makespan below which no schedule can be: the critical path, or all the work
    spread evenly over the engines, whichever is longer. `recalled` counts tasks that were taken
    back from the queue of one engine to run on another, `failed` runs that failed; `busy_s` is
    the time of all runs together, of those too. `runs` are in the order of their ends.
    """

    choice: Choice
    makespan_s: float
    bound_s: float
    busy_s: float
    recalled: int
    failed: int
    runs: list[Run]
    scheme_failure: str = ""

    @property
    def utilisation(self) -> float:
        """The part of the engines' time in which they ran tasks, from 0 to 1."""
        given_s = self.choice.engines * self.makespan_s
        return self.busy_s / given_s if given_s else 0.0

    @property
    def ratio(self) -> float:
        """The makespan by the bound: 1 is as good as can be. inf if only the bound is 0."""
        if self.bound_s:
            return self.makespan_s / self.bound_s
        return inf if self.makespan_s else 1.0


def lower_bound_s(flow: Flow, engines: int, scale: float = 1.0) -> float:
    """No schedule of `flow` on so many engines, each with one task at a time, is shorter.

    Raises:
        FlowError: of a task it is not known how long it ran.
    """
    return max(flow.critical_path_s(), flow.work_s() / engines) * scale


def replay(
    flow: Flow,
    choice: Choice,
    circumstances: Circumstances,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Replay:
    """Run `flow` in virtual time.

    Parameters:
        on_progress: called now and then with the number of tasks that have ended.

    Raises:
        FlowError: of a task it is not known how long it ran.
        ValueError: there is no such scheme, or a number is out of its range.
    """
    if choice.engines < 1:
        raise ValueError(f"{choice.engines} engines: at least one is needed")
    if not 0.0 <= circumstances.failures <= FAILURES_MAX:
        raise ValueError(f"failures {circumstances.failures}: expected from 0 to {FAILURES_MAX}")
    for name, value in (("overhead", circumstances.overhead_s), ("scale", circumstances.scale)):
        if not 0.0 <= value < inf:
            raise ValueError(f"{name} {value}: expected a number from 0")
    one = _Replayed(flow, choice, circumstances, on_progress)
    makespan_s = one.go()
    return Replay(
        choice,
        makespan_s,
        lower_bound_s(flow, choice.engines, circumstances.scale),
        sum(run.ended_s - run.began_s for run in one.runs),
        one.scheduler.counters.recalled,
        sum(run.has_failed for run in one.runs),
        one.runs,
        one.scheduler.scheme_failure,
    )


class _Engine:
    """An engine: its real queue, and whether a task runs."""

    __slots__ = ("id", "is_busy", "queue")

    def __init__(self, number: int) -> None:
        self.id = EngineId(number)
        self.queue = TaskQueue()
        self.is_busy = False


class _Replayed:
    """One replay: the shell of a controller, and engines, in a world of their own."""

    def __init__(
        self,
        flow: Flow,
        choice: Choice,
        circumstances: Circumstances,
        on_progress: Callable[[int], None],
    ) -> None:
        self.world = World(circumstances.seed)
        # The core alone does not mind 0, and so no time here is a rounded difference.
        self.world.now = 0.0
        self.runs: list[Run] = []
        config = SchedulerConfig(hwm=choice.hwm, scheme=choice.scheme, seed=circumstances.seed)
        self.scheduler = Scheduler(config, Random(circumstances.seed))
        self._flow = flow
        self._circumstances = circumstances
        self._runtimes_s = [s * circumstances.scale for s in flow.runtimes_s()]
        self._half_s = circumstances.overhead_s / 2
        self._on_progress = on_progress
        self._engines = [_Engine(number) for number in range(choice.engines)]
        #: Of each task, how often it has begun: an attempt may be recalled before it does.
        self._begun = [0] * len(flow.tasks)
        self._ended = 0
        self._out: list[Command] = []
        self._turn_is_due = False
        self._tick_at_s = inf

    def go(self) -> float:
        """Run all of it; the makespan in seconds."""
        for engine in self._engines:
            self._tell(ev.EngineJoined(engine.id, {}))
        self._tell(ev.ClientJoined(_CLIENT))
        self._tell(ev.FunctionsDeclared(_CLIENT, {_FUNCTION.digest: b""}))
        specs = self._specs()
        for first in range(0, len(specs), _SUBMIT_TASKS_MAX):
            batch = specs[first : first + _SUBMIT_TASKS_MAX]
            self._tell(ev.Submitted(_CLIENT, [_FUNCTION.digest], [], batch))
        count = len(specs)
        if not self.world.run(inf, lambda: self._ended == count):
            raise InvariantViolation(
                f"the simulated cluster fell silent with {count - self._ended:,} of {count:,} "
                "tasks not ended"
            )
        return self.world.now

    def _specs(self) -> list[ev.TaskSpec]:
        options = ev.TaskOptions(retries=_AGAIN_AND_AGAIN) if self._circumstances.failures else None
        return [
            ev.TaskSpec(
                _task_id(number),
                0,
                b"",
                None,
                ConditionSpec([_task_id(parent) for parent in parents]) if parents else None,
                None,
                options,
            )
            for number, parents in enumerate(self._flow.parent_numbers())
        ]

    # --- the controller: what comes at one time is taken in first, then one turn ------------------

    def _tell(self, event: ev.Event) -> None:
        self.scheduler.handle(event, self.world.now, self._out)
        self._soon()

    def _soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self.world.after(0.0, self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        scheduler, now, out = self.scheduler, self.world.now, self._out
        if now >= self._tick_at_s:
            self._tick_at_s = inf
        deadline_s = scheduler.next_deadline_s()
        if deadline_s is not None and deadline_s <= now:
            scheduler.tick(now, out)
        scheduler.place(now, out)
        self._out = []
        self._perform(out)
        deadline_s = scheduler.next_deadline_s()
        if deadline_s is not None and deadline_s < self._tick_at_s:
            self._tick_at_s = max(now, deadline_s)
            self.world.at(self._tick_at_s, self._soon)

    def _perform(self, commands: list[Command]) -> None:
        """Send each engine what it is assigned, in one message, and ask for what is recalled."""
        assigned: dict[EngineId, list[Assigned]] = {}
        for command in commands:
            if type(command) is Assign:
                task = command.task
                item = Assigned(Assignment(task.id, task.attempt, 0, b""), _FUNCTION)
                assigned.setdefault(command.engine, []).append(item)
            elif type(command) is Deliver:
                self._deliver(command)
            elif type(command) is Recall:
                self._send_recall(self._engines[command.engine], command.tasks)
        for engine_id, items in assigned.items():
            self._send_assigned(self._engines[engine_id], items)

    def _deliver(self, command: Deliver) -> None:
        if command.state is not TaskState.SUCCEEDED:
            raise InvariantViolation(f"a replayed task ended: {command.problem}")
        self._ended += 1
        if self._ended % _PROGRESS_TASKS == 0:
            self._on_progress(self._ended)

    # --- the engines -----------------------------------------------------------------------------

    def _send_assigned(self, engine: _Engine, items: list[Assigned]) -> None:
        def arrive() -> None:
            engine.queue.append(items)
            if not engine.is_busy:
                self._begin_next(engine)

        self.world.after(self._half_s, arrive)

    def _send_recall(self, engine: _Engine, tasks: list[TaskId]) -> None:
        def arrive() -> None:
            given, begun = engine.queue.give_back(tasks)
            answer = ev.GaveBack(engine.id, [held.task for held in given], begun)
            self.world.after(self._half_s, lambda: self._tell(answer))

        self.world.after(self._half_s, arrive)

    def _begin_next(self, engine: _Engine) -> None:
        item = engine.queue.begin()
        engine.is_busy = item is not None
        if item is None:
            engine.queue.end()
            return
        attempt = item.assignment
        number = _number(attempt.task)
        self._begun[number] += 1
        run_s, has_failed = self._fate(number, self._begun[number])
        began_s = self.world.now

        def end() -> None:
            now = self.world.now
            self.runs.append(Run(int(engine.id), number, began_s, now, has_failed))
            status = ev.RAISED if has_failed else ev.RAN
            outcome = ev.Outcome(attempt.task, attempt.attempt, status, b"", began_s, run_s)
            finished = ev.Finished(engine.id, [outcome])
            self.world.after(self._half_s, lambda: self._tell(finished))
            self._begin_next(engine)

        self.world.after(run_s, end)

    def _fate(self, number: int, nth: int) -> tuple[float, bool]:
        """How long the `nth` run of a task takes, and whether it fails: the same wherever it is."""
        runtime_s = self._runtimes_s[number]
        failures = self._circumstances.failures
        if failures:
            rng = Random(f"{self._circumstances.seed} {number} {nth}")
            if rng.random() < failures:
                return runtime_s * rng.random(), True
        return runtime_s, False


def _task_id(number: int) -> TaskId:
    return ev.task_id(_CLIENT, number + 1)


def _number(task: TaskId) -> int:
    return (task & (1 << ev.SEQUENCE_BITS) - 1) - 1
