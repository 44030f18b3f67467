"""headway's scheduler inside IPython.parallel clusters. Needs the extra headway[ipyparallel].

    cluster = ipyparallel.Cluster(controller="headway", n=4)
    view = headway.ipyparallel.view(client, priority=2)

The public names are imported when they are first used: a client needs no scheduler, and a
scheduler no client.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("ipyparallel") is None:
    raise ImportError(
        "headway.ipyparallel needs the package ipyparallel, which is not installed: "
        "pip install 'headway[ipyparallel]'"
    )

if TYPE_CHECKING:
    from headway.ipyparallel.dependency import Dependency
    from headway.ipyparallel.scheduler import Job, TaskScheduler, launch_scheduler
    from headway.ipyparallel.views import CancelReport, HeadwayBalancedView, view

__all__ = [  # noqa: RUF022 - in groups, not in alphabetical order
    # For clients
    "view",
    "Dependency",
    "HeadwayBalancedView",
    "CancelReport",
    # The scheduler
    "TaskScheduler",
    "Job",
    "launch_scheduler",
]

#: Where each name lives.
_HOMES = {
    "CancelReport": "headway.ipyparallel.views",
    "Dependency": "headway.ipyparallel.dependency",
    "HeadwayBalancedView": "headway.ipyparallel.views",
    "Job": "headway.ipyparallel.scheduler",
    "TaskScheduler": "headway.ipyparallel.scheduler",
    "launch_scheduler": "headway.ipyparallel.scheduler",
    "view": "headway.ipyparallel.views",
}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'headway.ipyparallel' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
