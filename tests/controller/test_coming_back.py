"""A peer whose connection was lost is away, not gone: what it is told when it comes back."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from headway.core import events as ev
from headway.core.states import TaskState
from headway.wire import codec
from headway.wire import messages as m
from tests.controller.conftest import CLUSTER, WIRE, Kit, Peer, ran


def lose_connection(kit: Kit, peer: Peer) -> None:
    """Nobody hears `peer` any more, nor does it; the controller has noticed."""
    peer.socket.close(linger=0)
    known = kit.controller.peers.find(peer.identity)
    kit.controller.reception.is_away(known, kit.now)
    kit.turn()


def come_back(kit: Kit, peer: Peer, hello: Any) -> m.Welcome:
    """`peer` connects again, and says `hello`."""
    decoder = {"cl": codec.to_client, "en": codec.to_engine}[peer.identity[:2].decode()]()
    again = kit.peer("", decoder, peer.identity)
    peer.socket = again.socket
    peer.say(hello)
    return peer.hear(m.Welcome)


def client_hello(nth: int = 2) -> m.ClientHello:
    return m.ClientHello(m.VERSION, "session", cluster=CLUSTER, nth=nth)


def engine_hello(*held: m.Held, nth: int = 2) -> m.EngineHello:
    return m.EngineHello(
        m.VERSION, "engine-token", "nanny-token", 1, "elsewhere", {}, CLUSTER, list(held), nth
    )


# --- clients -------------------------------------------------------------------------------------


def test_a_client_that_comes_back_has_its_number_and_hears_which_batch_was_the_last(kit: Kit):
    client = kit.client()
    client.submit(3)
    lose_connection(kit, client)
    welcome = come_back(kit, client, client_hello(nth=2))
    assert (welcome.number, welcome.accepted, welcome.nth) == (client.number, 1, 2)
    assert kit.controller.scheduler.statistics().submitted == 3


def test_a_client_that_says_hello_again_before_its_loss_was_noticed_is_welcomed_back(kit: Kit):
    client = kit.client()
    client.submit()
    client.say(client_hello())
    assert client.hear(m.Welcome).accepted == 1
    assert kit.has_client(client)


def test_ends_that_a_client_missed_are_told_when_it_asks_and_unknown_tasks_are_lost(kit: Kit):
    client, engine = kit.client(), kit.engine()
    done, waiting = client.submit(2)
    assigned = engine.hear(m.Assigned)
    lose_connection(kit, client)
    engine.say(ran(assigned))
    kit.settle()
    come_back(kit, client, client_hello())
    unknown = ev.TaskId(done + 1000)
    client.say(m.Resume([done, waiting, unknown]))
    results = client.hear(m.Results).results
    assert [(r.task, r.state, r.payload) for r in results] == [
        (done, TaskState.SUCCEEDED, b"result"),
        (unknown, TaskState.LOST, None),
    ]


def test_the_exception_of_a_task_that_failed_meanwhile_is_told_too(kit: Kit):
    client, engine = kit.client(), kit.engine()
    (task,) = client.submit()
    assigned = engine.hear(m.Assigned).tasks[0]
    lose_connection(kit, client)
    error = ev.ErrorInfo(["builtins.ValueError"], "no")
    outcome = ev.Outcome(assigned.task, assigned.attempt, ev.RAISED, b"pickle", error=error)
    engine.say(m.Outcomes(0, [outcome]))
    kit.settle()
    come_back(kit, client, client_hello())
    client.say(m.Resume([task]))
    result = client.hear(m.Results).results[0]
    assert (result.state, result.payload) == (TaskState.FAILED, b"pickle")


def test_a_client_that_was_given_up_hears_so_when_it_comes_back(kit: Kit):
    client = kit.client()
    lose_connection(kit, client)
    kit.turn(WIRE.away_timeout_s + WIRE.heartbeat_s)
    client.socket = kit.peer("", codec.to_client(), client.identity).socket
    for _ in range(2):  # the first answer may have been lost
        client.say(client_hello())
        assert "given up while it was away" in client.hear(m.Refused).reason


@pytest.mark.parametrize("role", ["client", "engine"])
def test_a_peer_of_another_cluster_is_refused_with_both_names(kit: Kit, role: str):
    hello = client_hello() if role == "client" else engine_hello()
    decoder = codec.to_client() if role == "client" else codec.to_engine()
    peer = kit.peer(role, decoder)
    peer.say(structs.replace(hello, cluster="another"))
    reason = peer.hear(m.Refused).reason
    assert CLUSTER in reason
    assert "no longer another" in reason


def test_who_speaks_without_a_hello_is_asked_who_it_is(kit: Kit):
    client = kit.client()
    lose_connection(kit, client)
    client.socket = kit.peer("", codec.to_client(), client.identity).socket
    client.say(m.Ask(1, "engines"))
    client.hear(m.WhoAreYou)
    stranger = kit.peer("engine", codec.to_engine())
    stranger.say(m.Returned([]))
    stranger.hear(m.WhoAreYou)


def test_who_is_away_is_asked_every_heartbeat(kit: Kit):
    client = kit.client()
    lose_connection(kit, client)
    client.socket = kit.peer("", codec.to_client(), client.identity).socket
    for _ in range(500):
        kit.router.poll(10)
        kit.turn(WIRE.heartbeat_s)
        if client.socket.poll(0):
            break
    client.hear(m.WhoAreYou)


# --- engines -------------------------------------------------------------------------------------


def test_an_engine_that_comes_back_with_all_it_had_goes_on(kit: Kit):
    client, engine = kit.client(), kit.engine()
    client.submit(2)
    assigned = engine.hear(m.Assigned)
    lose_connection(kit, engine)
    held = [m.Held(task.task, task.attempt) for task in assigned.tasks]
    welcome = come_back(kit, engine, engine_hello(*held))
    assert (welcome.number, welcome.accepted) == (engine.number, 0)
    engine.say(ran(assigned))
    assert client.hear(m.Results).results[0].state == TaskState.SUCCEEDED
    assert kit.controller.scheduler.statistics().recalled == 0


def test_what_never_reached_an_engine_is_placed_again_as_a_new_attempt(kit: Kit):
    client, engine = kit.client(), kit.engine()
    (task,) = client.submit()
    engine.hear(m.Assigned)
    lose_connection(kit, engine)
    come_back(kit, engine, engine_hello())
    again = engine.hear(m.Assigned)
    assert [(t.task, t.attempt) for t in again.tasks] == [(task, 2)]
    assert again.new_functions  # it may have missed these too


def test_no_task_is_placed_on_an_engine_that_is_away(kit: Kit):
    client, engine = kit.client(), kit.engine()
    lose_connection(kit, engine)
    (task,) = client.submit()
    assert kit.controller.scheduler.tasks[task].state is TaskState.READY
    come_back(kit, engine, engine_hello())
    assert engine.hear(m.Assigned).tasks[0].task == task


def test_outcomes_that_come_twice_count_once_and_are_accepted_twice(kit: Kit):
    client, engine = kit.client(), kit.engine()
    client.submit()
    outcomes = ran(engine.hear(m.Assigned))
    for _ in range(2):
        engine.say(m.Outcomes(1, outcomes.outcomes))
        assert engine.hear(m.Accepted).batch == 1
    assert kit.controller.scheduler.statistics().stale == 0


def test_a_gap_in_an_engines_batches_means_that_a_connection_was_lost(kit: Kit):
    engine = kit.engine()
    engine.say(m.Outcomes(2, []))
    engine.hear(m.WhoAreYou)
    assert kit.has_engine(engine)


def test_an_engine_that_comes_back_is_asked_again_to_stop_what_was_cancelled(kit: Kit):
    client, engine = kit.client(), kit.engine()
    (task,) = client.submit()
    held = engine.hear(m.Assigned).tasks[0]
    lose_connection(kit, engine)
    client.say(m.Cancel(0, [task]))
    kit.settle()
    come_back(kit, engine, engine_hello(m.Held(held.task, held.attempt)))
    assert engine.hear(m.StopTasks).tasks == [task]


def test_an_engine_that_stays_away_is_given_up_and_its_tasks_are_placed_anew(kit: Kit):
    client, engine = kit.client(), kit.engine()
    (task,) = client.submit()
    engine.hear(m.Assigned)
    lose_connection(kit, engine)
    client.say(m.Ping())
    assert kit.router.poll(10_000)
    kit.turn(WIRE.away_timeout_s + WIRE.heartbeat_s)
    assert not kit.has_engine(engine)
    assert kit.controller.scheduler.tasks[task].state is TaskState.READY
    engine.socket = kit.peer("", codec.to_engine(), engine.identity).socket
    engine.say(engine_hello())
    assert "given up" in engine.hear(m.Refused).reason


# --- nannies -------------------------------------------------------------------------------------


def test_a_nanny_that_comes_back_tells_who_died_and_who_is_there(kit: Kit):
    client, nanny = kit.client(), kit.nanny()
    dead, silent, alive = (kit.engine(token) for token in ("dead", "silent", "alive"))
    (task,) = client.submit(targets=[dead.number])
    dead.hear(m.Assigned)
    died = m.EngineDied("dead", ev.EngineEnd("was killed by SIGKILL"), task, True)
    nanny.say(m.NannyHello(m.VERSION, "nanny-token", 1, "elsewhere", CLUSTER, ["alive"], [died], 2))
    nanny.hear(m.Welcome)
    kit.turn(1.0, until=lambda: not kit.has_engine(dead))
    assert not kit.has_engine(silent)
    assert kit.has_engine(alive)


def test_a_nanny_that_comes_back_is_told_again_what_is_to_be_stopped(kit: Kit):
    client, nanny, engine = kit.client(), kit.nanny(), kit.engine("alive")
    (task,) = client.submit()
    engine.hear(m.Assigned)
    kit.controller.reception.is_away(kit.controller.peers.nannies["nanny-token"], kit.now)
    client.say(m.Cancel(0, [task]))
    engine.hear(m.StopTasks)
    nanny.say(m.NannyHello(m.VERSION, "nanny-token", 1, "elsewhere", CLUSTER, ["alive"], [], 2))
    nanny.hear(m.Welcome)
    assert nanny.hear(m.InterruptTasks) == m.InterruptTasks("alive", [task])


@pytest.mark.parametrize("role", ["client", "engine"])
def test_a_goodbye_counts_also_when_its_connection_was_found_closed_before_it_was_read(kit, role):
    peer = kit.client() if role == "client" else kit.engine()
    (known,) = kit.controller.peers
    peer.say(m.Bye())
    assert kit.router.poll(10_000)  # it is there, and not read
    kit.controller.reception.is_away(known, kit.now)
    kit.turn(until=lambda: list(kit.controller.peers) == [])
    assert not kit.controller.scheduler.clients
    assert not kit.controller.scheduler.engines
