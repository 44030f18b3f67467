"""The seed's schemes: functions of a list of loads alone, which return an index into it.

`headway.core.schemes` defines the same five over an rng that is handed in; these are what the
seed's module offers to call, and to pass for `scheme`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from headway.core import schemes

#: Theirs alone, so that a seed which a program sets for itself is not used up here.
_rng = Random()


def plainrandom(loads: Sequence[int]) -> int:
    """Plain random pick."""
    return schemes.plainrandom(loads, _rng)


def lru(loads: Sequence[int]) -> int:
    """Always pick the front of the line, whatever the loads.

    Loads are assumed to be in LRU order: the least recently used first.
    """
    return schemes.lru(loads, _rng)


def twobin(loads: Sequence[int]) -> int:
    """Pick two at random, and use the LRU of the two, whatever the loads, in LRU order."""
    return schemes.twobin(loads, _rng)


def weighted(loads: Sequence[int]) -> int:
    """Pick two at random with inverse load as weight, and return the less loaded of the two."""
    return schemes.weighted(loads, _rng)


def leastload(loads: Sequence[int]) -> int:
    """The lowest load; of several with it the first, which is the LRU of them in LRU order."""
    return schemes.leastload(loads, _rng)


Scheme = Callable[[Sequence[int]], int]

#: By name, as `scheme_name` says it.
BY_NAME: dict[str, Scheme] = {
    "leastload": leastload,
    "lru": lru,
    "twobin": twobin,
    "weighted": weighted,
    "plainrandom": plainrandom,
}
