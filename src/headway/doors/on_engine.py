"""What the doors have run on engines, in place of the user's own function.

Engines import this file by its name, so it must be light.

What this file must not know: the client, and any package beyond the standard library.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import importlib
import sys
import types
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


def call_node(node: Any, keys: tuple[Any, ...], values: list[Any]) -> Any:
    """The value of a node of a Dask graph, given the values of the keys on which it depends.

    A generator, as a part of a bag may be, can't travel: its list does.
    """
    value = node(dict(zip(keys, values, strict=True)))
    return list(value) if isinstance(value, types.GeneratorType) else value


def call_batch(batch: Callable[[], Any], threads: int | None) -> Any:
    """`batch()`, with at most so many threads in each of the native libraries that are loaded.

    That is for numpy's, which take all cores as a rule, on each engine; threadpoolctl knows how.
    Where it is not installed (scikit-learn brings it), they do so.

    A `Parallel` in it that asks for headway gets threads: as tasks of this cluster its calls could
    wait for the very engines that wait for them.
    """
    parallel = importlib.import_module("joblib.parallel")
    parallel.register_parallel_backend("headway", parallel.ThreadingBackend)
    limits = None if threads is None else threadpool_limits()
    with contextlib.nullcontext() if limits is None else limits(limits=threads):
        return batch()


@functools.cache
def threadpool_limits() -> Any:
    """What limits the threads, or None."""
    try:
        return importlib.import_module("threadpoolctl").threadpool_limits
    except ImportError:
        return None


def call_task(task: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The function in a `headway.task`, which the engine found by its name."""
    return task.fn(*args, **kwargs)


def call_named(folder: str, function: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The call of "module:function", where modules are found also in `folder`."""
    return find_named(folder, function)(*args, **kwargs)


def find_named(folder: str, function: str) -> Any:
    """What "module:function" names, where modules are found also in `folder`.

    Raises:
        ImportError, AttributeError: there is no such module, or nothing of that name in it.
    """
    if folder not in sys.path:
        sys.path.append(folder)
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    # What `headway.task` has made is called as the function that it was.
    return found.fn if hasattr(found, "fn") and hasattr(found, "__wrapped__") else found
