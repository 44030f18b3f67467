"""Promise: `headway.Executor` is what PEP 3148 describes: what runs is never cancelled."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import headway
from tests.e2e.conftest import DEADLINE_S, wait_until


class Gate:
    """Calls that say that they have begun, and end when they are let."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def call(self, name: str) -> str:
        """What runs on the engine. An interrupt would raise here."""
        (self._directory / name).touch()
        while not (self._directory / "open").exists():
            time.sleep(0.01)
        return name

    def wait_begun(self, name: str) -> None:
        wait_until((self._directory / name).exists, f"{name} to begin")

    def begun(self) -> set[str]:
        return {path.name for path in self._directory.iterdir()} - {"open"}

    def open(self) -> None:
        (self._directory / "open").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.open()


@pytest.fixture(scope="module")
def one_engine() -> Iterator[headway.Client]:
    with headway.Client(engines=1) as client:
        yield client


@pytest.fixture
def executor(one_engine: headway.Client) -> Iterator[headway.Executor]:
    executor = headway.Executor(client=one_engine)
    yield executor
    executor.shutdown(wait=False)


def test_shutdown_cancels_what_has_not_begun_and_only_that(executor, gate):
    # Given a call that runs, and more behind it, of which some are on the engine already
    running = executor.submit(gate.call, "first")
    queued = [executor.submit(gate.call, f"queued-{n}") for n in range(20)]
    gate.wait_begun("first")
    # When the executor is shut down
    executor.shutdown(wait=False, cancel_futures=True)
    # Then these are cancelled, and that one runs to its end
    assert all(future.cancelled() for future in queued)
    assert not running.done()
    gate.open()
    assert running.result(DEADLINE_S) == "first"
    assert gate.begun() == {"first"}


def test_a_future_that_runs_is_not_cancelled_and_says_so(executor, gate):
    running = executor.submit(gate.call, "first")
    queued = executor.submit(gate.call, "second")
    gate.wait_begun("first")
    assert running.cancel() is False
    assert queued.cancel() is True
    assert queued.cancelled()
    gate.open()
    assert running.result(DEADLINE_S) == "first"
    assert running.cancel() is False
    assert concurrent.futures.wait([running, queued], DEADLINE_S).not_done == set()


def test_when_one_call_of_a_map_raises_those_that_run_go_on_and_the_rest_is_cancelled(gate):
    def call(name):
        if name == "bad":
            gate.wait_begun("good")
            raise ValueError("no")
        return gate.call(name)

    with headway.Executor(max_workers=2) as executor:
        executor._client.wait_for_engines(2)
        values = executor.map(call, ["bad", "good", *(f"queued-{n}" for n in range(20))])
        futures = list(executor._open)
        with pytest.raises(ValueError, match="no"):
            next(values)
        # One that was queued may have begun when its engine had become free.
        gate.open()
        done = [future for future in futures if not future.cancelled()]
        names = {future.result(DEADLINE_S) for future in done if future.exception() is None}
        assert "good" in names
        assert names == gate.begun()
        assert len(done) < len(futures)


def test_asyncio_may_give_up_a_call_without_interrupting_it(executor, gate):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(executor, gate.call, "first")
        await loop.run_in_executor(None, gate.wait_begun, "first")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    (future,) = executor._open
    gate.open()
    assert future.result(DEADLINE_S) == "first"


def test_a_map_that_is_dropped_in_the_middle_cancels_what_is_queued_at_once(executor, gate):
    def call(n):
        return gate.call(str(n)) if n else 0

    values = executor.map(call, range(2_000))
    assert next(values) == 0
    gate.wait_begun("1")
    futures = list(executor._open)
    values.close()
    assert sum(not future.cancelled() for future in futures) == 1
    gate.open()
    assert concurrent.futures.wait(futures, DEADLINE_S).not_done == set()
    assert gate.begun() == {"1"}


def test_a_map_with_a_buffer_asks_for_no_more_calls_than_that(executor):
    asked = []

    def numbers():
        for n in range(10):
            asked.append(n)
            yield n

    values = executor.map(abs, numbers(), buffersize=3)
    assert asked == [0, 1, 2]
    assert next(values) == 0
    assert asked == [0, 1, 2, 3]
    assert list(values) == list(range(1, 10))
    with pytest.raises(ValueError, match="buffersize=0"):
        executor.map(abs, [], buffersize=0)


