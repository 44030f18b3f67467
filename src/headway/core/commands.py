"""What the scheduler asks of the world: commands, appended to a list that the shell performs.

A command is a decision already taken: the records say so before the shell sees it. The shell
groups commands by peer, so that one turn of the loop costs one message for each peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from headway.core.events import ClientId, EngineId, StoreId, TaskId, Value
from headway.core.problems import Problem
from headway.core.states import TaskState

if TYPE_CHECKING:
    from headway.core.records import Task


class Assign(Struct, gc=False):
    """Send `task` to `engine`, as its current attempt. The seat is taken already."""

    engine: EngineId
    task: Task


class Recall(Struct):
    """Ask `engine` to give back those of `tasks` that it has not begun (event: GaveBack)."""

    engine: EngineId
    tasks: list[TaskId]


class StopTask(Struct):
    """Ask `engine` to drop `task`, or to interrupt it if it runs (event: Finished, STOPPED)."""

    engine: EngineId
    task: TaskId


class Deliver(Struct, gc=False):
    """Tell `client`, and whoever watches the task, how it ended. `payload` is a result, or a
    pickled exception. A client that left its tasks behind is not there to hear it.

    Once for each task; and again at its end when it was run again, since its value was lost.
    `problem` is None for SUCCEEDED, and for the rest the kind and the text of the error.
    """

    client: ClientId
    task: TaskId
    state: TaskState
    payload: Value | None
    engine: EngineId | None
    problem: Problem | None


class DropFunction(Struct):
    """No client names this function and no task needs it: engines may forget it."""

    digest: bytes


class Forgotten(Struct):
    """A task or group that its client left behind is kept no more: what else is kept of it, such
    as its output, can go."""

    node: TaskId


class DropValue(Struct):
    """Nobody needs this value any more: its store may remove it."""

    store: StoreId
    name: str


Command = Assign | Recall | StopTask | Deliver | DropFunction | DropValue | Forgotten
