"""A flow in Python: `headway run examples/lakes.py`. Its functions are those of lakes.toml, too."""

from __future__ import annotations

import headway


def survey(parts: int) -> list[list[float]]:
    """The depths of lakes, in metres, in so many parts."""
    return [[part + 0.5 * lake for lake in range(10)] for part in range(parts)]


def measure(depths: list[list[float]], part: int) -> float:
    """The deepest lake of a part, which counts from 1."""
    return max(depths[part - 1])


@headway.task(retries=1)
def atlas(deepest: list[float]) -> str:
    """All parts together."""
    return f"{len(deepest)} parts, the deepest lake has {max(deepest)} m"


def flow() -> headway.Graph:
    """What `headway run` asks for: the flow of this file."""
    depths = headway.task(survey)(4)
    parts = [headway.task(measure)(depths, part) for part in (1, 2, 3, 4)]
    return headway.Graph([atlas(parts)])
