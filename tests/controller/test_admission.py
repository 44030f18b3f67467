"""Promise: a client that submits faster than engines work is told to hold before memory ends, and
goes on when tasks have ended; whoever has nothing unfinished is never held, so nothing locks up."""

from __future__ import annotations

from collections.abc import Callable

from headway.config import AdmissionConfig, SchedulerConfig
from headway.core import events as ev
from headway.core.events import Outcome
from headway.wire import messages as m
from tests.controller.conftest import Kit, Peer

StartKit = Callable[..., Kit]
NO_LIMIT = SchedulerConfig(hwm=0)


def ask(client: Peer, count: int) -> None:
    """Submit as one batch, and do not wait for its acknowledgement."""
    client.submit_specs([client.spec() for _ in range(count)])


def hear_hold(client: Peer) -> str:
    return client.hear(m.Hold, also=[m.Accepted, m.Results]).why


def end_all(kit: Kit, engine: Peer, count: int, tasks: list[m.Assignment]) -> None:
    """Let the first `count` of what the engine was given end."""
    while len(tasks) < count:
        tasks += engine.hear(m.Assigned).tasks
    ended, tasks[:] = tasks[:count], tasks[count:]
    outcomes = [Outcome(task.task, task.attempt, ev.RAN, b"") for task in ended]
    engine.say(m.Outcomes(0, outcomes))


def test_a_client_alone_may_have_half_of_what_fits_unfinished(start_kit: StartKit):
    kit = start_kit(admission=AdmissionConfig(unfinished_tasks_max=100))
    client = kit.client()
    client.submit(49)
    assert [h for h in client.heard_all() if isinstance(h, m.Hold)] == []
    ask(client, 1)
    why = hear_hold(client)
    assert why.startswith("50 tasks of this client have not ended, with 0 MB of arguments")
    assert "50 of 100 tasks" in why


def test_what_was_on_its_way_when_a_client_is_held_is_taken_in_and_acknowledged(
    start_kit: StartKit,
):
    kit = start_kit(admission=AdmissionConfig(unfinished_tasks_max=10))
    client = kit.client()
    ask(client, 5)
    hear_hold(client)
    client.submit(20)  # returns once it is accepted
    assert kit.controller.scheduler.statistics().submitted == 25


def test_a_held_client_goes_on_when_enough_of_its_tasks_have_ended(start_kit: StartKit):
    kit = start_kit(admission=AdmissionConfig(unfinished_tasks_max=100), scheduler=NO_LIMIT)
    client, engine = kit.client(), kit.engine()
    tasks: list[m.Assignment] = []
    ask(client, 60)
    assert hear_hold(client)
    end_all(kit, engine, 20, tasks)
    assert hear_hold(client) == ""


def test_the_bytes_of_arguments_count_as_tasks_do(start_kit: StartKit):
    kit = start_kit(admission=AdmissionConfig(unfinished_bytes_max=10_000_000), scheduler=NO_LIMIT)
    client = kit.client()
    spec = client.spec()
    spec.payload = b"x" * 6_000_000
    client.submit_specs([spec])
    assert "1 tasks of this client have not ended, with 6 MB of arguments" in hear_hold(client)
    assert kit.controller.scheduler.statistics().unfinished_bytes == 6_000_000
    end_all(kit, kit.engine(), 1, [])
    assert hear_hold(client) == ""
    assert kit.controller.scheduler.statistics().unfinished_bytes == 0


def test_who_has_nothing_unfinished_is_let_in_however_much_others_have(start_kit: StartKit):
    kit = start_kit(admission=AdmissionConfig(unfinished_tasks_max=10), scheduler=NO_LIMIT)
    big, small = kit.client(), kit.client()
    ask(big, 50)
    hear_hold(big)
    (spec,) = specs = [small.spec()]
    small.submit_specs(specs)
    assert hear_hold(small)  # it has one, and nothing is free
    engine, tasks = kit.engine(), []
    while spec.id not in {each.task for each in tasks}:
        tasks += engine.hear(m.Assigned).tasks
    (its,) = [each for each in tasks if each.task == spec.id]
    engine.say(m.Outcomes(0, [Outcome(its.task, its.attempt, ev.RAN, b"")]))
    assert hear_hold(small) == ""


def test_a_client_that_comes_back_knows_of_no_hold_and_is_told_again(start_kit: StartKit):
    kit = start_kit(admission=AdmissionConfig(unfinished_tasks_max=10))
    client = kit.client()
    ask(client, 9)
    first = hear_hold(client)
    client.say(m.ClientHello(m.VERSION, "session", cluster="", nth=2))
    client.hear(m.Welcome, also=[m.Accepted])
    assert hear_hold(client) == first


def test_a_held_client_that_leaves_gives_back_its_room(start_kit: StartKit):
    kit = start_kit(admission=AdmissionConfig(unfinished_tasks_max=100))
    big, other = kit.client(), kit.client()
    ask(big, 90)
    hear_hold(big)
    ask(other, 20)
    hear_hold(other)
    big.say(m.Bye())
    assert hear_hold(other) == ""
