"""Futures, without a cluster: how they end, who is told, and what `concurrent.futures` sees."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import logging
import pickle
import threading
from typing import Any

import cloudpickle
import pytest

from headway import Group, errors
from headway.client.futures import KIND_CONNECTION, KIND_START, Future, settle
from headway.core import problems
from headway.core.events import task_id
from headway.core.problems import Problem
from headway.core.states import TaskState
from headway.wire import payload
from headway.wire.messages import Result


class _FakeClient:
    """What a future needs of its client, when nobody is on the other side."""

    def __init__(self) -> None:
        self._released: list[int] = []
        self.asked_to_cancel: list[Any] = []

    def _check_may_wait(self, future: Any) -> None:
        """Anybody may."""

    def _ask_state(self, future: Any) -> str:
        return "running"

    def _cancel(self, futures: list[Any], queued_only: bool) -> list[bool]:
        self.asked_to_cancel += futures
        return [True for _ in futures]

    def explain(self, task: Any) -> str:
        raise errors.ConnectionLost("gone")


@pytest.fixture
def client() -> Any:
    return _FakeClient()


@pytest.fixture
def future(client: Any) -> Future[Any]:
    made: Future[Any] = Future(client)
    made.node = task_id(1, 7)  # type: ignore[arg-type]
    return made


def succeed(future: Future[Any], value: Any = None) -> None:
    data = payload.dump_result(value, "f")
    settle([(future, Result(future.node, TaskState.SUCCEEDED, data, 3))])  # type: ignore[arg-type]


def fail(
    future: Future[Any], kind: str, state: TaskState = TaskState.FAILED, data: bytes | None = None
) -> None:
    problem = Problem(kind, "the text")
    settle([(future, Result(future.node, state, data, None, problem))])


def test_a_result_is_the_same_object_for_everyone_who_asks(future):
    succeed(future, [1, 2])
    assert future.done()
    assert not future.cancelled()
    assert (future.state, future.engine, future.id) == ("succeeded", "e3", "1-7")
    assert future.result() == [1, 2]
    assert future.result() is future.result()
    assert future.exception() is None


def test_none_needs_no_bytes(future):
    settle([(future, Result(future.node, TaskState.SUCCEEDED))])
    assert future.result() is None


def test_result_waits_no_longer_than_it_may_and_the_task_goes_on(future):
    with pytest.raises(TimeoutError, match=r"task 1-7 did not end within 0\.01 s"):
        future.result(0.01)
    with pytest.raises(TimeoutError):
        future.exception(0)
    succeed(future, 1)
    assert future.result(0) == 1


def test_a_waiting_thread_is_woken(future):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(future.result, 10)
        while future._cond is None or not future._cond._waiters:  # type: ignore[attr-defined]
            pass
        succeed(future, 5)
        assert waiting.result(10) == 5


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (problems.KIND_INVALID, errors.InvalidDependency),
        (problems.KIND_IMPOSSIBLE, errors.ImpossibleDependency),
        (problems.KIND_TIMEOUT, errors.TaskTimeout),
        (problems.KIND_RUN_TIMEOUT, errors.TaskTimeout),
        (problems.KIND_LOST, errors.EngineError),
        (problems.KIND_RAISED, errors.RemoteError),
        (KIND_CONNECTION, errors.ConnectionLost),
        (KIND_START, errors.StartError),
        ("something new", errors.HeadwayError),
    ],
)
def test_each_kind_of_problem_is_an_exception_of_its_own(future, kind, error):
    fail(future, kind)
    with pytest.raises(error, match="the text") as caught:
        future.result()
    assert type(caught.value) is error
    assert future.exception() is caught.value  # the same object each time
    assert future.explain() == "the text"  # though the cluster is gone


def test_a_cancelled_future_is_cancelled_for_everyone(future):
    fail(future, problems.KIND_CANCELLED, TaskState.CANCELLED)
    assert future.cancelled()
    assert future.done()
    for ask in (future.result, future.exception):
        with pytest.raises(errors.TaskCancelled, match="the text"):
            ask()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()


def test_what_the_task_raised_is_raised_as_itself_with_its_traceback_as_the_cause(future):
    try:
        raise KeyError("x")
    except KeyError as error:
        data, _ = payload.dump_exception(error)
    fail(future, problems.KIND_RAISED, data=data)
    with pytest.raises(KeyError, match="x") as caught:
        future.result()
    assert isinstance(caught.value.__cause__, errors.RemoteTraceback)
    assert "raise KeyError" in str(caught.value.__cause__)


def test_a_result_that_cant_be_unpickled_here_says_so(future):
    settle([(future, Result(future.node, TaskState.SUCCEEDED, b"no pickle"))])
    with pytest.raises(errors.SerializationError, match="result of task 1-7 can't be unpickled"):
        future.result()


def test_a_second_end_changes_nothing(future):
    succeed(future, 1)
    fail(future, problems.KIND_LOST)
    assert future.result() == 1


def test_a_users_own_result_stands(future):
    future.set_result(5)
    succeed(future, 6)
    assert (future.result(), future.state) == (5, "succeeded")


# --- callbacks, wait, as_completed --------------------------------------------------------------


def test_callbacks_run_in_order_and_what_they_raise_is_logged(future, caplog):
    told: list[Any] = []
    future.add_done_callback(told.append)
    future.add_done_callback(lambda f: 1 / 0)
    future.add_done_callback(lambda f: told.append("last"))
    with caplog.at_level(logging.ERROR, "headway.client"):
        succeed(future, 1)
    assert told == [future, "last"]
    assert "ZeroDivisionError" in caplog.text
    future.add_done_callback(told.append)  # done already: at once
    assert told == [future, "last", future]


def test_wait_and_as_completed_see_what_is_done_before_and_what_ends_later(client):
    futures: list[Future[Any]] = []
    for sequence in range(1, 6):
        made: Future[Any] = Future(client)
        made.node = task_id(1, sequence)  # type: ignore[arg-type]
        futures.append(made)
    succeed(futures[0], 0)
    fail(futures[1], problems.KIND_CANCELLED, TaskState.CANCELLED)
    done, open_ = concurrent.futures.wait(futures, timeout=0)
    assert (done, open_) == (set(futures[:2]), set(futures[2:]))
    thread = threading.Thread(target=lambda: [succeed(f, 1) for f in futures[2:]])
    thread.start()
    assert sorted(f.node for f in concurrent.futures.as_completed(futures, timeout=10)) == [
        f.node for f in futures
    ]
    thread.join()
    assert concurrent.futures.wait(futures, timeout=0).not_done == set()


def test_waiters_and_ends_that_race_are_never_lost_and_never_told_twice(client):
    for _ in range(200):
        made: Future[Any] = Future(client)
        made.node = task_id(1, 1)  # type: ignore[arg-type]
        thread = threading.Thread(target=succeed, args=(made, 1))
        thread.start()
        assert [f.result() for f in concurrent.futures.as_completed([made], timeout=10)] == [1]
        thread.join()


def test_a_future_can_be_awaited(client):
    async def main() -> None:
        good, bad, gone = (Future[Any](client) for _ in range(3))
        for made in (good, bad, gone):
            made.node = task_id(1, 1)  # type: ignore[arg-type]
        threading.Timer(0.01, lambda: succeed(good, 4)).start()
        assert await good == 4
        assert await good == 4
        threading.Timer(0.01, lambda: fail(bad, problems.KIND_LOST)).start()
        with pytest.raises(errors.EngineError):
            await asyncio.wrap_future(bad)
        fail(gone, problems.KIND_CANCELLED, TaskState.CANCELLED)
        with pytest.raises(errors.TaskCancelled):
            await gone

    asyncio.run(main())


def test_cancelling_who_awaits_cancels_the_task(client, future):
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)

    asyncio.run(main())
    assert client.asked_to_cancel == [future]


# --- what goes with it --------------------------------------------------------------------------


def test_a_future_that_goes_is_released_and_one_that_was_never_submitted_is_not(client):
    made: Future[Any] = Future(client)
    made.node = task_id(1, 3)  # type: ignore[arg-type]
    unsent: Future[Any] = Future(client)
    del made, unsent
    assert client._released == [task_id(1, 3)]


def test_a_future_is_pickled_as_an_argument_only(future):
    data, found = payload.dump_arguments(([future, {"k": future}],), {"x": future})
    assert found == [future]
    args, kwargs = payload.load_arguments(data, [payload.dump_result(5, "f")])
    assert (args, kwargs) == (([5, {"k": 5}],), {"x": 5})
    for dump in (pickle.dumps, cloudpickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="as an argument of submit"):
            dump(future)


def test_a_group_arrives_as_the_list_of_its_values(client, future):
    data, found = payload.dump_arguments((Group([future, future], client),), {})
    assert found == [future]
    ((values,), _) = payload.load_arguments(data, [payload.dump_result(5, "f")])
    assert values == [5, 5]
    assert type(values) is list


def test_a_future_says_what_it_is(future):
    assert repr(future) == "<Future 1-7 pending>"
    assert future.running()
    assert future.state == "running"
    succeed(future)
    future.label = "load"
    assert repr(future) == "<Future 1-7 'load' succeeded>"
    assert not future.running()
    assert future.explain() == "task 1-7 (load) succeeded on e3"
