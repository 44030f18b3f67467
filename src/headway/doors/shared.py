"""What the doors share: the client that is used if none is named, and packages that may be missing.

What this file must not know: any of the doors.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from types import ModuleType

from headway import current
from headway.client.active import active_client
from headway.client.client import Client
from headway.client.nesting import get_client

#: Engines of one host start together, in less than this.
_ENGINES_START_S = 10.0

_lock = threading.Lock()
#: The client of this process, for those who have none.
_own: Client | None = None

if hasattr(os, "register_at_fork"):  # another thread may hold it when a fork happens
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def client_or_shared(client: Client | None) -> Client:
    """`client`; or that of the innermost `with headway.Client()` that is open, in any thread; or
    one that all share who have none. That is started when it is first asked for, as
    `headway.Client()`, and closed at the end of the program; inside a task it is the engine's.
    """
    global _own
    if client is not None:
        if not isinstance(client, Client):
            raise TypeError(f"client={client!r} is not a headway.Client")
        return client
    active = active_client()
    if active is not None:
        return active
    if current.engine is not None:
        return get_client()
    with _lock:
        if _own is None or _own.closed:  # of the parent of a fork; or its cluster has died
            _own = Client()
        return _own


def number_of_engines(client: Client) -> int:
    """How many engines there are; while they are being started, how many there will be.

    Raises:
        TimeoutError: there is none, and none came.
    """
    process = client._link.process
    if process is not None:
        with contextlib.suppress(TimeoutError):  # some could not start: then those that did
            return len(client.wait_for_engines(process.engines, _ENGINES_START_S))
    return len(client.wait_for_engines(1))


def needed(module: str, extra: str) -> ModuleType:
    """Import `module`, which the extra `extra` installs.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # it is here, and lacks something else
        raise ImportError(
            f'{package} is not installed; headway uses it here: pip install "headway[{extra}]"',
            name=package,
        ) from error
