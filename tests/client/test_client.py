"""The client against a scripted controller: what it sends, and what becomes of the answers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import pytest
from scripted_controller import FakeController, wait_until

import headway
from headway import Client, Dependency, errors
from headway.client import cancelling
from headway.client.active import active_client
from headway.config import WireConfig
from headway.core import problems
from headway.core.events import NEED_ALL, ON_DONE, GroupSpec, TaskOptions, task_id
from headway.core.problems import Problem
from headway.core.states import TaskState
from headway.wire import messages as m

Start = Callable[..., FakeController]
Connect = Callable[..., Client]


def double(x: Any) -> Any:
    return x * 2


def fail() -> None:
    raise KeyError("no such thing")


# --- submit, map, gather ------------------------------------------------------------------------


def test_a_task_gives_its_value(client):
    future = client.submit(double, 4)
    assert future.result(10) == 8
    assert (future.id, future.state, future.engine) == ("1-1", "succeeded", "e0")
    assert client.submit(dict, a=1, fn=2).result(10) == {"a": 1, "fn": 2}


def test_a_task_without_arguments_has_no_payload(client, controller):
    client.submit(list).result(10)
    (task,) = controller.tasks()
    assert task.payload == b""
    assert task.inputs is task.after is task.follow is task.options is None


def test_futures_in_arguments_are_data_edges_at_any_depth(client, controller):
    a, b = client.submit(double, 1), client.submit(double, 2)
    c = client.submit(dict, x=[a, {"deep": (b, a)}])
    assert c.result(10) == {"x": [2, {"deep": (4, 2)}]}
    assert controller.tasks()[2].inputs == [a.node, b.node]


def test_map_pairs_its_iterables_as_the_builtin_does_and_gather_keeps_the_order(client):
    group = client.map(pow, range(5), [2] * 3)
    assert isinstance(group, headway.Group)
    assert isinstance(group, list)
    assert client.gather(group) == [0, 1, 4]
    assert client.submit(sum, group).result(10) == 5
    assert client.gather([group[0], [group[1], (group[2],)]]) == [0, [1, [4]]]
    assert client.gather(group[2]) == 4


def test_an_empty_map_says_nothing(client, controller):
    group = client.map(double, [])
    assert group == []
    assert client.gather(group) == []
    assert controller.of_type(m.Submit) == []


def test_gather_raises_what_the_first_failure_in_order_raises(client):
    futures = [client.submit(double, 1), client.submit(fail), client.submit(double)]
    with pytest.raises(KeyError, match="no such thing") as caught:
        client.gather(futures)
    assert "raise KeyError" in str(caught.value.__cause__)
    with pytest.raises(TypeError, match="gather takes futures, not 3"):
        client.gather([3])


def test_gather_has_one_deadline_for_all(client, controller):
    controller.hold = True
    futures = client.map(double, range(3))
    with pytest.raises(TimeoutError):
        client.gather(futures, timeout=0.01)
    controller.release_held()
    assert client.gather(futures, timeout=10) == [0, 2, 4]


@pytest.mark.parametrize("fn", [None, 3, "pow"])
def test_what_cant_be_called_is_refused_at_once(client, controller, fn):
    with pytest.raises(TypeError, match="can't be called"):
        client.submit(fn)
    with pytest.raises(TypeError, match="at least one iterable"):
        client.map(double)
    assert controller.of_type(m.Submit) == []


def test_what_cant_be_pickled_is_refused_at_once_by_name(client, controller):
    lock = threading.Lock()
    with pytest.raises(errors.SerializationError, match=r"argument 2 .*lock.* of double"):
        client.submit(double, 1, lock)
    with pytest.raises(errors.SerializationError, match=r"the function .* can't be pickled"):
        client.submit(lambda: lock)
    assert controller.of_type(m.Submit) == []


def test_what_is_larger_than_a_frame_may_be_is_refused_at_once(controller, connect):
    client = connect(controller, wire=WireConfig(inline_bytes_max=100, frame_bytes_max=1000))
    with pytest.raises(errors.SerializationError, match="the arguments of double: 2,"):
        client.submit(double, b"x" * 2000)
    assert client.submit(double, b"x" * 300).result(10) == b"x" * 600  # a frame of its own


def test_a_function_is_sent_once_and_a_changed_closure_anew(client, controller):
    def make() -> tuple[Any, Any]:
        n = 1

        def get() -> int:
            return n

        def put(value: int) -> None:
            nonlocal n
            n = value

        return get, put

    get, put = make()
    assert [client.submit(get).result(10), client.submit(get).result(10)] == [1, 1]
    put(2)
    assert client.submit(get).result(10) == 2
    assert sum(len(s.new_functions) for s in controller.of_type(m.Submit)) == 2


# --- options ------------------------------------------------------------------------------------


def test_options_and_conditions_travel_with_the_task(client, controller):
    a = client.submit(double, 1)
    view = client.options(after=Dependency([a], on="done"), retries=2, label="x")
    b = view.options(retries=3, follow=[a]).submit(double, 2)
    assert b.result(10) == 4
    task = controller.tasks()[1]
    assert task.options == TaskOptions(retries=3, label="x")
    assert (task.after.upstreams, task.after.need, task.after.on) == ([a.node], NEED_ALL, ON_DONE)
    assert task.follow.upstreams == [a.node]
    assert b.label == "x"
    with pytest.raises(TypeError, match="did you mean 'retries'"):
        client.options(retires=1)


def test_a_group_is_made_a_node_once_however_many_depend_on_it(client, controller):
    group = client.map(double, range(3))
    view = client.options(after=group)
    client.gather([*view.map(double, range(2)), client.options(after=[group]).submit(double, 1)])
    groups = [g for s in controller.of_type(m.Submit) for g in s.groups]
    assert groups == [GroupSpec(group.node, [f.node for f in group])]
    assert [t.after.upstreams for t in controller.tasks()[3:]] == [[group.node]] * 3


@pytest.mark.parametrize("name", ["nonsense", "1-", -1])
def test_a_malformed_id_ends_the_task_as_an_unknown_one_would(client, controller, name):
    future = client.options(after=[name]).submit(double, 1)
    with pytest.raises(errors.InvalidDependency, match=r"task 1-1: after: .* is not a task id"):
        future.result(0)
    assert future.state == "impossible"
    assert controller.tasks() == []


def test_a_future_of_another_client_of_the_cluster_is_as_good_as_ours(controller, connect):
    a, b = connect(controller), connect(controller)
    controller.hold = True
    first = a.submit(double, 1)
    second = b.options(after=[first]).submit(double, first)
    controller.release_held()
    assert second.result(10) == 4
    assert [t.id for t in controller.tasks()] == [first.node, second.node]


def test_a_group_may_hold_futures_of_several_clients_of_the_cluster(controller, connect):
    a, b = connect(controller), connect(controller)
    group = b.group([a.submit(double, 1), b.submit(double, 2)])
    assert b.options(after=group).submit(sum, group).result(10) == 6
    # And a client may depend on a group of another one
    assert a.options(after=group).submit(double, 1).result(10) == 2
    assert [g.members for s in controller.of_type(m.Submit) for g in s.groups] == [
        [future.node for future in group]
    ]


def test_a_future_of_another_cluster_is_refused_at_once(start_controller, connect):
    a = connect(start_controller(cluster="one"))
    b = connect(start_controller(cluster="two"))
    theirs = a.submit(double, 1)
    words = "names task 1-1 of cluster one, which cluster two does not know"
    with pytest.raises(errors.InvalidDependency, match=f"an argument {words}"):
        b.submit(double, theirs)
    with pytest.raises(errors.InvalidDependency, match=f"after {words}"):
        b.options(after=[theirs])
    with pytest.raises(errors.InvalidDependency, match="group names"):
        b.group([theirs])


# --- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "state", "error"),
    [
        (problems.KIND_IMPOSSIBLE, TaskState.IMPOSSIBLE, errors.ImpossibleDependency),
        (problems.KIND_TIMEOUT, TaskState.TIMED_OUT, errors.TaskTimeout),
        (problems.KIND_CANCELLED, TaskState.CANCELLED, errors.TaskCancelled),
        (problems.KIND_LOST, TaskState.LOST, errors.EngineError),
    ],
)
def test_each_end_of_a_task_is_its_exception(client, controller, kind, state, error):
    node = task_id(1, 1)
    controller.script[node] = m.Result(node, state, problem=Problem(kind, "because"))
    future = client.submit(double, 1)
    with pytest.raises(error, match="because"):
        future.result(10)
    assert future.state == state.name.lower()


def test_callbacks_may_submit_and_must_not_wait(client, controller):
    controller.hold = True
    told: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def callback(future: Any) -> None:
        try:
            client.submit(double, 1).result()
        except RuntimeError as error:
            told.set_result((client.submit(double, future.result()), str(error)))

    client.submit(double, 2).add_done_callback(callback)
    controller.release_held()
    again, words = told.result(10)
    assert "would wait for itself" in words
    assert again.result(10) == 8


def test_futures_of_a_client_can_be_awaited(client):
    async def main() -> list[int]:
        return await asyncio.gather(*client.map(double, range(3)))

    assert asyncio.run(main()) == [0, 2, 4]


def test_cancel_tells_the_truth(client, controller, monkeypatch):
    monkeypatch.setattr(cancelling, "WAIT_S", 0.5)
    # Given a task that waits, one that runs, and one that is done
    done = client.submit(double, 1)
    done.result(10)
    controller.hold = True
    waits, runs = client.submit(double, 2), client.submit(double, 3)
    wait_until(lambda: runs.node in controller.states)
    controller.states[runs.node] = "running"
    # When all are cancelled
    # Then only the one that waits is
    assert client.cancel([done, waits, runs]) == [False, True, False]
    assert waits.cancelled()
    assert (waits.cancel(), done.cancel(), runs.cancel()) == (True, False, False)
    assert runs.running()
    controller.release_held()
    assert runs.result(10) == 6


def test_cancel_takes_ids_too(client, controller):
    controller.hold = True
    future = client.submit(double, 2)
    wait_until(lambda: controller.states)
    assert client.cancel(future.id) == [True]
    assert client.cancel([future.node, "9-9"]) == [True, False]


def test_cancel_says_how_each_ended_or_where_it_is(client, controller, monkeypatch):
    monkeypatch.setattr(cancelling, "WAIT_S", 0.5)
    done = client.submit(double, 1)
    done.result(10)
    controller.hold = True
    waits, runs = client.submit(double, 2), client.submit(double, 3)
    wait_until(lambda: runs.node in controller.states)
    controller.states[runs.node] = "running"
    report = client.cancel([done, [waits, (runs,)], "9-9"])
    assert isinstance(report, headway.CancelReport)
    assert report == [False, True, False, False]
    assert report.states == ["succeeded", "cancelled", "running", "unknown"]


def test_cancel_without_arguments_is_for_all_that_is_open(client, controller):
    done = client.submit(double, 1)
    done.result(10)
    assert client.cancel() == []
    controller.hold = True
    futures = client.map(double, range(3))
    wait_until(lambda: futures[-1].node in controller.states)
    assert client.cancel() == [True] * 3
    assert all(future.cancelled() for future in futures)
    assert done.result() == 2


def test_downstream_is_asked_for_also_of_what_is_done_and_of_groups_with_a_node(client, controller):
    group = client.map(double, range(2))
    client.gather(group, timeout=10)
    client.options(after=group).submit(double, 1).result(10)
    client.cancel(group)
    assert controller.of_type(m.Cancel) == []  # nothing to do
    client.cancel(group, downstream=True)
    wait_until(lambda: controller.of_type(m.Cancel))
    nodes = [*(future.node for future in group), group.node]
    [cancel] = controller.of_type(m.Cancel)
    assert (cancel.tasks, cancel.queued_only, cancel.downstream) == (nodes, False, True)


def test_cancel_refuses_what_it_does_not_understand_and_sends_nothing(client, controller):
    controller.hold = True
    future = client.submit(double, 1)
    for wrong in (None, 2.5, b"1-1", [future, None]):
        with pytest.raises(TypeError, match="cancel takes futures or ids of tasks, not"):
            client.cancel(wrong)
    with pytest.raises(TypeError, match="downstream=1 is not True or False"):
        client.cancel(future, downstream=1)
    with pytest.raises(ValueError, match="is not a task id"):
        client.cancel([future, "first"])
    client.statistics()  # a question that is answered after whatever was sent before
    assert controller.of_type(m.Cancel) == []


def test_in_a_callback_cancel_says_that_the_wish_was_sent(client, controller):
    controller.hold = True
    first, second = client.submit(double, 1), client.submit(double, 2)
    told: concurrent.futures.Future[Any] = concurrent.futures.Future()
    first.add_done_callback(lambda _: told.set_result(client.cancel([first, second])))
    wait_until(lambda: second.node in controller.states)
    assert first.cancel()
    report = told.result(10)
    assert report == [True, True]
    assert report.states == ["cancelled", "pending"]


def test_what_a_future_held_is_released_after_it(client, controller):
    future = client.submit(double, 1)
    node = future.node
    assert future.result(10) == 2
    del future
    wait_until(lambda: [r for r in controller.of_type(m.Release) if r.nodes == [node]])


def test_questions_are_answered(client, controller):
    (engine,) = client.engines()
    assert (engine.id, engine.pid, engine.load) == ("e0", 7, 1)
    assert client.wait_for_engines(1) == [engine]
    with pytest.raises(TimeoutError, match=r"1 of 2 engines were there after 0 s"):
        client.wait_for_engines(2, timeout=0)
    assert client.statistics() == {"tasks": 0}
    future = client.submit(double, 1)
    for name in (future, future.id, future.node):
        assert client.explain(name) == "task 1-1 is fine"
    with pytest.raises(ValueError, match="'x' is not a task id"):
        client.explain("x")


# --- the window ---------------------------------------------------------------------------------


def test_submit_waits_while_the_window_is_full(controller, connect):
    # Given a controller that acknowledges nothing
    controller.accepting = False
    client = connect(controller, wire=WireConfig(window_tasks=5))
    made: list[Any] = []
    thread = threading.Thread(
        target=lambda: made.extend(client.submit(double, 1) for _ in "12345678")
    )
    # When more is submitted than the window holds
    thread.start()
    # Then what the window holds is sent, and nothing else
    wait_until(lambda: len(controller.tasks()) == 5)
    thread.join(0.05)
    assert thread.is_alive()
    assert len(controller.tasks()) == 5
    # When it is acknowledged, the rest follows
    controller.say(m.Accepted(len(controller.of_type(m.Submit))))
    thread.join(10)
    assert not thread.is_alive()


def test_a_submit_that_waits_ends_when_the_client_is_closed(controller, connect):
    controller.accepting = False
    client = connect(controller, wire=WireConfig(window_tasks=1))
    client.submit(double, 1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.submit, double, 1)
        wait_until(controller.tasks)
        client.close()
        with pytest.raises(errors.ConnectionLost, match="closed"):
            waiting.result(10)


def test_many_tasks_from_many_threads_all_end(start_controller, connect):
    client = connect(start_controller(), wire=WireConfig(window_tasks=50, batch_tasks_max=20))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(client.map, double, range(500)) for _ in range(4)]
        assert all(client.gather(f.result(30)) == [*range(0, 1000, 2)] for f in futures)


# --- output -------------------------------------------------------------------------------------


def test_what_tasks_print_is_shown_with_who_printed_it(client, controller, capsys):
    controller.hold = True
    future = client.options(label="load").submit(double, 1)
    wait_until(controller.tasks)
    node = future.node
    controller.say(m.Output([m.Printed(node, "stdout", "one\ntwo", 0)]))
    controller.say(m.Output([m.Printed(node, "stdout", " and a half\nthree", 0)]))
    controller.say(m.Output([m.Printed(None, "stderr", "engine\n", 1)]))
    controller.release_held()
    # Then all of it is there once the result is, unfinished lines too
    assert future.result(10) == 2
    out, err = capsys.readouterr()
    assert out == "[e0 1-1 load] one\n[e0 1-1 load] two and a half\n[e0 1-1 load] three\n"
    assert err == "[e1] engine\n"


def test_output_can_be_turned_off(controller, connect, capsys):
    client = connect(controller, output=False)
    assert controller.of_type(m.ClientHello)[0].want_output is False
    controller.say(m.Output([m.Printed(None, "stdout", "x\n", 0)]))
    client.submit(double, 1).result(10)
    assert capsys.readouterr() == ("", "")


def test_a_notice_is_logged(client, controller, caplog):
    controller.say(m.Notice("engine e0 died"))
    client.submit(double, 1).result(10)
    wait_until(lambda: "engine e0 died" in caplog.text)


# --- the executor -------------------------------------------------------------------------------


def test_an_executor_is_what_the_standard_library_expects(client):
    with headway.Executor(client=client) as executor:
        assert executor.submit(pow, 2, 3).result(10) == 8
        assert list(executor.map(pow, [1, 2], [3, 3], timeout=10, chunksize=5)) == [1, 8]
        done = executor.submit(fail)
    assert done.done()  # leaving waits
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 1, 1)
    executor.shutdown()  # again
    assert client.submit(double, 1).result(10) == 2  # the client stays open


def test_an_executor_cancels_what_waits_when_told_to(client, controller):
    controller.hold = True
    executor = headway.Executor(client=client)
    future = executor.submit(double, 1)
    wait_until(controller.tasks)
    executor.shutdown(wait=True, cancel_futures=True)
    assert future.cancelled()


def test_an_executors_arguments_are_checked(client):
    with pytest.raises(ValueError, match="max_workers must be greater than 0, and is 0"):
        headway.Executor(0)
    with pytest.raises(ValueError, match="max_workers=2 and client= exclude each other"):
        headway.Executor(2, client=client)


# --- which client is meant ----------------------------------------------------------------------


def test_the_client_that_was_entered_last_and_is_open_is_the_active_one(client):
    with client as entered:
        assert not client.closed
        assert active_client() is entered is client
    # Closed, though whoever entered it first has not left yet
    assert client.closed
    assert active_client() is not client
