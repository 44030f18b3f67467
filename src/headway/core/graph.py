"""Dependencies as counters: an edge costs O(1) when it is made and O(1) when its upstream ends.

A `Condition` (after, follow, or the data edges of a task) counts its upstreams that are still
open and those that ended as wanted; nothing is ever rescanned, no set is ever copied. It is met
once `hits >= need`, and impossible as soon as `hits + open < need`. For `follow` the hits are
counted for each engine on which the task may run (its targets, its resources), and the fullest
engine decides.

A `Group` is many tasks as one node. Conditions on it wait for a *number* of its members' ends,
so that "after all of these 10,000" is one edge; the group finds them by that number.

The functions here change counters and say what follows from it, by a `Verdict`. They never
change a task's state (that is `Life.move`), and never call each other's callers: the
scheduler walks along the graph with a list, not with recursion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TypeVar

from headway.core.events import (
    NEED_ALL,
    ON_DONE,
    ON_FAILURE,
    ON_SUCCESS,
    EngineId,
    TaskId,
    TaskOptions,
)
from headway.core.records import Condition, Engine, Group, Task
from headway.core.states import FINAL_STATES, TaskState

SUCCEEDED = TaskState.SUCCEEDED

#: What a condition on a group may wait for.
_ONS = (ON_SUCCESS, ON_FAILURE, ON_DONE)

Edge = TypeVar("Edge", Condition, Condition | Group)


class Verdict(Enum):
    """What a condition makes of the end of one upstream."""

    OPEN = 0
    MET = 1
    #: A follow condition that was met already is met on one more engine.
    WIDER = 2
    IMPOSSIBLE = 3


OPEN, MET, WIDER, IMPOSSIBLE = Verdict.OPEN, Verdict.MET, Verdict.WIDER, Verdict.IMPOSSIBLE


def end_of(task: Task) -> int:
    """The end of a final task, as a condition's `on` counts it: ON_SUCCESS or ON_FAILURE."""
    return ON_SUCCESS if task.state is SUCCEEDED else ON_FAILURE


def is_final(node: Task | Group) -> bool:
    """Whether every end that can change `node` has happened."""
    if type(node) is Group:
        return node.open == 0
    return node.state in FINAL_STATES  # type: ignore[union-attr]


def note_end(condition: Condition, upstream: Task, engine: Engine | None) -> Verdict:
    """One upstream of `condition` ended.

    `engine` is the engine on which it ended, None where it ended on none, or on one that left.
    """
    condition.open -= 1
    hit = condition.on & end_of(upstream)
    if condition.where is None:
        return _hit(condition) if hit else _missed(condition, upstream.id)
    if not hit or engine is None:
        return _missed(condition, upstream.id)
    if not _admits(condition.task.options, engine):
        # Counted, it could let the task go to where it may not run, while another upstream may
        # yet end where it may.
        return _missed(condition, None)
    return _hit_on(condition, engine)


def _admits(options: TaskOptions, engine: Engine) -> bool:
    """Whether the engine is among the targets, and has in all what the task needs."""
    if options.targets is not None and engine.id not in options.targets:
        return False
    needs = options.resources or {}
    return all(engine.resources.get(name, 0.0) >= amount for name, amount in needs.items())


def _hit(condition: Condition) -> Verdict:
    condition.hits += 1
    if condition.is_met or condition.hits < condition.need:
        return OPEN
    condition.is_met = True
    return MET


def _hit_on(condition: Condition, engine: Engine) -> Verdict:
    where = condition.where
    assert where is not None
    condition.hits += 1
    hits = where[engine.id] = where.get(engine.id, 0) + 1
    condition.best = max(condition.best, hits)
    engine.followers[condition] = None
    if hits == condition.need:
        if condition.is_met:
            return WIDER
        condition.is_met = True
        return MET
    # A hit on another engine than the fullest takes one of the chances of all others away.
    return _missed(condition, None)


def _missed(condition: Condition, culprit: TaskId | None) -> Verdict:
    if condition.culprit is None:
        condition.culprit = culprit
    if condition.is_met or still_possible(condition):
        return OPEN
    return IMPOSSIBLE


