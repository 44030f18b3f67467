"""headway: a rich task scheduler for Python over ZeroMQ.

with headway.Client(engines=2) as client:
    print(client.submit(pow, 2, 10).result())

The public names are imported when they are first used: engines and controllers import this
package too, and start faster without the client, which they have no use for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headway import errors

if TYPE_CHECKING:
    from headway import launchers
    from headway.client.cancelling import CancelReport
    from headway.client.chaos import Chaos, ChaosReport
    from headway.client.client import Client
    from headway.client.dependency import Dependency
    from headway.client.futures import Future, Group
    from headway.client.nesting import get_client
    from headway.client.options import EngineInfo
    from headway.client.progress import progress
    from headway.client.stream import Stream
    from headway.client.traced import Trace
    from headway.doors.async_client import AsyncClient
    from headway.doors.dask import dask_get
    from headway.doors.executor import Executor
    from headway.doors.graph import Graph, Ref, task
    from headway.doors.joblib import register_joblib

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - in groups, not in alphabetical order
    # Submitting tasks
    "Chaos",
    "Client",
    "Dependency",
    "Future",
    "Group",
    "Stream",
    "get_client",
    # Graphs that are described first
    "Graph",
    "Ref",
    "task",
    # Other doors
    "AsyncClient",
    "Executor",
    "dask_get",
    "register_joblib",
    # What can be learnt
    "progress",
    "CancelReport",
    "ChaosReport",
    "EngineInfo",
    "Trace",
    "errors",
    "launchers",
    "__version__",
]

#: Where each name that is imported on first use lives.
_HOMES = {
    "AsyncClient": "headway.doors.async_client",
    "CancelReport": "headway.client.cancelling",
    "Chaos": "headway.client.chaos",
    "ChaosReport": "headway.client.chaos",
    "Client": "headway.client.client",
    "Dependency": "headway.client.dependency",
    "EngineInfo": "headway.client.options",
    "Executor": "headway.doors.executor",
    "dask_get": "headway.doors.dask",
    "get_client": "headway.client.nesting",
    "progress": "headway.client.progress",
    "register_joblib": "headway.doors.joblib",
    "task": "headway.doors.graph",
    "Future": "headway.client.futures",
    "Graph": "headway.doors.graph",
    "Group": "headway.client.futures",
    "Ref": "headway.doors.graph",
    "Stream": "headway.client.stream",
    "Trace": "headway.client.traced",
}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name == "launchers":
        return import_module("headway.launchers")
    if name not in _HOMES:
        raise AttributeError(f"module 'headway' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
