"""What a dashboard needs of a client beyond its public face: to observe, to read numbers, and to
cancel by id.

What this file must not know: what is done with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headway.core.events import TaskId
from headway.errors import ProtocolError
from headway.wire.metrics import Metrics
from headway.wire.observed import Observed
from headway.wire.payload import read_exception

if TYPE_CHECKING:
    from headway.client.client import Client


def observe(client: Client) -> Observed:
    """How the cluster is, and what changed since the last time. It waits for a quarter of a
    second after that, or until the controller can be reached.

    Raises:
        HeadwayError: it could not be asked, or too many observe.
    """
    body = client._link.ask("observe")
    try:
        return msgspec.convert(body, Observed)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"the controller answered an observer with {error}") from None


def read_metrics(client: Client, timeout_s: float) -> Metrics:
    """The numbers of the cluster's controller.

    Raises:
        HeadwayError: it could not be asked, or did not answer within `timeout_s`.
    """
    body = client._link.ask("metrics", timeout_s=timeout_s)
    try:
        return msgspec.convert(body, Metrics)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"the controller's metrics are malformed: {error}") from None


def count_engines(client: Client, timeout_s: float) -> int:
    """How many engines are here: the least that the controller can be asked.

    Raises:
        HeadwayError: it could not be asked, or did not answer within `timeout_s`.
    """
    return int(client._link.ask("statistics", timeout_s=timeout_s)["engines"])


def traceback_of(client: Client, task: TaskId) -> str:
    """The traceback of what `task` raised, as text; "" if it raised nothing, or nobody knows. What
    was pickled stays so.

    Raises:
        HeadwayError: the controller could not be asked.
    """
    raised = bytes(client._link.ask("raised", task)["payload"])
    return read_exception(raised).traceback_text if raised else ""


def cancel_task(client: Client, task: TaskId) -> None:
    """Ask that `task` does not run, whoever's it is; it is not waited for."""
    client._link.cancel([task], queued_only=False, downstream=False)
