"""The tasks of a plan on a cluster: submits them, and hears of their ends, one after the other.

What this file must not know: files that flows come from, and how anything is shown.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import headway
from headway import errors
from headway.cli.run_prints import inputs_digest
from headway.cli.run_record import End, Past, Record
from headway.client import dependency, steering
from headway.client.client import Client
from headway.client.futures import Future
from headway.core.listing import TaskQuery
from headway.core.states import TaskState
from headway.doors import on_engine, shell
from headway.doors.graph import TaskFunction
from headway.flows import outlook
from headway.flows.plan import Call, Pause, Plan, PlanTask, Shell, with_values
from headway.tally.model import KEPT, SKIPPED, SUCCEEDED, is_bad

#: Whoever watches is told at least so often how far it is.
_LOOK_S = 0.5
_RUNNING_MAX = 1_000
#: What runs is asked for people: so long an answer may take, while no end is heard of.
_ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A task of a plan has ended. `node` is its id on the cluster, "" if it never was there."""

    task: PlanTask
    state: str
    why: str = ""
    node: str = ""


@dataclass(slots=True)
class Before:
    """What of an earlier run still holds: tasks by id, and the values that others take."""

    kept: dict[str, End] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def what_holds(plan: Plan, past: Past, digests: Mapping[str, str]) -> Before:
    """What of `past` need not be run again: what succeeded, is made of the same, reads the same
    files, and depends only on such. Where a value is wanted again and was not kept, its task runs
    again, alone."""
    before = Before()
    whole: dict[str, bool] = {}
    for task in plan.tasks:
        for name in task.needs:
            if name not in whole:
                whole[name] = all(each in before.kept for each in plan.ids(name))
        end = past.ends.get(task.id)
        if (
            end is not None
            and end.state in (SUCCEEDED, KEPT)
            and end.digest == digests[task.id]
            and all(whole[name] for name in task.needs)
            and end.inputs == inputs_digest(task.inputs)
        ):
            before.kept[task.id] = end
    wanted: set[str] = set()
    looked_at: set[str] = set()
    for task in reversed(plan.tasks):
        end = before.kept.get(task.id)
        if end is not None and task.id not in wanted:
            continue
        if end is not None:
            try:
                before.values[task.id] = past.value_of(end)
                continue
            except Exception:  # not kept, or a user's class is not what it was
                del before.kept[task.id]
        for name in task.values:
            if name not in looked_at:
                looked_at.add(name)
                wanted.update(plan.ids(name))
    return before


