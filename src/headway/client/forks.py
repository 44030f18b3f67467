"""What becomes of connections at a fork and at the end of the program.

In a fork's child a connection belongs to the parent: it refuses to work, and its end here must
not stop the parent's cluster. At the end of the program, connections that were not closed are
closed, quietly, so that no process remains.
"""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol


class Closable(Protocol):
    """A connection."""

    def request_stop(self) -> None:
        """Begin to close; do not wait."""

    def close(self) -> None:
        """Close, and wait."""

    def after_fork(self) -> None:
        """This process is a fork's child."""


#: Strong: a connection whose client is gone may still be stopping its cluster.
_open: set[Closable] = set()
_all: weakref.WeakSet[Closable] = weakref.WeakSet()


def register(link: Closable) -> None:
    """`link` learns of forks, and is closed at the end of the program unless `closed` is called."""
    _all.add(link)
    _open.add(link)


def closed(link: Closable) -> None:
    """`link` has been closed."""
    _open.discard(link)


@atexit.register
def _close_all() -> None:
    links = list(_open)
    for link in links:
        link.request_stop()  # all of them at once
    for link in links:
        link.close()


def _forked() -> None:
    _open.clear()
    for link in list(_all):
        link.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
