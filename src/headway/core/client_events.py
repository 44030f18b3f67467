"""What clients ask for: nodes submitted, released, cancelled, abandoned; functions; limits.

Each handler takes one event of events.py and makes the steps of life.py that it asks for. What a
peer may not say is counted (`invalid`, `duplicates`), and changes nothing.

What this file must not know: engines' events, and where tasks are placed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headway.core import events as ev
from headway.core import words
from headway.core.commands import Recall
from headway.core.downstream import find_downstream
from headway.core.events import DEFAULT_OPTIONS, TaskId, TaskOptions
from headway.core.graph import is_final
from headway.core.inheritance import Inheritance
from headway.core.life import Commands, Life
from headway.core.problems import KIND_TIMEOUT, Problem
from headway.core.records import Client, Function, Group, Task
from headway.core.states import ON_ENGINE_STATES, Cause, TaskState
from headway.core.timers import Timer

WAITING, READY, ASSIGNED = TaskState.WAITING, TaskState.READY, TaskState.ASSIGNED


class ClientEvents:
    """The handlers of what clients ask for."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._inheritance = Inheritance()
        self.handlers: dict[type, Callable[[Any, float, Commands], None]] = {
            ev.ClientJoined: self._on_client_joined,
            ev.ClientLeft: self._on_client_left,
            ev.KeepAsked: self._on_keep_asked,
            ev.Submitted: self._on_submitted,
            ev.Released: self._on_released,
            ev.Remembered: self._on_remembered,
            ev.Abandoned: self._on_abandoned,
            ev.CancelAsked: self._on_cancel_asked,
            ev.FunctionsDeclared: self._on_functions_declared,
            ev.FunctionsDropped: self._on_functions_dropped,
            ev.LimitSet: self._on_limit_set,
        }

    def _on_client_joined(self, event: ev.ClientJoined, now: float, out: Commands) -> None:
        self._life.clients.setdefault(event.client, Client(event.client))

    def _on_client_left(self, event: ev.ClientLeft, now: float, out: Commands) -> None:
        client = self._life.clients.pop(event.client, None)
        if client is None:
            self._life.counters.invalid += 1
            return
        for node_id in sorted(client.nodes):
            node = self._life.edges.find(node_id)
            assert node is not None
            if client.keeps:
                if is_final(node):
                    self._life.newly_kept.append(node_id)
                continue
            self._life.release(node, out)
            if isinstance(node, Task) and not (event.keeps_nested and node.nest is not None):
                self._cancel(node, out)
        self._life.functions.drop(client, sorted(client.functions), out)

    def _on_keep_asked(self, event: ev.KeepAsked, now: float, out: Commands) -> None:
        client = self._life.clients.get(event.client)
        if client is None:
            self._life.counters.invalid += 1
        else:
            client.keeps = True

    def _on_submitted(self, event: ev.Submitted, now: float, out: Commands) -> None:
        client = self._life.clients.get(event.client)
        functions = [self._life.functions.get(digest) for digest in event.functions]
        if client is None or not all(functions):
            # The shell checks both at the border; whoever comes past it gets nothing.
            self._life.counters.invalid += len(event.tasks) + len(event.groups)
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
            self._life.counters.invalid += 1
            return False
        if node <= client.last_node:
            self._life.counters.duplicates += 1
            return False
        client.last_node = node
        return True

    def _add_task(
        self, client: Client, spec: ev.TaskSpec, function: Function, now: float, out: Commands
    ) -> None:
        life = self._life
        assert isinstance(spec.payload, bytes)
        options = spec.options or DEFAULT_OPTIONS
        nest = None
        if spec.parent is not None:
            nest = life.families.nest_of(spec.parent)
            options = self._inheritance.of(options, life.tasks.get(spec.parent.task))
        task = Task(spec.id, client.id, function, spec.payload, options, nest=nest)
        task.since_s = now
        if spec.traceparent:
            task.traceparent = spec.traceparent
        client.nodes.add(spec.id)
        # As `count_unfinished`, without the call: once for each task.
        size = len(spec.payload)
        life.unfinished_bytes += size
        client.unfinished += 1
        client.unfinished_bytes += size
        function.users += 1
        life.counters.submitted += 1
        life.counters.by_state[WAITING] += 1
        problem = None
        if spec.inputs or spec.after is not None or spec.follow is not None:
            problem = life.edges.connect(task, spec)
        life.tasks[task.id] = task
        if problem is not None:
            life.end(task, Cause.DEPENDENCY_LOST, problem, out)
            return
        if nest is not None:
            life.families.begin(task)
        elif spec.parent is not None:
            life.end(task, Cause.CANCEL, words.orphan(task, spec.parent.task), out)
            return
        if options.timeout_s is not None:
            life.timers.arm(task.id, Timer.QUEUE_TIMEOUT, now + options.timeout_s)
        if not task.unmet:
            life.make_ready(task, Cause.DEPENDENCIES_MET, now, out)
        elif life.watchers:  # that it is READY, they would be told
            life.tell_watchers(task)

    def _add_group(self, client: Client, spec: ev.GroupSpec) -> None:
        if self._is_new(client, spec.id):
            client.nodes.add(spec.id)
            self._life.groups[spec.id] = self._life.edges.gather(client, spec)

    def _on_released(self, event: ev.Released, now: float, out: Commands) -> None:
        for node_id in event.nodes:
            node = self._life.edges.find(node_id)
            if node is None or node.client != event.client:
                self._life.counters.invalid += 1
            else:
                self._life.release(node, out)

    def _on_remembered(self, event: ev.Remembered, now: float, out: Commands) -> None:
        client = self._life.clients.get(event.client)
        if client is None:
            self._life.counters.invalid += len(event.tasks)
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
                self._life.tasks[task.id] = task
                self._life.counters.by_state[state] += 1

    def _on_abandoned(self, event: ev.Abandoned, now: float, out: Commands) -> None:
        task = self._life.tasks.get(event.task)
        is_unsent = task is not None and task.state is ASSIGNED and task.attempt == event.attempt
        if task is None or not (is_unsent or task.state in (WAITING, READY)):
            self._life.counters.stale += 1
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
        nodes = []
        for node_id in event.tasks:
            node = self._life.edges.find(node_id)
            if node is None or (isinstance(node, Group) and not event.downstream):
                self._life.counters.invalid += 1
            else:
                nodes.append(node)
        unwanted: list[tuple[Task, TaskId | None]] = [
            (node, None) for node in nodes if isinstance(node, Task)
        ]
        if event.downstream:  # found before anything ends: what ends lets go of its upstreams
            unwanted += find_downstream(nodes, self._life.tasks.values())
        for task, upstream in unwanted:
            if event.queued_only and task.state in ON_ENGINE_STATES:
                self._ask_back(task, out)
            else:
                self._cancel(task, out, upstream)

    def _ask_back(self, task: Task, out: Commands) -> None:
        """Cancel a task on an engine unless it has begun there, which the engine alone knows."""
        assert task.engine is not None
        engine = self._life.engines[task.engine]
        if task.state is ASSIGNED and not task.cancelled and task.id not in engine.unwanted:
            engine.unwanted.add(task.id)
            out.append(Recall(engine.id, [task.id]))

    def _cancel(self, task: Task, out: Commands, upstream: TaskId | None = None) -> None:
        """See Life.cancel. `upstream` is the task for whose sake it is, if another."""
        self._life.cancel(task, words.cancelled(task, upstream), out)

    def _on_functions_declared(
        self, event: ev.FunctionsDeclared, now: float, out: Commands
    ) -> None:
        client = self._life.clients.get(event.client)
        if client is None:
            self._life.counters.invalid += 1
        else:
            self._life.functions.declare(client, event.functions, event.names)

    def _on_limit_set(self, event: ev.LimitSet, now: float, out: Commands) -> None:
        limits = self._life.limits
        if not limits.knows_or_has_room(event.tag):
            self._life.counters.invalid += 1
            return
        tag = limits.tag(event.tag)
        limits.change(tag, event.limit, now)
        self._life.lanes.look_again(tag)
        limits.forget_if_idle(tag)

    def _on_functions_dropped(self, event: ev.FunctionsDropped, now: float, out: Commands) -> None:
        client = self._life.clients.get(event.client)
        if client is not None:
            self._life.functions.drop(client, event.digests, out)
