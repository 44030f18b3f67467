"""Whether a task may be tried again: the budgets, each by itself.

The function raised: `retries`, `retry_on`, backoff. The engine died under it: `crash_limit`.
The engine was stopped on purpose, or gave the task back: free. `at_most_once` forbids what could
repeat a run that has begun. Pure functions over the records; they change nothing.
"""

from __future__ import annotations

from headway.core.events import BACKOFF_S_MAX, EngineLeft, ErrorInfo, TaskOptions
from headway.core.records import Engine, Task
from headway.core.states import Cause


def after_raise(task: Task, error: ErrorInfo | None) -> Cause:
    """What follows when the function raised: RETRY, RETRY_LATER or RAISED."""
    options = task.options
    if task.failures >= options.retries or options.at_most_once or task.cancelled:
        return Cause.RAISED
    wanted = options.retry_on
    if wanted is not None and (error is None or not set(wanted).intersection(error.types)):
        return Cause.RAISED
    return Cause.RETRY_LATER if options.backoff_s > 0 else Cause.RETRY


def backoff_s(options: TaskOptions, failures: int) -> float:
    """How long a task waits after its `failures`-th failure, from 1: doubled each time."""
    # 2.0 ** 1024 overflows; by 2 ** 64 every backoff above a nanosecond is at its maximum.
    return float(min(options.backoff_s * 2.0 ** min(failures - 1, 64), BACKOFF_S_MAX))


def after_engine_end(task: Task, begun: bool, charged: bool) -> Cause:
    """What follows when the engine of `task` ended: ENGINE_LOST (repeat), CRASH_LIMIT or CANCEL.

    Parameters:
        begun: it may have run, wholly or in part.
        charged: it may be the reason for the end. The crash is counted already.
    """
    if task.cancelled:
        return Cause.CANCEL
    if begun and task.options.at_most_once:
        return Cause.CRASH_LIMIT
    if charged and len(task.crashes or ()) >= task.options.crash_limit:
        return Cause.CRASH_LIMIT
    return Cause.ENGINE_LOST


def begun_on(engine: Engine, event: EngineLeft) -> int:
    """How many of the tasks of an engine that left had begun: it begins them in order."""
    if not event.known:
        return len(engine.assigned)
    if event.started is None or event.started not in engine.assigned:
        return 0
    return list(engine.assigned).index(event.started) + 1
