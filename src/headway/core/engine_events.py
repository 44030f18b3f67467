"""What engines do but for the outcomes of tasks: they join, drain, leave, start tasks and give
them back.

Each handler takes one event of events.py and makes the steps of life.py that it asks for. An
event about a task or an engine that has moved on is stale: counted, it changes nothing.

What this file must not know: clients, and what ran.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headway.core import events as ev
from headway.core import words
from headway.core.graph import Verdict, note_engine_left
from headway.core.life import Commands, Life
from headway.core.prefetch import limit_of
from headway.core.ready import Lane
from headway.core.records import Condition, Engine
from headway.core.retry import after_engine_end, begun_on
from headway.core.states import Cause, TaskState

WAITING, READY, ASSIGNED = TaskState.WAITING, TaskState.READY, TaskState.ASSIGNED


class EngineEvents:
    """The handlers of what engines do."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.handlers: dict[type, Callable[[Any, float, Commands], None]] = {
            ev.EngineJoined: self._on_engine_joined,
            ev.EngineLeft: self._on_engine_left,
            ev.EngineDraining: self._on_engine_draining,
            ev.EngineResumed: self._on_engine_resumed,
            ev.EngineBlocked: self._on_engine_blocked,
            ev.EngineUnblocked: self._on_engine_unblocked,
            ev.EnginesExpected: self._on_engines_expected,
            ev.Started: self._on_started,
            ev.GaveBack: self._on_gave_back,
            ev.Undelivered: self._on_undelivered,
        }

    def _on_engine_joined(self, event: ev.EngineJoined, now: float, out: Commands) -> None:
        if event.engine in self._life.engines:
            self._life.counters.duplicates += 1
            return
        engine = Engine(event.engine, dict(event.resources), event.host, event.pid, event.store)
        engine.free = dict(event.resources)
        self._life.stamps.first -= 1
        engine.stamp = self._life.stamps.first
        engine.progress_at_s = now
        if event.ends_in_s is not None:
            engine.ends_at_s = now + event.ends_in_s
        engine.stands_in = event.stands_in
        engine.limit = limit_of(engine, self._life.config)
        self._life.engines[engine.id] = engine
        stranded = self._life.lanes.engine_joined(engine)
        self._life.recalls.engine_changed(engine)
        self._end_stranded(stranded, out)

    def _on_engines_expected(self, event: ev.EnginesExpected, now: float, out: Commands) -> None:
        self._life.lanes.engines_expected(event.engines)

    def _end_stranded(self, lanes: list[Lane], out: Commands) -> None:
        """No engine is left for the tasks in these lanes."""
        for lane in lanes:
            for task in list(lane.waiting()):
                self._life.end(task, Cause.NO_ENGINE_LEFT, words.no_engine_left(task), out)

    def _on_engine_left(self, event: ev.EngineLeft, now: float, out: Commands) -> None:
        engine = self._life.engines.pop(event.engine, None)
        if engine is None:
            self._life.counters.stale += 1
            return
        if engine.blocked is not None:
            self._life.unblock(engine)
        self._life.changed.pop(engine.id, None)
        self._life.recalls.engine_left(engine)
        stranded = self._life.lanes.engine_left(engine)
        for condition in sorted(engine.followers, key=lambda condition: condition.task.id):
            self._lose_follow(condition, engine, out)
        self._end_stranded(stranded, out)
        self._return_stranded(engine, event, now, out)

    def _lose_follow(self, condition: Condition, engine: Engine, out: Commands) -> None:
        """An engine that counted for a follow condition is gone."""
        task = condition.task
        was_met = condition.is_met
        verdict = note_engine_left(condition, engine.id)
        if was_met and not condition.is_met:
            task.unmet += 1
        if task.state is WAITING:
            if verdict is Verdict.IMPOSSIBLE:
                self._life.end(task, Cause.DEPENDENCY_LOST, words.follow_lost(task), out)
        elif task.state is READY and not condition.is_met:
            if verdict is Verdict.IMPOSSIBLE:
                self._life.end(task, Cause.NO_ENGINE_LEFT, words.follow_lost(task), out)
            else:
                assert task.lane is not None
                task.lane.leave(task)
                self._life.move(task, Cause.FOLLOW_LOST)
        # On an engine: it may end there yet. If it comes back, _make_ready looks again.

    def _return_stranded(
        self, engine: Engine, event: ev.EngineLeft, now: float, out: Commands
    ) -> None:
        """Decide on each task of an engine that ended. See EngineLeft for who had begun."""
        tasks = list(engine.assigned.values())
        begun = begun_on(engine, event)
        for n in reversed(range(len(tasks))):
            task = tasks[n]
            # Also if it was not busy any more: the outcome of its last task was never heard, and
            # it may be that task's doing, which would else be repeated for ever.
            is_culprit = not event.known or n == begun - 1
            if n >= begun and task.id in engine.unwanted:
                task.cancelled = True
            charged = is_culprit and not event.end.wanted
            if charged and event.end.overran:
                how = words.crash(engine, event.end)
                self._life.end(task, Cause.DEADLINE, words.overran(task, how), out)
                continue
            if charged:
                task.crashes = [*(task.crashes or ()), words.crash(engine, event.end)]
                self._life.counters.crashed += 1
            cause = after_engine_end(task, begun=n < begun, charged=charged)
            if cause is Cause.ENGINE_LOST:
                self._life.take_back(task, cause, now, out)
            elif cause is Cause.CANCEL:
                ran = is_culprit and event.known and event.busy
                problem = words.stopped_hard(task, engine, event.end) if ran else None
                self._life.end(task, cause, problem or words.cancelled(task), out)
            else:
                self._life.end(task, cause, words.lost(task, engine, event.end), out)

    def _on_engine_draining(self, event: ev.EngineDraining, now: float, out: Commands) -> None:
        engine = self._life.engines.get(event.engine)
        if engine is None:
            self._life.counters.stale += 1
            return
        engine.draining = True
        engine.limit = 0
        self._life.lanes.drains_changed()
        self._life.changed[engine.id] = engine
        self._life.recalls.recall_all(engine, out)

    def _on_engine_resumed(self, event: ev.EngineResumed, now: float, out: Commands) -> None:
        engine = self._life.engines.get(event.engine)
        if engine is None:
            self._life.counters.stale += 1
            return
        engine.draining = engine.recalling = False
        self._life.lanes.drains_changed()
        engine.limit = limit_of(engine, self._life.config)
        self._life.changed[engine.id] = engine

    def _on_engine_blocked(self, event: ev.EngineBlocked, now: float, out: Commands) -> None:
        engine = self._life.engines.get(event.engine)
        task = engine.assigned.get(event.task) if engine is not None else None
        if engine is None or task is None or task.attempt != event.attempt:
            self._life.counters.stale += 1
        elif engine.blocked != task.id:  # else it says it again: its connection was lost
            if engine.blocked is not None:
                self._life.unblock(engine)
            if task.state is ASSIGNED:
                self._life.move(task, Cause.STARTED)
                task.since_s = now
            engine.progress_at_s = now
            self._life.block(engine, task, out)

    def _on_engine_unblocked(self, event: ev.EngineUnblocked, now: float, out: Commands) -> None:
        engine = self._life.engines.get(event.engine)
        if engine is None or engine.blocked is None:
            self._life.counters.stale += 1
        else:
            engine.progress_at_s = now
            self._life.unblock(engine)

    def _on_gave_back(self, event: ev.GaveBack, now: float, out: Commands) -> None:
        engine = self._life.engines.get(event.engine)
        if engine is None:
            self._life.counters.stale += len(event.tasks)
            return
        engine.recalling = False
        engine.progress_at_s = now
        self._life.changed[engine.id] = engine
        # The last goes to the front first. One that is named twice keeps its first place.
        for task_id in reversed(list(dict.fromkeys(event.tasks))):
            task = engine.assigned.get(task_id)
            if task is None:
                self._life.counters.stale += 1
            else:
                self._life.counters.recalled += 1
                if task_id in engine.unwanted:
                    task.cancelled = True
                self._life.not_begun(task)
                self._life.take_back(task, Cause.RETURNED, now, out)
        engine.unwanted.difference_update(event.begun)

    def _on_undelivered(self, event: ev.Undelivered, now: float, out: Commands) -> None:
        engine = self._life.engines.get(event.engine)
        task = engine.assigned.get(event.task) if engine is not None else None
        if task is None:
            self._life.counters.stale += 1
        else:
            assert engine is not None
            if task.id in engine.unwanted:  # it has not begun, and now never will
                task.cancelled = True
            self._life.not_begun(task)
            self._life.take_back(task, Cause.RETURNED, now, out, event.queued_at_s)

    def _on_started(self, event: ev.Started, now: float, out: Commands) -> None:
        engine = self._life.engines.get(event.engine)
        task = engine.assigned.get(event.task) if engine is not None else None
        if task is None:
            self._life.counters.stale += 1
        elif task.state is ASSIGNED:
            self._life.move(task, Cause.STARTED)
            task.since_s = now
