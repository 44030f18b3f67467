"""The edges of new nodes: what a task waits for, and what a group gathers.

Called once for each node, as it is submitted. Each edge costs O(1): it is a counter in the
condition, and one entry in the upstream's list of dependents, or nothing there if the upstream
has ended. A node may name only nodes that are known by then, so that no cycle can be made.

What this file must not know: states beyond "has ended", and what follows from a condition that
is met. It changes no state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from headway.core import words
from headway.core.events import (
    ON_DONE,
    ConditionSpec,
    EngineId,
    GroupSpec,
    TaskId,
    TaskSpec,
)
from headway.core.graph import (
    Verdict,
    add_edge,
    group_threshold,
    note_end,
    note_group,
    note_member_end,
    watch_group,
)
from headway.core.problems import KIND_INVALID, Problem
from headway.core.records import Client, Condition, Engine, Group, Task
from headway.core.states import FINAL_STATES, TaskState

Engines = Mapping[EngineId, Engine]


def ended_on(task: Task, engines: Engines) -> Engine | None:
    """The engine on which a final task ended, if it ended on one that is still here."""
    if task.engine is None or task.state is TaskState.LOST:
        return None
    return engines.get(task.engine)


def _spans(ids: list[TaskId]) -> list[tuple[TaskId, int]]:
    """`ids` as runs of numbers that follow one another."""
    spans: list[tuple[TaskId, int]] = []
    first = count = 0
    for number in ids:
        if count and number == first + count:
            count += 1
            continue
        if count:
            spans.append((TaskId(first), count))
        first, count = number, 1
    if count:
        spans.append((TaskId(first), count))
    return spans


def _is_unfit(node: Task | Group, role: str) -> bool:
    """Whether `node` has no single place to follow it to, or no value to be an argument."""
    if isinstance(node, Group):
        return True
    # Remembered: see the event of that name.
    return role == "an argument" and node.state is TaskState.SUCCEEDED and node.result is None


def _as_upstreams(nodes: list[Task | Group]) -> Sequence[Task | Group]:
    """`nodes` as a tuple: that of the last condition that waits for the first of them, if it has
    the same, as the tasks of a map have that share their inputs."""
    upstreams = tuple(nodes)
    first = nodes[0]
    if type(first) is Task and first.dependents:
        last = first.dependents[-1]
        if type(last) is Condition and last.upstreams == upstreams:
            return last.upstreams
    return upstreams


class Edges:
    """Makes edges between the nodes of a scheduler."""

    def __init__(
        self, tasks: dict[TaskId, Task], groups: dict[TaskId, Group], engines: Engines
    ) -> None:
        self._tasks = tasks
        self._groups = groups
        self._engines = engines

    def find(self, node: TaskId | None) -> Task | Group | None:
        """The task or group of that id, if it is known."""
        if node is None:
            return None
        return self._tasks.get(node) or self._groups.get(node)

    def connect(self, task: Task, spec: TaskSpec) -> Problem | None:
        """Make the edges of a new task. Returns why it can never run, if it can't."""
        made: list[Condition] = []
        problem = None
        if spec.inputs:
            problem = self._watch(task, ConditionSpec(spec.inputs), "an argument", made)
            if problem is None or problem.kind != KIND_INVALID:
                task.inputs = self._inputs(spec.inputs, made)
        if problem is None and spec.after is not None:
            problem = self._watch(task, spec.after, "after", made)
        if problem is None and spec.follow is not None:
            problem = self._watch(task, spec.follow, "follow", made)
        task.conditions = tuple(made)
        return problem

    def _inputs(self, ids: list[TaskId], made: list[Condition]) -> Sequence[Task]:
        """The tasks of these ids: the tuple that is there already, unless one is named twice."""
        upstreams = made[0].upstreams if made else ()
        if len(upstreams) == len(ids):
            return cast("Sequence[Task]", upstreams)  # a group is no input
        return tuple([self._tasks[node] for node in ids])

    def gather(self, client: Client, spec: GroupSpec) -> Group:
        """A new group of the members that `spec` names."""
        members = list(dict.fromkeys(spec.members))
        group = Group(spec.id, client.id, size=len(members), open=len(members))
        group.spans = _spans(members)
        for member_id in members:
            member = self._tasks.get(member_id)
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
        return group

    def _watch(
        self, task: Task, spec: ConditionSpec, role: str, made: list[Condition]
    ) -> Problem | None:
        """Make one condition of `task`, with an edge from each of its upstreams; it is `made`."""
        nodes: list[Task | Group] = []
        for node_id in dict.fromkeys(spec.upstreams):
            node = self.find(node_id)
            if node is None or (role != "after" and _is_unfit(node, role)):
                return words.invalid_dependency(task, role, node_id, node)
            nodes.append(node)
        count = len(nodes)
        alone = nodes[0] if count == 1 else None
        need_max = alone.size if isinstance(alone, Group) else count
        if not (0 <= spec.need <= max(need_max, 1) and 1 <= spec.on <= ON_DONE):
            return words.invalid_condition(task, role, spec, need_max)
        if not nodes:
            return None  # met, "any of none" too
        need = 1 if isinstance(alone, Group) else spec.need or count
        condition = Condition(task, need, spec.on, open=count, upstreams=_as_upstreams(nodes))
        made.append(condition)
        if role == "follow":
            task.follow = condition
            condition.where = {}
        task.unmet += 1
        verdict = Verdict.OPEN
        for node in nodes:
            node.holds += 1
            step = self._edge(condition, node, spec.need, count)
            if step is Verdict.MET:
                task.unmet -= 1
            elif step is Verdict.IMPOSSIBLE:
                verdict = step
        if verdict is Verdict.IMPOSSIBLE:
            return words.dependency_lost(condition, self.find(condition.culprit))
        return None

    def _edge(self, condition: Condition, node: Task | Group, need: int, count: int) -> Verdict:
        """Let `condition` hear of the end of `node`: later, or now if it has ended."""
        if isinstance(node, Group):
            hit = watch_group(node, condition, group_threshold(node, need, count))
            return Verdict.OPEN if hit is None else note_group(condition, node, hit)
        if node.state in FINAL_STATES:
            return note_end(condition, node, ended_on(node, self._engines))
        if node.dependents is None:
            node.dependents = [condition]
        else:
            add_edge(node.dependents, condition)
        return Verdict.OPEN
