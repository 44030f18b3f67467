"""A user's options, checked and made into what the core understands.

Rule 1: every bad value raises here, at `options(...)`, naming the option and the value; a bad
number never reaches a scheduler on another host. What is accepted here fits the messages: one
that can't be written, or that the controller can't read, would cost the client its connection,
and with it every other task. Rule 2: one function checks one kind of value.

What this file must not know: sockets, threads, and what a task is.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from headway.core.events import (
    AMOUNT_MAX,
    BACKOFF_S_MAX,
    DEFAULT_OPTIONS,
    TAGS_MAX,
    WEIGHT_MAX,
    EngineId,
    TaskOptions,
)
from headway.core.limits import COUNT_MAX, NO_LIMIT, check_tag, parse_limit

#: Priorities and counts travel as integers; nobody needs more than 32 bits of them.
_INT_MAX = (1 << 31) - 1

#: Labels and names are for people, and travel with each task.
_TEXT_CHARS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """One engine, as the controller saw it when it was asked.

    `load` is the number of tasks it has, running or queued; `limit` how many it may have (None:
    any number; 0: it is draining or waiting, as its `state` says: a task on it waits for tasks that
    it has submitted), `done` how many it ended, `resources` what it offers.
    `store_bytes` are those of the large values in the store that it shares with the engines of
    its nanny. One that `stands_in` was started for one that is waiting, and ends when it goes on.
    """

    id: str
    number: int
    host: str = ""
    pid: int = 0
    state: str = ""
    load: int = 0
    limit: int | None = None
    resources: dict[str, float] = field(default_factory=dict, hash=False)
    done: int = 0
    rss_bytes: int = 0
    store_bytes: int = 0
    stands_in: bool = False

    @classmethod
    def from_answer(cls, row: Mapping[str, Any]) -> EngineInfo:
        """The engine that one row of the controller's answer describes."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in row.items() if name in known})


def _type_error(option: str, value: Any, expected: str) -> TypeError:
    return TypeError(f"{option}={value!r} is not {expected}")


def _number(option: str, value: Any, expected: str = "a number") -> float:
    # __float__: numpy's numbers, Fraction and Decimal are numbers too; strings are not.
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise _type_error(option, value, expected)
    try:
        number = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise _type_error(option, value, expected) from None
    if math.isnan(number):
        raise ValueError(f"{option} is NaN, not {expected}")
    return number


def seconds(option: str, value: Any) -> float | None:
    """A duration; None is no bound, and so is what is beyond any cluster's life (`sys.maxsize`)."""
    if value is None:
        return None
    number = _number(option, value, "a number of seconds")
    if number < 0:
        raise ValueError(f"{option}={value!r} is negative; it is a number of seconds")
    return None if number > AMOUNT_MAX else number


def wait_s(timeout: Any) -> float | None:
    """How long to wait for something: below 0 is not at all, as everywhere in Python."""
    return None if timeout is None else _number("timeout", timeout, "a number of seconds")


def count(option: str, value: Any, minimum: int, maximum: int = _INT_MAX) -> int:
    """A whole number from `minimum` to `maximum`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _type_error(option, value, "a whole number")
    number = int(value.__index__())
    if not minimum <= number <= maximum:
        below = number < minimum
        bound = f"at least {minimum}" if below else f"at most {maximum}"
        raise ValueError(f"{option}={value!r} must be {bound}")
    return number


def flag(option: str, value: Any) -> bool:
    """True or False, and no other value that Python takes for one."""
    if not isinstance(value, bool):
        raise _type_error(option, value, "True or False")
    return value


def text(option: str, value: Any) -> str:
    """A string that can travel: without lone surrogates, and not too long."""
    if not isinstance(value, str):
        raise _type_error(option, value, "a string")
    if len(value) > _TEXT_CHARS_MAX:
        raise ValueError(
            f"{option}={value[:20] + '...'!r} has {len(value):,} characters, "
            f"and at most {_TEXT_CHARS_MAX:,} may travel with a task"
        )
    return value.encode("utf-8", "backslashreplace").decode()


def folder(option: str, value: Any) -> Path | None:
    """A folder's path, absolute; None for none."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise _type_error(option, value, "a path")
    path = os.fspath(value)
    if not path or "\0" in path:
        raise ValueError(f"{option}={value!r} is not the path of a folder")
    return Path(path).absolute()


