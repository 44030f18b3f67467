"""The scheduler's semantics, told a second time, naively: what test_machine.py compares with.

Rule 1: sets, lists and rescans. Nothing is counted in advance, nothing is indexed; what follows
from the records is worked out again each time it is asked (model_facts.py). Rule 2: obviously
right rather than fast. Rule 3: where the scheduler is free to choose (which engine, which recall),
the model only says whether the choice was allowed. It must not know how the core does anything:
from `headway.core` it takes the events and the names of states, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core import problems
from headway.core.events import ClientId, ConditionSpec, EngineId, TaskId, TaskSpec
from headway.core.states import ON_ENGINE_STATES, RETRIABLE_STATES, TaskState
from tests.core.model_facts import (
    IMPOSSIBLE,
    OPEN,
    Disagreement,
    Facts,
    ModelEngine,
    ModelGroup,
    ModelTask,
    Said,
    turn,
)

S = TaskState


class Model(Facts):
    """The scheduler, except that somebody else chooses engines (`assign`).

    After each `handle` or `tick`, `said` and `stops` hold what this step must have caused;
    whoever looks empties them.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        super().__init__(config)
        #: Clients whose nodes outlive them; nodes that were left behind and are kept, in order.
        self.keeping: set[ClientId] = set()
        self.kept: list[TaskId] = []
        self._handlers: dict[type, Callable[..., None]] = {
            ev.ClientJoined: self._on_client_joined,
            ev.ClientLeft: self._on_client_left,
            ev.KeepAsked: self._on_keep_asked,
            ev.FunctionsDeclared: self._on_functions_declared,
            ev.FunctionsDropped: self._on_functions_dropped,
            ev.Submitted: self._on_submitted,
            ev.Released: self._on_released,
            ev.CancelAsked: self._on_cancel_asked,
            ev.EngineJoined: self._on_engine_joined,
            ev.EngineLeft: self._on_engine_left,
            ev.EngineDraining: self._on_engine_draining,
            ev.EnginesExpected: self._on_engines_expected,
            ev.EngineResumed: self._on_engine_resumed,
            ev.Finished: self._on_finished,
            ev.Started: self._on_started,
            ev.GaveBack: self._on_gave_back,
            ev.Abandoned: self._on_abandoned,
            ev.Remembered: self._on_remembered,
            ev.Undelivered: self._on_undelivered,
            ev.LateOutcome: self._on_late_outcome,
        }

    # --- what happens --------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float) -> None:
        """One event."""
        self.now = now
        self._next_occasion()
        self._handlers[type(event)](event)
        self._settle()
        self._keep_newest()

    def tick(self, now: float) -> None:
        """Time passes: whatever deadline or backoff has come by now, the earliest first."""
        self.now = now
        self._next_occasion()
        due: list[tuple[float, TaskId, str]] = []
        for task in self.tasks():
            if (at_s := task.deadline_s()) is not None:
                due.append((at_s, task.spec.id, "deadline"))
            if (at_s := task.backoff_until_s) is not None:
                due.append((at_s, task.spec.id, "backoff"))
        for at_s, id_, what in sorted(due, key=lambda entry: entry[:2]):
            node = self.nodes[id_]
            assert isinstance(node, ModelTask)
            if at_s > now or node.is_final:
                continue
            if what == "deadline":
                self._end(node, S.TIMED_OUT, problems.KIND_TIMEOUT)
            else:
                node.backoff_until_s = None
                while self._review(node):
                    pass
        self._settle()
        self._keep_newest()

    def assign(self, id_: TaskId, engine_id: EngineId, in_turn: bool = True) -> None:
        """The scheduler placed a task; `in_turn` unless it was told to place just this one.

        Raises:
            Disagreement: it may not run there now, or it was not its turn.
        """
        task = self.task(id_)
        if task is None or task.state is not S.READY:
            raise Disagreement(f"{id_} was placed, but is {task and task.state.name}")
        if engine_id not in self.eligible(task):
            raise Disagreement(f"{id_} was placed on {engine_id}; allowed: {self.eligible(task)}")
        for other in self.ready():
            if in_turn and turn(other) < turn(task) and self.eligible(other):
                raise Disagreement(f"{id_} was placed, though it was the turn of {other.spec.id}")
        task.state = S.ASSIGNED
        task.engine = engine_id
        task.attempt += 1
        self.engines[engine_id].assigned.append(id_)

    def _on_client_joined(self, event: ev.ClientJoined) -> None:
        self.clients.setdefault(event.client, 0)
        self.declared.setdefault(event.client, set())

    def _on_client_left(self, event: ev.ClientLeft) -> None:
        if self.clients.pop(event.client, None) is None:
            return
        del self.declared[event.client]
        if event.client in self.keeping:
            return
        for id_, node in list(self.nodes.items()):
            if node.client == event.client:
                node.released = True
                if isinstance(node, ModelTask) and id_ not in self.forgotten:
                    self._cancel(node)

    def _on_keep_asked(self, event: ev.KeepAsked) -> None:
        if event.client in self.clients:
            self.keeping.add(event.client)

    def _on_functions_declared(self, event: ev.FunctionsDeclared) -> None:
        if event.client in self.clients:
            self.declared[event.client].update(event.functions)

    def _on_functions_dropped(self, event: ev.FunctionsDropped) -> None:
        if event.client in self.clients:
            self.declared[event.client].difference_update(event.digests)

    def _on_submitted(self, event: ev.Submitted) -> None:
        if event.client not in self.clients or not self.functions().issuperset(event.functions):
            return
        nodes: list[ev.GroupSpec | TaskSpec] = [*event.groups, *event.tasks]
        for node in sorted(nodes, key=lambda node: node.id):
            if not self._accepts(event.client, node.id):
                continue
            if isinstance(node, ev.GroupSpec):
                members = [self.task(member) for member in dict.fromkeys(node.members)]
                self.nodes[node.id] = ModelGroup(event.client, members)
            else:
                self._submit(node, event.client, event.functions[node.function])
            self._settle()
            self._next_occasion()

    def _accepts(self, client: ClientId, node: TaskId) -> bool:
        """Is this the client's own, and new?"""
        sequence = node - ev.task_id(client, 0)
        if ev.client_of(node) != client or sequence <= self.clients[client]:
            return False
        self.clients[client] = sequence
        return True

    def _submit(self, spec: TaskSpec, client: ClientId, function: bytes) -> None:
        options = spec.options or ev.DEFAULT_OPTIONS
        task = ModelTask(spec, client, function, options, queued_at_s=self.now)
        problem = self._problem_of(task)
        self.nodes[spec.id] = task
        if problem is not None:
            self._end(task, S.IMPOSSIBLE, problem)

    def _problem_of(self, task: ModelTask) -> str | None:
        """Why the task can't even wait: the first problem, of its inputs, `after` and `follow`."""
        spec = task.spec
        after, follow = spec.after or ConditionSpec([]), spec.follow or ConditionSpec([])
        data = ConditionSpec(spec.inputs or [])
        for condition in (data, after, follow):
            if condition is data and any(self._has_no_value(node) for node in data.upstreams):
                return problems.KIND_INVALID
            if not self._is_valid(condition, may_name_groups=condition is after):
                return problems.KIND_INVALID
            is_follow = condition is follow
            verdict = self.follow_verdict(task) if is_follow else self.after_verdict(condition)
            if verdict == IMPOSSIBLE:
                return problems.KIND_IMPOSSIBLE
        return None

    def _has_no_value(self, id_: TaskId) -> bool:
        task = self.task(id_)
        return task is not None and task.is_remembered and task.state is S.SUCCEEDED

    def _is_valid(self, condition: ConditionSpec, may_name_groups: bool) -> bool:
        nodes = [self.known(upstream) for upstream in set(condition.upstreams)]
        if None in nodes or condition.on not in (ev.ON_SUCCESS, ev.ON_FAILURE, ev.ON_DONE):
            return False
        groups = [node for node in nodes if isinstance(node, ModelGroup)]
        if groups and not may_name_groups:
            return False
        count = len(groups[0].members) if groups and len(nodes) == 1 else len(nodes)
        # "Any of none" makes sense: of no upstreams it is met, of an empty group impossible.
        return 0 <= condition.need <= max(count, 1)

    def _on_released(self, event: ev.Released) -> None:
        for id_ in event.nodes:
            node = self.known(id_)
            if node is not None and node.client == event.client:
                node.released = True

    def _on_cancel_asked(self, event: ev.CancelAsked) -> None:
        unwanted = list(event.tasks)
        if event.downstream:
            unwanted += self.downstream(event.tasks)
        for id_ in unwanted:
            if (task := self.task(id_)) is not None:
                if event.queued_only and task.state in ON_ENGINE_STATES:
                    self._ask_back(task)
                else:
                    self._cancel(task)

    def _ask_back(self, task: ModelTask) -> None:
        if task.state is S.ASSIGNED and not task.cancelled and not task.unwanted:
            task.unwanted = True
            self.asked_back.append(task.spec.id)

    def _cancel(self, task: ModelTask) -> None:
        if task.state in (S.WAITING, S.READY):
            self._end(task, S.CANCELLED, problems.KIND_CANCELLED)
        elif task.state in ON_ENGINE_STATES and not task.cancelled:
            assert task.engine is not None
            task.cancelled = True
            self.stops.append((task.engine, task.spec.id))

    def _on_engine_joined(self, event: ev.EngineJoined) -> None:
        if event.engine not in self.engines:
            self.engines[event.engine] = ModelEngine(event.engine, dict(event.resources))
            self.expected.discard(event.engine)

    def _on_engines_expected(self, event: ev.EnginesExpected) -> None:
        self.expected.update(set(event.engines) - set(self.engines))

    def _on_engine_draining(self, event: ev.EngineDraining) -> None:
        if event.engine in self.engines:
            self.engines[event.engine].draining = True

    def _on_engine_resumed(self, event: ev.EngineResumed) -> None:
        if event.engine in self.engines:
            self.engines[event.engine].draining = False

    def _on_engine_left(self, event: ev.EngineLeft) -> None:
        engine = self.engines.pop(event.engine, None)
        if engine is None:
            return
        begun, culprits = self._blame(engine.assigned, event)
        for position, id_ in enumerate(engine.assigned):
            task = self.task(id_)
            assert task is not None
            may_not_repeat = task.options.at_most_once and id_ in begun
            if id_ in culprits:
                task.crashes += 1
                may_not_repeat |= task.crashes >= task.options.crash_limit
            if id_ in culprits and event.end.overran:
                self._end(task, S.TIMED_OUT, problems.KIND_RUN_TIMEOUT)
            elif task.cancelled or (task.unwanted and id_ not in begun):
                self._end(task, S.CANCELLED, problems.KIND_CANCELLED)
            elif may_not_repeat:
                self._end(task, S.LOST, problems.KIND_LOST)
            else:
                self._requeue(task, position)

    @staticmethod
    def _blame(
        assigned: list[TaskId], event: ev.EngineLeft
    ) -> tuple[Iterable[TaskId], Iterable[TaskId]]:
        """The tasks that may have begun there, and those that its end is charged to."""
        if not event.known:
            begun, culprits = assigned, assigned
        elif event.started in assigned:
            begun = assigned[: assigned.index(event.started) + 1]
            culprits = begun[-1:]
        else:
            begun, culprits = [], []
        return begun, [] if event.end.wanted else culprits

    def _on_finished(self, event: ev.Finished) -> None:
        count, run_s = 0, 0.0
        for position, outcome in enumerate(event.outcomes):
            task = self.task_on(outcome.task, event.engine)
            if task is not None and task.attempt == outcome.attempt:
                count += 1
                run_s += outcome.run_s
                self._take_outcome(task, outcome, -position)
                self._settle()
        if count:
            self.engines[event.engine].runs.append((count, run_s))

    def _take_outcome(self, task: ModelTask, outcome: ev.Outcome, position: int) -> None:
        assert task.engine is not None
        self.engines[task.engine].assigned.remove(task.spec.id)
        if outcome.status == ev.RAN:
            self._end(task, S.SUCCEEDED, None)
        elif outcome.status == ev.OVERRAN:
            self._end(task, S.TIMED_OUT, problems.KIND_RUN_TIMEOUT)
        elif outcome.status == ev.RAISED:
            self._raised(task, outcome, position)
        elif task.cancelled:
            self._end(task, S.CANCELLED, problems.KIND_CANCELLED)
        else:
            if outcome.status == ev.REFUSED:
                task.excluded.add(task.engine)
            self._requeue(task, position)

    def _raised(self, task: ModelTask, outcome: ev.Outcome, position: int) -> None:
        options = task.options
        types = outcome.error.types if outcome.error else []
        wanted = options.retry_on is None or any(name in options.retry_on for name in types)
        may_retry = not options.at_most_once and not task.cancelled
        if task.failures >= options.retries or not wanted or not may_retry:
            self._end(task, S.FAILED, problems.KIND_RAISED)
            return
        task.failures += 1
        assert task.engine is not None
        if options.retry_elsewhere and not self.engines[task.engine].draining:
            task.excluded.add(task.engine)
        self._requeue(task, position)
        if options.backoff_s > 0:
            wait_s = min(options.backoff_s * 2 ** (task.failures - 1), ev.BACKOFF_S_MAX)
            task.backoff_until_s = self.now + wait_s
            task.state = S.WAITING

    def _on_started(self, event: ev.Started) -> None:
        task = self.task_on(event.task, event.engine)
        if task is not None:
            task.state = S.RUNNING

    def _on_gave_back(self, event: ev.GaveBack) -> None:
        for position, id_ in enumerate(event.tasks):
            task = self.task_on(id_, event.engine)
            if task is not None:
                self.engines[event.engine].assigned.remove(id_)
                if task.cancelled or task.unwanted:
                    self._end(task, S.CANCELLED, problems.KIND_CANCELLED)
                else:
                    self._requeue(task, position)
        for id_ in event.begun:
            task = self.task_on(id_, event.engine)
            if task is not None:
                task.unwanted = False

    # --- what a shell says ---------------------------------------------------------------------

    def _on_abandoned(self, event: ev.Abandoned) -> None:
        task = self.task(event.task)
        if task is None:
            return
        is_unsent = task.state is S.ASSIGNED and task.attempt == event.attempt
        if is_unsent:
            assert task.engine is not None
            self.engines[task.engine].assigned.remove(event.task)
            task.engine = None
        if is_unsent or task.state in (S.WAITING, S.READY):
            late = event.kind == problems.KIND_TIMEOUT
            self._end(task, S.TIMED_OUT if late else S.IMPOSSIBLE, event.kind)

    def _on_remembered(self, event: ev.Remembered) -> None:
        for past in event.tasks:
            if event.client in self.clients and self._accepts(event.client, past.id):
                spec = TaskSpec(past.id, 0, b"")
                task = ModelTask(spec, event.client, b"", ev.DEFAULT_OPTIONS, engine=past.engine)
                task.state = S.SUCCEEDED if past.succeeded else S.FAILED
                task.problem = None if past.succeeded else problems.KIND_RAISED
                task.is_remembered = True
                self.nodes[past.id] = task

    def _on_undelivered(self, event: ev.Undelivered) -> None:
        task = self.task_on(event.task, event.engine)
        self._on_gave_back(ev.GaveBack(event.engine, [event.task]))
        if task is not None and not task.is_final:
            task.queued_at_s = event.queued_at_s

    def _on_late_outcome(self, event: ev.LateOutcome) -> None:
        outcome = event.outcome
        task = self.task(outcome.task)
        if task is None or task.state not in (S.WAITING, S.READY) or not task.attempt:
            return
        if task.attempt == outcome.attempt and outcome.status == ev.RAN:
            self._end(task, S.SUCCEEDED, None)

    # --- the consequences ----------------------------------------------------------------------

    def _end(self, task: ModelTask, state: TaskState, problem: str | None) -> None:
        """The task has ended. Where it ended stays in `engine`, if it was on one."""
        task.state = state
        task.problem = problem
        task.backoff_until_s = None
        task.may_be_retried = (
            state in RETRIABLE_STATES
            and task.engine is not None
            and task.spec.follow is None
            and not task.options.at_most_once
        )
        if task.client in self.clients or not task.released:
            self.said.append(Said(task.client, task.spec.id, state, problem))

    def _requeue(self, task: ModelTask, position: int) -> None:
        """It goes to the front; among those of one occasion, the lowest position goes first."""
        task.state = S.READY
        task.engine = None
        task.unwanted = False
        task.queued_at_s = self.now
        task.rank = (-self.occasion, position)
        task.followed = self.follow_set(task)

    def _next_occasion(self) -> None:
        self.occasion += 1

    def _settle(self) -> None:
        """Looks at every task again and again, until nothing changes any more."""
        while any(self._review(task) for task in list(self.tasks())):
            pass
        while any(self._forget(id_) for id_ in list(self.nodes)):
            pass

    def _keep_newest(self) -> None:
        """Of what was left behind and has ended, the newest are kept; the event is over."""
        left = [id_ for id_, node in self.nodes.items() if self._is_left(node)]
        self.kept += sorted(set(left) - set(self.kept))
        while len(self.kept) > self.config.finished_kept:
            self.nodes[self.kept.pop(0)].released = True
            while any(self._forget(id_) for id_ in list(self.nodes)):
                pass

    def _is_left(self, node: ModelTask | ModelGroup) -> bool:
        return node.is_final and not node.released and node.client not in self.clients

    def _review(self, task: ModelTask) -> bool:
        """Takes one task one step further, if its conditions or the engines say so."""
        if task.state not in (S.WAITING, S.READY):
            return False
        verdicts = self.verdicts(task)
        if IMPOSSIBLE in verdicts:
            self._end(task, S.IMPOSSIBLE, problems.KIND_IMPOSSIBLE)
            return True
        if task.state is S.WAITING:
            if task.backoff_until_s is not None or OPEN in verdicts:
                return False
            task.state = S.READY
            self._queue_up(task)
            return True
        if OPEN in verdicts:  # the engines that met `follow` have left; another one still may
            task.state = S.WAITING
            return True
        if self._has_no_engine_left(task):
            self._end(task, S.IMPOSSIBLE, problems.KIND_IMPOSSIBLE)
            return True
        if (self.follow_set(task) or frozenset()) > (task.followed or frozenset()):
            self._queue_up(task)  # it queues anew, for one engine more
        return False

    def _queue_up(self, task: ModelTask) -> None:
        """It goes to the back; those of one occasion have no order."""
        task.rank = (self.occasion, 0)
        task.followed = self.follow_set(task)

    def _has_no_engine_left(self, task: ModelTask) -> bool:
        """Is there a restriction, and no present engine that it leaves?"""
        follow = self.follow_set(task)
        if task.options.targets is None and follow is None and not task.excluded:
            return False
        if any(self.permits(task, engine) for engine in self.engines.values()):
            return False
        targets = task.options.targets
        may_come = self.expected - task.excluded if follow is None else set()
        if may_come if targets is None else may_come.intersection(targets):
            return False
        can_come = targets is None or not set(targets) <= task.excluded
        return follow is not None or not (task.options.wait_for_engines and can_come)

    def _forget(self, id_: TaskId) -> bool:
        """Drops a node that is final, released, and that no unfinished task names, nor one that may
        be retried takes a value from."""
        node = self.nodes[id_]
        if id_ in self.forgotten or not node.released or not node.is_final:
            return False
        if any(id_ in set(task.needs()) for task in self.tasks() if not task.is_final):
            return False
        if any(task.may_be_retried and id_ in task.spec.inputs for task in self.tasks()):
            return False
        self.forgotten.add(id_)
        return True
