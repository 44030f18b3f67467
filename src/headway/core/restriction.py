"""Where a task may run, and when, as far as the task itself says: what two tasks share with a lane.

What this file must not know: lanes, and which engines there are.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from headway.core.events import EngineId
from headway.core.graph import followable
from headway.core.lifetimes import bound_of
from headway.core.records import Engine, Task

#: What is free of a resource is a sum of floats: by this part of a task's need it may be short.
ROUNDING = 1e-9
#: Nested tasks have a lane for each depth; those that are deeper still share the last.
_DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Restriction:
    """Where a task may run: what makes two tasks share a lane.

    `allowed` is None for every engine. `waits` says that the task waits for such an engine to
    join, where otherwise it would be impossible. `tags` say when it may run, not where; but tasks
    that wait for the same permits wait together.
    `run_s` is the longest that a run may take, rounded up; None for no bound. `depth` is how deep
    tasks that tasks have submitted are nested, 0 for those of clients: the deepest go first, since
    somebody waits for them who has an engine.
    """

    allowed: frozenset[EngineId] | None = None
    excluded: frozenset[EngineId] | None = None
    needs: tuple[tuple[str, float], ...] = ()
    waits: bool = False
    tags: tuple[str, ...] = ()
    run_s: float | None = None
    depth: int = 0

    @classmethod
    def of(cls, task: Task) -> Restriction:
        """The restriction of `task` as it stands."""
        options = task.options
        allowed = None if options.targets is None else frozenset(options.targets)
        if task.follow is not None:
            met = frozenset(followable(task.follow))
            allowed = met if allowed is None else allowed & met
        needs = tuple(sorted(options.resources.items())) if options.resources else ()
        # No engine that joins meets a follow condition: where its upstreams ended is settled.
        waits = options.wait_for_engines and task.follow is None
        tags = tuple(sorted(set(options.tags))) if options.tags else ()
        run_s = bound_of(options.run_timeout_s)
        depth = 0 if task.nest is None else min(task.nest.depth, _DEPTH_MAX)
        return cls(allowed, task.excluded, needs, waits, tags, run_s, depth)

    @property
    def is_plain(self) -> bool:
        """Whether an engine that it admits and that has a seat has room in any case."""
        return not self.needs and self.run_s is None

    @property
    def is_open(self) -> bool:
        """Whether any engine will do, as long as it stays for long enough."""
        return self.allowed is None and self.excluded is None and not self.needs

    @property
    def is_narrow(self) -> bool:
        """Whether engines were ruled out one by one: then having none left is the end. For a task
        that waits, if none that could join is left either."""
        if self.waits:
            return self.allowed is not None and self.allowed <= (self.excluded or frozenset())
        return self.allowed is not None or self.excluded is not None

    def leaves_any(self, engines: AbstractSet[EngineId]) -> bool:
        """Whether one of `engines`, of which no more is known yet, was not ruled out."""
        allowed = engines if self.allowed is None else engines & self.allowed
        return bool(allowed if self.excluded is None else allowed - self.excluded)

    def admits(self, engine: Engine) -> bool:
        """Whether such a task may run on `engine`, if not now."""
        if self.allowed is not None and engine.id not in self.allowed:
            return False
        if self.excluded is not None and engine.id in self.excluded:
            return False
        if engine.stands_in and not self.depth:
            return False
        return all(engine.resources.get(name, 0.0) >= amount for name, amount in self.needs)

    def fits(self, engine: Engine) -> bool:
        """Whether `engine`, which it admits, has the resources free now."""
        free = engine.free
        return all(free.get(name, 0.0) >= amount * (1 - ROUNDING) for name, amount in self.needs)
