"""The engine that this process is, and the task that it runs now, for those that want to know.

Written by the engine. What this file must not know: anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: The id of the task as a number, and which attempt at it this is; 0 outside of any.
task: int = 0
attempt: int = 0

#: A task, and which attempt at it.
Run = tuple[int, int]


class Waits(Protocol):
    """Whoever is told that the task that runs waits for tasks that it has submitted."""

    def begin(self, wake: Callable[[], None] | None = None) -> Run | None:
        """Some code of the task begins to wait; None if no task runs. `wake` is called, by another
        thread, when it shall look at `why_not`."""
        ...

    def end(self, run: Run | None, wake: Callable[[], None] | None = None) -> None:
        """It waits no more: `run` is what `begin` has returned."""
        ...

    def why_not(self, run: Run) -> str:
        """Why `run` would wait for ever; "" if it would not, as far as is known."""
        ...


@dataclass(frozen=True, slots=True)
class Host:
    """An engine: what its nanny calls it, where its controller is, and who is told of waits."""

    token: str
    connection: Path
    address: str
    waits: Waits


#: The engine; None in any other process, and in a fork of an engine.
engine: Host | None = None


class Submitter(Protocol):
    """Through whom a task has submitted others."""

    def wait_all_accepted(self) -> None:
        """Wait until the controller has them."""
        ...


#: Those through whom the task that runs has submitted others.
submitted: dict[Submitter, None] = {}


def settle_submitted() -> None:
    """The task is about to end: what it has submitted shall be in the controller's hands before it
    hears of that, or nobody could tell what is asked for by a run that is over."""
    for submitter in list(submitted):
        submitter.wait_all_accepted()
