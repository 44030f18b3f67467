"""The scheduler: events in, commands out.

    scheduler.handle(event, now, out)    # take in what happened; as often as there are events
    scheduler.tick(now, out)             # when next_deadline_s() has come
    scheduler.place(now, out)            # then place, once for all of them

It is a pure state machine: the time is an argument, chance comes from the `rng` that it was
given, and what it wants done is appended to `out`. The same object serves the native wire, the
IPython.parallel wire, the simulator and recovery.

Rules of the house. `_move` alone changes a task's state, by the table in states.py. `_end` alone
ends a task; what its end means to others is worked off from a list (`_propagate`), so that a
chain of a million tasks ends without recursion. A seat on an engine is taken in the step that
decides it (`_seat`) and given back in the step that learns of its end (`_unseat`). An event
about a task that has moved on is stale: it is counted, and changes nothing.

Each handler leaves the records consistent (invariants.py says what that means) except that
tasks may be placeable; `place` sees to these.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from headway.config import HWM_AUTO, SchedulerConfig
from headway.core import events as ev
from headway.core import words
from headway.core.commands import Assign, Command, Deliver, DropFunction, StopTask
from headway.core.events import DEFAULT_OPTIONS, ClientId, EngineId, Payload, TaskId
from headway.core.graph import (
    Verdict,
    add_edge,
    group_threshold,
    is_final,
    note_end,
    note_engine_left,
    note_group,
    note_member_end,
    still_possible,
    watch_group,
)
from headway.core.problems import KIND_INVALID, KIND_RAISED, Problem
from headway.core.ready import Lane, Lanes
from headway.core.recall import Recalls
from headway.core.records import Client, Condition, Engine, Function, Group, Task
from headway.core.retry import after_engine_end, after_raise, backoff_s
from headway.core.schemes import load_scheme
from headway.core.states import FINAL_STATES, TRANSITIONS, Cause, TaskState
from headway.core.statistics import Counters, Statistics
from headway.core.timers import Timer, Timers
from headway.errors import InvariantViolation

WAITING, READY = TaskState.WAITING, TaskState.READY
ASSIGNED, RUNNING = TaskState.ASSIGNED, TaskState.RUNNING
SUCCEEDED = TaskState.SUCCEEDED

Commands = list[Command]


class Scheduler:
    """Tasks, engines and clients, and every decision about them.

    Parameters:
        config: how to place tasks.
        rng: the source of chance for the random schemes; its seed makes a run repeatable.
    """

    def __init__(self, config: SchedulerConfig, rng: Random) -> None:
        self.config = config
        self.tasks: dict[TaskId, Task] = {}
        self.groups: dict[TaskId, Group] = {}
        self.engines: dict[EngineId, Engine] = {}
        self.clients: dict[ClientId, Client] = {}
        self.functions: dict[bytes, Function] = {}
        self.lanes = Lanes(*load_scheme(config.scheme))
        self.timers = Timers()
        self.counters = Counters()
        self.recalls = Recalls(self.lanes, config.recall_after_s)
        self._rng = rng
        #: Tasks that have ended, whose dependents have not heard of it.
        self._ended: deque[Task] = deque()
        #: Engines whose load changed since their lanes heard of it.
        self._changed: dict[EngineId, Engine] = {}
        #: The last stamps given: LRU order has the assigned at its end, the new at its head.
        self._stamp_last = 0
        self._stamp_first = 0
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
        if self._ended:
            self._propagate(now, out)

    def tick(self, now: float, out: Commands) -> None:
        """Do what has become due by `now`; then call `place`."""
        for task_id, timer in self.timers.take_due(now):
            task = self.tasks[task_id]
            if timer is Timer.BACKOFF:
                self._make_ready(task, Cause.BACKOFF_OVER, now, out)
            else:
                self._end(task, Cause.DEADLINE, words.queue_timeout(task), out)
        self._propagate(now, out)
        self._tell_lanes()
        self.recalls.recall_due(now, out)

    def next_deadline_s(self) -> float | None:
        """When `tick` has something to do, None if nothing is due ever."""
        self._tell_lanes()
        times = [t for t in (self.timers.next_s(), self.recalls.next_s()) if t is not None]
        return min(times, default=None)

    def place(self, now: float, out: Commands) -> None:
        """Place every task that can be placed: afterwards no task waits that an engine has
        room for."""
        self._tell_lanes()
        placeable = self.lanes.placeable
        while len(placeable) > 1:
            lanes = [lane for lane in placeable if lane.count and lane.room]
            placeable.clear()
            if len(lanes) == 1:
                placeable[lanes[0]] = None
                break
            self._place_in_turn(lanes, now, out)
        for lane in placeable:
            while lane.count and lane.room:
                self._seat(lane.take(), lane.room.choose(self._rng), now, out)
        placeable.clear()

    def _place_in_turn(self, lanes: list[Lane], now: float, out: Commands) -> None:
        """Place from several lanes: always the one whose head has the first turn."""
        turns = [(lane.order_key(), n, lane) for n, lane in enumerate(lanes)]
        heapq.heapify(turns)
        while turns:
            _, n, lane = turns[0]
            if not lane.room:
                heapq.heappop(turns)
                continue
            self._seat(lane.take(), lane.room.choose(self._rng), now, out)
            if lane.count:
                heapq.heapreplace(turns, (lane.order_key(), n, lane))
            else:
                heapq.heappop(turns)

    def statistics(self) -> Statistics:
        """A frozen snapshot of the counts."""
        return self.counters.snapshot(self)

    # --- the one door for states, and the life of a task ----------------------------------------

    def _move(self, task: Task, cause: Cause) -> None:
        """Change the state of `task`. Nobody else does."""
        state = TRANSITIONS[task.state].get(cause)
        if state is None:
            raise InvariantViolation(f"{task!r} can't change its state by {cause.name}")
        by_state = self.counters.by_state
        by_state[task.state] -= 1
        by_state[state] += 1
        task.state = state

    def _make_ready(
        self, task: Task, cause: Cause, now: float, out: Commands, front: bool = False
    ) -> None:
        """`task` may run now: queue it, or end it if no engine is left for it."""
        self._move(task, cause)
        if task.unmet:
            # It comes back from an engine that was the last to meet its follow condition.
            assert task.follow is not None
            if still_possible(task.follow):
                self._move(task, Cause.FOLLOW_LOST)
            else:
                self._end(task, Cause.NO_ENGINE_LEFT, words.follow_lost(task), out)
            return
        lane = self.lanes.lane_of(task)
        if not lane.engines and lane.restriction.is_narrow:
            self._end(task, Cause.NO_ENGINE_LEFT, words.no_engine_left(task), out)
            return
        self.lanes.push(task, lane, front)

    def _seat(self, task: Task, engine: Engine, now: float, out: Commands) -> None:
        """Place `task`, which has left its lane, on `engine`."""
        self._move(task, Cause.PLACED)
        options = task.options
        if options.timeout_s is not None:
            self.timers.disarm(task.id, Timer.QUEUE_TIMEOUT)
        task.attempt += 1
        task.engine = engine.id
        task.since_s = now
        if not engine.assigned:
            engine.progress_at_s = now
        engine.assigned[task.id] = task
        if options.resources:
            for name, amount in options.resources.items():
                engine.free[name] -= amount
        self._stamp_last += 1
        engine.stamp = self._stamp_last
        self.lanes.engine_changed(engine)
        self.recalls.engine_changed(engine)
        out.append(Assign(engine.id, task))

    def _unseat(self, task: Task) -> None:
        """`task` is not on its engine any more."""
        engine = self.engines.get(task.engine) if task.engine is not None else None
        if engine is None:
            return
        del engine.assigned[task.id]
        if task.options.resources:
            for name, amount in task.options.resources.items():
                engine.free[name] += amount
            if not engine.assigned:  # so that no rounding error outlives a busy stretch
                engine.free = dict(engine.resources)
        self._changed[engine.id] = engine

    def _return(self, task: Task, cause: Cause, now: float, out: Commands) -> None:
        """`task` comes back from its engine, and may run again: at the front of the queue."""
        if task.cancelled:
            self._end(task, Cause.CANCEL, words.cancelled(task), out)
            return
        self._unseat(task)
        task.engine = None
        self._queue_again(task, now)
        self._make_ready(task, cause, now, out, front=True)

    def _queue_again(self, task: Task, now: float) -> None:
        """A stretch in the queue begins."""
        task.since_s = now
        if task.options.timeout_s is not None:
            self.timers.arm(task.id, Timer.QUEUE_TIMEOUT, now + task.options.timeout_s)

    def _end(
        self,
        task: Task,
        cause: Cause,
        problem: Problem | None,
        out: Commands,
        payload: Payload | None = None,
    ) -> None:
        """End `task`: tell its client, let go of what it needed. Its dependents hear of it in
        `_propagate`."""
        state = task.state
        if state is ASSIGNED or state is RUNNING:
            self._unseat(task)
        elif task.lane is not None:
            task.lane.leave(task)
        self._move(task, cause)
        task.problem = problem
        options = task.options
        if options.timeout_s is not None:
            self.timers.disarm(task.id, Timer.QUEUE_TIMEOUT)
        if options.backoff_s:
            self.timers.disarm(task.id, Timer.BACKOFF)
        if task.state is SUCCEEDED:
            task.result = payload
        if task.client in self.clients:
            out.append(Deliver(task.client, task.id, task.state, payload, task.engine, problem))
        if task.conditions is not None:
            self._let_go(task, task.conditions)
        self._drop_function_use(task, out)
        task.payload = b""
        self._ended.append(task)

    def _let_go(self, task: Task, conditions: list[Condition]) -> None:
        """`task` has ended, and needs its upstreams no more."""
        task.conditions = task.follow = task.inputs = None
        for condition in conditions:
            for engine_id in condition.where or ():
                self.engines[engine_id].followers.pop(condition, None)
            for node in condition.upstreams:
                node.holds -= 1
                if node.released and not node.holds:
                    self._forget_if_free(node)
            condition.upstreams = ()

    def _forget_if_free(self, node: Task | Group) -> None:
        """Forget `node` if it has ended, its client let go, and nothing needs it."""
        if not node.released or node.holds or not is_final(node):
            return
        if type(node) is Group:
            del self.groups[node.id]
        else:
            assert isinstance(node, Task)
            if node.dependents is not None:
                return  # its dependents have not heard of its end yet
            del self.tasks[node.id]
            self.counters.by_state[node.state] -= 1
        client = self.clients.get(node.client)
        if client is not None:
            client.nodes.discard(node.id)

    # --- what an end means to others -------------------------------------------------------------

    def _propagate(self, now: float, out: Commands) -> None:
        """Tell the dependents of all that has ended, and theirs: a loop, however long the chain."""
        ended = self._ended
        while ended:
            task = ended.popleft()
            edges, task.dependents = task.dependents, None
            if edges:
                engine = None
                if task.engine is not None and task.state is not TaskState.LOST:
                    engine = self.engines.get(task.engine)
                for edge in edges:
                    if type(edge) is Group:
                        self._member_ended(edge, task, now, out)
                    elif edge.task.state not in FINAL_STATES:  # type: ignore[union-attr]
                        assert isinstance(edge, Condition)
                        self._decide(edge, note_end(edge, task, engine), now, out)
            if task.released:
                self._forget_if_free(task)

    def _member_ended(self, group: Group, member: Task, now: float, out: Commands) -> None:
        for condition, hit in note_member_end(group, member):
            if condition.task.state not in FINAL_STATES:
                self._decide(condition, note_group(condition, group, hit), now, out)
        if group.open == 0:
            group.waiting.clear()
            if group.released:
                self._forget_if_free(group)

    def _decide(self, condition: Condition, verdict: Verdict, now: float, out: Commands) -> None:
        """Do what the verdict on a condition of an unfinished task asks for."""
        if verdict is Verdict.OPEN:
            return
        task = condition.task
        if verdict is Verdict.MET:
            task.unmet -= 1
            waits = task.unmet or self.timers.is_armed(task.id, Timer.BACKOFF)
            if task.state is WAITING and not waits:
                self._make_ready(task, Cause.DEPENDENCIES_MET, now, out)
        elif verdict is Verdict.IMPOSSIBLE:
            if task.state is WAITING:
                problem = words.dependency_lost(condition, self._node(condition.culprit))
                self._end(task, Cause.DEPENDENCY_LOST, problem, out)
        elif task.lane is not None:
            # One more engine meets its follow condition: it queues for both.
            task.lane.leave(task)
            self.lanes.push(task, self.lanes.lane_of(task), front=False)

    def _node(self, node: TaskId | None) -> Task | Group | None:
        if node is None:
            return None
        return self.tasks.get(node) or self.groups.get(node)

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
        self._drop_functions(client, sorted(client.functions), out)

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
            problem = self._connect(task, spec)
        self.tasks[task.id] = task
        if problem is not None:
            self._end(task, Cause.DEPENDENCY_LOST, problem, out)
            return
        if options.timeout_s is not None:
            self.timers.arm(task.id, Timer.QUEUE_TIMEOUT, now + options.timeout_s)
        if not task.unmet:
            self._make_ready(task, Cause.DEPENDENCIES_MET, now, out)

    def _connect(self, task: Task, spec: ev.TaskSpec) -> Problem | None:
        """Make the edges of a new task. Returns why it can't run, if it can't."""
        task.conditions = []
        problem = None
        if spec.inputs:
            problem = self._watch(task, ev.ConditionSpec(spec.inputs), "an argument")
            if problem is None or problem.kind != KIND_INVALID:
                task.inputs = [self.tasks[node] for node in spec.inputs]
        if problem is None and spec.after is not None:
            problem = self._watch(task, spec.after, "after")
        if problem is None and spec.follow is not None:
            problem = self._watch(task, spec.follow, "follow")
        return problem

    def _watch(self, task: Task, spec: ev.ConditionSpec, role: str) -> Problem | None:
        """Make one condition of `task`, with an edge from each of its upstreams."""
        nodes: list[Task | Group] = []
        for node_id in dict.fromkeys(spec.upstreams):
            node = self.tasks.get(node_id) or self.groups.get(node_id)
            if node is None or (role != "after" and type(node) is Group):
                return words.invalid_dependency(task, role, node_id, node)
            nodes.append(node)
        count = len(nodes)
        alone = nodes[0] if count == 1 else None
        need_max = alone.size if isinstance(alone, Group) else count
        if not (0 <= spec.need <= max(need_max, 1) and 1 <= spec.on <= ev.ON_DONE):
            return words.invalid_condition(task, role, spec, need_max)
        if not nodes and spec.need == ev.NEED_ALL:
            return None
        need = 1 if isinstance(alone, Group) else spec.need or count
        condition = Condition(task, need, spec.on, open=count, upstreams=nodes)
        assert task.conditions is not None
        task.conditions.append(condition)
        if role == "follow":
            task.follow = condition
            condition.where = {}
        task.unmet += 1
        verdict = Verdict.OPEN if count else Verdict.IMPOSSIBLE
        for node in nodes:
            node.holds += 1
            step = self._edge(condition, node, spec.need, count)
            if step is Verdict.MET:
                task.unmet -= 1
            elif step is Verdict.IMPOSSIBLE:
                verdict = step
        if verdict is Verdict.IMPOSSIBLE:
            return words.dependency_lost(condition, self._node(condition.culprit))
        return None

    def _edge(self, condition: Condition, node: Task | Group, need: int, count: int) -> Verdict:
        """Let `condition` hear of the end of `node`: later, or now if it has ended."""
        if isinstance(node, Group):
            hit = watch_group(node, condition, group_threshold(node, need, count))
            return Verdict.OPEN if hit is None else note_group(condition, node, hit)
        if node.state in FINAL_STATES:
            engine = None
            if node.engine is not None and node.state is not TaskState.LOST:
                engine = self.engines.get(node.engine)
            return note_end(condition, node, engine)
        if node.dependents is None:
            node.dependents = [condition]
        else:
            add_edge(node.dependents, condition)
        return Verdict.OPEN

    def _add_group(self, client: Client, spec: ev.GroupSpec) -> None:
        if not self._is_new(client, spec.id):
            return
        members = list(dict.fromkeys(spec.members))
        group = Group(spec.id, client.id, size=len(members), open=len(members))
        self.groups[group.id] = group
        client.nodes.add(group.id)
        for member_id in members:
            member = self.tasks.get(member_id)
            if member is None:
                # Unknown, forgotten, or a group: it counts as a member that failed.
                group.open -= 1
                group.failed += 1
                group.culprit = group.culprit or member_id
            elif member.state in FINAL_STATES:
                for _ in note_member_end(group, member):
                    pass  # nobody waits for a new group yet
            elif member.dependents is None:
                member.dependents = [group]
            else:
                add_edge(member.dependents, group)

    def _on_released(self, event: ev.Released, now: float, out: Commands) -> None:
        for node_id in event.nodes:
            node = self._node(node_id)
            if node is None or node.client != event.client:
                self.counters.invalid += 1
            else:
                self._release(node)

    def _release(self, node: Task | Group) -> None:
        node.released = True
        if not node.holds:
            self._forget_if_free(node)

    def _on_cancel_asked(self, event: ev.CancelAsked, now: float, out: Commands) -> None:
        for task_id in event.tasks:
            task = self.tasks.get(task_id)
            if task is None:
                self.counters.invalid += 1
            else:
                self._cancel(task, out)

    def _cancel(self, task: Task, out: Commands) -> None:
        """A task on an engine is the engine's to stop; any other ends here. One that has ended
        stays as it is."""
        if task.state is WAITING or task.state is READY:
            self._end(task, Cause.CANCEL, words.cancelled(task), out)
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
            return
        for digest, payload in event.functions.items():
            function = self.functions.get(digest)
            if function is None:
                function = self.functions[digest] = Function(digest, payload, set())
            function.declared_by.add(client.id)
            client.functions.add(digest)

    def _on_functions_dropped(self, event: ev.FunctionsDropped, now: float, out: Commands) -> None:
        client = self.clients.get(event.client)
        if client is not None:
            self._drop_functions(client, event.digests, out)

    def _drop_functions(self, client: Client, digests: Iterable[bytes], out: Commands) -> None:
        for digest in digests:
            function = self.functions.get(digest)
            if function is not None and client.id in function.declared_by:
                function.declared_by.discard(client.id)
                client.functions.discard(digest)
                self._drop_if_unused(function, out)

    def _drop_function_use(self, task: Task, out: Commands) -> None:
        function, task.function = task.function, None
        assert function is not None
        function.users -= 1
        if not function.declared_by:
            self._drop_if_unused(function, out)

    def _drop_if_unused(self, function: Function, out: Commands) -> None:
        if not function.users and not function.declared_by:
            del self.functions[function.digest]
            out.append(DropFunction(function.digest))

    # --- engines ---------------------------------------------------------------------------------

    def _on_engine_joined(self, event: ev.EngineJoined, now: float, out: Commands) -> None:
        if event.engine in self.engines:
            self.counters.duplicates += 1
            return
        engine = Engine(event.engine, dict(event.resources), event.host, event.pid)
        engine.free = dict(event.resources)
        self._stamp_first -= 1
        engine.stamp = self._stamp_first
        engine.progress_at_s = now
        engine.limit = self._limit_of(engine)
        self.engines[engine.id] = engine
        self.lanes.engine_joined(engine)
        self.recalls.engine_changed(engine)

    def _limit_of(self, engine: Engine) -> float:
        """How many tasks `engine` may have outstanding."""
        hwm = self.config.hwm
        if engine.draining:
            return 0
        if hwm != HWM_AUTO:
            return float(hwm) if hwm else float("inf")
        config = self.config
        if engine.run_mean_s is None:
            return config.hwm_auto_min
        wanted = config.prefetch_s / max(engine.run_mean_s, 1e-9)
        return float(int(min(max(wanted, config.hwm_auto_min), config.hwm_auto_max)))

    def _on_engine_left(self, event: ev.EngineLeft, now: float, out: Commands) -> None:
        engine = self.engines.pop(event.engine, None)
        if engine is None:
            self.counters.stale += 1
            return
        self._changed.pop(engine.id, None)
        self.recalls.engine_left(engine)
        stranded = self.lanes.engine_left(engine)
        for condition in list(engine.followers):
            self._lose_follow(condition, engine, out)
        for lane in stranded:
            for task in list(lane.waiting()):
                self._end(task, Cause.NO_ENGINE_LEFT, words.no_engine_left(task), out)
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
                self._end(task, Cause.DEPENDENCY_LOST, words.follow_lost(task), out)
        elif task.state is READY and not condition.is_met:
            if verdict is Verdict.IMPOSSIBLE:
                self._end(task, Cause.NO_ENGINE_LEFT, words.follow_lost(task), out)
            else:
                assert task.lane is not None
                task.lane.leave(task)
                self._move(task, Cause.FOLLOW_LOST)
        # On an engine: it may end there yet. If it comes back, _make_ready looks again.

    def _return_stranded(
        self, engine: Engine, event: ev.EngineLeft, now: float, out: Commands
    ) -> None:
        """Decide on each task of an engine that ended. See EngineLeft for who had begun."""
        tasks = list(engine.assigned.values())
        begun = len(tasks)
        if event.known:
            begun = 0
            if event.started is not None and event.started in engine.assigned:
                begun = list(engine.assigned).index(event.started) + 1
        for n in reversed(range(len(tasks))):
            task = tasks[n]
            is_culprit = not event.known or (event.busy and n == begun - 1)
            charged = is_culprit and not event.end.wanted
            if charged and event.end.overran:
                self._end(task, Cause.DEADLINE, words.overran(task, event.end.text), out)
                continue
            if charged:
                task.crashes = [*(task.crashes or ()), words.crash(engine, event.end)]
                self.counters.crashed += 1
            cause = after_engine_end(task, begun=n < begun, charged=charged)
            if cause is Cause.ENGINE_LOST:
                self._return(task, cause, now, out)
            elif cause is Cause.CANCEL:
                self._end(task, cause, words.cancelled(task), out)
            else:
                self._end(task, cause, words.lost(task, engine, event.end), out)

    def _on_engine_draining(self, event: ev.EngineDraining, now: float, out: Commands) -> None:
        engine = self.engines.get(event.engine)
        if engine is None:
            self.counters.stale += 1
            return
        engine.draining = True
        engine.limit = 0
        self._changed[engine.id] = engine
        self.recalls.recall_all(engine, out)

    def _on_gave_back(self, event: ev.GaveBack, now: float, out: Commands) -> None:
        engine = self.engines.get(event.engine)
        if engine is None:
            self.counters.stale += len(event.tasks)
            return
        engine.recalling = False
        engine.progress_at_s = now
        self._changed[engine.id] = engine
        for task_id in reversed(event.tasks):
            task = engine.assigned.get(task_id)
            if task is None:
                self.counters.stale += 1
            else:
                self.counters.recalled += 1
                self._return(task, Cause.RETURNED, now, out)

    def _on_started(self, event: ev.Started, now: float, out: Commands) -> None:
        engine = self.engines.get(event.engine)
        task = engine.assigned.get(event.task) if engine is not None else None
        if task is None:
            self.counters.stale += 1
        elif task.state is ASSIGNED:
            self._move(task, Cause.STARTED)
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
        for outcome in event.outcomes:
            task = assigned.get(outcome.task)
            if task is None or task.attempt != outcome.attempt or outcome.status not in outcomes:
                self.counters.stale += 1
                continue
            run_s += outcome.run_s
            outcomes[outcome.status](task, outcome, now, out)
        count = len(event.outcomes)
        engine.done += count
        engine.progress_at_s = now
        if count and not engine.draining:
            # The mean leans on the recent: eight outcomes are worth as much as all before.
            mean = run_s / count
            old = engine.run_mean_s
            engine.run_mean_s = mean if old is None else old + (mean - old) * count / (count + 8)
            engine.limit = self._limit_of(engine)
        self._changed[engine.id] = engine

    def _on_ran(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        assert isinstance(outcome.payload, bytes)
        self._end(task, Cause.RAN, None, out, outcome.payload)

    def _on_raised(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        assert isinstance(outcome.payload, bytes)
        cause = after_raise(task, outcome.error)
        task.failures += 1
        if cause is Cause.RAISED:
            problem = Problem(KIND_RAISED, words.raised(task, outcome.error))
            self._end(task, cause, problem, out, outcome.payload)
            return
        self.counters.retried += 1
        if cause is Cause.RETRY:
            self._return(task, cause, now, out)
            return
        self._unseat(task)
        task.engine = None
        self._queue_again(task, now)
        self._move(task, cause)
        self.timers.arm(task.id, Timer.BACKOFF, now + backoff_s(task.options, task.failures))

    def _on_refused(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        assert task.engine is not None
        task.excluded = (task.excluded or frozenset()) | {task.engine}
        self.counters.refused += 1
        self._return(task, Cause.RETURNED, now, out)

    def _on_stopped(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        self._return(task, Cause.RETURNED, now, out)

    def _on_overran(self, task: Task, outcome: ev.Outcome, now: float, out: Commands) -> None:
        self._end(task, Cause.DEADLINE, words.overran(task, "interrupted"), out)

    # --- indexes ---------------------------------------------------------------------------------

    def _tell_lanes(self) -> None:
        """Let the lanes know of the engines whose load changed, once for each."""
        if self._changed:
            for engine in self._changed.values():
                self.lanes.engine_changed(engine)
                self.recalls.engine_changed(engine)
            self._changed.clear()
