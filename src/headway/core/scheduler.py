"""The scheduler: events in, commands out.

    scheduler.handle(event, now, out)    # take in what happened; as often as there are events
    scheduler.tick(now, out)             # when next_deadline_s() has come
    scheduler.place(now, out)            # then place, once for all of them

It is a pure state machine: the time is an argument, chance comes from the `rng` that it was
given, and what it wants done is appended to `out`. The same object serves the native wire, the
IPython.parallel wire, the simulator and recovery, which tells it the same events again, and what
`place` then did (`place_as`). What is asked between them (`next_deadline_s`, `redeliver`,
`statistics`, `explain`) makes no difference to what it does next.

What happens to a task is in life.py; here is which of its steps an event asks for, and what a
peer may say. An event about a task that has moved on is stale: it is counted, and changes
nothing.

Each handler leaves the records consistent (invariants.py says what that means) except that
tasks may be placeable; `place` sees to these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from random import Random
from typing import Any

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core import words
from headway.core.commands import Command, Deliver, Recall, StopTask
from headway.core.events import DEFAULT_OPTIONS, ClientId, EngineId, TaskId, TaskOptions
from headway.core.graph import Verdict, note_engine_left
from headway.core.life import Life, delivery
from headway.core.prefetch import limit_of, load_max, note_runs
from headway.core.problems import KIND_RAISED, KIND_TIMEOUT, Problem
from headway.core.ready import Lane
from headway.core.records import Client, Condition, Engine, Function, Group, Task
from headway.core.replay import choices_made
from headway.core.retry import after_engine_end, after_raise, backoff_s, begun_on
from headway.core.states import FINAL_STATES, ON_ENGINE_STATES, Cause, TaskState
from headway.core.statistics import Statistics
from headway.core.timers import Timer

WAITING, READY = TaskState.WAITING, TaskState.READY
ASSIGNED = TaskState.ASSIGNED

Commands = list[Command]


class Scheduler:
    """Tasks, engines and clients, and every decision about them.

    Parameters:
        config: how to place tasks.
        rng: the source of chance for the random schemes; its seed makes a run repeatable.
    """

    def __init__(self, config: SchedulerConfig, rng: Random) -> None:
        self.config = config
        self._life = life = Life(config)
        self.tasks = life.tasks
        self.groups = life.groups
        self.engines = life.engines
        self.clients = life.clients
        self.functions = life.functions
        self.lanes = life.lanes
        self.timers = life.timers
        self.recalls = life.recalls
        self.counters = life.counters
        self.stamps = life.stamps
        #: No engine has had more tasks at once: see prefetch.py.
        self.load_max = load_max(config)
        self._rng = rng
        self._handlers: dict[type, Callable[[Any, float, Commands], None]] = {
            ev.ClientJoined: self._on_client_joined,
            ev.ClientLeft: self._on_client_left,
            ev.Submitted: self._on_submitted,
            ev.FunctionsDeclared: self._on_functions_declared,
            ev.FunctionsDropped: self._on_functions_dropped,
            ev.Released: self._on_released,
            ev.CancelAsked: self._on_cancel_asked,
            ev.EngineJoined: self._on_engine_joined,
            ev.EngineLeft: self._on_engine_left,
            ev.EngineDraining: self._on_engine_draining,
            ev.Finished: self._on_finished,
            ev.Started: self._on_started,
            ev.GaveBack: self._on_gave_back,
            ev.EnginesExpected: self._on_engines_expected,
            ev.EngineResumed: self._on_engine_resumed,
            ev.Abandoned: self._on_abandoned,
            ev.Remembered: self._on_remembered,
            ev.Undelivered: self._on_undelivered,
            ev.LateOutcome: self._on_late_outcome,
        }
        self._outcomes: dict[int, Callable[[Task, ev.Outcome, float, Commands], None]] = {
            ev.RAN: self._on_ran,
            ev.RAISED: self._on_raised,
            ev.REFUSED: self._on_refused,
            ev.STOPPED: self._on_stopped,
            ev.OVERRAN: self._on_overran,
        }

    # --- the three verbs -----------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float, out: Commands) -> None:
        """Take in one event, at the time `now` in seconds; then call `place`."""
        self._handlers[type(event)](event, now, out)
        self._life.settle(now, out)

    def tick(self, now: float, out: Commands) -> None:
        """Do what has become due by `now`; then call `place`."""
        for task_id, timer in self.timers.take_due(now):
            task = self.tasks[TaskId(task_id)]
            if timer is Timer.BACKOFF:
                self._life.make_ready(task, Cause.BACKOFF_OVER, now, out)
            else:
                self._life.end(task, Cause.DEADLINE, words.queue_timeout(task), out)
        self._life.settle(now, out)
        self.recalls.recall_due(now, out)

    def next_deadline_s(self) -> float | None:
        """When `tick` has something to do, None if nothing is due ever."""
        times = [t for t in (self.timers.next_s(), self.recalls.next_s()) if t is not None]
        return min(times, default=None)

    def place(self, now: float, out: Commands) -> None:
        """Place every task that can be placed: afterwards no task waits that an engine has
        room for."""
        for task, engine in self.lanes.choices(self._rng):
            self._life.seat(task, engine, now, out)

    def place_as(self, seats: Iterable[tuple[TaskId, EngineId]], now: float, out: Commands) -> None:
        """Place what `place` once placed at this point, as a journal tells: each task with its
        engine, in the same order. Chance is not asked, nor is the scheme.

        Raises:
            ReplayError: the placements do not fit this state. It is of no use any more.
        """
        for task, engine in choices_made(self, seats):
            self._life.seat(task, engine, now, out)

    def place_task(
        self, task_id: TaskId, now: float, out: Commands, among: Collection[EngineId] | None = None
    ) -> bool:
        """Place this one task now, before its turn, if it is ready and an engine has room for it.

        Parameters:
            among: the engines that may be chosen, of which the least loaded is; None is what
                the scheme chooses.

        Returns whether it was placed.
        """
        task = self.tasks.get(task_id)
        if task is None or task.lane is None:
            return False
        lane = task.lane
        if among is None:
            engine = lane.room.choose(self._rng) if lane.room else None
        else:
            found = [self.engines[e] for e in among if e in self.engines]
            having_room = [engine for engine in found if engine in lane.room]
            engine = min(having_room, key=lambda e: (e.load, e.stamp), default=None)
        if engine is None:
            return False
        lane.leave(task)
        self._life.seat(task, engine, now, out)
        return True

    def redeliver(self, client: ClientId, tasks: Iterable[TaskId], out: Commands) -> None:
        """Tell a client that lost its connection how those of `tasks` ended that have ended.

        It hears of the others when they end. One that is not known, or not this client's, is
        LOST to it. This changes nothing in the scheduler.
        """
        for task_id in tasks:
            task = self.tasks.get(task_id)
            if task is None or task.client != client:
                problem = words.unknown(task_id)
                out.append(Deliver(client, task_id, TaskState.LOST, None, None, problem))
            elif task.state in FINAL_STATES:
                out.append(delivery(task))

    def set_hwm(self, hwm: int | str) -> None:
        """Another `hwm` from now on; what engines have already stays there. Then call `place`."""
        self.config = replace(self.config, hwm=hwm)
        self.load_max = max(self.load_max, load_max(self.config))
        for engine in self.engines.values():
            engine.limit = limit_of(engine, self.config)
            self.lanes.engine_changed(engine)
            self.recalls.engine_changed(engine)

    @property
    def scheme_failure(self) -> str:
        """How a user's scheme failed last, for people; "" if it has not."""
        return getattr(self._life.scheme, "failure", "")

    def statistics(self) -> Statistics:
        """A frozen snapshot of the counts."""
        return self.counters.snapshot(self)

    # --- clients ---------------------------------------------------------------------------------

    def _on_client_joined(self, event: ev.ClientJoined, now: float, out: Commands) -> None:
        self.clients.setdefault(event.client, Client(event.client))

    def _on_client_left(self, event: ev.ClientLeft, now: float, out: Commands) -> None:
        client = self.clients.pop(event.client, None)
        if client is None:
            self.counters.invalid += 1
            return
        for node in sorted(client.nodes):
            group = self.groups.get(node)
            if group is not None:
                self._release(group)
            else:
                task = self.tasks[node]
                self._cancel(task, out)
                self._release(task)
        self.functions.drop(client, sorted(client.functions), out)

    def _on_submitted(self, event: ev.Submitted, now: float, out: Commands) -> None:
        client = self.clients.get(event.client)
        functions = [self.functions.get(digest) for digest in event.functions]
        if client is None or not all(functions):
            # The shell checks both at the border; whoever comes past it gets nothing.
            self.counters.invalid += len(event.tasks) + len(event.groups)
            return
        groups = iter(event.groups)
        group = next(groups, None)
        for spec in event.tasks:
            while group is not None and group.id < spec.id:
                self._add_group(client, group)
                group = next(groups, None)
            if self._is_new(client, spec.id):
                function = functions[spec.function]
                assert function is not None
                self._add_task(client, spec, function, now, out)
        while group is not None:
            self._add_group(client, group)
            group = next(groups, None)

    def _is_new(self, client: Client, node: TaskId) -> bool:
        """Whether `node` is the next of `client`'s, not one sent again or another's."""
        if ev.client_of(node) != client.id:
            self.counters.invalid += 1
            return False
        if node <= client.last_node:
            self.counters.duplicates += 1
            return False
        client.last_node = node
        return True

    def _add_task(
        self, client: Client, spec: ev.TaskSpec, function: Function, now: float, out: Commands
    ) -> None:
        assert isinstance(spec.payload, bytes)
        options = spec.options or DEFAULT_OPTIONS
        task = Task(spec.id, client.id, function, spec.payload, options)
        task.since_s = now
        client.nodes.add(spec.id)
        function.users += 1
        self.counters.submitted += 1
        self.counters.by_state[WAITING] += 1
        problem = None
        if spec.inputs or spec.after is not None or spec.follow is not None:
            problem = self._life.edges.connect(task, spec)
        self.tasks[task.id] = task
        if problem is not None:
            self._life.end(task, Cause.DEPENDENCY_LOST, problem, out)
            return
        if options.timeout_s is not None:
            self.timers.arm(task.id, Timer.QUEUE_TIMEOUT, now + options.timeout_s)
        if not task.unmet:
            self._life.make_ready(task, Cause.DEPENDENCIES_MET, now, out)

    def _add_group(self, client: Client, spec: ev.GroupSpec) -> None:
        if self._is_new(client, spec.id):
            client.nodes.add(spec.id)
            self.groups[spec.id] = self._life.edges.gather(client, spec)

    def _on_released(self, event: ev.Released, now: float, out: Commands) -> None:
        for node_id in event.nodes:
            node = self._life.edges.find(node_id)
            if node is None or node.client != event.client:
                self.counters.invalid += 1
            else:
                self._release(node)

    def _release(self, node: Task | Group) -> None:
        node.released = True
        if not node.holds:
            self._life.forget_if_free(node)

    def _on_remembered(self, event: ev.Remembered, now: float, out: Commands) -> None:
        client = self.clients.get(event.client)
        if client is None:
            self.counters.invalid += len(event.tasks)
            return
        for past in event.tasks:
            if self._is_new(client, past.id):
                state = TaskState.SUCCEEDED if past.succeeded else TaskState.FAILED
                options = TaskOptions(label=past.name) if past.name else DEFAULT_OPTIONS
                task = Task(past.id, client.id, None, b"", options, state, engine=past.engine)
                if not past.succeeded:
                    task.problem = words.failed_before(task)
                task.since_s = now
                client.nodes.add(task.id)
                self.tasks[task.id] = task
                self.counters.by_state[state] += 1

    def _on_abandoned(self, event: ev.Abandoned, now: float, out: Commands) -> None:
        task = self.tasks.get(event.task)
        is_unsent = task is not None and task.state is ASSIGNED and task.attempt == event.attempt
        if task is None or not (is_unsent or task.state in (WAITING, READY)):
            self.counters.stale += 1
            return
        if is_unsent:
            self._life.unseat(task)
            task.engine = None  # it never came there
        if event.kind == KIND_TIMEOUT:
            cause = Cause.DEADLINE
        elif is_unsent or task.state is READY:
            cause = Cause.NO_ENGINE_LEFT
        else:
            cause = Cause.DEPENDENCY_LOST
        self._life.end(task, cause, Problem(event.kind, event.text), out)

    def _on_cancel_asked(self, event: ev.CancelAsked, now: float, out: Commands) -> None:
        for task_id in event.tasks:
            task = self.tasks.get(task_id)
            if task is None:
                self.counters.invalid += 1
            elif event.queued_only and task.state in ON_ENGINE_STATES:
                self._ask_back(task, out)
            else:
                self._cancel(task, out)

    def _ask_back(self, task: Task, out: Commands) -> None:
        """Cancel a task on an engine unless it has begun there, which the engine alone knows."""
        assert task.engine is not None
        engine = self.engines[task.engine]
        if task.state is ASSIGNED and not task.cancelled and task.id not in engine.unwanted:
            engine.unwanted.add(task.id)
            out.append(Recall(engine.id, [task.id]))

    def _cancel(self, task: Task, out: Commands) -> None:
        """A task on an engine is the engine's to stop; any other ends here. One that has ended
        stays as it is."""
        if task.state is WAITING or task.state is READY:
            self._life.end(task, Cause.CANCEL, words.cancelled(task), out)
        elif task.state in FINAL_STATES or task.cancelled:
            return
        else:
            task.cancelled = True
            assert task.engine is not None
            out.append(StopTask(task.engine, task.id))

    # --- functions -------------------------------------------------------------------------------

    def _on_functions_declared(
        self, event: ev.FunctionsDeclared, now: float, out: Commands
    ) -> None:
        client = self.clients.get(event.client)
        if client is None:
            self.counters.invalid += 1
        else:
            self.functions.declare(client, event.functions)

    def _on_functions_dropped(self, event: ev.FunctionsDropped, now: float, out: Commands) -> None:
        client = self.clients.get(event.client)
        if client is not None:
            self.functions.drop(client, event.digests, out)

    # --- engines ---------------------------------------------------------------------------------

    def _on_engine_joined(self, event: ev.EngineJoined, now: float, out: Commands) -> None:
        if event.engine in self.engines:
            self.counters.duplicates += 1
            return
        engine = Engine(event.engine, dict(event.resources), event.host, event.pid)
        engine.free = dict(event.resources)
        self.stamps.first -= 1
        engine.stamp = self.stamps.first
        engine.progress_at_s = now
        engine.limit = limit_of(engine, self.config)
        self.engines[engine.id] = engine
        stranded = self.lanes.engine_joined(engine)
        self.recalls.engine_changed(engine)
        self._end_stranded(stranded, out)

    def _on_engines_expected(self, event: ev.EnginesExpected, now: float, out: Commands) -> None:
        self.lanes.engines_expected(event.engines)

    def _end_stranded(self, lanes: list[Lane], out: Commands) -> None:
        """No engine is left for the tasks in these lanes."""
        for lane in lanes:
            for task in dict.fromkeys(lane.waiting()):
                self._life.end(task, Cause.NO_ENGINE_LEFT, words.no_engine_left(task), out)

    def _on_engine_left(self, event: ev.EngineLeft, now: float, out: Commands) -> None:
        engine = self.engines.pop(event.engine, None)
        if engine is None:
            self.counters.stale += 1
            return
        self._life.changed.pop(engine.id, None)
        self.recalls.engine_left(engine)
        stranded = self.lanes.engine_left(engine)
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
                self._life.end(task, Cause.DEADLINE, words.overran(task, event.end.text), out)
                continue
            if charged:
                task.crashes = [*(task.crashes or ()), words.crash(engine, event.end)]
                self.counters.crashed += 1
            cause = after_engine_end(task, begun=n < begun, charged=charged)
            if cause is Cause.ENGINE_LOST:
                self._life.take_back(task, cause, now, out)
            elif cause is Cause.CANCEL:
                self._life.end(task, cause, words.cancelled(task), out)
            else:
                self._life.end(task, cause, words.lost(task, engine, event.end), out)

    def _on_engine_draining(self, event: ev.EngineDraining, now: float, out: Commands) -> None:
        engine = self.engines.get(event.engine)
        if engine is None:
            self.counters.stale += 1
            return
        engine.draining = True
        engine.limit = 0
        self._life.changed[engine.id] = engine
        self.recalls.recall_all(engine, out)

    def _on_engine_resumed(self, event: ev.EngineResumed, now: float, out: Commands) -> None:
        engine = self.engines.get(event.engine)
        if engine is None:
            self.counters.stale += 1
            return
        engine.draining = engine.recalling = False
        engine.limit = limit_of(engine, self.config)
        self._life.changed[engine.id] = engine

    def _on_gave_back(self, event: ev.GaveBack, now: float, out: Commands) -> None:
        engine = self.engines.get(event.engine)
        if engine is None:
            self.counters.stale += len(event.tasks)
            return
        engine.recalling = False
        engine.progress_at_s = now
        self._life.changed[engine.id] = engine
        # The last goes to the front first. One that is named twice keeps its first place.
        for task_id in reversed(list(dict.fromkeys(event.tasks))):
            task = engine.assigned.get(task_id)
            if task is None:
                self.counters.stale += 1
            else:
                self.counters.recalled += 1
                if task_id in engine.unwanted:
                    task.cancelled = True
                self._life.take_back(task, Cause.RETURNED, now, out)
        engine.unwanted.difference_update(event.begun)

    def _on_undelivered(self, event: ev.Undelivered, now: float, out: Commands) -> None:
        engine = self.engines.get(event.engine)
        task = engine.assigned.get(event.task) if engine is not None else None
        if task is None:
            self.counters.stale += 1
        else:
            self._life.take_back(task, Cause.RETURNED, now, out, event.queued_at_s)

    def _on_started(self, event: ev.Started, now: float, out: Commands) -> None:
        engine = self.engines.get(event.engine)
        task = engine.assigned.get(event.task) if engine is not None else None
        if task is None:
            self.counters.stale += 1
        elif task.state is ASSIGNED:
            self._life.move(task, Cause.STARTED)
            task.since_s = now

    # --- outcomes --------------------------------------------------------------------------------

    def _on_finished(self, event: ev.Finished, now: float, out: Commands) -> None:
        engine = self.engines.get(event.engine)
        if engine is None:
            self.counters.stale += len(event.outcomes)
            return
        assigned = engine.assigned
        outcomes = self._outcomes
        run_s = 0.0
        count = 0
        for outcome in event.outcomes:
            task = assigned.get(outcome.task)
            if task is None or task.attempt != outcome.attempt or outcome.status not in outcomes:
                self.counters.stale += 1
                continue
            count += 1
            run_s += outcome.run_s
            outcomes[outcome.status](task, outcome, now, out)
        engine.progress_at_s = now
        note_runs(engine, count, run_s)
        engine.limit = limit_of(engine, self.config)
        self._life.changed[engine.id] = engine

    def _on_late_outcome(self, event: ev.LateOutcome, now: float, out: Commands) -> None:
        """It counts if no other engine has the task, which is queued to be tried again."""
        outcome = event.outcome
        task = self.tasks.get(outcome.task)
        queued = task is not None and task.state in (WAITING, READY)
        if not queued or task.attempt != outcome.attempt or not outcome.attempt:  # type: ignore[union-attr]
            self.counters.stale += 1
        elif outcome.status == ev.RAN:
            assert task is not None
            assert isinstance(outcome.payload, bytes)
            self._life.end(task, Cause.RAN_LATE, None, out, outcome.payload)
        # Any other outcome asks for another try, for which it is queued already.

    def _on_ran(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        assert isinstance(outcome.payload, bytes)
        self._life.end(task, Cause.RAN, None, out, outcome.payload)

    def _on_raised(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        assert isinstance(outcome.payload, bytes)
        cause = after_raise(task, outcome.error)
        task.failures += 1
        if cause is Cause.RAISED:
            problem = Problem(KIND_RAISED, words.raised(task, outcome.error))
            self._life.end(task, cause, problem, out, outcome.payload)
            return
        self.counters.retried += 1
        if task.options.retry_elsewhere:
            assert task.engine is not None
            # One that drains gets no task anyway, and without it others may yet join.
            if not self.engines[task.engine].draining:
                task.excluded = (task.excluded or frozenset()) | {task.engine}
        if cause is Cause.RETRY:
            self._life.take_back(task, cause, now, out)
            return
        self._life.unseat(task)
        task.engine = None
        self._life.queue_again(task, now)
        self._life.move(task, cause)
        self.timers.arm(task.id, Timer.BACKOFF, now + backoff_s(task.options, task.failures))

    def _on_refused(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        assert task.engine is not None
        task.excluded = (task.excluded or frozenset()) | {task.engine}
        self.counters.refused += 1
        self._life.take_back(task, Cause.RETURNED, now, out)

    def _on_stopped(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        self._life.take_back(task, Cause.RETURNED, now, out)

    def _on_overran(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        self._life.end(task, Cause.DEADLINE, words.overran(task, "interrupted"), out)
