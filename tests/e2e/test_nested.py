"""Tasks that submit tasks and wait for them, on real clusters that have no engine to spare."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import headway
from headway import errors
from headway.client import active
from headway.wire.endpoint import read_connection_file
from tests.e2e.conftest import wait_until


def square(x: int) -> int:
    return x * x


def by_result(n: int) -> int:
    client = headway.get_client()
    return sum(client.submit(square, x).result() for x in range(n))


def by_gather(n: int) -> int:
    client = headway.get_client()
    return sum(client.gather(client.map(square, range(n))))


def by_wait(n: int) -> int:
    futures = headway.get_client().map(square, range(n))
    done, not_done = concurrent.futures.wait(futures)
    assert not not_done
    return sum(future.result() for future in done)


def by_as_completed(n: int) -> int:
    client = headway.get_client()
    return sum(f.result() for f in client.as_completed(client.map(square, range(n))))


def by_their_as_completed(n: int) -> int:
    futures = headway.get_client().map(square, range(n))
    return sum(f.result() for f in concurrent.futures.as_completed(futures))


def by_await(n: int) -> int:
    async def all_of_them() -> int:
        client = headway.get_client()
        return sum(await asyncio.gather(*client.map(square, range(n))))

    return asyncio.run(all_of_them())


def by_async_for(n: int) -> int:
    async def all_of_them() -> int:
        async with headway.AsyncClient() as client:
            futures = client.as_completed(client.submit(square, x) for x in range(n))
            return sum([await future async for future in futures])

    return asyncio.run(all_of_them())


def by_a_thread(n: int) -> int:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(by_gather, n).result()


def by_an_executor(n: int) -> int:
    with headway.Executor() as executor:
        return sum(executor.map(square, range(n)))


def by_a_client_of_its_own(n: int) -> int:
    with headway.Client() as client:
        return sum(client.gather(client.map(square, range(n))))


@pytest.fixture(scope="module")
def one() -> Iterator[headway.Client]:
    """A durable cluster of a single engine."""
    with headway.Client(engines=1, durability="normal", output=False) as client:
        client.wait_for_engines(1)
        yield client


@pytest.mark.parametrize(
    "wait",
    [
        by_result,
        by_gather,
        by_wait,
        by_as_completed,
        by_their_as_completed,
        by_await,
        by_async_for,
        by_a_thread,
        by_an_executor,
        by_a_client_of_its_own,
    ],
)
def test_a_task_waits_for_its_own_on_a_cluster_of_one_engine(
    one: headway.Client, wait: Callable[[int], int]
):
    assert one.submit(wait, 4).result(30) == 14


def fib(n: int) -> int:
    if n < 2:
        return n
    client = headway.get_client()
    return sum(client.gather([client.submit(fib, n - 1), client.submit(fib, n - 2)]))


def test_a_recursion_with_a_wait_at_each_step_ends_with_few_engines(one: headway.Client):
    assert one.submit(fib, 6).result(60) == 8
    # As deep as it is, not as wide: it has 24 tasks, of which 12 wait.
    assert len(one.engines()) <= 8


def test_many_tasks_that_each_wait_for_several_need_no_engine_each(one: headway.Client):
    assert sum(one.gather(one.map(by_gather, [3] * 12), timeout=60)) == 12 * 5
    assert len(one.engines()) <= 8


def start_and_hold(folder: str) -> str:
    """Once: submit a child that goes on until it is stopped, and wait. Then: return."""
    path = Path(folder)
    runs = len(list(path.glob("parent-*")))
    (path / f"parent-{runs}").write_text(str(os.getpid()))
    if runs:
        return "repeated"
    return str(headway.get_client().submit(hold, folder).result())


def hold(folder: str) -> None:
    path = Path(folder)
    (path / "child").touch()
    try:
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        (path / "stopped").touch()
        raise


def test_an_engine_that_dies_while_its_task_waits_takes_the_children_along(
    one: headway.Client, tmp_path: Path
):
    future = one.submit(start_and_hold, str(tmp_path))
    wait_until((tmp_path / "child").exists, "the child")
    waiting = [engine for engine in one.engines() if engine.state == "waiting"]
    assert [engine.stands_in for engine in waiting] == [False]
    assert "it waits for its 1 child" in future.explain()
    os.kill(waiting[0].pid, signal.SIGKILL)
    assert future.result(30) == "repeated"
    wait_until((tmp_path / "stopped").exists, "the child to be stopped")


def test_to_cancel_a_task_that_waits_cancels_what_it_waits_for(one: headway.Client, tmp_path: Path):
    future = one.submit(start_and_hold, str(tmp_path))
    wait_until((tmp_path / "child").exists, "the child")
    assert future.cancel()
    wait_until((tmp_path / "stopped").exists, "the child to be stopped")


def wait_for_file(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return "seen"


def wait_for_child(path: str) -> Any:
    return headway.get_client().submit(wait_for_file, path).result()


def test_tasks_that_wait_survive_the_death_of_the_controller(one: headway.Client, tmp_path: Path):
    future = one.submit(wait_for_child, str(tmp_path / "go"))
    wait_until(lambda: sum(e.load for e in one.engines()) == 2, "the child to be placed")
    os.kill(read_connection_file(one.connection_file).pid, signal.SIGKILL)
    wait_until(lambda: [e for e in one.engines() if e.state == "waiting"], "it to be said again")
    (tmp_path / "go").touch()
    assert future.result(60) == "seen"


def leave_behind(path: str) -> None:
    headway.get_client().submit(Path(path).touch)


def test_what_a_task_has_submitted_and_not_waited_for_runs(one: headway.Client, tmp_path: Path):
    one.submit(leave_behind, str(tmp_path / "made")).result(30)
    wait_until((tmp_path / "made").exists, "the child to run")


def leave_and_raise(path: str) -> None:
    headway.get_client().submit(Path(path).touch)
    raise ValueError("enough")


def test_what_a_task_has_submitted_does_not_run_when_it_raises(tmp_path: Path):
    # The only engine, and nothing is sent there ahead: its children would be next.
    with headway.Client(engines=1, hwm=1) as one:
        with pytest.raises(ValueError, match="enough"):
            one.submit(leave_and_raise, str(tmp_path / "made")).result(30)
        one.submit(square, 1).result(30)
    assert not (tmp_path / "made").exists()


def nest(depth: int) -> int:
    return 0 if depth == 0 else 1 + int(headway.get_client().submit(nest, depth - 1).result())


def test_beyond_the_bound_the_task_that_waits_is_told_and_nobody_hangs():
    with headway.Client(engines=1, nested_depth=1) as client:
        with pytest.raises(errors.NestedTooDeep, match="nested_depth is 1"):
            client.submit(nest, 2).result(30)
        assert client.submit(nest, 1).result(30) == 1


def test_outside_of_tasks_the_client_is_the_one_that_is_open(
    one: headway.Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(active, "_entered", [])
    with pytest.raises(errors.HeadwayError, match="there is no client"):
        headway.get_client()
    with one:  # which closes it: it is the last that needs it
        assert headway.get_client() is one
