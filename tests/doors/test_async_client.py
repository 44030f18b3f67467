"""Promise: `headway.AsyncClient` blocks no event loop, and asyncio's rules hold for tasks."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

import headway
from headway.client.waking import Waker
from headway.config import WireConfig
from tests.e2e.conftest import DEADLINE_S


def run(main, **settings):
    async def whole():
        async with asyncio.timeout(3 * DEADLINE_S):
            async with headway.AsyncClient(**{"engines": 2, **settings}) as client:
                return await main(client)

    return asyncio.run(whole())


def wait_for_file(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return path


def test_tasks_are_awaited_gathered_and_taken_as_they_end():
    async def main(client):
        assert await client.submit(pow, 2, 10) == 1024
        squares = client.map(pow, range(5), [2] * 5)
        assert await client.gather(squares) == [0, 1, 4, 9, 16]
        nested = [squares[1], [squares[2], (squares[3],)], []]
        assert await client.gather(nested) == [1, [4, [9]], []]
        assert await client.gather(squares[2]) == 4
        assert await client.gather(future for future in squares[:2]) == [0, 1]
        assert await client.gather([]) == []
        total = client.options(label="total").submit(sum, squares)
        ended = [future async for future in client.as_completed([total, *squares])]
        assert sorted(future.result() for future in ended) == [0, 1, 4, 9, 16, 30]
        assert ended.index(total) == 5
        with pytest.raises(TypeError, match="gather takes futures, not 3"):
            await client.gather([3])

    run(main)


def test_questions_are_awaited():
    async def main(client):
        engines = await client.wait_for_engines(2)
        assert engines == await client.engines()
        future = client.submit(abs, -1)
        await future
        assert "succeeded" in await client.explain(future)
        assert (await client.statistics())["engines"] == 2
        assert [task.id for task in (await client.trace(future)).tasks] == [future.id]
        assert "embedded" in repr(client)

    run(main)


def test_who_is_cancelled_while_it_awaits_cancels_the_task(tmp_path):
    async def main(client):
        alone = client.submit(wait_for_file, str(tmp_path / "never"))
        many = client.map(wait_for_file, [str(tmp_path / "never")] * 3)

        async def awaits():
            await alone

        waiters = [asyncio.create_task(awaits()), asyncio.create_task(client.gather([many]))]
        await asyncio.sleep(0)
        for waiter in waiters:
            waiter.cancel()
        assert [type(e) for e in await asyncio.gather(*waiters, return_exceptions=True)] == [
            asyncio.CancelledError
        ] * 2
        async for future in client.as_completed([alone, *many]):
            assert future.cancelled()

    run(main)


def test_gather_raises_what_the_first_that_fails_raises_and_the_others_go_on(tmp_path):
    async def main(client):
        slow = client.submit(wait_for_file, str(tmp_path / "go"))
        with pytest.raises(ZeroDivisionError):
            await client.gather([slow, client.submit(divmod, 1, 0)])
        assert not slow.done()
        (tmp_path / "go").touch()
        assert await slow == str(tmp_path / "go")
        report = await client.cancel([slow, client.submit(wait_for_file, str(tmp_path / "no"))])
        assert report.states == ["succeeded", "cancelled"]

    run(main)


def test_submitting_does_not_wait_for_room_and_drain_does():
    async def main(client):
        # Many times what the window holds, without a turn for the loop
        futures = [client.submit(abs, -n) for n in range(500)]
        futures.extend(client.options(priority=1).map(abs, range(500)))
        await client.drain()
        assert not client._client._link.session.is_full
        assert sum(await client.gather(futures)) == 2 * sum(range(500))

    run(main, wire=WireConfig(window_tasks=10))


def test_the_end_of_many_tasks_wakes_the_loop_a_few_times_only(monkeypatch):
    calls = []
    run_now = Waker._run
    monkeypatch.setattr(Waker, "_run", lambda self: (calls.append(1), run_now(self)))

    async def main(client):
        futures = client.map(abs, range(2_000))
        await client.submit(sum, futures)  # the loop sleeps meanwhile
        return await client.gather(futures)

    assert run(main) == list(range(2_000))
    assert 0 < len(calls) < 500


def test_what_ends_after_its_event_loop_is_nobodys():
    loop = asyncio.new_event_loop()
    waker = Waker(loop)
    loop.close()
    waker.soon(print, "never")
    assert not waker._waiting


def test_a_client_that_is_not_open_says_so():
    closed = headway.AsyncClient(engines=1)
    with pytest.raises(RuntimeError, match="open the AsyncClient first"):
        closed.submit(abs, 1)
    assert repr(closed) == "<AsyncClient, not open>"

    async def twice(client):
        with pytest.raises(RuntimeError, match="opened before"):
            await client.__aenter__()

    run(twice, engines=1)
    with pytest.raises(TypeError, match="engins"):
        run(twice, engins=1)


def test_an_executor_serves_run_in_executor(client):
    async def main():
        loop = asyncio.get_running_loop()
        executor = headway.Executor(client=client)
        calls = (loop.run_in_executor(executor, pow, n, 2) for n in range(50))
        return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [n * n for n in range(50)]
