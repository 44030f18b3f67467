"""The ladder by which a run is stopped: interrupted, shown where it is, then killed.

A run is stopped because its task is unwanted (its client cancelled it), or because it passed its
time limit. It is interrupted once, softly; if the same run goes on through the whole grace, the
engine is killed, and just before that asked for its Python stack. Rule 1: what is interrupted or
killed is a *run*, by its number: another task that the engine has begun meanwhile is never hit
by what was meant for the one before. Rule 2: an unwanted task that has not begun is remembered
until its engine has heard that it shall not begin: it could slip in before.

Pure: told what the status file says and what time it is, it answers with the next step. What
this file must not know: processes, signals, files, sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from headway.core.events import TaskId
from headway.engine.status import INTERRUPT_ASKED, INTERRUPT_OVERRAN, Status

#: Between the question for the stack and the kill. An engine that has not answered by then, on a
#: machine that is busy, is given as much again, until so much has passed.
STACK_S = 0.1
STACK_MAX_S = 1.0
#: While an unwanted task may yet slip in, the status file is looked at this often.
_LOOK_AGAIN_S = 0.05

NEVER_S = float("inf")


class Step(Enum):
    """What is to be done now."""

    NOTHING = 0
    #: Interrupt the run that goes on, for `Ladder.reason`.
    INTERRUPT = 1
    SHOW_STACK = 2
    KILL = 3


class Ladder:
    """Where one engine stands on it."""

    def __init__(self, grace_s: float, has_stack: Callable[[], bool]) -> None:
        """`has_stack` says whether the engine has answered the question for its stack."""
        self._grace_s = grace_s
        self._has_stack = has_stack
        #: Tasks that shall not run here, in the order in which that was said.
        self._unwanted: dict[TaskId, None] = {}
        #: The run that was interrupted last, and why: one of the INTERRUPT_ values; 0 for none.
        self.run = 0
        self.reason = 0
        #: The engine was to be killed for that run.
        self.is_killing = False
        self._stack_at_s = NEVER_S
        self._kill_at_s = NEVER_S
        #: Until when its answer is waited for.
        self._patience_until_s = 0.0

    def stop(self, tasks: Iterable[TaskId]) -> None:
        """`tasks` shall not run: `look` says what follows."""
        self._unwanted.update(dict.fromkeys(tasks))

    def look(self, status: Status, now_s: float) -> Step:
        """What is to be done at `now_s`: the caller does it, and looks again by `next_look_s`."""
        step = self._climb(status, now_s)
        self._forget(status)
        return step

    def next_look_s(self, status: Status, now_s: float) -> float:
        """When `look` may have something to say at the latest, if nothing is heard before."""
        due_s = now_s + _LOOK_AGAIN_S if self._unwanted else NEVER_S
        if not status.busy:
            return due_s
        if status.run == self.run:
            return min(due_s, self._stack_at_s, self._kill_at_s)
        return min(due_s, status.deadline_s) if status.deadline_s > 0.0 else due_s

    def hit(self, status: Status) -> bool:
        """Whether the engine, which has died, was killed for the very run that it was in."""
        return self.is_killing and status.busy and status.run == self.run

    def _climb(self, status: Status, now_s: float) -> Step:
        if not status.busy:
            return Step.NOTHING
        is_unwanted = status.task in self._unwanted
        if is_unwanted:
            del self._unwanted[status.task]  # type: ignore[arg-type]  # from now on, by its run
        if status.run != self.run:
            overran = 0.0 < status.deadline_s <= now_s
            if not (is_unwanted or overran):
                return Step.NOTHING
            self.run = status.run
            self.reason = INTERRUPT_ASKED if is_unwanted else INTERRUPT_OVERRAN
            self._kill_at_s = now_s + self._grace_s
            self._stack_at_s = max(now_s, self._kill_at_s - STACK_S)
            return Step.INTERRUPT
        if now_s >= self._stack_at_s:
            self._stack_at_s = NEVER_S
            # Also where we come late: it has its time to answer.
            self._kill_at_s = max(self._kill_at_s, now_s + STACK_S)
            self._patience_until_s = now_s + STACK_MAX_S
            return Step.SHOW_STACK
        if now_s >= self._kill_at_s:
            if now_s < self._patience_until_s and not self._has_stack():
                self._kill_at_s = now_s + STACK_S
                return Step.NOTHING
            self._kill_at_s = NEVER_S
            self.is_killing = True
            return Step.KILL
        return Step.NOTHING

    def _forget(self, status: Status) -> None:
        """What the engine has heard of will not begin any more; and what was said before it."""
        if status.stop_heard not in self._unwanted:
            return
        for task in list(self._unwanted):
            del self._unwanted[task]
            if task == status.stop_heard:
                break