def still_possible(condition: Condition) -> bool:
    """Whether the upstreams that are open suffice to meet `condition`."""
    hits = condition.hits if condition.where is None else condition.best
    return hits + condition.open >= condition.need


def note_engine_left(condition: Condition, engine: EngineId) -> Verdict:
    """The hits of a follow condition on an engine that left are gone."""
    where = condition.where
    assert where is not None
    condition.hits -= where.pop(engine)
    condition.best = max(where.values(), default=0)
    if condition.is_met and not followable(condition):
        condition.is_met = False
    if condition.is_met or still_possible(condition):
        return OPEN
    return IMPOSSIBLE


def followable(condition: Condition) -> list[EngineId]:
    """The engines on which a follow condition is met."""
    where = condition.where
    assert where is not None
    return [engine for engine, hits in where.items() if hits >= condition.need]


def add_edge(edges: list[Edge], edge: Edge) -> None:
    """Append `edge`; now and then, drop the edges to tasks that have ended meanwhile.

    A long-lived upstream may see many dependents come and be cancelled. A sample decides at each
    doubling whether a sweep pays, so that an edge costs O(1) whatever the pattern.
    """
    count = len(edges)
    if count >= 64 and not count & (count - 1):
        sample = edges[:: count // 16]
        if 2 * sum(_is_dead(e) for e in sample) >= len(sample):
            edges[:] = [e for e in edges if not _is_dead(e)]
    edges.append(edge)


def living_edges(edges: Iterable[Edge]) -> Iterator[Edge]:
    """`edges` without those to tasks that have ended, in the same order."""
    return (edge for edge in edges if not _is_dead(edge))


def _is_dead(edge: Condition | Group) -> bool:
    return type(edge) is Condition and not edge.upstreams


# --- groups --------------------------------------------------------------------------------------


def group_hits(group: Group, on: int) -> int:
    """How many members of `group` ended as `on` says."""
    if on == ON_DONE:
        return group.succeeded + group.failed
    return group.succeeded if on == ON_SUCCESS else group.failed


def watch_group(group: Group, condition: Condition, threshold: int) -> bool | None:
    """Make `condition` wait for `threshold` hits in `group`.

    Returns True if they are there already, False if they can't come any more, None if it waits.
    """
    hits = group_hits(group, condition.on)
    if hits >= threshold:
        return True
    if hits + group.open < threshold:
        return False
    edges = group.waiting.setdefault(condition.on, {}).setdefault(threshold, [])
    add_edge(edges, condition)
    return None


def group_threshold(group: Group, need: int, upstreams: int) -> int:
    """How many hits in `group` make it a hit of a condition with `need` of `upstreams`."""
    if need == NEED_ALL:
        return group.size
    return need if upstreams == 1 else 1


def note_member_end(group: Group, member: Task) -> Iterator[tuple[Condition, bool]]:
    """One member ended: yields the conditions that this decides, each with whether it is a hit.

    For each `on`, the count of hits grows by one or the count still possible shrinks by one;
    the conditions that wait for just that number are decided. O(1) for each, and none rescanned.
    """
    group.open -= 1
    end = end_of(member)
    if end == ON_SUCCESS:
        group.succeeded += 1
    else:
        group.failed += 1
        if group.culprit is None:
            group.culprit = member.id
    for on in _ONS:  # not in the order in which they came to be waited for: it has gaps
        by_threshold = group.waiting.get(on)
        if by_threshold is None:
            continue
        hits = group_hits(group, on)
        if on & end:
            for condition in by_threshold.pop(hits, ()):
                yield condition, True
        else:
            for condition in by_threshold.pop(hits + group.open + 1, ()):
                yield condition, False


def note_group(condition: Condition, group: Group, hit: bool) -> Verdict:
    """A group among the upstreams of `condition` turned out to be a hit, or a miss."""
    condition.open -= 1
    if hit:
        return _hit(condition)
    # Where failures were wanted, the members that failed are not to blame.
    blamed = group.culprit if condition.on & ON_SUCCESS else None
    return _missed(condition, blamed or group.id)
