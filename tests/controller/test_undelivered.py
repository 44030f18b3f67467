"""Promise: a client that does not read its results costs little, and hears all of them, in order,
when it reads again."""

from __future__ import annotations

from headway.config import SchedulerConfig
from headway.controller.undelivered import Undelivered
from headway.core import events as ev
from headway.core.events import Outcome
from headway.wire import messages as m
from tests.controller.conftest import Kit, Peer

NO_LIMIT = SchedulerConfig(hwm=0)
LARGE = b"x" * (m.HEARD_BYTES // 2)


def end_one_by_one(kit: Kit, client: Peer, count: int, payload: bytes = b"") -> list[int]:
    """Submit tasks and let each end in a turn of its own; their ids."""
    engine = kit.engine()
    tasks = client.submit(count)
    assigned: list[m.Assignment] = []
    while len(assigned) < count:
        assigned += engine.hear(m.Assigned).tasks
    ended = kit.controller.scheduler.counters
    for n, task in enumerate(assigned):
        engine.say(m.Outcomes(0, [Outcome(task.task, task.attempt, ev.RAN, payload)]))
        kit.turn(until=lambda n=n: ended.unfinished == count - n - 1)
    return tasks


def undelivered(kit: Kit, client: Peer) -> int:
    peer = kit.controller.peers.clients[ev.ClientId(client.number)]
    return len(peer.undelivered.waiting)


def hear_all(client: Peer, count: int) -> list[int]:
    """As a client hears them, and says so."""
    heard: list[int] = []
    messages = size = 0
    while len(heard) < count:
        results = client.hear(m.Results).results
        heard += [result.task for result in results]
        messages, size = messages + 1, size + sum(len(r.payload or b"") for r in results)
        if messages >= m.HEARD_MESSAGES or size >= m.HEARD_BYTES:
            client.say(m.Heard(messages))
            messages = size = 0
    return heard


def test_large_results_wait_in_the_controller_until_the_client_has_heard_others(start_kit):
    kit = start_kit(scheduler=NO_LIMIT)
    client = kit.client()
    tasks = end_one_by_one(kit, client, 100, LARGE)
    on_its_way = Undelivered().bytes_max // len(LARGE)
    assert undelivered(kit, client) == 100 - on_its_way
    assert hear_all(client, 100) == tasks
    assert undelivered(kit, client) == 0


def test_small_results_too_are_not_sent_without_end(start_kit):
    kit = start_kit(scheduler=NO_LIMIT)
    client = kit.client()
    tasks = end_one_by_one(kit, client, 1_200)
    assert undelivered(kit, client) == 1_200 - Undelivered().messages_max
    assert hear_all(client, 1_200) == tasks


def test_a_client_that_does_not_read_is_not_in_the_way_of_others(start_kit):
    kit = start_kit(scheduler=NO_LIMIT)
    deaf, other = kit.client(), kit.client()
    end_one_by_one(kit, deaf, 50, LARGE)
    assert undelivered(kit, deaf)
    engine = kit.engine("another")
    (task,) = other.submit()
    assigned = engine.hear(m.Assigned).tasks[0]
    engine.say(m.Outcomes(0, [Outcome(assigned.task, assigned.attempt, ev.RAN, b"")]))
    assert [result.task for result in other.hear(m.Results).results] == [task]


def test_one_that_comes_back_asks_for_what_it_missed_and_hears_each_once(start_kit):
    kit = start_kit(scheduler=NO_LIMIT)
    client = kit.client()
    tasks = end_one_by_one(kit, client, 50, LARGE)
    client.heard_all()  # and forgets it: its connection is lost
    client.say(m.ClientHello(m.VERSION, "session", cluster="", nth=2))
    client.hear(m.Welcome)
    assert undelivered(kit, client) == 0
    client.say(m.Resume(tasks))
    assert hear_all(client, 50) == tasks
    assert [h for h in client.heard_all() if isinstance(h, m.Results)] == []
