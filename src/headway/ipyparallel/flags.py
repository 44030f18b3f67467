"""What the flags of a client's view may be: each value is checked where it is given.

A value of another type is a TypeError, one that makes no sense a ValueError; the text names the
flag. What this file must not know: views, clients, sockets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import ipyparallel as ipp
from headway.ipyparallel.dependency import Dependency, ids_of

#: What requests.py takes.
_PRIORITY_MAX = 1 << 32


def _check_priority(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"priority={value!r} is not an integer")
    priority = int(value)
    if abs(priority) > _PRIORITY_MAX:
        raise ValueError(f"priority={priority} is more than {_PRIORITY_MAX} away from 0")
    return priority


def _check_retries(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"retries={value!r} is not an integer")
    retries = int(value)
    if retries < 0:
        raise ValueError(f"retries={retries} is negative")
    return retries


def seconds(name: str, value: Any) -> float:
    """None, 0 and infinity are no bound; 0 is ipyparallel's word for it."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is not a number of seconds")
    number = float(value)
    if not number >= 0:
        raise ValueError(f"{name}={value!r} is not a number of seconds from 0 on")
    return 0.0 if math.isinf(number) else number


def _check_flag(name: str, value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is neither True nor False")
    return bool(value)


def _check_dependency(name: str, value: Any) -> Any:
    """As ipyparallel takes it; a dict becomes a Dependency."""
    try:
        if isinstance(value, dict):
            return Dependency(value)
        if value is not None and not isinstance(value, ipp.Dependency):
            ids_of(value)
            return value if isinstance(value, str | ipp.AsyncResult) else list(value)
    except (TypeError, ValueError) as bad:
        # ipyparallel raises ValueError for whatever is wrong with a dependency.
        raise ValueError(f"{name} is not a dependency: {bad}") from None
    return value


#: Makes of a value what is kept of it.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "priority": _check_priority,
    "fair": lambda value: _check_flag("fair", value),
    "run_timeout": lambda value: seconds("run_timeout", value),
    "retry_same_engine": lambda value: _check_flag("retry_same_engine", value),
    "wait_for_engines": lambda value: _check_flag("wait_for_engines", value),
    "after": lambda value: _check_dependency("after", value),
    "follow": lambda value: _check_dependency("follow", value),
    "timeout": lambda value: seconds("timeout", value),
    "retries": _check_retries,
}
#: Those that ipyparallel's own view does not have. Each is false if it is not given.
OWN = ("priority", "fair", "run_timeout", "retry_same_engine", "wait_for_engines")
