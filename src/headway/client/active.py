"""The clients whose `with` blocks are open, in the order in which they were entered.

A door that is given no client uses the one that was entered last, in whatever thread: as a program
has one as a rule, and an interface of others has no place to name it.

What this file must not know: what a client does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.client.client import Client

_entered: list[Client] = []

if hasattr(os, "register_at_fork"):  # a fork can't use its parent's
    os.register_at_fork(after_in_child=_entered.clear)


def entered(client: Client) -> None:
    """The `with` block of `client` was entered."""
    _entered.append(client)


def left(client: Client) -> None:
    """The `with` block of `client` was left."""
    for index in range(len(_entered) - 1, -1, -1):
        if _entered[index] is client:
            del _entered[index]
            return


def active_client() -> Client | None:
    """The client that was entered last and is open, or None."""
    for client in reversed(_entered):
        if not client.closed:
            return client
    return None
