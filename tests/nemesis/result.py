"""What came of one round of whatever kind, and of many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Result:
    """What was done in a round, and what came of it."""

    kind: str
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    #: Tasks that were asked for, and how those ended that somebody was told of.
    tasks: int = 0
    states: Counter[str] = field(default_factory=Counter)
    #: How often a task began on an engine.
    runs: int = 0
    violations: list[str] = field(default_factory=list)
    wall_s: float = 0.0
    #: Why nothing was done, or what else is worth a word.
    note: str = ""

    @property
    def is_skipped(self) -> bool:
        """Whether this can't be done here; the note says why."""
        return self.note.startswith("skipped")

    def line(self) -> str:
        """The round in one line."""
        if self.is_skipped:
            return f"{self.kind:9} seed {self.seed:<6} {self.note}"
        verdict = f"{len(self.violations)} VIOLATIONS" if self.violations else "ok"
        parts = [
            f"{self.kind:9} seed {self.seed:<6} {self.wall_s:5.1f} s",
            f"{sum(self.faults.values()):,} faults",
            f"{self.tasks:,} tasks" if self.tasks else "",
            listed(self.states),
            f"{self.runs:,} runs" if self.runs else "",
            self.note,
            verdict,
        ]
        return "; ".join(part for part in parts if part)


def listed(counts: Counter[str]) -> str:
    """Counts in words, the greatest first."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


def summary(results: list[Result]) -> str:
    """All rounds together."""
    total = Result("all", 0)
    for result in results:
        total.faults += result.faults
        total.states += result.states
        total.tasks += result.tasks
        total.runs += result.runs
        total.violations += result.violations
        total.wall_s += result.wall_s
    rounds = Counter(result.kind for result in results)
    skipped = sorted({f"{r.kind} {r.note}" for r in results if r.is_skipped})
    lines = [
        f"rounds      {len(results)} in {total.wall_s:.0f} s: {listed(rounds)}",
        *[f"not done    {skip}" for skip in skipped],
        f"faults      {sum(total.faults.values()):,}: {listed(total.faults)}",
        f"tasks       {total.tasks:,}, of which were told: {listed(total.states)}",
        f"runs        {total.runs:,}",
        f"violations  {len(total.violations)}",
    ]
    return "\n".join(lines)
