"""Malformed frames on each socket: the controller's, an engine's, a nanny's, a client's."""

from __future__ import annotations

from tests.nemesis import fuzz_controller, fuzz_peers
from tests.nemesis.result import Result

#: On each socket, in one round of the program.
COUNT = 100_000


def run(seed: int, count: int = COUNT) -> list[Result]:
    """So many on each."""
    return [
        fuzz_peers.decoders(seed, count),
        fuzz_peers.clients(seed, count),
        fuzz_peers.engines(seed, count),
        fuzz_controller.run(seed, count),
    ]
