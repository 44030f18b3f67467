"""Tasks as a user's module has them: engines import it by its name."""

from __future__ import annotations

import headway

#: By value it would be pickled with the function, and engines would see a copy.
seen: list[int] = []


@headway.task
def count_up() -> int:
    """How often it was called where it runs."""
    seen.append(1)
    return len(seen)


@headway.task(retries=2, label="own label")
def add(a: int, b: int = 0) -> int:
    """The sum."""
    return a + b
