"""What a client may write for `after` and `follow`: how many of some tasks, and how they end.

ipyparallel's own Dependency says all or any, and of what; headway's scheduler also counts. What
this file must not know: views, clients, sockets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import ipyparallel as ipp

_ON = {"success": (True, False), "failure": (False, True), "done": (True, True)}


class Dependency(ipp.Dependency):  # type: ignore[misc]  # ipyparallel has no type hints
    """A condition on tasks: how many of them must have ended, and how.

    A set of msg_ids, as ipyparallel's, for `after` and `follow`.

    Parameters:
        dependencies: a msg_id, an AsyncResult, a list or set of those, or a dict as `as_dict`
            (this class's, or ipyparallel's) makes it; then `need` and `on` are those of the dict.
        need: "all", "any", or how many of them, from 1.
        on: "success", "failure", or "done", which is either.

    Raises:
        TypeError, ValueError: an argument is not of these; it says which.
    """

    _count: int | None = None

    def __init__(
        self,
        dependencies: Any = (),
        need: Literal["all", "any"] | int = "all",
        on: Literal["success", "failure", "done"] = "success",
    ) -> None:
        if isinstance(dependencies, dict):
            ids, need, success, failure = _of_dict(dependencies)
        elif isinstance(on, str) and on in _ON:
            ids, (success, failure) = dependencies, _ON[on]
        else:
            raise ValueError(f"on={on!r} is none of 'success', 'failure', 'done'")
        if need not in ("all", "any") and (isinstance(need, bool) or not isinstance(need, int)):
            raise TypeError(f"need={need!r} is none of 'all', 'any', or a number of tasks")
        super().__init__(ids_of(ids), all=need != "any", success=success, failure=failure)
        if isinstance(need, int):
            self._count = need
            self._checked_count()

    @property
    def need(self) -> Literal["all", "any"] | int:
        """How many of the tasks: "all", "any" or a number."""
        if self._count is not None:
            return self._count
        return "all" if self.all else "any"

    @property
    def on(self) -> Literal["success", "failure", "done"]:
        """How they must have ended: "success", "failure" or "done"."""
        if self.success:
            return "done" if self.failure else "success"
        return "failure"

    def __repr__(self) -> str:
        return f"Dependency({sorted(self)!r}, need={self.need!r}, on={self.on!r})"

    def _checked_count(self) -> int:
        """How many of the tasks, as a number."""
        if self._count is None:
            return len(self) if self.all else 1
        if not 1 <= self._count <= len(self):
            tasks = "task" if len(self) == 1 else "tasks"
            raise ValueError(f"need={self._count} of {len(self)} {tasks}")
        return self._count

    def check(self, completed: Any, failed: Any = None) -> bool:
        """Whether the condition is met, when the tasks in `completed` have succeeded and those in
        `failed` have failed."""
        if not self:
            return True
        hits = self._among(completed) * self.success + self._among(failed) * self.failure
        return bool(hits >= self._checked_count())

    def unreachable(self, completed: Any, failed: Any = None) -> bool:
        """Whether the condition can't be met any more."""
        if not self:
            return False
        hits = self._among(completed) * self.success + self._among(failed) * self.failure
        ended = self._among(completed) + self._among(failed)
        return bool(ended - hits > len(self) - self._checked_count())

    def _among(self, ended: Any) -> int:
        return sum(msg_id in ended for msg_id in self) if ended else 0

    def as_dict(self) -> dict[str, Any]:
        """What travels in a request: ipyparallel's keys, and `need` where they can't say it.

        Such a request has all=True: a scheduler that does not know `need` then waits for more
        tasks than it must, and not for fewer.
        """
        count = self._checked_count()
        as_dict: dict[str, Any] = {
            "dependencies": list(self),
            "all": self.all if self._count is None else count > 1 or len(self) == 1,
            "success": self.success,
            "failure": self.failure,
        }
        if self._count is not None and 1 < count < len(self):
            as_dict["need"] = count
        return as_dict


def _of_dict(value: dict[Any, Any]) -> tuple[Any, Any, bool, bool]:
    """The ids, need, success and failure in what `as_dict` made."""
    unknown = value.keys() - {"dependencies", "all", "success", "failure", "need"}
    if unknown:
        raise ValueError(f"a dependency has no keys {sorted(map(str, unknown))}: {value!r}")
    ids = value.get("dependencies", ())
    need = value.get("need")
    if need is None:
        need = "all" if value.get("all", True) else "any"
    success, failure = bool(value.get("success", True)), bool(value.get("failure", False))
    if not (success or failure):
        raise ValueError(f"neither success nor failure would meet the dependency {value!r}")
    return ids, need, success, failure


def ids_of(tasks: Any) -> list[str]:
    """The msg_ids that `tasks` names."""
    if isinstance(tasks, str | ipp.AsyncResult):
        tasks = [tasks]
    elif not isinstance(tasks, Iterable):
        raise TypeError(f"{tasks!r} names no tasks: give msg_ids or AsyncResults")
    ids: list[str] = []
    for task in tasks:
        if isinstance(task, str):
            ids.append(task)
        elif isinstance(task, ipp.AsyncResult):
            ids.extend(task.msg_ids)
        else:
            raise TypeError(f"{task!r} names no task: give a msg_id or an AsyncResult")
    return ids
