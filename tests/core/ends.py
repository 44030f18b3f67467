"""The ways in which tasks can end, for the tables of dependencies, and what follows from them.

The expectations are worked out here, from the words of the specification: a condition is met
once enough of its upstreams ended as wanted, and impossible as soon as too few are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headway.core import problems
from headway.core.events import (
    ON_DONE,
    ON_FAILURE,
    ON_SUCCESS,
    EngineId,
    TaskId,
)
from headway.core.states import TaskState
from tests.core.env import Env

S = TaskState
ONS = [ON_SUCCESS, ON_FAILURE, ON_DONE]
WAITS, RUNS, IMPOSSIBLE = S.WAITING, S.ASSIGNED, S.IMPOSSIBLE


@dataclass(frozen=True)
class End:
    """A way in which an upstream can end. `on_engine`: it ends on the engine called home."""

    name: str
    state: TaskState
    on_engine: bool
    submit: Callable[[Upstreams], TaskId]
    happen: Callable[[Upstreams, TaskId], object]

    def __repr__(self) -> str:
        return self.name


class Upstreams:
    """An Env in which upstreams wait until they are told how to end.

    Engines have no limit, so that nothing waits for a seat. `home` is where upstreams run, except
    those that crash: each of these has an engine of its own to take down.
    """

    def __init__(self) -> None:
        self.env = Env(hwm=0)
        self.home = self.env.engine()
        #: Fails or never ends, for upstreams that shall end in the queue.
        self.gate = self.env.submit(targets=[self.home])

    def on(self, engine: EngineId) -> TaskId:
        return self.env.submit(targets=[engine], crash_limit=1)

    def queued(self, **options: float) -> TaskId:
        return self.env.submit(after=[self.gate], **options)

    def lose(self, task: TaskId) -> None:
        engine = self.env.task(task).engine
        assert engine is not None
        self.env.kill(engine, started=task)

    def stop(self, task: TaskId) -> None:
        self.env.cancel(task)
        self.env.stopped(task)

    def time_out(self, task: TaskId) -> None:
        self.env.tick(after_s=1.0)

    def submit(self, ends: Sequence[End]) -> list[TaskId]:
        return [end.submit(self) for end in ends]


RAN = End("ran", S.SUCCEEDED, True, lambda u: u.on(u.home), lambda u, t: u.env.finish(t))
RAISED = End("raised", S.FAILED, True, lambda u: u.on(u.home), lambda u, t: u.env.fail(t))
OVERRAN = End("overran", S.TIMED_OUT, True, lambda u: u.on(u.home), lambda u, t: u.env.overran(t))
STOPPED = End("stopped", S.CANCELLED, True, lambda u: u.on(u.home), lambda u, t: u.stop(t))
CRASHED = End("crashed", S.LOST, False, lambda u: u.on(u.env.engine()), lambda u, t: u.lose(t))
REFUSED = End(
    "refused everywhere", S.IMPOSSIBLE, False, lambda u: u.on(u.home), lambda u, t: u.env.refuse(t)
)
CANCELLED = End(
    "cancelled in the queue",
    S.CANCELLED,
    False,
    lambda u: u.queued(),
    lambda u, t: u.env.cancel(t),
)
TIMED_OUT = End(
    "timed out in the queue",
    S.TIMED_OUT,
    False,
    lambda u: u.queued(timeout_s=1.0),
    lambda u, t: u.time_out(t),
)

ALL_ENDS = [RAN, RAISED, OVERRAN, STOPPED, CRASHED, REFUSED, CANCELLED, TIMED_OUT]
#: One way for each final state, for tables that would be too long otherwise.
ONE_END_FOR_EACH_STATE = [RAN, RAISED, REFUSED, TIMED_OUT, CANCELLED, CRASHED]
#: All deadlines come at once, so that a table with an order has at most one.
ENDS_IN_ORDER = [RAN, RAISED, REFUSED, CANCELLED, CRASHED]


def is_hit(end: End, on: int, follow: bool) -> bool:
    """Whether such an end counts for the condition."""
    wanted = bool(on & (ON_SUCCESS if end.state is S.SUCCEEDED else ON_FAILURE))
    return wanted and (end.on_engine or not follow)


def expected(hits: Sequence[bool], open_: int, need: int, size: int) -> TaskState:
    """Where the dependent is, when these upstreams have ended and `open_` have not."""
    wanted = need or size
    if sum(hits) >= wanted:
        return RUNS
    return WAITS if sum(hits) + open_ >= wanted else IMPOSSIBLE


def assert_invalid(env: Env, task: TaskId) -> None:
    """The task ended at once, and its client was told why."""
    assert env.state(task) is IMPOSSIBLE
    problem = env.delivered[task].problem
    assert problem is not None
    assert problem.kind == problems.KIND_INVALID
    assert problem.text
    env.quiet()
