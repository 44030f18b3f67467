"""Promise: a controller that goes away and comes back costs its clients nothing but the time.

Nothing is sent to it twice, nothing is forgotten, every future ends; and where it does not come
back, or is another, that is said.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs
from scripted_controller import DEADLINE_S, FakeController, wait_until

from headway import Client, errors
from headway.config import WireConfig
from headway.core.events import task_id
from headway.core.states import TaskState
from headway.wire import messages as m

Connect = Callable[..., Client]

WAIT_S = 60.0


def double(x: Any) -> Any:
    return x * 2


@pytest.fixture(params=["ipc", "tcp"])
def controller(request, start_controller) -> FakeController:
    return start_controller(hold=True, tcp=request.param == "tcp", reconnect_s=WAIT_S)


def local(start_controller: Callable[..., FakeController], **options: Any) -> FakeController:
    return start_controller(**{"hold": True, "reconnect_s": WAIT_S, **options})


def is_away(client: Client) -> bool:
    return client._link.is_away


def wait_heard(controller: FakeController, kind: type, count: int) -> list[Any]:
    """The messages of one class, once there are so many."""
    wait_until(lambda: len(controller.of_type(kind)) >= count, f"{count} {kind.__name__}")
    return controller.of_type(kind)


def kill(controller: FakeController, client: Client) -> None:
    controller.be_killed()
    wait_until(lambda: is_away(client), "the client's notice")


# --- what it says again -------------------------------------------------------------------------


def test_futures_wait_for_a_controller_that_comes_back(controller, connect):
    # Given a task that runs, and one that is done
    client = connect(controller)
    open_, done = client.submit(double, 1), client.submit(double, 2)
    wait_until(lambda: len(controller.tasks()) == 2)
    controller.say_result(m.Result(done.node, TaskState.SUCCEEDED, b"\x80\x05K\x04.", 0))
    assert done.result(10) == 4
    # When the controller is killed, and another takes over
    wait_until(lambda: not client._link.session.window_tasks)
    kill(controller, client)
    assert not open_.done()
    before = len(controller.heard)
    controller.come_back()
    # Then the client says who it is, and what it has not heard of, and nothing else
    wait_heard(controller, m.Resume, 1)
    first, second = controller.of_type(m.ClientHello)
    assert second == structs.replace(first, cluster="fake", nth=2)
    said = [x for x in controller.heard[before:] if not isinstance(x, m.Ping)]
    assert said == [second, m.Resume([open_.node])]
    # And all goes on
    controller.release_held()
    assert open_.result(10) == 2
    assert client.submit(double, 5).result(10) == 10


def test_what_was_not_accepted_is_sent_again_in_order_and_nothing_twice(controller, connect):
    # Given a task that was accepted, and then a controller that takes in nothing any more
    client = connect(controller)
    a = client.submit(double, 1)
    wait_until(lambda: not client._link.session.window_tasks)
    controller.deaf = True
    b = client.submit(double, b"x" * 100_000)
    wait_heard(controller, m.Submit, 2)
    client._link.cancel([a.node], False, False)
    wait_heard(controller, m.Cancel, 1)
    c = client.submit(double, 3)
    lost = wait_heard(controller, m.Submit, 3)[1:]
    # When it is killed, and another takes over
    kill(controller, client)
    before = len(controller.heard)
    controller.come_back()
    # Then that is sent again as it was, in order, before anything else
    wait_until(a.cancelled)
    controller.release_held()
    assert (b.result(10), c.result(10)) == (b"x" * 200_000, 6)
    again = [x for x in controller.heard[before:] if not isinstance(x, m.Ping)]
    hello, submit_b, cancel, submit_c, resume = again
    assert hello.nth == 2
    assert [submit_b, cancel, submit_c] == [lost[0], m.Cancel(3, [a.node]), lost[1]]
    assert [x.batch for x in (submit_b, cancel, submit_c)] == [2, 3, 4]
    assert resume == m.Resume([a.node, b.node, c.node])


def test_a_release_that_was_lost_is_sent_again(controller, connect):
    controller.hold = False
    client = connect(controller)
    future = client.submit(double, 1)
    node = future.node
    assert future.result(10) == 2
    controller.deaf = True
    del future
    wait_heard(controller, m.Release, 1)
    kill(controller, client)
    controller.come_back()
    assert wait_heard(controller, m.Release, 2) == [m.Release(2, [node])] * 2
    wait_until(lambda: not client._link.session.statistics().batches)


def test_a_result_that_was_lost_is_told_again(controller, connect):
    # Given a controller that ended a task, and was killed before anybody heard of it
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    kill(controller, client)
    controller.release_held()
    wait_until(lambda: controller.ends)
    controller.come_back()
    assert future.result(10) == 2


def test_what_is_heard_twice_counts_once(controller, connect):
    client = connect(controller)
    told: list[Any] = []
    future = client.submit(double, 1)
    future.add_done_callback(told.append)
    controller.release_held()
    assert future.result(10) == 2
    # When the same end is told again, and another one
    controller.say(m.Results([*controller.ends.values()]))
    controller.say_result(m.Result(future.node, TaskState.FAILED))
    # Then nothing comes of it
    assert client.submit(double, 2).result(10) == 4
    assert (future.result(0), told) == (2, [future])


def test_a_task_that_nobody_knows_any_more_is_lost(controller, connect):
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    kill(controller, client)
    controller.states.clear()
    controller.come_back()
    with pytest.raises(errors.EngineError, match="task 1-1 is not known any more"):
        future.result(10)
    assert future.state == "lost"


def test_questions_are_put_again_and_wait_for_the_answer(controller, connect):
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    controller.deaf = True
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        # Given a question that is lost with the controller, and one that is put when it is away
        lost = pool.submit(future.explain)
        wait_heard(controller, m.Ask, 1)
        kill(controller, client)
        late = pool.submit(client.engines)
        wait_until(lambda: client._link.session.statistics().questions == 2)
        # When it is back, both are answered
        controller.come_back()
        assert lost.result(10) == "task 1-1 is fine"
        assert [engine.id for engine in late.result(10)] == ["e0"]
    asked = [(ask.number, ask.what) for ask in controller.of_type(m.Ask)]
    assert asked == [(1, "explain"), (1, "explain"), (2, "engines")]


def test_a_future_of_a_task_that_was_never_sent_is_not_asked_about(controller, connect):
    # Given a task that is submitted while the controller is away
    client = connect(controller)
    kill(controller, client)
    controller.hold = False
    future = client.submit(double, 1)
    controller.come_back()
    # Then it is sent when that is back, and was never missed
    assert future.result(10) == 2
    assert controller.of_type(m.Resume) == []
    assert len(controller.of_type(m.Submit)) == 1


def test_it_may_happen_again_and_again(controller, connect):
    client = connect(controller)
    futures = []
    for n in range(4):
        futures += client.map(double, range(n))
        kill(controller, client)
        controller.come_back(epoch=n + 2)
    controller.release_held()
    assert client.gather(futures, timeout=10) == [0, 0, 2, 0, 2, 4]


def test_a_connection_that_breaks_and_is_there_again_at_once_loses_nothing(controller, connect):
    client = connect(controller)
    controller.hold = False
    futures = []
    for _ in range(5):
        futures += client.map(double, range(20))
        controller.break_connections()
    assert client.gather(futures, timeout=10) == [*range(0, 40, 2)] * 5


def test_several_clients_come_back_each_as_who_it_was(controller, connect):
    clients = [connect(controller) for _ in range(3)]
    futures = [client.submit(double, n) for n, client in enumerate(clients)]
    for client in clients:
        wait_until(lambda client=client: not client._link.session.window_tasks)
    controller.be_killed()
    controller.come_back()
    controller.release_held()
    assert [future.result(10) for future in futures] == [0, 2, 4]
    assert [future.id for future in futures] == ["1-1", "2-1", "3-1"]


# --- the conversation ---------------------------------------------------------------------------


def test_a_client_that_is_asked_who_it_is_says_so(start_controller, connect):
    controller = local(start_controller)
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    controller.say(m.WhoAreYou())
    wait_heard(controller, m.Resume, 1)
    assert [(hello.cluster, hello.nth) for hello in controller.of_type(m.ClientHello)] == [
        ("", 1),
        ("fake", 2),
    ]
    controller.release_held()
    assert future.result(10) == 2


def test_nothing_is_said_before_the_welcome_to_the_last_hello_and_little_is_heard(
    start_controller, connect
):
    # Given a client that has said hello twice since, which was not answered
    controller = local(start_controller)
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    controller.welcoming = False
    controller.say(m.WhoAreYou())
    wait_heard(controller, m.ClientHello, 2)
    controller.say(m.WhoAreYou())
    wait_heard(controller, m.ClientHello, 3)
    before = len(controller.heard)
    client.submit(double, 2)
    # When it hears of its task, and the answer to an older hello
    controller.release_held()
    controller.say(m.Welcome(m.VERSION, "fake", 1, 1, 0.05, 15.0, 1, WAIT_S, 2))
    controller.say(m.WhoAreYou())
    # Then all that it says is who it is
    wait_heard(controller, m.ClientHello, 4)
    assert [type(message) for message in controller.heard[before:]] == [m.ClientHello]
    assert is_away(client)
    assert not future.done()
    # When the last one is answered, all is heard
    controller.say(m.Welcome(m.VERSION, "fake", 1, 1, 0.05, 15.0, 1, WAIT_S, 4))
    assert future.result(10) == 2


def test_a_controller_that_falls_silent_is_looked_for_on_a_new_connection(
    start_controller, connect
):
    # Given a controller that says nothing any more, as if it were stopped
    controller = local(start_controller, heartbeat_timeout_s=0.3)
    client = connect(controller)
    future = client.submit(double, 1)
    controller.pinging = False
    # Then the client says hello again
    wait_heard(controller, m.ClientHello, 2)
    controller.pinging = True
    controller.release_held()
    assert future.result(10) == 2
    assert client.submit(double, 2).result(10) == 4


def test_the_last_words_of_a_controller_count_also_if_its_connection_ends_with_them(
    start_controller, connect
):
    # Given a client that is busy with a callback
    controller = local(start_controller)
    client = connect(controller)
    entered, leave = threading.Event(), threading.Event()
    first, second = client.submit(double, 1), client.submit(double, 2)
    first.add_done_callback(lambda _: (entered.set(), leave.wait(DEADLINE_S)))
    wait_until(lambda: len(controller.states) == 2)
    controller.say_result(m.Result(first.node, TaskState.SUCCEEDED, b"\x80\x05K\x02.", 0))
    assert entered.wait(DEADLINE_S)
    # When the controller tells of a task, says goodbye, and ends
    controller.say_result(m.Result(second.node, TaskState.SUCCEEDED, b"\x80\x05K\x04.", 0))
    controller.say(m.Bye("told to"))
    controller.be_killed(linger_ms=1000)
    leave.set()
    # Then both were heard
    assert second.result(10) == 4
    wait_until(lambda: client._link.refusal)
    with pytest.raises(errors.ConnectionLost, match="the cluster fake was stopped: told to"):
        client.submit(double, 3)


# --- while it is away ---------------------------------------------------------------------------


def test_the_user_is_told_once_that_it_is_away_and_once_that_it_is_back(
    controller, connect, caplog
):
    client = connect(controller)
    kill(controller, client)
    wait_until(lambda: caplog.records)
    controller.come_back(epoch=7)
    wait_until(lambda: len(caplog.records) == 2)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            f"the controller at {controller.address} does not answer; trying again for 60 s",
        ),
        (logging.WARNING, f"the controller at {controller.address} is back (epoch 7)"),
    ]


def test_submit_goes_on_up_to_the_window_and_then_waits(start_controller, connect):
    controller = local(start_controller, hold=False)
    client = connect(controller, wire=WireConfig(window_tasks=5))
    kill(controller, client)
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.extend(map(client.submit, [list] * 8)))
    thread.start()
    wait_until(lambda: client._link.session.is_full)
    thread.join(0.05)
    assert thread.is_alive()
    assert client._link.session.window_tasks == 5
    controller.come_back()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert client.gather(made, timeout=10) == [[]] * 8


def test_a_future_says_pending_and_a_question_says_why_it_is_not_answered(
    start_controller, connect, monkeypatch
):
    controller = local(start_controller)
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    assert future.state == "waiting"
    kill(controller, client)
    assert future.state == "pending"
    assert not future.running()
    with pytest.raises(errors.ConnectionLost) as caught:
        client._link.ask("statistics", timeout_s=0.05)
    assert str(caught.value) == (
        "there was no answer to 'statistics' within 0.05 s: the controller at "
        f"{controller.address} does not answer; trying again for 60 s"
    )
    # And a wish to cancel is kept
    monkeypatch.setattr("headway.client.cancelling.WAIT_S", 0.05)
    assert future.cancel() is False
    controller.come_back()
    with pytest.raises(errors.TaskCancelled):
        future.result(10)


def test_closing_does_not_wait_for_it(controller, connect):
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    kill(controller, client)
    client.close()
    with pytest.raises(errors.TaskCancelled, match="the client was closed"):
        future.result(0)
    assert client._link.ended.is_set()
    # And when it is back, nobody is there
    controller.come_back()
    assert len(controller.of_type(m.ClientHello)) == 1


def test_a_submit_and_a_question_that_wait_for_it_end_when_the_client_is_closed(
    start_controller, connect
):
    controller = local(start_controller)
    client = connect(controller, wire=WireConfig(window_tasks=1))
    kill(controller, client)
    client.submit(double, 1)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.submit, double, 2), pool.submit(client.engines)]
        wait_until(lambda: client._link.session.statistics().questions)
        client.close()
        for each in waiting:
            with pytest.raises(errors.ConnectionLost, match="closed"):
                each.result(10)


# --- when it does not come back -----------------------------------------------------------------


def test_after_a_while_it_is_given_up(start_controller, connect):
    controller = local(start_controller, reconnect_s=0.3)
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    kill(controller, client)
    words = r"was lost, and did not come back within 0\.3 s"
    with pytest.raises(errors.ConnectionLost, match=words):
        future.result(10)
    with pytest.raises(errors.ConnectionLost, match=words):
        client.submit(double, 2)
    assert future.state == "lost"


def test_one_that_is_there_and_does_not_welcome_is_given_up_too(start_controller, connect):
    controller = local(start_controller, reconnect_s=0.3)
    future = connect(controller).submit(double, 1)
    wait_until(lambda: controller.states)
    controller.welcoming = False
    controller.say(m.WhoAreYou())
    with pytest.raises(errors.ConnectionLost, match="was lost, and did not come back within"):
        future.result(10)


def test_where_nobody_comes_back_the_loss_is_a_silence_as_any_other(start_controller, connect):
    controller = local(start_controller, reconnect_s=0.0, heartbeat_timeout_s=0.3)
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    controller.be_killed()
    with pytest.raises(errors.ConnectionLost, match="has said nothing for 0"):
        future.result(10)


def test_another_cluster_at_the_same_address_is_told_apart(controller, connect):
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    kill(controller, client)
    controller.cluster = "other"
    controller.come_back()
    words = "there is now the cluster other, .* of the cluster fake, which is gone"
    with pytest.raises(errors.ConnectionLost, match=words):
        future.result(10)


def test_a_client_that_was_given_up_meanwhile_is_told(controller, connect):
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    kill(controller, client)
    controller.refuse = "this client was given up while it was away"
    controller.come_back()
    with pytest.raises(errors.ConnectionLost, match="connection: this client was given up while"):
        future.result(10)


def test_a_controller_that_has_lost_its_memory_is_not_worked_with(controller, connect):
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: not client._link.session.window_tasks)
    kill(controller, client)
    for known in controller.clients.values():
        known.batch = 0
    controller.come_back()
    with pytest.raises(errors.ConnectionLost, match="without the batches 1 to 1 of this client"):
        future.result(10)


def test_a_connection_that_breaks_each_time_before_anything_comes_of_it_is_given_up(
    start_controller, connect, monkeypatch
):
    monkeypatch.setattr("headway.client.presence._STAYS_IN_VAIN_MAX", 3)
    controller = local(start_controller)
    client = connect(controller)
    future = client.submit(double, 1)
    wait_until(lambda: controller.states)
    controller.deaf = True
    for n in range(2, 5):
        controller.say(m.WhoAreYou())
        wait_heard(controller, m.ClientHello, n)
    with pytest.raises(errors.ConnectionLost, match="was lost 3 times in a row, each time before"):
        future.result(10)
    assert future.node == task_id(1, 1)
