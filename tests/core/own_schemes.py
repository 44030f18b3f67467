"""Schemes as users write them, for the machine: it loads them by their names."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random


def mostload(loads: Sequence[int]) -> int:
    """The busiest, and of these the one that was given a task last."""
    return max(range(len(loads)), key=lambda index: (loads[index], index))


def moody(loads: list[int], rng: Random) -> int | None:
    """Spoils the list that it is given, and raises or returns nonsense where it has many."""
    count = len(loads)
    loads.clear()
    if count > 2:
        raise RuntimeError("too much to choose from")
    choice = rng.randrange(3)
    return choice if choice < count else None