def memo_settings(memo_dir: Any, memo_bytes_max: Any) -> tuple[Path | None, int | None]:
    """Where results are kept, and how many bytes of them; None for the defaults."""
    if memo_bytes_max is not None:
        memo_bytes_max = count("memo_bytes_max", memo_bytes_max, 1, 1 << 62)
    return folder("memo_dir", memo_dir), memo_bytes_max


def resources(option: str, value: Any) -> dict[str, float] | None:
    """Amounts by name, such as {"gpu": 1}; amounts of 0 ask for nothing."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _type_error(option, value, 'amounts by name, such as {"gpu": 1}')
    amounts: dict[str, float] = {}
    for name, amount in value.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"{option}: the name {name!r} is not a string, or is empty")
        name = text(option, name)
        number = _number(f"{option}[{name!r}]", amount)
        if not 0 <= number <= AMOUNT_MAX:
            raise ValueError(f"{option}[{name!r}]={amount!r} {_no_amount(number)}")
        amounts[name] = number
    return amounts or None


def _no_amount(number: float) -> str:
    if number < 0:
        return "is negative"
    return "is infinite" if math.isinf(number) else f"must be at most {AMOUNT_MAX:,.0f}"


def targets(option: str, value: Any) -> list[EngineId] | None:
    """Engines, named by id ("e0"), number or EngineInfo; one of them, or several."""
    if value is None:
        return None
    if isinstance(value, str | int | EngineInfo) or not isinstance(value, Iterable):
        return [_target(option, value)]
    engines = list(dict.fromkeys(_target(option, entry) for entry in value))
    if not engines:
        raise ValueError(f"{option}={value!r} names no engine; leave it out to allow all engines")
    return engines


def _target(option: str, value: Any) -> EngineId:
    if isinstance(value, EngineInfo):
        value = value.number
    if isinstance(value, str):
        digits = value.removeprefix("e")
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > 9:
            raise ValueError(f"{option}: {value!r} is not an engine's id, such as 'e0'")
        return EngineId(int(digits))
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise _type_error(option, value, "an engine's id (such as 'e0'), number or EngineInfo")
    return EngineId(count(option, value, 0))


def exceptions(option: str, value: Any) -> list[str] | None:
    """The names of exception classes, given as classes or as "module.qualname"."""
    if value is None:
        return None
    entries = [value] if isinstance(value, str | type) or not isinstance(value, Iterable) else value
    names = [_exception(option, entry) for entry in entries]
    if not names:
        raise ValueError(f"{option}={value!r} names no exception; leave it out to retry on any")
    return names


def _exception(option: str, value: Any) -> str:
    if isinstance(value, str):
        if not value:
            raise ValueError(f"{option}: '' is not the name of an exception class")
        return text(option, value if "." in value else f"builtins.{value}")
    if not (isinstance(value, type) and issubclass(value, BaseException)):
        raise TypeError(f"{option}: {value!r} is not an exception class")
    return text(option, f"{value.__module__}.{value.__qualname__}")


def tags(option: str, value: Any) -> list[str] | None:
    """Names of tags: one of them, or several."""
    if value is None:
        return None
    names = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if len(names) > TAGS_MAX:
        raise ValueError(f"{option} names {len(names)} tags, and a task may have {TAGS_MAX}")
    return sorted({tag(option, name) for name in names}) or None


def tag(option: str, value: Any) -> str:
    """The name of a tag."""
    try:
        return check_tag(text(option, value))
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def limit(option: str, value: Any) -> str:
    """How a tag is limited, as text: 4 or "4" at once, "10/s", None for not at all."""
    if value is None:
        return str(NO_LIMIT)
    if not isinstance(value, str):
        value = str(count(option, value, 0, COUNT_MAX))
    try:
        return str(parse_limit(value))
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def limits(option: str, value: Any) -> dict[str, str]:
    """Limits by tag, such as {"db": 4, "api": "10/s"}."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _type_error(option, value, 'limits by tag, such as {"db": 4, "api": "10/s"}')
    return {tag(option, name): limit(f"{option}[{name!r}]", each) for name, each in value.items()}


