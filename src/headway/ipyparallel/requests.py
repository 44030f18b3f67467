"""What the metadata of a request asks for: read, checked, and put in the core's words.

The keys are those that ipyparallel's LoadBalancedView writes (targets, after, follow, timeout,
retries) and headway's own, which are opt-in (priority, fair, run_timeout, retry_same_engine,
wait_for_engines; `need` and `on` inside after and follow). Other keys are not ours, and pass.

This is the border: a value of another type is an error that names the key. What this file must
not know: sockets, engines, what has ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headway.core.events import AMOUNT_MAX, NEED_ALL, ON_DONE, ON_FAILURE, ON_SUCCESS

#: As many as the core counts.
_COUNT_MAX = 1 << 32
_ON = {"success": ON_SUCCESS, "failure": ON_FAILURE, "done": ON_DONE}


class BadRequest(ValueError):
    """A request that asks for something impossible; the text names the key and its value."""


class Wanted(frozenset[str]):
    """The msg_ids that `after` or `follow` names, and what must have become of them.

    `need` is how many of them must have ended as `on` says, NEED_ALL for all.
    """

    need: int
    on: int

    def __new__(cls, ids: Iterable[str] = (), need: int = NEED_ALL, on: int = ON_SUCCESS) -> Wanted:
        wanted = super().__new__(cls, ids)
        wanted.need = need
        wanted.on = on
        return wanted


#: A condition without tasks: it is met.
MET = Wanted()


@dataclass(frozen=True, slots=True)
class Request:
    """What one task asks for. Times in seconds; a timeout of None is none."""

    targets: frozenset[str] = frozenset()
    after: Wanted = MET
    follow: Wanted = MET
    timeout_s: float | None = None
    retries: int = 0
    run_timeout_s: float | None = None
    priority: int = 0
    fair: bool = False
    retry_same_engine: bool = False
    wait_for_engines: bool = False


#: What most tasks ask for: nothing.
PLAIN = Request()
#: The keys of which none is set then, but for after and follow.
_PLAIN_WHEN_EMPTY = (
    "targets", "timeout", "retries", "run_timeout", "priority", "fair", "retry_same_engine",
    "wait_for_engines",
)  # fmt: skip


def read(metadata: dict[str, Any]) -> Request:
    """The request that `metadata` makes.

    Raises:
        BadRequest: a value of one of our keys makes no sense.
    """
    get = metadata.get
    if not any(map(get, _PLAIN_WHEN_EMPTY)) and not (_names(get("after")) or _names(get("follow"))):
        return PLAIN
    request = Request(
        targets=_targets(get("targets")),
        after=_wanted("after", get("after")),
        follow=_wanted("follow", get("follow")),
        timeout_s=_seconds("timeout", get("timeout")),
        retries=_count("retries", get("retries")),
        run_timeout_s=_seconds("run_timeout", get("run_timeout")),
        priority=_integer("priority", get("priority")),
        fair=_flag("fair", get("fair")),
        retry_same_engine=_flag("retry_same_engine", get("retry_same_engine")),
        wait_for_engines=_flag("wait_for_engines", get("wait_for_engines")),
    )
    return PLAIN if request == PLAIN else request


def _names(condition: Any) -> Any:
    """Whether a condition names tasks; of one that does not, nothing else matters."""
    return condition.get("dependencies", True) if type(condition) is dict else condition


def _targets(value: Any) -> frozenset[str]:
    if not value:
        return frozenset()
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v for v in value):
        raise BadRequest(f"targets={value!r} is not a list of engines' uuids")
    return frozenset(value)


def _wanted(key: str, value: Any) -> Wanted:
    """`after` or `follow`: a list of msg_ids, or a dict as Dependency.as_dict makes it."""
    if not value:
        return MET
    need, on = NEED_ALL, ON_SUCCESS
    if isinstance(value, dict):
        ids = value.get("dependencies") or ()
        on = _on(key, value)
        need = NEED_ALL if _flag(f"{key}['all']", value.get("all", True)) else 1
        if value.get("need") not in (None, "all"):
            need = 1 if value["need"] == "any" else _count(f"{key}['need']", value["need"])
            if not need:
                raise BadRequest(f"{key}['need']=0 asks for none of its tasks")
    else:
        ids = value
    if isinstance(ids, str) or not isinstance(ids, list | tuple | set | frozenset):
        raise BadRequest(f"{key}={value!r} is not a list of msg_ids")
    if not all(isinstance(msg_id, str) for msg_id in ids):
        raise BadRequest(f"{key} names {ids!r}: a msg_id is a string")
    wanted = Wanted(ids, need, on)
    if need > len(wanted) and wanted:
        raise BadRequest(f"{key} needs {need} of {len(wanted)} tasks")
    return wanted if wanted else MET


def _on(key: str, value: dict[str, Any]) -> int:
    if value.get("on") is not None:
        try:
            return _ON[value["on"]]
        except (KeyError, TypeError):
            raise BadRequest(f"{key}: on={value['on']!r} is not one of {', '.join(_ON)}") from None
    on = ON_SUCCESS * _flag(f"{key}['success']", value.get("success", True))
    on |= ON_FAILURE * _flag(f"{key}['failure']", value.get("failure", False))
    if not on:
        raise BadRequest(f"{key} wants neither success nor failure, so it can never be met")
    return on


def _seconds(key: str, value: Any) -> float | None:
    """A duration; None and 0 are no bound, as in ipyparallel."""
    if not value:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise BadRequest(f"{key}={value!r} is not a number of seconds")
    return None if math.isinf(value) else min(float(value), AMOUNT_MAX)


def _integer(key: str, value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _COUNT_MAX:
        raise BadRequest(f"{key}={value!r} is not an integer of at most {_COUNT_MAX}")
    return value


def _count(key: str, value: Any) -> int:
    count = _integer(key, value)
    if count < 0:
        raise BadRequest(f"{key}={value!r} is negative")
    return count


def _flag(key: str, value: Any) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool | int):
        raise BadRequest(f"{key}={value!r} is neither true nor false")
    return bool(value)
