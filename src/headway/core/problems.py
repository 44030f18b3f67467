"""Why a task did not succeed: the one record of it, from the core to the user's exception.

The client turns a kind into an exception of `headway.errors`; `explain` turns it into words.
"""

from __future__ import annotations

from msgspec import Struct

from headway.core.events import TaskId

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
