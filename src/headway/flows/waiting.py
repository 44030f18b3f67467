"""Which tasks of a plan wait for others, and which could run by now, from how the others end.

Each end costs as much as there are conditions that name its task or its array, and each condition
that is met, as much as tasks have it: tasks of an array share theirs, so that "after all 10,000 of
an array" is counted once for all who wait for it.

What this file must not know: clusters, engines, and how anything is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from headway.flows.plan import Condition, Plan, PlanTask


@dataclass(slots=True)
class _Wish:
    """A condition, and who waits for it."""

    on: str
    #: How many more ends it takes.
    need: int
    tasks: list[str] = field(default_factory=list)


class Waiting:
    """The tasks of a plan that wait: until `note` has told what they wait for."""

    def __init__(self, plan: Plan) -> None:
        #: By task: how many of its conditions are not met.
        self._unmet: dict[str, int] = {}
        #: By name, of a task or an array: the conditions that name it.
        self._wishes: dict[str, list[_Wish]] = {}
        self._array_of = {
            each: name for name, ids in plan.members.items() for each in ids if each != name
        }
        made: dict[Condition, _Wish] = {}
        for task in plan.tasks:
            for condition in _conditions_of(task):
                wish = made.get(condition)
                if wish is None:
                    wish = made[condition] = _Wish(condition.on, _need_of(condition, plan))
                    for name in condition.names:
                        self._wishes.setdefault(name, []).append(wish)
                wish.tasks.append(task.id)
                self._unmet[task.id] = self._unmet.get(task.id, 0) + 1

    def is_waiting(self, task: str) -> bool:
        """Whether it waits for another."""
        return task in self._unmet

    def note(self, task: str, *, succeeded: bool) -> list[str]:
        """A task has ended. Returns those that wait for nothing any more."""
        self._unmet.pop(task, None)  # it ended without: it was cancelled, or is impossible
        free: list[str] = []
        names = [task, *([self._array_of[task]] if task in self._array_of else [])]
        for wish in (wish for name in names for wish in self._wishes.get(name, ())):
            if wish.on == "done" or (wish.on == "success") == succeeded:
                wish.need -= 1
                if wish.need == 0:
                    free += [each for each in wish.tasks if self._is_free(each)]
        return free

    def _is_free(self, task: str) -> bool:
        """One of its conditions is met: whether it was the last."""
        left = self._unmet.get(task)
        if left is None:  # it has ended
            return False
        if left > 1:
            self._unmet[task] = left - 1
            return False
        del self._unmet[task]
        return True


def _conditions_of(task: PlanTask) -> list[Condition]:
    """What it waits for; values, and the place of others, come with their success."""
    found = [task.after] if task.after is not None else []
    if names := tuple(dict.fromkeys([*task.follow, *task.values])):
        found.append(Condition(names))
    return found


def _need_of(condition: Condition, plan: Plan) -> int:
    if isinstance(condition.need, int):
        return condition.need
    if condition.need == "any":
        return 1
    return sum(len(plan.ids(name)) for name in condition.names)
