"""Many tasks from an iterator: submitted while their results are read, a window of them at a time.

Rule 1: the input is read on the thread that reads the stream, and only while that waits for it:
no thread of ours runs the user's generator. Rule 2: what was given out is not held here, and what
is held here is never more than the window.

What this file must not know: sockets, pickles, options.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Lock
from types import TracebackType
from typing import Any

from headway.client import nesting
from headway.client.futures import Future
from headway.client.waking import waker_of

#: Tasks that are submitted, and not yet given out: at first, and at least. Two for each engine of
#: a large cluster; some MB in the client and in the controller.
_WINDOW_MIN = 2_000
#: And at most, however fast they end.
_WINDOW_MAX = 20_000
#: The window is as many tasks as ended in so long: engines go on while the program looks away.
_WINDOW_S = 0.5
#: Results that wait to be read: larger ones narrow the window.
_WINDOW_BYTES = 256 << 20
#: An input that takes longer for an item is one that waits for something, as a stream of events
#: does: then what has ended is given out before the input is asked for more.
_SLOW_S = 0.01


class Stream(Iterator[Future[Any]], AsyncIterator[Future[Any]]):
    """The futures of tasks, each given out once it has ended, in whatever way: made by
    `Client.map` of an iterator, and by `Client.as_completed`.

    Iterate over it, by `for` or by `async for`. When that ends early, by `break` or an exception,
    `close` (or leaving a `with`) cancels the tasks that were submitted and not given out, and
    closes the input, if that is a generator; so does dropping the last reference.

    The input is asked for more by who reads, also while tasks are under way: one that waits long
    for its next item keeps back what ends meanwhile.

    Where the input raises, or gives something that can't be submitted, the futures of what came
    before are given out first, and then the exception is raised.

    Parameters:
        source: what is submitted, item by item.
        inputs: what `source` reads: of these, generators are closed if the stream ends early.
        submit: makes a future of an item.
        cancel: cancels futures, and does not wait for that; None leaves them alone.
        ordered: give them out in the order of `source`, not in that of their ends.
        window: how many are submitted and not given out at most; None follows what is measured.
    """

    def __init__(
        self,
        source: Iterable[Any],
        inputs: Sequence[Iterable[Any]],
        submit: Callable[[Any], Future[Any]],
        cancel: Callable[[list[Future[Any]]], None] | None,
        ordered: bool,
        window: int | None,
    ) -> None:
        self._is_closed = True  # `__del__` runs also where what follows raises
        self._source: Iterator[Any] | None = iter(source)
        self._inputs = inputs
        self._submit = submit
        self._cancel = cancel
        self._is_ordered = ordered
        self._pace = _Pace(window)
        self._ended = _Ended()
        #: Not given out yet, by identity, in the order of `source`.
        self._open: dict[int, Future[Any]] = {}
        self._error: Exception | None = None
        self._reading = Lock()
        self._is_closed = False

    def __repr__(self) -> str:
        what = "closed" if self._is_closed else f"{len(self._open)} tasks not given out"
        return f"<Stream, {what}>"

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __iter__(self) -> Stream:
        return self

    def __aiter__(self) -> Stream:
        return self

    def __next__(self) -> Future[Any]:
        self._begin_reading()
        try:
            while (future := self._take()) is None:
                self._next_to_wait_for()
                if self._is_ordered:
                    self._head()._wait(None)
                else:
                    nesting.wait(self._head()._client, self._ended.wait, None)
            return future
        except StopIteration:
            raise
        except BaseException:  # Ctrl-C as well: as a generator ends with what is raised in it
            self.close()
            raise
        finally:
            self._reading.release()

    async def __anext__(self) -> Future[Any]:
        self._begin_reading()
        try:
            while (future := self._take()) is None:
                head = self._head()
                with nesting.blocked(head._client, self._ended.look_up) as check:
                    await self._ended.heard(head if self._is_ordered else None)
                    check()
            return future
        except StopIteration:
            raise StopAsyncIteration from None
        except BaseException:
            self.close()
            raise
        finally:
            self._reading.release()

    def close(self) -> None:
        """Cancel what was submitted and not given out, and close the input. It does not wait for
        the tasks to have ended. May be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        rest = [future for future in self._open.copy().values() if not future.done()]
        self._open.clear()
        inputs = self._inputs
        self._end_input()
        if rest and self._cancel is not None:
            self._cancel(rest)
        for each in inputs:
            if isinstance(each, Generator):
                each.close()

    # --- inside ---------------------------------------------------------------------------------

    def _begin_reading(self) -> None:
        if not self._reading.acquire(blocking=False):
            raise ValueError("this Stream is being read already, by another thread or its input")

    def _take(self) -> Future[Any] | None:
        """The next that has ended, None if one has to be waited for.

        Raises:
            StopIteration: there is none left.
            Exception: what the input ended with.
        """
        if not self._is_closed:
            self._fill()
        if self._is_closed:
            raise StopIteration
        if not self._open:
            error, self._error = self._error, None
            self.close()
            if error is not None:
                raise error
            raise StopIteration
        if not self._is_ready():
            return None
        future = self._head() if self._is_ordered else self._ended.take()
        self._open.pop(id(future), None)  # not there, if it was closed just now
        self._pace.count(future)
        return future

    def _fill(self) -> None:
        """Submit while there is room: until something can be given out, and then two for each
        that is, so that the window fills."""
        spare = 2
        while self._source is not None and len(self._open) < self._pace.window:
            if self._is_ready():
                if spare == 0 or self._pace.pull_s > _SLOW_S:
                    return
                spare -= 1
            began_s = time.monotonic()
            try:
                item = next(self._source)
                self._pace.pulled(time.monotonic() - began_s)
                future = self._submit(item)
            except StopIteration:
                self._end_input()
                return
            except Exception as error:  # raised once all before it is given out: see `_take`
                self._error = error
                self._end_input()
                return
            if id(future) not in self._open:
                self._open[id(future)] = future
                if not self._is_ordered:
                    future.add_done_callback(self._ended.put)

    def _end_input(self) -> None:
        """Read no more of it, and hold nothing of it."""
        self._source = None
        self._inputs = ()

    def _head(self) -> Future[Any]:
        return next(iter(self._open.values()))

    def _is_ready(self) -> bool:
        if self._is_ordered:
            return bool(self._open) and self._head().done()
        return not self._ended.is_empty()

    def _next_to_wait_for(self) -> None:
        """Raise where to wait would be for ever: in a callback."""
        head = self._head()
        head._client._check_may_wait(head)


