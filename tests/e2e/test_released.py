"""Promise: nothing is kept of tasks that have ended once their futures are gone, neither in the
controller nor in the client, however many there were. `benchmarks/memory_released.py` looks at the
memory of all processes after millions."""

from __future__ import annotations

import gc

import pytest

import headway
from tests.e2e.conftest import wait_until


@pytest.mark.parametrize("durability", ["off", "normal"])
def test_what_was_run_and_let_go_leaves_nothing_behind(nothing_left: str, durability: str):
    with headway.Client(engines=2, durability=durability) as client:
        for _ in range(5):
            squares = client.map(pow, range(1_000), [2] * 1_000)
            total = client.submit(sum, squares)
            client.options(after=[total, squares]).submit(abs, total).result(timeout=60)
            del squares, total
        gc.collect()

        def left() -> dict[str, int]:
            counted = client.statistics()
            return {
                "tasks": sum(counted["tasks"].values()),
                "groups": counted["groups"],
                "bytes": counted["unfinished_bytes"],
                "undelivered": counted["undelivered"],
            }

        wait_until(lambda: not any(left().values()), "the controller to forget")
        assert client.statistics()["submitted"] == 5 * 1_002

        def held() -> tuple[int, ...]:
            session = client._link.session.statistics()
            counts = session.open_tasks, session.window_tasks, session.window_bytes
            return (*counts, session.batches, session.names)

        wait_until(lambda: not any(held()), "the client to forget")
