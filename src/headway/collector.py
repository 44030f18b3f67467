"""Python's collector of cycles, told about processes that schedule."""

from __future__ import annotations

import gc


def tune_garbage_collection() -> None:
    """Let the collector look rarely: a scheduler makes no cycles on its hot path, and a full look
    at a million waiting tasks would stop it for half a second."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
