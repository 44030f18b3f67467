"""Why a task did not succeed: the one record of it, from the core to the user's exception; and
the words for one that did, which client and scheduler share.

The client turns a kind into an exception of `headway.errors`; `explain` turns it into words.
"""

from __future__ import annotations

from msgspec import Struct

from headway.core.events import EngineId, TaskId, format_engine_id, format_task_id

#: The function raised: the exception travels pickled, beside the problem.
KIND_RAISED = "raised"
#: A dependency names an unknown task, or the task itself.
KIND_INVALID = "invalid"
#: A dependency can no longer be met, or no engine is left that may run the task.
KIND_IMPOSSIBLE = "impossible"
#: `timeout` passed in the queue; `run_timeout` passed on an engine.
KIND_TIMEOUT = "timeout"
KIND_RUN_TIMEOUT = "run_timeout"
KIND_CANCELLED = "cancelled"
#: Its engine ended, and it may not be repeated (again).
KIND_LOST = "lost"
#: The value of it, or of a task that it needs, is lost, and can't be made again.
KIND_VALUE_LOST = "value_lost"
#: It, or what it needs, does not fit a message to an engine.
KIND_TOO_LARGE = "too_large"


class Problem(Struct, array_like=True, frozen=True):
    """Why a task did not succeed. `kind` is one of the KIND_ values, `text` is for people.

    Where the reason lies upstream, `upstream` is the direct one, and `root` the first task of
    the chain that failed by itself, `depth` steps up.
    """

    kind: str
    text: str
    upstream: TaskId | None = None
    root: TaskId | None = None
    root_text: str = ""
    depth: int = 0


def name_of(task: TaskId, label: str) -> str:
    """A task for people: its id, and its label if it has one."""
    return f"{format_task_id(task)} ({label})" if label else format_task_id(task)


def success_text(task: TaskId, label: str, engine: EngineId | None, attempt: int = 1) -> str:
    """That it did succeed, in the words of `explain`: also where the controller can't be asked."""
    # On no engine: it ran late, on one that had been given up, or it is remembered so.
    where = f" on {format_engine_id(engine)}" if engine is not None else ""
    tries = f", at attempt {attempt}" if attempt > 1 else ""
    return f"task {name_of(task, label)} succeeded{where}{tries}"
