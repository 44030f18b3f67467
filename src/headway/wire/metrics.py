"""What the controller answers to an Ask of "metrics": numbers, exact and bounded.

Counts are since this controller began, but for those that its journal keeps (submitted, retried,
crashed and their like), which go on. Of times a task takes they are since somebody first asked,
as long as somebody asks: see controller/meter.py.

What this file must not know: who asks, and what the numbers are called outside.
"""

from __future__ import annotations

from msgspec import Struct

#: The bounds of histograms, in seconds: from what a task costs by itself to what a day is good for.
BOUNDS_S = (
    0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0,
    21_600.0,
)  # fmt: skip
#: So many tags and shares are told by name; the rest is told together, as `REST`.
NAMES_MAX = 50
REST = "other"
#: How engines are: see `Metrics.engines`.
ENGINE_STATES = ("idle", "busy", "draining", "away")
#: Why engines ended: see `Metrics.engine_ends`.
END_REASONS = ("wanted", "out_of_memory", "signal", "exit", "overran", "lost", REST)


class Histogram(Struct, frozen=True):
    """How long something took: `counts[i]` were above BOUNDS_S[i - 1] and at most BOUNDS_S[i]; the
    last count, of one more than there are bounds, is of all above."""

    counts: list[int]
    sum_s: float


class JournalMetrics(Struct, frozen=True):
    """The journal: `bytes` on disk, those of the turns that a takeover would have to read again,
    and how often it was made shorter, and could not be."""

    bytes: int
    turns_bytes: int
    compacted: int
    compactions_failed: int


class Metrics(Struct, frozen=True):
    """The cluster at one moment, in numbers.

    `tasks` are those in memory and `ended` those that came to a final state, by state. `engines` is
    by one of ENGINE_STATES, each engine once; `engine_ends` by one of END_REASONS. `tags` has
    tasks on engines and tasks that wait, by tag; `shares` tasks that wait, by share.
    """

    started_at_s: float
    epoch: int
    rss_bytes: int
    cpu_s: float
    tasks: list[int]
    ended: list[int]
    submitted: int
    retried: int
    crashed: int
    recalled: int
    recomputed: int
    refused: int
    stale: int
    invalid: int
    unfinished_bytes: int
    clients: int
    clients_held: int
    nannies: int
    engines: dict[str, int]
    engines_rss_bytes: int
    engines_joined: int
    engine_ends: dict[str, int]
    peers_refused: int
    stored_values: int
    stored_bytes: int
    tags: dict[str, tuple[int, int]]
    shares: dict[str, int]
    run: Histogram
    queued: Histogram
    journal: JournalMetrics | None = None
