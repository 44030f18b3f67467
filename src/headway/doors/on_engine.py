"""What the doors have run on engines, in place of the user's own function.

Engines import this file by its name, so it must be light.

What this file must not know: the client, and any package beyond the standard library.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

#: Initializers that an engine remembers. One entry for each executor that used it, so one that is
#: forgotten is of an executor that has long gone, or its initializer runs once more.
_REMEMBERED_MAX = 10_000

#: The executors whose initializer ran on this engine, and what it raised.
_initialized: dict[str, Exception | None] = {}


class InitializerFailed(concurrent.futures.BrokenExecutor):
    """Raised by each call on an engine on which the executor's initializer failed."""


def call_initialized(
    executor: str,
    initializer: Callable[..., Any],
    initargs: tuple[Any, ...],
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """`fn(*args, **kwargs)`; before the first call of this executor here, its initializer.

    Raises:
        InitializerFailed: the initializer raised, now or before: it is not tried twice.
    """
    if executor not in _initialized:
        while len(_initialized) >= _REMEMBERED_MAX:
            del _initialized[next(iter(_initialized))]
        # An interrupt is no answer: then the next call tries again.
        try:
            initializer(*initargs)
        except Exception as error:
            _initialized[executor] = error
        else:
            _initialized[executor] = None
    failure = _initialized[executor]
    if failure is not None:
        raise InitializerFailed(
            f"the executor's initializer raised {type(failure).__qualname__}: {failure}"
        ) from failure
    return fn(*args, **kwargs)


def call_each(fn: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """`fn(*args)` for each of the calls, in order."""
    return [fn(*args) for args in calls]
