"""What the machine knows of recalls: which may be made, and which must be.

Which tasks are asked back, and when, is the scheduler's choice; the watch only says whether it was
allowed, and whether something stays behind a long task that an idle engine could run. It looks
at the naive model, and must not know how the core finds anything.
"""

from __future__ import annotations

from headway.core import events as ev
from headway.core.commands import Recall
from headway.core.events import EngineId
from tests.core.model import Model


class RecallWatch:
    """The recalls of one story."""

    def __init__(self, model: Model, recall_after_s: float) -> None:
        self._model = model
        self._recall_after_s = recall_after_s
        #: Recalls that no GaveBack has answered.
        self.open: list[Recall] = []
        #: Engines to which something happened of which the scheduler has yet to take stock; and
        #: when it last did of each.
        self._changed: set[EngineId] = set()
        self._quiet_since_s: dict[EngineId, float] = {}
        self._looked_at_s = 0.0

    def happened(self, event: ev.Event) -> None:
        """An event, which may be about an engine."""
        engine = getattr(event, "engine", None)
        if engine is not None:
            self._changed.add(engine)

    def assigned(self, engine: EngineId, now: float) -> None:
        """It was given a task."""
        self._quiet_since_s[engine] = now

    def taken_stock(self, now: float) -> None:
        """The scheduler places tasks, or looks at what is due."""
        for engine in self._changed:
            self._quiet_since_s[engine] = now
        self._changed.clear()

    def ticked(self, recalls: list[Recall], now: float) -> None:
        """Time passed, and these were made."""
        for recall in recalls:
            self._check_allowed(recall)
        self._check_nothing_stays_behind(recalls, now)

    def _check_allowed(self, recall: Recall) -> None:
        """Only tasks behind another are recalled, and only where an idle engine may take them."""
        recallable = self._model.recallable(self._model.engines[recall.engine])
        assert recall.tasks
        for task in recall.tasks:
            assert recallable.get(task), f"{recall}: no idle engine can run {task}"

    def _check_nothing_stays_behind(self, recalls: list[Recall], now: float) -> None:
        """An engine to which nothing has happened for long is asked for what others could run.

        Now, if the last look was long ago too; unless every idle engine that could run it takes
        tasks of another engine. So each task behind a long one has its turn after as many looks
        as there are engines, while an engine idles that may run it.
        """
        looked_at_s, self._looked_at_s = self._looked_at_s, now
        asked = {recall.engine for recall in (*recalls, *self.open)}
        for engine in self._model.engines.values():
            quiet_since_s = max(self._quiet_since_s[engine.id], looked_at_s)
            if engine.id in asked or quiet_since_s + self._recall_after_s > now:
                continue
            for task, idle in self._model.recallable(engine).items():
                free = [e for e in idle if not any(self._may_take(e, r) for r in recalls)]
                assert not free, f"{task} stays on {engine.id}, while {free} could run it"

    def _may_take(self, engine: EngineId, recall: Recall) -> bool:
        """Whether a task of the recall may be meant for that idle engine."""
        recallable = self._model.recallable(self._model.engines[recall.engine])
        return any(engine in recallable[task] for task in recall.tasks)
