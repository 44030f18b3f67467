"""The graph of the tasks that are known: by label, and the path through it that takes longest.

Rule 1: pure, as the model is whose tasks it is given.
Rule 2: O(tasks + edges). A task names only what was submitted before it, so that the order of ids
is one in which every task comes after all that it needs; no search is needed.

What this file must not know: where tasks come from, and how a graph is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from headway.core.events import TaskId, format_task_id
from headway.core.states import TaskState
from headway.core.watched import TaskRow
from headway.traces.longest import chains

#: Edges and labels that the graph shows; tasks of the longest path, and that failed, by name.
EDGES_MAX = 500
LABELS_MAX = 200
PATH_MAX = 100
FAILED_MAX = 50

#: What is drawn as failed: what ended otherwise than it was to, by itself or for another's sake.
FAILED_STATES = (TaskState.FAILED, TaskState.LOST, TaskState.TIMED_OUT)

STATE_NAMES = [state.name.lower() for state in TaskState]
_NO_LABEL = "(no label)"

Row = dict[str, Any]


def label_of(row: TaskRow) -> str:
    """What `row` is called among others like it."""
    return row.label or row.function or _NO_LABEL


@dataclass(slots=True)
class _Label:
    """All tasks of one label."""

    states: list[int] = field(default_factory=lambda: [0] * len(TaskState))
    run_s: float = 0.0
    runs: int = 0
    critical: int = 0


class Graph:
    """The graph of `tasks`.

    Parameters:
        took_s: how long each task ran, as far as that was seen.
        now_s: the moment at which they were so, by the scheduler's clock.
    """

    def __init__(
        self, tasks: Mapping[TaskId, TaskRow], took_s: Mapping[TaskId, float], now_s: float
    ) -> None:
        self._tasks = tasks
        self._took_s = took_s
        self._now_s = now_s
        self._members: dict[TaskId, list[TaskId]] = {}
        self._labels: dict[str, _Label] = {}
        for row in tasks.values():
            known = self._labels.setdefault(label_of(row), _Label())
            known.states[row.state] += 1
            if (took := took_s.get(row.id)) is not None:
                known.run_s += took
                known.runs += 1
            for group in row.groups:
                self._members.setdefault(group, []).append(row.id)

    def longest_path(self) -> list[tuple[TaskId, float]]:
        """The tasks of the path that takes longest, in order, each with the seconds that it took,
        or has taken, or is expected to take by the mean of its label."""
        # A group comes after its members, as a node that costs nothing.
        tasks, members = self._tasks, self._members
        found = chains(
            sorted({*tasks, *members}),
            lambda node: tasks[node].upstreams if node in tasks else members[node],
            lambda node: self._expected_s(tasks[node]) if node in tasks else 0.0,
        )
        path = [node for node in found.longest() if node in tasks]
        return [(task, self._expected_s(tasks[task])) for task in path]

    def _expected_s(self, row: TaskRow) -> float:
        took = self._took_s.get(row.id)
        if took is not None:
            return took
        if row.state in (TaskState.IMPOSSIBLE, TaskState.CANCELLED):
            return 0.0
        known = self._labels[label_of(row)]
        mean_s = known.run_s / known.runs if known.runs else 0.0
        if row.state is TaskState.RUNNING:
            return max(mean_s, self._now_s - row.since_s)
        return mean_s

    def shown(self) -> Row:
        """The graph by label, as plain data: how many tasks of each are in which state, how many
        edges lead from one label to another, which of both the longest path uses, and what
        failed."""
        path = self.longest_path()
        for task, _ in path:
            self._labels[label_of(self._tasks[task])].critical += 1
        steps = [label_of(self._tasks[task]) for task, _ in path]
        on_path = set(pairwise(steps))
        edges = self._edges()
        size = {label: sum(known.states) for label, known in self._labels.items()}
        # What is on the path is shown, however few there are of it.
        order = sorted(size, key=lambda x: (not self._labels[x].critical, -size[x], x))
        kept = set(order[:LABELS_MAX])
        listed = sorted(
            (edge for edge in edges if edge[0] in kept and edge[1] in kept and edge[0] != edge[1]),
            key=lambda edge: (edge not in on_path, edge),
        )
        failed = [row for row in self._tasks.values() if row.state in FAILED_STATES]
        return {
            "nodes": [self._node(label) for label in sorted(kept)],
            "edges": [[*edge, edges[edge], edge in on_path] for edge in listed[:EDGES_MAX]],
            "nodes_more": len(order) - len(kept),
            "edges_more": max(0, len(listed) - EDGES_MAX),
            "path": [self._step(task, took) for task, took in path[-PATH_MAX:]],
            "path_more": max(0, len(path) - PATH_MAX),
            "path_s": round(sum(took for _, took in path), 4),
            "failed": [self._step(row.id, 0.0) for row in reversed(failed[-FAILED_MAX:])],
            "failed_more": max(0, len(failed) - FAILED_MAX),
        }

    def _edges(self) -> dict[tuple[str, str], int]:
        counts: dict[tuple[str, str], int] = {}
        by_label = {group: self._count_labels(members) for group, members in self._members.items()}
        for row in self._tasks.values():
            target = label_of(row)
            for upstream in row.upstreams:
                above = self._tasks.get(upstream)
                sources = {label_of(above): 1} if above else by_label.get(upstream, {})
                for source, count in sources.items():
                    counts[source, target] = counts.get((source, target), 0) + count
        return counts

    def _count_labels(self, members: list[TaskId]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for member in members:
            label = label_of(self._tasks[member])
            counts[label] = counts.get(label, 0) + 1
        return counts

    def _node(self, label: str) -> Row:
        known = self._labels[label]
        return {
            "label": label,
            "states": dict(zip(STATE_NAMES, known.states, strict=True)),
            "mean_s": round(known.run_s / known.runs, 5) if known.runs else None,
            "critical": known.critical,
        }

    def _step(self, task: TaskId, took_s: float) -> Row:
        row = self._tasks[task]
        return {
            "id": format_task_id(task),
            "label": label_of(row),
            "state": STATE_NAMES[row.state],
            "took_s": round(took_s, 5),
        }
