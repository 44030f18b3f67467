"""Tasks that have ended and run again: for a stored value that is lost, or since somebody asked.

When a value is lost its task runs again, and who needs it waits.

Nobody looks for losses: an engine that can't read an input says so (INPUT_LOST), or a client
that can't read a result (ValueMissed). Then the task that made the value, if it may be repeated,
goes back from SUCCEEDED to WAITING; with it those whose values it needs and that were dropped
meanwhile, and theirs: a walk with a list. Who reported it waits for it by its data condition, which
counts the upstream as open again. Others that count it as ended are left alone: as conditions on
order they are met, and if they need the value, they will report it in their turn, once each.

Who asks that a failed task runs again (RetryAsked) has it put back the same way, with fresh
budgets.
What depended on it has heard of its first end, and stays as that left it.

What this file must not know: files, and why a value can't be read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from headway.core import events as ev
from headway.core import words
from headway.core.commands import Deliver
from headway.core.events import ON_SUCCESS, StoredValue
from headway.core.graph import Verdict, add_edge, note_end
from headway.core.life import Commands, Life, delivery
from headway.core.lineage import inputs_of, is_kept
from headway.core.problems import Problem
from headway.core.records import Condition, Task
from headway.core.states import FINAL_STATES, RETRIABLE_STATES, Cause, TaskState

SUCCEEDED = TaskState.SUCCEEDED


class Again:
    """The handlers of lost values."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.handlers: dict[type, Callable[[Any, float, Commands], None]] = {
            ev.ValueMissed: self._on_value_missed,
            ev.RetryAsked: self._on_retry_asked,
        }

    def _on_value_missed(self, event: ev.ValueMissed, now: float, out: Commands) -> None:
        task = self._life.tasks.get(event.task)
        if task is None or task.client != event.client:
            self._life.counters.invalid += 1
            problem = words.unknown(event.task)
            out.append(Deliver(event.client, event.task, TaskState.LOST, None, None, problem))
        elif task.state not in FINAL_STATES:
            pass  # it runs again already, and its client will hear how it ended
        elif task.state is SUCCEEDED and _is_lost(task, (event.name,)):
            why = self._run_again([task], now, out)
            if why is not None:
                out.append(Deliver(task.client, task.id, TaskState.LOST, None, task.engine, why))
        else:
            out.append(delivery(task))

    def _on_retry_asked(self, event: ev.RetryAsked, now: float, out: Commands) -> None:
        """A task that failed is put back, with what it needs that is not there any more."""
        life = self._life
        task = life.tasks.get(event.task)
        if task is None or why_no_retry(task):
            life.counters.invalid += 1
            return
        if self._run_again([task], now, out) is not None:
            life.counters.invalid += 1  # an input is gone for good: it stays as it ended

    def on_input_lost(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        """An engine can't read some inputs of `task`, which did not begin."""
        life = self._life
        life.propagate(now, out)  # of the same batch: who ended in it counts as ended from here on
        names = outcome.lost or ()
        needed = list(inputs_of(task))
        lost = [node for node in needed if node.state is SUCCEEDED and _is_lost(node, names)]
        missing = [node for node in needed if node in lost or node.state is not SUCCEEDED]
        if task.cancelled or not missing:  # made again meanwhile: it is sent what is there now
            life.take_back(task, Cause.RETURNED, now, out)
            return
        life.unseat(task)
        task.engine = None
        life.queue_again(task, now)
        life.move(task, Cause.INPUT_LOST)
        why = self._run_again(lost, now, out)
        if why is not None:
            life.end(task, Cause.DEPENDENCY_LOST, words.input_lost(task, why), out)
            return
        assert task.conditions
        self._wait_for(task, task.conditions[0], missing, now, out)

    def _wait_for(
        self,
        task: Task,
        condition: Condition,
        missing: Iterable[Task],
        now: float,
        out: Commands,
    ) -> None:
        """`condition`, on the inputs of `task`, counts `missing` as open again."""
        if condition.is_met:
            condition.is_met = False
            task.unmet += 1
        failed = None
        for node in missing:
            condition.open += 1
            condition.hits -= 1
            if node.state in FINAL_STATES:
                failed = node  # it was run again before, and not with success
            elif node.dependents is None:
                node.dependents = [condition]
            else:
                add_edge(node.dependents, condition)
        if failed is not None:
            note_end(condition, failed, None)
            problem = words.dependency_lost(condition, failed)
            self._life.end(task, Cause.DEPENDENCY_LOST, problem, out)

    # --- those whose values are lost -------------------------------------------------------------

    def _run_again(self, lost: Iterable[Task], now: float, out: Commands) -> Problem | None:
        """Have tasks that succeeded run again, with what they need; or why that can't be."""
        life = self._life
        life.propagate(now, out)
        reopened: dict[Task, None] = {}
        open_ = list(lost)
        while open_:
            task = open_.pop()
            if task in reopened:
                continue
            why = self._why_not(task)
            if why:
                return words.value_lost(task, why)
            reopened[task] = None
            open_ += [
                node for node in inputs_of(task) if node.state is SUCCEEDED and node.result is None
            ]
        for task in reopened:
            self._reopen(task, now, out)
        for task in sorted(reopened, key=lambda task: task.id):
            self._require_inputs(task, now, out)
        return None

    def _why_not(self, task: Task) -> str:
        """Why `task` can't be run again; "" if it can."""
        if task.options.at_most_once:
            return "it may run once at most"
        if not is_kept(task):
            return "its arguments were not kept, for too much was (lineage_bytes_max)"
        assert task.lineage is not None
        reruns_max = self._life.config.reruns_max
        if task.lineage.reruns >= reruns_max and task.state is SUCCEEDED:
            return f"it was run again {words.plural(reruns_max, 'time')} already"
        return ""

    def _reopen(self, task: Task, now: float, out: Commands) -> None:
        life = self._life
        if task.state is SUCCEEDED:
            life.move(task, Cause.VALUE_LOST)
            life.counters.recomputed += 1
            assert task.lineage is not None
            task.lineage.reruns += 1
        else:
            life.move(task, Cause.RETRY_ASKED)
            life.counters.retried += 1
            # Its attempts are counted on: an outcome of an older one is stale.
            task.problem = task.result = task.crashes = task.excluded = None
            task.failures = 0
            task.cancelled = False
        life.kept.pop(task.id, None)  # it is kept again when it has ended again
        life.count_unfinished(task)
        life.stored.drop(task, out)
        task.engine = None
        task.conditions = ()
        life.families.begin_again(task)
        life.queue_again(task, now)
        nodes = tuple(inputs_of(task))
        if nodes:
            condition = Condition(task, len(nodes), ON_SUCCESS, open=len(nodes), upstreams=nodes)
            task.conditions = (condition,)
            task.unmet = 1
            for node in nodes:
                node.holds += 1
        life.lineages.let_go(task)  # it holds them as any task does, from here on

    def _require_inputs(self, task: Task, now: float, out: Commands) -> None:
        life = self._life
        assert task.conditions is not None
        for condition in task.conditions:
            for node in condition.upstreams:
                assert isinstance(node, Task)
                if node.state in FINAL_STATES:
                    verdict = note_end(condition, node, None)
                    if verdict is Verdict.IMPOSSIBLE:
                        problem = words.dependency_lost(condition, node)
                        life.end(task, Cause.DEPENDENCY_LOST, problem, out)
                        return
                    task.unmet -= verdict is Verdict.MET
                elif node.dependents is None:
                    node.dependents = [condition]
                else:
                    add_edge(node.dependents, condition)
        if not task.unmet:
            life.make_ready(task, Cause.DEPENDENCIES_MET, now, out)


def _is_lost(task: Task, names: Collection[str]) -> bool:
    """Whether the value of `task` is one of those, or was dropped."""
    value = task.result
    return value is None or (isinstance(value, StoredValue) and value.name in names)


def why_no_retry(task: Task) -> str:
    """Why `task` can't be asked to run again, in words; "" if it can, as far as its record says:
    an input may be gone for good."""
    state = task.state.name.lower().replace("_", " ")
    if task.state not in FINAL_STATES:
        return f"it has not ended: it is {state}"
    if task.state not in RETRIABLE_STATES:
        return f"it is {state}, and only what failed, was lost or timed out may be tried again"
    if task.options.at_most_once:
        return "it may run once at most"
    if not is_kept(task):
        return (
            "its arguments were let go of: it timed out in the queue, or follows other tasks, or "
            "very much was kept already (lineage_bytes_max)"
        )
    return ""
