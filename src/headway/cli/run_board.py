"""How far a run is: each task of a plan counted where it is, and shown on stderr meanwhile; in a
terminal as bars by label, elsewhere as a line now and then.

What this file must not know: clusters, and what tasks do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from headway.flows.plan import Plan, PlanTask
from headway.flows.waiting import Waiting
from headway.tally.live import FRAME_S
from headway.tally.model import KEPT, READY, SUCCEEDED, WAITING, Progress, Tally
from headway.tally.terminal import LINE_EVERY_S, LineView, TerminalView

#: How often it is asked what runs, for who looks.
_LOOK_S = 0.5
_ROWS_MAX = 15


class Board:
    """Counts the tasks of a plan, and shows them while it is open."""

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting = Waiting(plan)
        self._label_of = {task.id: task.label for task in plan.tasks}
        self._tally = Tally(clock())
        for task in plan.tasks:
            state = WAITING if self._waiting.is_waiting(task.id) else READY
            self._tally.add(task.label, 1, state, task.runtime_s)
        # A dumb terminal can't go back to what it has written.
        is_live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._view = TerminalView() if is_live else LineView()
        self._look_every_s = _LOOK_S if is_live else LINE_EVERY_S
        self._shown_s = self._looked_s = clock()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._view.clear()

    def tell(self, text: str) -> None:
        """A line that stays."""
        self._view.tell(text)

    def note(self, task: PlanTask, state: str) -> None:
        """A task has ended."""
        now_s = self._clock()
        self._tally.end(task.label, state, now_s, task.runtime_s or 0.0)
        for each in self._waiting.note(task.id, succeeded=state in (SUCCEEDED, KEPT)):
            self._tally.move(self._label_of[each], WAITING, READY, now_s)

    def tick(self, running: Callable[[], Mapping[str, int] | None]) -> None:
        """Time has passed: show how far it is, now and then.

        Parameters:
            running: is asked, not each time, how many tasks of each label run; None if it can't
                be told just now.
        """
        now_s = self._clock()
        if now_s - self._looked_s >= self._look_every_s:
            if (found := running()) is not None:
                self._tally.now_running(found)
            now_s = self._looked_s = self._clock()
        if now_s - self._shown_s >= FRAME_S:
            self._shown_s = now_s
            self._view.show(self.progress())

    def progress(self) -> Progress:
        """How far it is now."""
        return self._tally.view(self._clock(), _ROWS_MAX)
