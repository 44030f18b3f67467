"""What is left of a condition once some tasks have ended: for a run that goes on after another.

What this file must not know: how a task ends, and who runs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headway.flows.plan import Condition, Plan

#: How tasks of an earlier run count: it succeeded; it can't run, since what it wants can't be.
SUCCEEDED, NEVER = "succeeded", "never"


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a condition: nothing (`is_met`), more than can be (`is_impossible`), or
    `need` of the tasks in `ids`."""

    is_met: bool = False
    is_impossible: bool = False
    need: str | int = "all"
    names: tuple[str, ...] = ()


class Outlook:
    """How the tasks of a plan stand: each open, until `note` says otherwise."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ended: dict[str, str] = {}
        #: By name of an array that is whole again: nothing of it has ended.
        self._counts: dict[str, tuple[int, int, tuple[str, ...]]] = {}

    def note(self, task: str, how: str) -> None:
        """A task has ended: SUCCEEDED or NEVER. Before those are asked about who depend on it."""
        self._ended[task] = how

    def has_never(self, names: Iterable[str]) -> bool:
        """Whether a task of these names will never run."""
        return any(self._count(name)[1] for name in names)

    def left_of(self, condition: Condition | None) -> Left:
        """What is left of `condition`."""
        if condition is None:
            return Left(is_met=True)
        hits = open_ = wanted = 0
        names: list[str] = []
        for name in condition.names:
            succeeded, never, still = self._count(name)
            wanted += succeeded + never + len(still)
            hits += succeeded if condition.on != "failure" else 0
            hits += never if condition.on != "success" else 0
            open_ += len(still)
            names += [name] if len(still) == len(self._plan.ids(name)) else still
        need = {"all": wanted, "any": 1}.get(str(condition.need), condition.need)
        assert isinstance(need, int)
        if hits >= need:
            return Left(is_met=True)
        if hits + open_ < need:
            return Left(is_impossible=True)
        rest = need - hits
        return Left(need="all" if rest == open_ else rest, names=tuple(names))

    def _count(self, name: str) -> tuple[int, int, tuple[str, ...]]:
        """How many of the tasks of `name` succeeded, how many never run, and which are open. Asked
        once of each array: what depends on it is asked about after all of it."""
        found = self._counts.get(name)
        if found is None:
            ends = [(task, self._ended.get(task)) for task in self._plan.ids(name)]
            found = (
                sum(how == SUCCEEDED for _, how in ends),
                sum(how == NEVER for _, how in ends),
                tuple(task for task, how in ends if how is None),
            )
            self._counts[name] = found
        return found
