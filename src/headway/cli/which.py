"""Which cluster a verb is for; and what the shell is offered to complete its name.

`--cluster`, else HEADWAY_CONNECTION, else the only one that runs: one that a program started for
itself is nobody else's business, unless it is named.

What this file must not know: what is done with it.
"""

from __future__ import annotations

import os

import headway
from headway.client.cluster import ENVIRONMENT_VARIABLE
from headway.errors import ConnectionFileError, HeadwayError
from headway.wire.endpoint import running_clusters

#: To connect to a cluster that runs takes milliseconds.
_CONNECT_S = 15.0
#: Who waits for a completion waits for nothing else.
_COMPLETE_S = 1.0


def connect(where: str | None, timeout_s: float = _CONNECT_S) -> headway.Client:
    """A client of the cluster that is meant.

    Raises:
        ConnectionLost: there is none, or there are several and none was named.
    """
    return headway.Client(find(where), output=False, timeout_s=timeout_s)


def find(where: str | None) -> str:
    """The name or the connection file of the cluster that is meant.

    Raises:
        ConnectionFileError: there is none, or there are several and none was named.
    """
    named = where or os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return named
    names = [name for name, info in running_clusters().items() if not info.embedded]
    if not names:
        raise ConnectionFileError(
            "no cluster of this user runs on this host: start one with `headway start --daemon`, "
            f"or name another with --cluster or {ENVIRONMENT_VARIABLE}"
        )
    if len(names) > 1:
        raise ConnectionFileError(
            f"several clusters run: name one of them with --cluster or {ENVIRONMENT_VARIABLE}: "
            f"{', '.join(sorted(names))}"
        )
    return names[0]


def complete_cluster(incomplete: str) -> list[str]:
    """Names of clusters that run, for the shell."""
    return sorted(name for name in running_clusters() if name.startswith(incomplete))


def complete_task(incomplete: str, where: str | None = None) -> list[str]:
    """Ids of tasks, the newest, for the shell."""
    from headway.client import steering
    from headway.core.listing import TaskQuery

    try:
        with connect(where, _COMPLETE_S) as client:
            rows = steering.tasks(client, TaskQuery(reverse=True))["tasks"]
    except (HeadwayError, OSError, ValueError):
        return []  # nothing to offer: the verb itself will say why
    return [row["id"] for row in rows if row["id"].startswith(incomplete)]
