"""`headway.progress`, and `map(..., progress=True)`: how far futures are, as they end.

What this file must not know: how progress is counted and drawn.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

from headway.client import nesting, options
from headway.client.futures import Future
from headway.tally.live import Live, View


def progress(futures: Any, *, wait: bool = True) -> Any:
    """Show how far `futures` are, by label and state, how fast they end, and what time is left.

    In a terminal as bars on stderr; as lines where that is no terminal; in a notebook as an
    output that changes. It is drawn when something has ended, ten times a second at most.

    Parameters:
        futures: a Future, a Group, or an iterable of those, at any depth.
        wait: until all have ended. Ctrl-C ends the waiting and the showing; the tasks go on.
            Without it this returns at once, and they are shown while the program goes on.

    Returns what it was given, for `client.gather(headway.progress(futures))`; of an iterator, the
    list of what it gave.

    Raises:
        TypeError: something is no Future, or `wait` no bool.
        RuntimeError: it is called in a callback, where it would wait for itself.
    """
    options.flag("wait", wait)
    if isinstance(futures, Iterator):
        futures = list(futures)
    each = list(dict.fromkeys(_flatten(futures)))  # twice named, once counted
    if wait and each:
        each[0]._client._check_may_wait(each[0])
    live = Live(_view(len(each)), len(each))
    live.start()
    for future in each:
        live.follow(future)
    live.seal()
    client = each[0]._client if each else None
    # Whoever waits here holds no future for longer than the user does.
    del each
    if wait:
        try:
            with contextlib.nullcontext() if client is None else nesting.blocked(client):
                live.wait()
        except BaseException:  # Ctrl-C
            live.stop()
            raise
    return futures


def shown(futures: Iterator[Future[Any]], iterables: Sequence[Iterable[Any]]) -> list[Future[Any]]:
    """The futures that a `map` over `iterables` makes, shown from the first on."""
    total = min((len(each) for each in iterables if isinstance(each, Sized)), default=0)
    live = Live(_view(total), total)
    live.start()
    made = []
    try:
        for future in futures:
            live.follow(future)
            made.append(future)
    except BaseException:
        live.stop()
        raise
    live.seal()
    return made


def _flatten(futures: Any) -> Iterator[Future[Any]]:
    if isinstance(futures, Future):
        yield futures
        return
    if not isinstance(futures, Iterable) or isinstance(futures, str | bytes | bytearray):
        raise TypeError(f"progress takes futures, not {futures!r}")
    for each in futures:
        yield from _flatten(each)


def _view(total: int) -> View:
    """The view for where this program runs. Imported when it is used: it takes a while."""
    from headway.tally import notebook

    if notebook.is_notebook():
        from headway.tally.model import Tally

        return notebook.NotebookView(Tally(0.0, total).view(0.0))
    from headway.tally import terminal

    # A dumb terminal can't go back to what it has written.
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return terminal.LineView()
    return terminal.TerminalView()
