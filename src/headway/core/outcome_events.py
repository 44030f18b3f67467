"""How attempts ended on engines: each outcome ends its task, or has it tried again.

An outcome of an attempt that is not the task's last is stale: counted, it changes nothing.

What this file must not know: clients, and how engines come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headway.core import events as ev
from headway.core import words
from headway.core.again import Again
from headway.core.life import Commands, Life
from headway.core.lifetimes import LIKELY_MIN_S, note_run
from headway.core.prefetch import limit_of, note_runs
from headway.core.problems import KIND_RAISED, Problem
from headway.core.records import Task
from headway.core.retry import after_raise, backoff_s
from headway.core.states import Cause, TaskState
from headway.core.timers import Timer

WAITING, READY = TaskState.WAITING, TaskState.READY


class OutcomeEvents:
    """The handlers of what engines report of attempts."""

    def __init__(self, life: Life) -> None:
        self._life = life
        again = Again(life)
        self.handlers: dict[type, Callable[[Any, float, Commands], None]] = {
            ev.Finished: self._on_finished,
            ev.LateOutcome: self._on_late_outcome,
            **again.handlers,
        }
        self._outcomes: dict[int, Callable[[Task, ev.Outcome, float, Commands], None]] = {
            ev.RAN: self._on_ran,
            ev.RAISED: self._on_raised,
            ev.REFUSED: self._on_refused,
            ev.STOPPED: self._on_stopped,
            ev.OVERRAN: self._on_overran,
            ev.INPUT_LOST: again.on_input_lost,
        }

    def _on_finished(self, event: ev.Finished, now: float, out: Commands) -> None:
        life = self._life
        engine = life.engines.get(event.engine)
        if engine is None:
            life.counters.stale += len(event.outcomes)
            for outcome in event.outcomes:
                life.stored.drop_stale(outcome.payload, out)
            return
        assigned = engine.assigned
        outcomes = self._outcomes
        run_s = 0.0
        count = 0
        for outcome in event.outcomes:
            task = assigned.get(outcome.task)
            if task is None or task.attempt != outcome.attempt or outcome.status not in outcomes:
                life.counters.stale += 1
                life.stored.drop_stale(outcome.payload, out)
                continue
            count += 1
            run_s += outcome.run_s
            outcomes[outcome.status](task, outcome, now, out)
        engine.progress_at_s = now
        note_runs(engine, count, run_s)
        engine.limit = limit_of(engine, life.config)
        life.changed[engine.id] = engine

    def _on_late_outcome(self, event: ev.LateOutcome, now: float, out: Commands) -> None:
        """It counts if no other engine has the task, which is queued to be tried again."""
        outcome = event.outcome
        task = self._life.tasks.get(outcome.task)
        queued = task is not None and task.state in (WAITING, READY)
        if not queued or task.attempt != outcome.attempt or not outcome.attempt:  # type: ignore[union-attr]
            self._life.counters.stale += 1
        elif outcome.status == ev.RAN:
            assert task is not None
            assert not isinstance(outcome.payload, int)
            self._life.end(task, Cause.RAN_LATE, None, out, outcome.payload)
        # Any other outcome asks for another try, for which it is queued already.

    def _on_ran(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        assert not isinstance(outcome.payload, int)
        function = task.function
        if function is not None and (outcome.run_s >= LIKELY_MIN_S or function.usual_s):
            note_run(function, outcome.run_s)
        self._life.end(task, Cause.RAN, None, out, outcome.payload)

    def _on_raised(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        assert isinstance(outcome.payload, bytes)
        cause = after_raise(task, outcome.error)
        task.failures += 1
        if cause is Cause.RAISED:
            problem = Problem(KIND_RAISED, words.raised(task, outcome.error))
            self._life.end(task, cause, problem, out, outcome.payload)
            return
        self._life.counters.retried += 1
        if task.options.retry_elsewhere:
            assert task.engine is not None
            # One that drains gets no task anyway, and without it others may yet join.
            if not self._life.engines[task.engine].draining:
                task.excluded = (task.excluded or frozenset()) | {task.engine}
        if cause is Cause.RETRY:
            self._life.take_back(task, cause, now, out)
            return
        self._life.unseat(task)
        task.engine = None
        self._life.queue_again(task, now)
        self._life.move(task, cause)
        self._life.timers.arm(task.id, Timer.BACKOFF, now + backoff_s(task.options, task.failures))

    def _on_refused(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        assert task.engine is not None
        task.excluded = (task.excluded or frozenset()) | {task.engine}
        self._life.counters.refused += 1
        self._life.take_back(task, Cause.RETURNED, now, out)

    def _on_stopped(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        self._life.take_back(task, Cause.RETURNED, now, out)

    def _on_overran(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        self._life.end(task, Cause.DEADLINE, words.overran(task), out)