def _share(option: str, value: Any) -> str:
    if not text(option, value):
        raise ValueError(f"{option}='' is no name; leave it out to be served as this client")
    return text(option, value)


def _run(option: str, value: Any) -> str:
    if not text(option, value):
        raise ValueError(f"{option}='' is no name of a run")
    return text(option, value)


def _backoff(option: str, value: Any) -> float:
    number = seconds(option, value)
    if number is None or number > BACKOFF_S_MAX:
        raise ValueError(f"{option}={value!r} must be at most {BACKOFF_S_MAX:g} seconds")
    return number


#: option -> the field of TaskOptions, and what makes its value of the user's.
_CHECKS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "targets": ("targets", targets),
    "wait_for_engines": ("wait_for_engines", flag),
    "timeout": ("timeout_s", seconds),
    "run_timeout": ("run_timeout_s", seconds),
    "retries": ("retries", lambda option, value: count(option, value, 0)),
    "retry_on": ("retry_on", exceptions),
    "backoff": ("backoff_s", _backoff),
    "crash_limit": ("crash_limit", lambda option, value: count(option, value, 1)),
    "at_most_once": ("at_most_once", flag),
    "priority": ("priority", lambda option, value: count(option, value, -_INT_MAX)),
    "resources": ("resources", resources),
    "label": ("label", text),
    "share": ("share", _share),
    "weight": ("weight", lambda option, value: count(option, value, 1, WEIGHT_MAX)),
    "tags": ("tags", tags),
}
#: Those who name one of these take turns.
_FAIR = ("share", "weight")

#: The options that name tasks; dependency.py checks them.
CONDITIONS = ("after", "follow")

#: Those that stay with the client: memo.py has what becomes of them.
MEMO: dict[str, Callable[[str, Any], Any]] = {"memo": flag, "run": _run}

ALL_OPTIONS = (*CONDITIONS, *_CHECKS, *MEMO)


def default_of(name: str) -> Any:
    """The value of an option that is not given."""
    if name in MEMO:
        return False if name == "memo" else None
    return None if name in CONDITIONS else getattr(DEFAULT_OPTIONS, _CHECKS[name][0])


def run_of(settings: Mapping[str, Any]) -> str:
    """The name of the run that tasks with these options are noted in, "" for none."""
    return str(settings.get("run", "")) if is_memoised(settings) else ""


def is_memoised(settings: Mapping[str, Any]) -> bool:
    """Whether the results of tasks with these options are kept. `memo=False` stands against the
    `run` of a client."""
    return bool(settings.get("memo", "run" in settings))


def check_names(settings: Mapping[str, Any]) -> None:
    """Raise TypeError if an option is unknown; it suggests the nearest."""
    for name in settings:
        if name not in ALL_OPTIONS:
            near = difflib.get_close_matches(name, ALL_OPTIONS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ALL_OPTIONS)}"
            raise TypeError(f"unknown option {name!r}: {hint}")


def defaults(**settings: Any) -> dict[str, Any]:
    """The options of all tasks of a client: those of `settings` that are not None.

    Raises:
        TypeError, ValueError: as `task_options`.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    task_options(given)
    return given


def task_options(settings: Mapping[str, Any]) -> TaskOptions | None:
    """The TaskOptions of what the user set; None where all are the defaults.

    Raises:
        TypeError, ValueError: a value is wrong; the message names the option and the value.
    """
    for name in MEMO.keys() & settings.keys():
        MEMO[name](name, settings[name])
    values = {
        _CHECKS[name][0]: _CHECKS[name][1](name, value)
        for name, value in settings.items()
        if name in _CHECKS
    }
    options = TaskOptions(**values, fair=any(name in settings for name in _FAIR))
    if options.at_most_once and options.retries:
        raise ValueError(
            f"at_most_once=True and retries={options.retries} contradict each other: "
            "a task that may run only once can't be tried again"
        )
    return None if options == DEFAULT_OPTIONS else options
