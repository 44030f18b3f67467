"""What happens next in test_machine.py, drawn by Hypothesis. It must not judge what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

from headway.core import events as ev
from headway.core.events import (
    ClientId,
    ConditionSpec,
    EngineId,
    ErrorInfo,
    Outcome,
    TaskId,
    TaskOptions,
    TaskSpec,
)
from headway.core.states import TaskState
from tests.core.model_facts import ModelGroup

if TYPE_CHECKING:
    from tests.core.test_machine import SchedulerMachine

STATUSES = [*[ev.RAN] * 6, *[ev.RAISED] * 3, ev.REFUSED, ev.STOPPED, ev.OVERRAN]
#: Halves and quarters, so that sums are exact.
TIMES_S = [0.25, 0.5, 1.0, 3.0]
NEEDS = [{"gpu": 1.0}, {"gpu": 2.0}, {"ram": 3.0}, {"gpu": 1.0, "ram": 1.0}]
ERRORS = [ErrorInfo(["a.Flaky", "builtins.Exception"], "x"), ErrorInfo(["a.Bad"], "y"), None]

T = TypeVar("T")


class Story:
    """Draws what happens next. The simplest choice comes first: Hypothesis shrinks towards it."""

    def __init__(self, data: st.DataObject, machine: SchedulerMachine) -> None:
        self._data = data
        self._machine = machine
        self.model = machine.model

    def pick(self, choices: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(choices))

    def some(self, choices: Sequence[T], most: int, least: int = 0) -> list[T]:
        return self._data.draw(
            st.lists(st.sampled_from(choices), min_size=least, max_size=most)
            if choices
            else st.just([])
        )

    def once_in(self, times: int) -> bool:
        return self._data.draw(st.integers(0, times - 1)) == times - 1

    def client(self) -> ClientId:
        """Mostly one that is here."""
        here = sorted(self.model.clients)
        return self.pick(here) if here and not self.once_in(30) else ClientId(99)

    def engine(self) -> EngineId:
        """Mostly one that is here."""
        here = sorted(self.model.engines)
        return self.pick(here) if here and not self.once_in(30) else EngineId(99)

    def nodes(self, most: int) -> list[TaskId]:
        """Tasks and groups: mostly some that go well, or else any that ever were, or never."""
        nodes = list(reversed(self.model.nodes))
        if self.once_in(10):
            return self.some([*nodes, ev.task_id(ClientId(1), 1_000)], most)
        return self.some([node for node in nodes if self._goes_well(node)], most)

    def _goes_well(self, id_: TaskId) -> bool:
        node = self.model.known(id_)
        spoilt = (TaskState.IMPOSSIBLE, TaskState.CANCELLED, TaskState.TIMED_OUT)
        return node is not None and (isinstance(node, ModelGroup) or node.state not in spoilt)

    def condition(self) -> ConditionSpec:
        need, on = self.pick([ev.NEED_ALL, 1, 2]), self.pick([1, 3, 1, 3, 2])
        upstreams = self.nodes(4)
        if not self.once_in(10):
            need = min(need, len(set(upstreams)))
        if self.once_in(60):
            need, on = self.pick([(-1, 1), (1, 0), (1, 4), (9, 1)])
        return ConditionSpec(upstreams, need, on)

    def options(self) -> TaskOptions | None:
        if self.once_in(3):
            return None
        targets = None
        if self.once_in(4):
            targets = self.some(range(self._machine.engines_ever + 1), 3, least=1)
        return TaskOptions(
            targets=[EngineId(n) for n in targets] if targets else None,
            wait_for_engines=self.once_in(3),
            timeout_s=self.pick([*[None] * 8, *TIMES_S]),
            retries=self.pick([1, 0, 3]),
            retry_on=self.pick([None, None, None, ["a.Flaky"]]),
            backoff_s=self.pick([0.0, 0.5]),
            crash_limit=self.pick([3, 1, 2]),
            at_most_once=self.once_in(6),
            priority=self.pick([0, 0, 1, -1]),
            resources=self.pick(NEEDS) if self.once_in(4) else None,
            retry_elsewhere=self.once_in(4),
        )

    def task(self, id_: TaskId, batch: list[TaskId]) -> TaskSpec:
        """A task; `batch` has the ids of its batch, itself among them."""
        inputs = self.nodes(2) if self.once_in(4) else []
        after = self.condition() if self.once_in(2) else None
        follow = self.condition() if self.once_in(3) else None
        if self.once_in(6):
            inputs += self.some(batch, 1)
        if follow is not None and not self.once_in(8):  # mostly without groups, as clients do
            tasks = [u for u in follow.upstreams if not isinstance(self.model.known(u), ModelGroup)]
            follow = ConditionSpec(tasks, min(follow.need, len(set(tasks))), follow.on)
        if not self.once_in(8):
            inputs = [u for u in inputs if not isinstance(self.model.known(u), ModelGroup)]
        return TaskSpec(id_, self.pick([0, 1]), b"args", inputs, after, follow, self.options())


def outcome(story: Story, id_: TaskId, attempt: int, run_s: float = 0.0) -> Outcome:
    status = story.pick(STATUSES)
    error = story.pick(ERRORS) if status == ev.RAISED else None
    return Outcome(id_, attempt, status, b"payload", run_s=run_s, error=error)
