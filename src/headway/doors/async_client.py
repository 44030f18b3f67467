"""The client for programs that run in an event loop of asyncio: nothing here blocks that.

Rule 1: no thread takes part in submitting a task or in awaiting its end; results wake the loop in
batches (client/waking.py). Only what is rare (starting, closing, questions) goes to a thread.
Rule 2: who is cancelled while it awaits a task cancels the task.

What this file must not know: anything that a user of `headway.Client` could not, but how not to
wait for room.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from headway.client import nesting
from headway.client.cancelling import CancelReport
from headway.client.client import Client
from headway.client.futures import Future, Group
from headway.client.mapping import Maps
from headway.client.options import EngineInfo
from headway.client.stream import Stream
from headway.client.traced import Trace
from headway.client.view import View
from headway.client.waking import waker_of


class AsyncClient(Maps):
    """A `Client` whose methods suit an event loop: `async with headway.AsyncClient() as client`.

    It takes the parameters of `Client`. The cluster is started, or connected to, by `async with`.
    What blocks nothing is a method as there (`submit`, `map`, `options`, `group`); all else is
    awaited. The futures are those of `Client`: `await future` gives the value.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._start = functools.partial(Client, *args, **settings)
        self._started: Client | None = None

    def __repr__(self) -> str:
        return f"<AsyncClient of {self._started!r}>" if self._started else "<AsyncClient, not open>"

    async def __aenter__(self) -> AsyncClient:
        if self._started is not None:
            raise RuntimeError("this AsyncClient was opened before: make another")
        # If this is cancelled meanwhile, nobody holds the client, and it closes by that.
        self._started = client = await asyncio.to_thread(self._start)
        client._link.waits_for_room = False
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def _client(self) -> Client:
        if self._started is None:
            raise RuntimeError("open the AsyncClient first: async with headway.AsyncClient() as c")
        return self._started

    def _maps_with(self) -> tuple[Client, View | None]:
        return self._client._maps_with()

    # --- tasks: at once -------------------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(*args, **kwargs)` on an engine; `await client.submit(...)` gives its value.

        Never waits. A program that submits very many tasks awaits `drain()` now and then.
        Raises as `Client.submit` does.
        """
        return self._client.submit(fn, *args, **kwargs)

    def options(self, **settings: Any) -> View:
        """A view whose `submit` and `map` treat tasks as the options say: see `Client.options`."""
        return self._client.options(**settings)

    def group(self, futures: Iterable[Future[Any]]) -> Group:
        """The futures as a Group: `after=group` costs one edge, however many are in it."""
        return self._client.group(futures)

    # --- tasks: to be awaited -------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait while very many tasks are on their way to the controller: bounds the memory of a
        program that submits faster than that takes them."""
        link = self._client._link
        if link.session.is_full:
            await asyncio.to_thread(link.wait_for_room)

    async def gather(self, futures: Any) -> Any:
        """The results of `futures`, as `Client.gather` gives them. Cancelling it cancels them.

        Raises:
            Exception: what the first that fails raises, at once; the others go on.
        """
        if not isinstance(futures, Future | list | tuple):
            futures = list(futures)
        wanted = list(_flat(futures))
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        left = len(wanted)
        soon = waker_of(loop).soon

        def ended(future: Future[Any]) -> None:
            nonlocal left
            left -= 1
            if (left == 0 or future.state != "succeeded") and not waiter.done():
                waiter.set_result(future)

        for future in wanted:
            future.add_done_callback(functools.partial(soon, ended))
        if wanted:

            def look_up(_: object) -> None:
                if not waiter.done():
                    waiter.set_result(None)

            try:
                with nesting.blocked(self._client, lambda: soon(look_up, None)) as check:
                    last = await waiter
                    check()
            except asyncio.CancelledError:
                self._client.cancel([future for future in wanted if not future.done()])
                raise
            last.result()  # raises, if that is why the waiting ended
        return self._client.gather(futures)

    def as_completed(self, futures: Iterable[Future[Any]], *, window: int | None = None) -> Stream:
        """The futures, each once it has ended, as `Client.as_completed`: `async for f in ...`."""
        return self._client.as_completed(futures, window=window)

    async def resume(self, run: str) -> Group:
        """Submit again what did not succeed of a named run: see `Client.resume`."""
        return await asyncio.to_thread(self._client.resume, run)

    async def cancel(self, *futures: Any, **settings: Any) -> CancelReport:
        """Cancel tasks, and say what became of each: takes what `Client.cancel` takes."""
        return await asyncio.to_thread(self._client.cancel, *futures, **settings)

    # --- questions ------------------------------------------------------------------------------

    async def engines(self) -> list[EngineInfo]:
        """The engines that are there now."""
        return await asyncio.to_thread(self._client.engines)

    async def wait_for_engines(self, n: int = 1, timeout: float | None = 60.0) -> list[EngineInfo]:
        """Wait until `n` engines are there, and return them; as `Client.wait_for_engines`."""
        return await asyncio.to_thread(self._client.wait_for_engines, n, timeout)

    async def explain(self, task: Future[Any] | str | int) -> str:
        """Where a task is, and why: see `Client.explain`."""
        return await asyncio.to_thread(self._client.explain, task)

    async def statistics(self) -> dict[str, Any]:
        """The controller's counts."""
        return await asyncio.to_thread(self._client.statistics)

    async def trace(self, futures: Any = None) -> Trace:
        """What ran, and where the time went: see `Client.trace`."""
        return await asyncio.to_thread(self._client.trace, futures)

    async def close(self) -> None:
        """End the connection, as `Client.close` does; an embedded cluster has ended then."""
        if self._started is not None:
            await asyncio.shield(asyncio.to_thread(self._started.close))


def _flat(futures: Any) -> Iterable[Future[Any]]:
    """The futures in nested lists, each of which `Client.gather` will look at."""
    if isinstance(futures, Future):
        yield futures
        return
    if not isinstance(futures, Iterable):
        raise TypeError(f"gather takes futures, not {futures!r}")
    for entry in futures:
        if not isinstance(entry, Future | list | tuple):
            raise TypeError(f"gather takes futures, not {entry!r}")
        yield from _flat(entry)