class _Ended:
    """Those that have ended, in that order. Futures refer to this, and so not to their stream."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Future[Any]] = SimpleQueue()
        self._first: Future[Any] | None = None
        self._tell: Callable[[], None] | None = None
        #: Wakes who awaits, whatever for.
        self._wake: Callable[[], None] | None = None

    def look_up(self) -> None:
        """Let whoever awaits go on. Called on any thread."""
        wake = self._wake
        if wake is not None:
            wake()

    def put(self, future: Any) -> None:
        """Called on any thread."""
        self._queue.put(future)
        tell = self._tell
        if tell is not None:
            tell()

    def is_empty(self) -> bool:
        return self._first is None and self._queue.empty()

    def take(self) -> Future[Any]:
        """The first; there is one."""
        first, self._first = self._first, None
        return self._queue.get_nowait() if first is None else first

    def wait(self, timeout_s: float | None) -> bool:
        """Until there is one, for `timeout_s` at most; whether there is."""
        if self._first is None:
            with contextlib.suppress(Empty):
                self._first = self._queue.get(timeout=timeout_s)
        return self._first is not None

    async def heard(self, future: Future[Any] | None) -> None:
        """Until there is one; or until `future` has ended, if one is given."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        soon = waker_of(loop).soon

        def wake(_: object) -> None:
            if not waiter.done():
                waiter.set_result(None)

        self._wake = lambda: soon(wake, None)
        try:
            if future is not None:
                future.add_done_callback(lambda ended: soon(wake, ended))
                await waiter
                return
            self._tell = self._wake
            if self.is_empty():
                await waiter
        finally:
            self._tell = self._wake = None


class _Pace:
    """How wide the window is, from how fast tasks are given out and how large results are."""

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed
        self.window = _WINDOW_MIN if fixed is None else fixed
        #: What the input takes for an item, of late.
        self.pull_s = 0.0
        self._since_s = time.monotonic()
        self._given = 0
        self._given_bytes = 0

    def pulled(self, took_s: float) -> None:
        """The input took so long for an item."""
        self.pull_s += (took_s - self.pull_s) / 8

    def count(self, future: Future[Any]) -> None:
        """One was given out."""
        if self._fixed is not None:
            return
        self._given += 1
        self._given_bytes += _inline_bytes(future)
        took_s = time.monotonic() - self._since_s
        if took_s < _WINDOW_S and self._given_bytes < _WINDOW_BYTES:
            return
        wanted = int(self._given * _WINDOW_S / max(took_s, _WINDOW_S))
        fits = _WINDOW_BYTES * self._given // max(1, self._given_bytes)
        self.window = max(1, min(max(wanted, _WINDOW_MIN), _WINDOW_MAX, fits))
        self._since_s += took_s
        self._given = self._given_bytes = 0


def _inline_bytes(future: Future[Any]) -> int:
    """What the result takes here, while nobody has asked for it."""
    data = future._end.payload if future._end is not None else None
    return len(data) if isinstance(data, bytes | memoryview) else 0
