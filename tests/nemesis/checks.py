"""What must be true of a story, judged by what its client reports and by what its runs noted.

Nothing here believes the scheduler: a story is drawn anew from its seed, and says what must be.

What this file must not know: faults, but for what they excuse; clusters.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.nemesis import tasks
from tests.nemesis.tasks import Task


@dataclass(frozen=True)
class Excuses:
    """What may be, given what was done to a client."""

    #: It was away for so long that it may have been given up: see docs/failures.md.
    may_be_cut_off: bool = False
    #: Only what does not make the cluster run a task again was done.
    runs_once: bool = False


class Judge:
    """Judges one client's story."""

    def __init__(
        self, name: str, story: list[Task], runs: list[tuple[str, int]], excuses: Excuses
    ) -> None:
        self._name = name
        self._story = story
        self._runs = runs
        self._excuses = excuses
        self._values = tasks.values(story)
        self._noted = Counter(runs)
        self.violations: list[str] = []

    def judge_runs(self) -> None:
        """What holds of the runs, whatever became of the client."""
        first: dict[tuple[str, int], int] = {}
        for place, noted in enumerate(self._runs):
            first.setdefault(noted, place)
        for task in self._story:
            begun = first.get(("begin", task.key))
            if begun is None:
                continue
            if task.kind == "once" and self._noted["begin", task.key] > 1:
                self._say(task, f"ran {self._noted['begin', task.key]} times, and may once")
            for key in task.inputs:
                if first.get(("end", key), begun) >= begun:
                    self._say(task, f"began before its input {key} had ended")

    def judge_report(self, report: dict[str, Any]) -> Counter[str]:
        """What the client was told; the states in which its tasks ended."""
        ends = [tuple(end) for end in report["ends"]]
        states = [state for state, _ in ends]
        was_cut_off = "cut off" in states or bool(report["refusal"])
        if was_cut_off and not self._excuses.may_be_cut_off:
            why = report["refusal"] or next(said for state, said in ends if state == "cut off")
            self.violations.append(f"{self._name} was cut off, for no reason: {why}")
        if not was_cut_off and len(ends) != len(self._story):
            self.violations.append(f"{self._name} submitted {len(ends)} of {len(self._story)}")
        for task, (state, said), told in zip(self._story, ends, report["told"], strict=False):
            if state != "open" and told != 1:
                self._say(task, f"said {told} times that it is done")
            if state == "cut off":
                continue
            allowed = self._allowed(task, states)
            if state not in allowed:
                self._say(task, f"ended as {state}, which is none of {sorted(allowed)}: {said}")
            elif state == "succeeded":
                self._judge_success(task, said)
            self._judge_cancel(task, state, report["cancelled"].get(str(task.key)))
        for task in self._story[: len(ends)]:
            self._judge_finalizer(task, states)
        return Counter(states)

    def _allowed(self, task: Task, states: list[str]) -> set[str]:
        """How it may end, given how those before it did."""
        wished = {"cancelled"} if task.cancel_after_s is not None else set()
        if any(states[key] == "cut off" for key in (*task.inputs, *task.finalizes)):
            return {*wished, "impossible", "succeeded", "failed", "lost"}
        if any(states[key] != "succeeded" for key in task.inputs):
            return {"impossible", *wished}
        if task.kind == "once":
            return {"succeeded"} if self._excuses.runs_once else {"succeeded", "lost"}
        if task.kind == "crash":
            return {"lost"}
        if task.kind == "fail":
            return {"failed"}
        if task.kind == "flaky" and task.raises > task.retries:
            # An outcome that died with its engine does not count, and the next run goes on.
            return {"failed"} if self._excuses.runs_once else {"failed", "succeeded"}
        return {"succeeded", *wished}

    def _judge_success(self, task: Task, value: int) -> None:
        if value != self._values[task.key]:
            self._say(task, f"gave {value}, and should give {self._values[task.key]}")
        if not self._noted["end", task.key]:
            self._say(task, "succeeded, and no run of it came to its end")
        is_plain = task.kind not in ("flaky", "cancel")
        if self._excuses.runs_once and is_plain and self._noted["begin", task.key] != 1:
            self._say(task, f"ran {self._noted['begin', task.key]} times, for no reason")

    def _judge_cancel(self, task: Task, state: str, report: str | None) -> None:
        """`report` is the state that `cancel` told; it may have waited in vain."""
        if report in ("cancelled", "succeeded", "failed", "lost", "impossible") and report != state:
            self._say(task, f"was {report} as cancel had it, and ended as {state}")

    def _judge_finalizer(self, task: Task, states: list[str]) -> None:
        """One that ran, ran after the ends that it waits for."""
        begin = ("begin", task.key)
        for key in task.finalizes if begin in self._noted else ():
            word = {"succeeded": "end", "failed": "raise"}.get(states[key])
            if word and (word, key) not in self._runs[: self._runs.index(begin)]:
                self._say(task, f"began before {key} had {states[key]}")

    def _say(self, task: Task, text: str) -> None:
        self.violations.append(f"{self._name}: task {task.key} ({task.kind}) {text}")
