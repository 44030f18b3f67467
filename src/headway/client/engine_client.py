"""The client that the tasks of one engine share.

What this file must not know: what is nested in what.
"""

from __future__ import annotations

from types import TracebackType

from headway.client import active
from headway.client.client import Client


class EngineClient(Client):
    """It lives as long as its engine: a task that is done with it leaves it to the next."""

    def close(self) -> None:
        """Nothing: it is not the task's."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        active.left(self)
