"""Promise: however many ask, the controller is asked once a second; and nobody waits for long."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from headway import errors
from headway.dashboard import source
from headway.dashboard.source import Source


class Cluster:
    """Makes clients, which answer as the test wants."""

    def __init__(self) -> None:
        self.clients: list[Cluster.Client] = []
        self.trouble: Exception | None = None
        self.asked = 0

    class Client:
        closed = False

        def __init__(self, cluster: Cluster) -> None:
            self._link = self
            self._cluster = cluster

        def ask(self, what: str, timeout_s: float) -> Any:
            self._cluster.asked += 1
            assert what == "statistics"
            if self._cluster.trouble is not None:
                raise self._cluster.trouble
            return {"engines": 3}

        def close(self) -> None:
            self.closed = True

    def connect(self) -> Any:
        self.clients.append(Cluster.Client(self))
        return self.clients[-1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only entry is the time."""
    now = [100.0]
    monkeypatch.setattr(source.time, "monotonic", lambda: now[0])
    return now


def test_an_answer_holds_for_a_second(clock: list[float]):
    cluster = Cluster()
    asked = Source(cluster.connect, owns_clients=True)
    assert [asked.engines(), asked.engines()] == [3, 3]
    assert cluster.asked == 1
    clock[0] += 1.5
    assert asked.engines() == 3
    assert (cluster.asked, len(cluster.clients)) == (2, 1)


def test_many_at_once_share_one_question():
    cluster = Cluster()
    asked = Source(cluster.connect, owns_clients=True)
    found: list[int | None] = []
    threads = [threading.Thread(target=lambda: found.append(asked.engines())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3] * 20
    assert cluster.asked == 1


def test_trouble_holds_for_a_second_and_is_said_once_as_is_its_end(clock: list[float]):
    cluster, said = Cluster(), []
    asked = Source(cluster.connect, owns_clients=True, say=said.append)
    cluster.trouble = errors.ConnectionLost("nobody is there")
    for _ in range(3):
        assert asked.engines() is None
        assert asked.metrics() is None
        clock[0] += 1.5
    assert cluster.asked == 3
    cluster.trouble = None
    assert asked.engines() == 3
    assert said == ["the controller can't be asked: nobody is there",
                    "the controller can be asked again"]  # fmt: skip


def test_a_client_that_is_over_is_replaced_where_it_is_ours(clock: list[float]):
    cluster = Cluster()
    asked = Source(cluster.connect, owns_clients=True)
    asked.engines()
    cluster.clients[0].closed = True
    clock[0] += 1.5
    assert asked.engines() == 3
    assert len(cluster.clients) == 2
    asked.close()
    assert cluster.clients[1].closed


def test_what_is_not_ours_stays_open():
    cluster = Cluster()
    asked = Source(cluster.connect, owns_clients=False)
    asked.engines()
    asked.close()
    assert not cluster.clients[0].closed