def test_the_values_of_a_map_come_in_order_and_its_time_has_an_end(executor, gate):
    assert list(executor.map(pow, range(5), [2] * 9)) == [0, 1, 4, 9, 16]
    assert list(executor.map(abs, [], timeout=0)) == []
    values = executor.map(gate.call, ["first"], timeout=0.01)
    with pytest.raises(TimeoutError):
        next(values)
    gate.open()


def test_a_client_can_leave_alone_what_has_begun(one_engine, gate):
    running = one_engine.submit(gate.call, "first")
    queued = one_engine.submit(gate.call, "second")
    gate.wait_begun("first")
    assert one_engine.cancel([running, queued], queued_only=True) == [False, True]
    # By default it is interrupted
    assert running.cancel() is True
    assert os.listdir(gate._directory) == ["first"]
    with pytest.raises(TypeError, match="queued_only=1 is not True or False"):
        one_engine.cancel([running], queued_only=1)


def test_waiting_for_the_first_exception_ends_with_it(executor, gate):
    running = executor.submit(gate.call, "first")
    with headway.Executor(max_workers=1) as other:
        failing = other.submit(divmod, 1, 0)
        done, not_done = concurrent.futures.wait(
            [running, failing], DEADLINE_S, return_when=concurrent.futures.FIRST_EXCEPTION
        )
    assert (done, not_done) == ({failing}, {running})


def test_the_initializer_runs_once_on_each_engine_also_on_one_that_was_replaced(tmp_path):
    def initialize(directory):
        Path(directory, f"{os.getpid()}-{time.monotonic_ns()}").touch()

    def initialized():
        return {path.name.partition("-")[0] for path in tmp_path.iterdir()}

    with headway.Executor(1, initializer=initialize, initargs=(str(tmp_path),)) as executor:
        first = executor.submit(os.getpid).result(DEADLINE_S)
        assert list(executor.map(abs, range(5), chunksize=2)) == list(range(5))
        assert len(list(tmp_path.iterdir())) == 1
        # The engine dies, and so does whatever it knew
        assert isinstance(
            executor.submit(os._exit, 3).exception(DEADLINE_S), headway.errors.EngineError
        )
        second = executor.submit(os.getpid).result(DEADLINE_S)
        assert {str(first), str(second)} <= initialized()
        assert len(list(tmp_path.iterdir())) == len(initialized())


def test_an_initializer_that_fails_breaks_its_executor_and_no_other(one_engine):
    attempts = []

    def initialize():
        attempts.append(1)
        raise ValueError(f"no luck, {len(attempts)}")

    broken = headway.Executor(client=one_engine, initializer=initialize)
    first, second = broken.submit(abs, -1), broken.submit(abs, -2)
    for future in (first, second):
        with pytest.raises(concurrent.futures.BrokenExecutor, match="ValueError: no luck, 1"):
            future.result(DEADLINE_S)
    with pytest.raises(concurrent.futures.BrokenExecutor, match="no luck"):
        broken.submit(abs, -3)
    assert headway.Executor(client=one_engine).submit(abs, -1).result(DEADLINE_S) == 1


def test_the_function_with_its_initializer_is_pickled_once(one_engine):
    executor = headway.Executor(client=one_engine, initializer=abs, initargs=(1,))
    assert list(executor.map(str, range(20))) == [str(n) for n in range(20)]
    (prepared,) = executor._prepared.values()
    assert id(prepared[1]) in one_engine._functions._entries


def test_calls_in_chunks_come_in_order_and_bad_chunks_are_refused(executor):
    assert list(executor.map(pow, range(10), [2] * 9, chunksize=4)) == [n * n for n in range(9)]
    values = executor.map(divmod, [1, 1, 1, 1], [1, 1, 1, 0], chunksize=2)
    assert [next(values), next(values)] == [(1, 0), (1, 0)]
    with pytest.raises(ZeroDivisionError):
        next(values)
    with pytest.raises(ValueError, match="chunksize must be >= 1, and is 0"):
        executor.map(abs, [1], chunksize=0)
    with pytest.raises(TypeError, match="initializer must be a callable, and is 3"):
        headway.Executor(initializer=3)


def test_calls_that_are_open_when_the_program_ends_are_waited_for(tmp_path):
    script = f"""
import headway, pathlib, time

def call():
    time.sleep(0.3)
    pathlib.Path({str(tmp_path)!r}, "was here").touch()

headway.Executor(1).submit(call)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "was here").exists()


def test_an_executor_whose_cluster_is_gone_is_broken():
    with headway.Client(engines=1) as client:
        executor = headway.Executor(client=client)
    with pytest.raises(concurrent.futures.BrokenExecutor, match="closed"):
        executor.submit(abs, -1)
