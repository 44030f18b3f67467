"""What must be true of a simulated cluster, seen from outside: by what its clients hear, and by
what its engines do. The checker believes neither the scheduler nor the journal.

What this file must not know: how any of it comes about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import cast

from headway.core.events import (
    NEED_ALL,
    ON_FAILURE,
    ON_SUCCESS,
    ConditionSpec,
    StoredValue,
    TaskId,
    TaskOptions,
    parse_value_name,
)
from headway.core.limits import Limit
from headway.core.states import FINAL_STATES, TaskState
from headway.wire import messages as m


class Violation(AssertionError):
    """Something happened that must not."""


@dataclass(slots=True)
class Asked:
    """A task as its client asked for it, and what became of it."""

    client: str
    options: TaskOptions
    inputs: list[TaskId]
    conditions: list[ConditionSpec] = field(default_factory=list)
    follow: ConditionSpec | None = None
    #: The ends that its client heard.
    ends: list[m.Result] = field(default_factory=list)
    cancel_asked: bool = False
    #: That what is downstream of it be cancelled as well.
    is_cancelled_downstream: bool = False
    #: Its value may be lost, and made again: then there are several.
    is_large: bool = False
    #: Its client could not read it, and waits for its next end.
    is_missed: bool = False

    @property
    def has_limit(self) -> bool:
        """Whether it may run out of time."""
        return self.options.timeout_s is not None or self.options.run_timeout_s is not None

    @property
    def has_failed(self) -> bool:
        """Whether its client heard that it has no value."""
        return bool(self.ends) and self.ends[0].state != TaskState.SUCCEEDED


@dataclass(slots=True)
class Ran:
    """One run of one attempt."""

    attempt: int
    engine: str
    how: str = "running"
    result: bytes = b""


class Checker:
    """Sees everything, and raises Violation.

    Parameters:
        load_max: how many tasks an engine may have outstanding at most; inf for any number.
    """

    def __init__(self, load_max: float = inf) -> None:
        self._load_max = load_max
        self.tasks: dict[TaskId, Asked] = {}
        self.groups: dict[TaskId, list[TaskId]] = {}
        self.runs: dict[TaskId, list[Ran]] = defaultdict(list)
        #: The value that a task has, once anybody was given it.
        self.values: dict[TaskId, bytes] = {}

    def asked(self, task: TaskId, client: str, options: TaskOptions) -> None:
        """A task submitted another, which is cancelled if its run comes to nothing."""
        self.tasks[task] = Asked(client, options, [], cancel_asked=True)

    # --- what clients hear -----------------------------------------------------------------------

    def heard(self, client: str, result: m.Result) -> None:
        """A client heard how a task ended: for the first time, or, after a loss, again."""
        task = result.task
        asked = self.tasks[task]
        state = TaskState(result.state)
        where = f"task {task & 0xFFFFFF} of {client}"
        if asked.is_missed:
            asked.is_missed = False
            asked.ends.clear()
        if asked.ends:
            first = asked.ends[0]
            if asked.is_large:
                return  # it was run again for somebody else, of which its client takes no notice
            if (first.state, first.payload) != (result.state, result.payload):
                raise Violation(f"{where} ended twice: {first}, {result}")
            return
        asked.ends.append(result)
        if state not in FINAL_STATES:
            raise Violation(f"{where} was told in state {state!r}")
        runs = self.runs[task]
        if state is TaskState.SUCCEEDED:
            if isinstance(result.payload, StoredValue):
                self._require_run(where, runs, result.payload)
                return
            payload = cast("bytes", result.payload)
            if not any(run.how == "ran" and run.result == payload for run in runs):
                raise Violation(f"{where} has the value {payload!r}, which no run of it gave")
            self._require_value(task, bytes(payload or b""))
            committed = max(run.attempt for run in runs if run.result == payload)
            later = [run for run in runs if run.attempt > committed]
            if later:
                raise Violation(
                    f"{where} ended by attempt {committed}, which was stale: {later[0]} had begun"
                )
        elif task in self.values:
            raise Violation(f"{where} ended {state.name}, after others were given its value")
        if state is TaskState.FAILED and not any(run.how == "raised" for run in runs):
            raise Violation(f"{where} failed, and no run of it raised")
        elif state is TaskState.CANCELLED and not self._may_be_cancelled(task):
            raise Violation(f"{where} was cancelled, and nobody asked")
        elif state is TaskState.TIMED_OUT and not asked.has_limit:
            raise Violation(f"{where} ran out of time, of which it had no end")

    def _may_be_cancelled(self, task: TaskId) -> bool:
        """Whether it was asked to be, or all that is downstream of something upstream of it."""
        if self.tasks[task].cancel_asked:
            return True
        seen, upstreams = {task}, self._upstreams(task)
        while upstreams:
            upstream = upstreams.pop()
            if upstream not in seen:
                if self.tasks[upstream].is_cancelled_downstream:
                    return True
                seen.add(upstream)
                upstreams += self._upstreams(upstream)
        return False

    def _upstreams(self, task: TaskId) -> list[TaskId]:
        asked = self.tasks[task]
        named = [node for condition in asked.conditions for node in condition.upstreams]
        members = [self.groups.get(node, [node]) for node in named]
        return [*asked.inputs, *(member for group in members for member in group)]

    def ended_behind(self, task: TaskId, state: TaskState) -> None:
        """Its client left it behind, and the controller has it in this state at the end."""
        asked = self.tasks[task]
        where = f"task {task & 0xFFFFFF}, which {asked.client} left behind,"
        if state not in FINAL_STATES:
            raise Violation(f"{where} never ended: it is {state.name}")
        if state is TaskState.SUCCEEDED and not any(run.how == "ran" for run in self.runs[task]):
            raise Violation(f"{where} has succeeded, and no run of it did")
        if state is TaskState.CANCELLED and not self._may_be_cancelled(task):
            raise Violation(f"{where} was cancelled, and nobody asked")
        heard = asked.ends[0].state if asked.ends else state
        if heard != state and not asked.is_large:
            raise Violation(f"{where} is {state.name}, and was {TaskState(heard).name} before")

    def _require_run(self, where: str, runs: list[Ran], value: StoredValue) -> None:
        _, attempt = parse_value_name(value.name)
        if not any(run.how == "ran" and run.attempt == attempt for run in runs):
            raise Violation(f"{where} has the value {value.name}, which no run of it gave")

    def _require_value(self, task: TaskId, value: bytes) -> None:
        if self.tasks[task].is_large:
            return
        before = self.values.setdefault(task, value)
        if before != value:
            raise Violation(f"task {task & 0xFFFFFF} has two values: {before!r}, then {value!r}")

    # --- what engines do -------------------------------------------------------------------------

    def began(self, task: m.Assignment, engine: str, inputs: list[bytes]) -> None:
        """An attempt begins."""
        asked = self.tasks[task.task]
        where = f"task {task.task & 0xFFFFFF}, attempt {task.attempt} on {engine}"
        runs = self.runs[task.task]
        if any(run.attempt == task.attempt for run in runs):
            raise Violation(f"{where} ran twice")
        succeeded = asked.ends and asked.ends[0].state == TaskState.SUCCEEDED
        if succeeded and not asked.is_large:  # else its value may be made again
            value = asked.ends[0].payload
            committed = max(run.attempt for run in runs if run.result == value)
            if task.attempt > committed:
                raise Violation(f"{where} began after attempt {committed} had succeeded")
        if asked.options.at_most_once and any(run.how != "refused" for run in runs):
            raise Violation(
                f"{where} (of {asked.client}) ran before, and may run once at most: {runs}"
            )
        for upstream, value in zip(asked.inputs, inputs, strict=True):
            self._require_value(upstream, value)
            if self.tasks[upstream].has_failed:
                raise Violation(f"{where} was given the value of a task that failed: {upstream}")
            if not any(run.how == "ran" and run.result == value for run in self.runs[upstream]):
                raise Violation(f"{where} was given a value that task {upstream} never had")
        for condition in asked.conditions:
            if not self._may_be_met(condition):
                raise Violation(f"{where} began before its dependencies were met: {condition}")
        runs.append(Ran(task.attempt, engine))

    def ended(self, task: m.Assignment, engine: str, how: str, result: bytes) -> None:
        """It has ended."""
        for run in self.runs[task.task]:
            if run.attempt == task.attempt and run.engine == engine:
                run.how, run.result = how, result

    def holds(self, engine: str, resources: Mapping[str, float], tasks: Iterable[TaskId]) -> None:
        """An engine was sent tasks, and now has these that have not ended."""
        held = list(tasks)
        if len(held) > self._load_max:
            raise Violation(
                f"{engine} has {len(held)} tasks, of which {self._load_max} are allowed"
            )
        needed: dict[str, float] = defaultdict(float)
        for task in held:
            for name, amount in (self.tasks[task].options.resources or {}).items():
                needed[name] += amount
        for name, amount in needed.items():
            if amount > resources.get(name, 0.0):
                has = resources.get(name, 0.0)
                raise Violation(f"{engine} has tasks that need {amount} of {name}, and has {has}")

    def sent(self, tasks: Iterable[TaskId], limits: Mapping[str, Limit]) -> None:
        """These tasks are on engines, as the controller has it: no limit is passed."""
        held: dict[str, int] = defaultdict(int)
        for task in tasks:
            asked = self.tasks.get(task)
            for tag in set(asked.options.tags or ()) if asked is not None else ():
                held[tag] += 1
        for tag, count in held.items():
            at_once = limits[tag].at_once
            if at_once is not None and count > at_once:
                raise Violation(f"{count} tasks with the tag {tag} are on engines, not {at_once}")

    def _may_be_met(self, condition: ConditionSpec) -> bool:
        """Whether so many upstreams have ended as wanted, as far as can be seen from here: one
        that has run successfully may have succeeded; of a failure without a run nothing can be
        said."""
        members: list[TaskId] = []
        for node in condition.upstreams:
            members.extend(self.groups.get(node, [node]))
        need = len(members) if condition.need == NEED_ALL else condition.need
        return sum(self._may_have_ended(member, condition.on) for member in members) >= need

    def _may_have_ended(self, task: TaskId, on: int) -> bool:
        if on & ON_FAILURE:
            # It may have failed in ways that only the scheduler knows: cancelled, impossible ...
            return True
        assert on & ON_SUCCESS
        return any(run.how == "ran" for run in self.runs[task])

    # --- the end ---------------------------------------------------------------------------------

    def require_all_ended(self, client: str) -> None:
        """Every task of a client that stayed has ended, and it heard so."""
        for task, asked in self.tasks.items():
            if asked.client == client and (not asked.ends or asked.is_missed):
                raise Violation(f"task {task & 0xFFFFFF} of {client} never ended")
