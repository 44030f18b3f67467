"""The thread that observes the cluster while somebody looks at the dashboard.

While no page is open it asks nothing, so the controller notes nothing. When the cluster has gone
it says so, and what was seen last stays to be looked at.

What this file must not know: HTTP, and how anything is shown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from headway import errors
from headway.client.client import Client
from headway.client.observing import observe
from headway.core.events import EngineId, TaskId
from headway.dashboard.model import Model, Row

#: After a question that was not answered, the next is put so much later.
_RETRY_S = 1.0


class Feed:
    """The model, kept up to date while it is looked at. Any thread may use it."""

    def __init__(self, client: Client, model: Model) -> None:
        self._client = client
        self._model = model
        self._changed = threading.Condition()
        self._viewers = 0
        self._is_stopping = False
        #: Why nothing new is seen, for people; "" while all is well.
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="headway-feed", daemon=True)

    def start(self) -> None:
        """Begin to observe, once there is a viewer."""
        self._thread.start()

    def stop(self) -> None:
        """Ask nothing any more. A question that is open is not waited for."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Somebody looks, until the block ends."""
        with self._changed:
            self._viewers += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._viewers -= 1

    def since(self, version: int) -> Row:
        """What is newer than `version`, and what is wrong, if anything is."""
        with self._changed:
            return {**self._model.since(version), "trouble": self._trouble}

    @property
    def state(self) -> tuple[int, str]:
        """Changes when there is something new to be shown."""
        with self._changed:
            return self._model.version, self._trouble

    def graph(self) -> Row:
        """See Model.graph."""
        with self._changed:
            return self._model.graph()

    def task(self, task: TaskId) -> Row | None:
        """See Model.task."""
        with self._changed:
            return self._model.task(task)

    def engine(self, engine: EngineId) -> Row | None:
        """See Model.engine."""
        with self._changed:
            return self._model.engine(engine)

    def _run(self) -> None:
        while self._wait_for_viewers():
            try:
                seen = observe(self._client)
            except errors.HeadwayError as error:
                with self._changed:
                    self._trouble = str(error)
                    if self._client.closed:
                        return  # for good
                    self._changed.wait(_RETRY_S)
                continue
            with self._changed:
                self._trouble = ""
                self._model.fold(seen)

    def _wait_for_viewers(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._viewers or self._is_stopping)
            return not self._is_stopping
