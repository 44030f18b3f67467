"""Promise: a thousand clients and engines are no trouble, even if engines come and go."""

from __future__ import annotations

from tests.nemesis.overload import go


def test_a_thousand_clients_hear_of_each_task_once_while_a_thousand_engines_come_and_go():
    found = go(clients=1_000, engines=1_000, tasks=10, storms=5)
    assert found.is_right(10_000), found
