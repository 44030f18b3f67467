"""headway: a rich task scheduler for Python over ZeroMQ.

with headway.Client(engines=2) as client:
    print(client.submit(pow, 2, 10).result())
"""

from headway import errors
from headway.client.client import Client
from headway.client.dependency import Dependency
from headway.client.futures import Future, Group
from headway.client.options import EngineInfo
from headway.doors.executor import Executor

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - in groups, not in alphabetical order
    # Submitting tasks
    "Client",
    "Dependency",
    "Future",
    "Group",
    # Other doors
    "Executor",
    # What can be learnt
    "EngineInfo",
    "errors",
    "__version__",
]
