"""The schemes: functions that choose an engine by the loads of those that have room.

A scheme is a function `(loads, rng) -> index`. `loads` holds the number of tasks outstanding on
each engine that may take the task, in LRU order: the engine that was given a task longest ago
comes first. There is at least one. What a scheme returns is an index into `loads`.

These functions are the definition; `index.py` gives the same choice without building the list.
Two rules keep both the same to the bit: all arithmetic is on integers, and the draws from `rng`
are `rng.randrange`, as many and in the order that each docstring says. Who changes a draw here
changes it there.

This file knows nothing of engines, tasks or clocks. It is pure but for `load_scheme`, which
imports a user's module: at configuration time only, never while tasks are placed.
"""

from __future__ import annotations

import inspect
import operator
from bisect import bisect_right
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from random import Random

Scheme: TypeAlias = "Callable[[Sequence[int], Random], int]"

#: The weight of an idle engine under `weighted`, and by how much a load of 1 weighs less. The
#: million is the seed's; the rest leaves different loads different weights up to about 1,000.
_WEIGHT_IDLE = 10**12
_WEIGHT_RATIO = 10**6


def plainrandom(loads: Sequence[int], rng: Random) -> int:
    """Any engine. Draws one index."""
    return rng.randrange(len(loads))


def lru(loads: Sequence[int], rng: Random) -> int:
    """The front of the line, whatever the loads. Draws nothing."""
    return 0


def twobin(loads: Sequence[int], rng: Random) -> int:
    """The LRU of two picked at random, which may be one twice. Draws two indices."""
    first = rng.randrange(len(loads))
    second = rng.randrange(len(loads))
    return min(first, second)


def weighted(loads: Sequence[int], rng: Random) -> int:
    """The less loaded of two picked at random with inverse load as weight; the first if equal.

    Draws two numbers below the sum of the weights. A number picks the first engine at which the
    running sum of weights, in LRU order, exceeds it. Both may pick the same engine.
    """
    sums = list(accumulate(map(inverse_load, loads)))
    first = bisect_right(sums, rng.randrange(sums[-1]))
    second = bisect_right(sums, rng.randrange(sums[-1]))
    return second if loads[second] < loads[first] else first


def leastload(loads: Sequence[int], rng: Random) -> int:
    """The lowest load; of several with it the first, thus the LRU of them. Draws nothing."""
    return loads.index(min(loads))


def inverse_load(load: int) -> int:
    """What an engine with `load` weighs under `weighted`.

    No load weighs a million times a load of 1, and a load of 1 twice a load of 2. An integer,
    so that sums are exact in whatever order they are made, and never 0, so that each engine can
    be picked.
    """
    return max(1, _WEIGHT_IDLE // (1 + _WEIGHT_RATIO * load))


#: The schemes that have a name. leastload is the default.
SCHEMES: dict[str, Scheme] = {
    "leastload": leastload,
    "lru": lru,
    "twobin": twobin,
    "weighted": weighted,
    "plainrandom": plainrandom,
}


def load_scheme(name: str) -> tuple[str, Scheme]:
    """The scheme that `name` names, with its name.

    `name` is a key of SCHEMES or "module:function". A user's function takes `(loads, rng)`, or
    `(loads)` alone as the seed's did; for what it returns, see `checked_choice`. Its module is
    imported here.

    Raises:
        ValueError: there is no such scheme, its module cannot be imported, or it is not a
            function of one of those signatures.
    """
    scheme = SCHEMES.get(name)
    if scheme is not None:
        return name, scheme
    module_name, colon, path = name.partition(":")
    if not (colon and module_name and path):
        nearest = get_close_matches(name, SCHEMES, n=1)
        hint = f"did you mean {nearest[0]!r}? Known are" if nearest else "known are"
        known = ", ".join(SCHEMES)
        raise ValueError(f"no scheme {name!r}: {hint} {known}, or your own as 'module:function'")
    found = _imported(name, module_name, path)
    if any(found is scheme for scheme in SCHEMES.values()):
        return name, found
    return name, UserScheme(name, _accepting_rng(name, found))


class UserScheme:
    """A user's function, kept from stopping the scheduler: where it fails, leastload decides.

    `failure` says how it failed last, for people; "" while it never has.
    """

    def __init__(self, name: str, function: Scheme) -> None:
        self._name = name
        self._function = function
        self.failure = ""

    def __call__(self, loads: Sequence[int], rng: Random) -> int:
        """What the function chooses, or else leastload."""
        count = len(loads)
        try:
            # A list of its own: it may change what it is given.
            return checked_choice(self._name, self._function(list(loads), rng), count)
        except Exception as error:  # a user's function may raise anything
            self.failure = (
                f"the scheme {self._name!r} failed, and leastload chose in its place: "
                f"{type(error).__name__}: {error}"
            )
            return leastload(loads, rng)


def checked_choice(scheme_name: str, choice: Any, count: int) -> int:
    """`choice`, returned by a user's scheme for `count` loads, as an index into them.

    Anything that Python takes for an integer will do, numpy's included. Negative ones will not:
    from the end of the list is more likely a mistake than a wish.

    Raises:
        ValueError: it is no integer from 0 to `count - 1`.
    """
    try:
        index = operator.index(choice)
    except TypeError:
        index = -1
    if 0 <= index < count:
        return index
    raise ValueError(
        f"scheme {scheme_name!r} returned {choice!r} for {count} loads:"
        f" expected an integer from 0 to {count - 1}"
    )


def _imported(name: str, module_name: str, path: str) -> Callable[..., int]:
    """The callable at `path` (names joined by dots) in the module."""
    try:
        found: Any = import_module(module_name)
    except Exception as error:  # a user's module may raise anything as it is imported
        raise ValueError(
            f"scheme {name!r}: cannot import {module_name!r}: {type(error).__name__}: {error}"
        ) from error
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise ValueError(f"scheme {name!r}: {error}") from error
    if not callable(found):
        raise ValueError(
            f"scheme {name!r} is a {type(found).__name__}, not a function of (loads, rng)"
        )
    return found  # type: ignore[no-any-return]


def _accepting_rng(name: str, function: Callable[..., int]) -> Scheme:
    """`function` as one of (loads, rng), whichever of the two signatures it has.

    A second parameter is given the rng if it is needed or if it is called rng, so that an
    option of the user's own, `def f(loads, spread=3)`, keeps its default.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:  # some functions written in C have none
        raise ValueError(
            f"scheme {name!r}: cannot tell its parameters ({error}); wrap it in a def (loads, rng)"
        ) from error
    takes_one, takes_two = _binds(signature, 1), _binds(signature, 2)
    if takes_two and not (takes_one and list(signature.parameters)[1:2] != ["rng"]):
        return function
    if takes_one:
        return lambda loads, rng: function(loads)
    raise ValueError(f"scheme {name!r} takes {signature}: expected (loads, rng) or (loads)")


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
