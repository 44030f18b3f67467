"""`map` and `as_completed`: a function over many items, at once or as its results are read.

What this file must not know: sockets, pickles.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from headway import errors
from headway.client import options
from headway.client.futures import Future, Group
from headway.client.stream import Stream

if TYPE_CHECKING:
    from headway.client.client import Client
    from headway.client.view import View


class Maps:
    """What has a `map`: clients, and views of them."""

    @overload
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Collection[Any],
        progress: bool = False,
        ordered: Literal[True] = True,
        window: None = None,
    ) -> Group: ...

    @overload
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        progress: Literal[False] = False,
        ordered: Literal[False],
        window: int | None = None,
    ) -> Stream: ...

    @overload
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        progress: bool = False,
        ordered: bool = True,
        window: int | None = None,
    ) -> Any: ...

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        progress: bool = False,
        ordered: bool = True,
        window: int | None = None,
    ) -> Any:
        """A task `fn(*items)` for each tuple of items, as the built-in `map` pairs them.

        Of lists, ranges and other collections: submits all, and returns their futures, in order, as
        a Group; `gather` gives their values. Raises as `submit` does.

        Where one of the iterables is an iterator, such as a generator, it may be endless, and a
        Stream is returned: an iterator of futures that have ended, in order. While it is read, a
        window of tasks is under way; when it is closed, they are cancelled.

        Parameters:
            progress: show how far they are, while the program goes on: see `headway.progress`.
                Then all are submitted at once, also of an iterator.
            ordered: False gives the futures as they end, as a Stream, whatever the iterables are.
            window: how many tasks are submitted and not given out at most, as a Stream. Default:
                some thousands; fewer where results are large.
        """
        if not iterables:
            raise TypeError("map needs at least one iterable beside the function")
        client, view = self._maps_with()
        function = client._function(fn)
        submit = client._submit
        ordered = options.flag("ordered", ordered)
        if window is not None:
            window = options.count("window", window, minimum=1)
        is_lazy = not ordered or window is not None
        if options.flag("progress", progress):
            if is_lazy:
                raise ValueError("map(progress=True) submits all at once: no ordered, no window")
            from headway.client.progress import shown

            calls = zip(*iterables, strict=False)
            futures = (submit(function, fn, args, {}, view) for args in calls)
            return Group(shown(futures, iterables), client)
        if not is_lazy and not any(isinstance(each, Iterator) for each in iterables):
            calls = zip(*iterables, strict=False)
            return Group([submit(function, fn, args, {}, view) for args in calls], client)
        return Stream(
            zip(*iterables, strict=False),
            iterables,
            lambda args: submit(function, fn, args, {}, view),
            lambda rest: _cancel(client, rest),
            ordered,
            window,
        )

    def _maps_with(self) -> tuple[Client, View | None]:
        """The client, and the options for each task."""
        raise NotImplementedError


def as_completed(client: Client, futures: Iterable[Future[Any]], window: int | None) -> Stream:
    """See `Client.as_completed`."""
    if isinstance(futures, Future) or not isinstance(futures, Iterable):
        raise TypeError(f"as_completed takes futures, not {futures!r}")
    if window is not None:
        window = options.count("window", window, minimum=1)
    if isinstance(futures, Iterator):
        return Stream(futures, (futures,), _checked, None, False, window)
    each = deque(dict.fromkeys(map(_checked, futures)))
    # All are watched at once, since any may end first.
    return Stream(_popped(each), (), _checked, None, False, max(1, len(each)))


def _popped(futures: deque[Future[Any]]) -> Iterator[Future[Any]]:
    while futures:  # none that was given out is held here
        yield futures.popleft()


def _checked(future: Any) -> Future[Any]:
    if not isinstance(future, Future):
        raise TypeError(f"as_completed takes futures, not {future!r}")
    return future


def _cancel(client: Client, futures: Sequence[Future[Any]]) -> None:
    with contextlib.suppress(errors.HeadwayError):  # the client is over, and so are its tasks
        client._link.cancel([future.node for future in futures], False, False)