class Going:
    """One run of a plan. Iterate over `ends`, which submits and then waits."""

    def __init__(
        self,
        plan: Plan,
        client: Client,
        logs: str,
        before: Before,
        on_tick: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._client = client
        self._logs = logs
        self._folder = str(Path(plan.source).absolute().parent)
        self._before = before
        self._on_tick = on_tick
        self._outlook = outlook.Outlook(plan)
        self._heard: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._futures: dict[str, Future[Any]] = {}
        self._groups: dict[str, Any] = {}
        self._task_of: dict[int, PlanTask] = {}
        #: By name of a task and of its array: how many ended badly, or were not needed.
        self._bad: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._array_of = {
            each: name for name, ids in plan.members.items() for each in ids if each != name
        }
        self._is_cancelled = False

    def ends(self) -> Iterator[tuple[Ended, Future[Any] | None]]:
        """Each task that ends, with its future, if it has one.

        Raises:
            ConnectionLost: the cluster is gone.
        """
        for task in self._plan.tasks:
            if task.id in self._before.kept:
                self._outlook.note(task.id, outlook.SUCCEEDED)
                yield Ended(task, KEPT), None
            elif (future := self._submit(task)) is None:
                self._outlook.note(task.id, outlook.NEVER)
                yield self._never(task), None
            else:
                self._futures[task.id] = future
                self._task_of[future.node] = task
                future.add_done_callback(self._heard.put)  # type: ignore[arg-type]
            self._on_tick()
            while (heard := self._next(0.0)) is not None:
                yield heard
        self._futures.clear()
        self._groups.clear()
        self._before.values.clear()
        while self._task_of:
            if (heard := self._next(_LOOK_S)) is not None:
                yield heard
            self._on_tick()

    def cancel(self) -> None:
        """Cancel what has not ended; `ends` tells of it. Waits for the truth, some seconds."""
        self._is_cancelled = True
        self._client.cancel()

    def left(self) -> Iterator[tuple[Ended, Future[Any] | None]]:
        """After a cancel: the ends of what was submitted."""
        deadline_at = time.monotonic() + 5.0
        while self._task_of and time.monotonic() < deadline_at:
            if (heard := self._next(_LOOK_S)) is not None:
                yield heard

    def running(self) -> Mapping[str, int] | None:
        """How many tasks of each label run now, as far as one answer tells; None where there is
        none just now, since the controller is away."""
        if self._client._link.is_away:
            return None
        query = TaskQuery([TaskState.RUNNING], limit=_RUNNING_MAX)
        try:
            rows = steering.tasks(self._client, query, _ANSWER_S)["tasks"]
        except errors.HeadwayError:  # whether it is gone for good shows in the tasks' ends
            return None
        found: Counter[str] = Counter()
        for row in rows:
            if (task := self._task_of.get(dependency.as_node(row["id"]))) is not None:
                found[task.label] += 1
        return found

    # --- one task --------------------------------------------------------------------------------

    def _submit(self, task: PlanTask) -> Future[Any] | None:
        """Submit it; None if it can never run, by what is known from the run before."""
        left = self._outlook.left_of(task.after)
        if left.is_impossible or self._outlook.has_never([*task.follow, *task.values]):
            return None
        label = task.label if task.index is None else f"{task.label} [{task.index}]"
        settings: dict[str, Any] = {"label": label, **task.options}
        if not left.is_met:
            assert task.after is not None
            settings["after"] = headway.Dependency(
                [self._holder(name) for name in left.names],
                need=left.need,  # type: ignore[arg-type]
                on=task.after.on,  # type: ignore[arg-type]
            )
        follow = [
            self._futures[each]
            for name in task.follow
            for each in self._plan.ids(name)
            if each in self._futures
        ]
        if follow:  # what is kept of the run before was on engines of that run
            settings["follow"] = follow
        view = self._client.options(**settings)
        work = task.work
        if isinstance(work, Pause):
            return view.submit(time.sleep, work.seconds)
        if isinstance(work, Shell):
            command = shell.Command(
                list(work.argv), self._logs, work.cwd, dict(work.env), work.output
            )
            return view.submit(shell.run, command, task.index)
        return self._call(view, work)

    def _call(self, view: Any, work: Call) -> Future[Any]:
        args = with_values(list(work.args), self._value)
        kwargs = with_values(dict(work.kwargs), self._value)
        future: Future[Any]
        if isinstance(work.function, str):
            future = view.submit(on_engine.call_named, self._folder, work.function, args, kwargs)
        elif isinstance(work.function, TaskFunction):
            future = view.submit(on_engine.call_task, work.function, args, kwargs)
        else:
            future = view.submit(work.function, *args, **kwargs)
        return future

    def _holder(self, name: str) -> Any:
        """The future of a task, or the group of an array."""
        if name in self._futures:
            return self._futures[name]
        if name not in self._groups:
            members = [self._futures[each] for each in self._plan.ids(name)]
            self._groups[name] = self._client.group(members)
        return self._groups[name]

    def _value(self, name: str) -> Any:
        """What stands for the value of `name` among arguments: futures, or values of before."""
        ids = self._plan.ids(name)
        if len(ids) == 1 and ids[0] == name:
            return self._one_value(name)
        if all(each in self._futures for each in ids):
            return self._holder(name)
        return [self._one_value(each) for each in ids]

    def _one_value(self, task: str) -> Any:
        future = self._futures.get(task)
        return future if future is not None else self._before.values[task]

    # --- its end ---------------------------------------------------------------------------------

    def _next(self, timeout_s: float) -> tuple[Ended, Future[Any]] | None:
        """The next end that is heard of within `timeout_s`; None if there is none."""
        try:
            future = self._heard.get(timeout_s > 0, timeout_s)
        except queue.Empty:
            return None
        if self._client.closed and not self._is_cancelled:
            refusal = self._client._link.refusal
            raise errors.ConnectionLost(refusal.text if refusal else "the cluster is gone")
        task = self._task_of.pop(future.node)
        state, why = future.state, ""
        if state != SUCCEEDED:
            why = _why(future)
        if state == "impossible" and self._was_not_needed(task):
            state = SKIPPED
        self._count(task, state)
        return Ended(task, state, why, future.id), future

    def _never(self, task: PlanTask) -> Ended:
        state = SKIPPED if self._was_not_needed(task) else "impossible"
        self._count(task, state)
        return Ended(task, state, "what it waits for can't be, as it was in the run before")

    def _count(self, task: PlanTask, state: str) -> None:
        counter = self._bad if is_bad(state) else self._skipped if state == SKIPPED else None
        if counter is not None:
            counter[task.id] += 1
            if task.id in self._array_of:
                counter[self._array_of[task.id]] += 1

    def _was_not_needed(self, task: PlanTask) -> bool:
        """Whether it could not run since nothing failed, and not since something did."""
        if any(self._bad[name] for name in task.needs):
            return False
        on_failure = task.after is not None and task.after.on == "failure"
        return on_failure or any(self._skipped[name] for name in task.needs)


def _why(future: Future[Any]) -> str:
    try:
        error = future.exception()
    except errors.TaskCancelled as cancelled:
        return str(cancelled)
    if error is None or isinstance(error, errors.HeadwayError):
        return str(error or "")
    return f"{type(error).__name__}: {error}"


def keep_end(
    record: Record, ended: Ended, future: Future[Any] | None, digest: str, *, is_taken: bool
) -> None:
    """Write into the record how a task ended; and its value, if others take it."""
    task, value = ended.task, ""
    inputs = inputs_digest(task.inputs) if ended.state == SUCCEEDED else ""
    if is_taken and ended.state == SUCCEEDED and future is not None:
        try:
            value = record.keep(future.result())
        except errors.HeadwayError:
            value = ""  # it is gone with the host that kept it: then its task runs again
    more = {"node": ended.node, "why": ended.why} if is_bad(ended.state) else {}
    record.note(End(task.id, ended.state, digest, inputs, value), **more)
