"""What people do with a whole cluster over a client: look at its tasks, steer its engines, stop it.

The command line uses these. What this file must not know: how anything is shown.
"""

from __future__ import annotations

from typing import Any

from headway import errors
from headway.client.client import Client
from headway.client.futures import KIND_START
from headway.client.link import ANSWER_S
from headway.core.events import EngineId, TaskId
from headway.core.listing import TaskQuery


def tasks(client: Client, query: TaskQuery, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """Rows of tasks, as core/listing.py has them: "tasks", "found", "looked_at", "total",
    "is_cut".

    Raises:
        HeadwayError: the controller can't answer, and says why; or did not within `timeout_s`.
    """
    return dict(client._link.ask("tasks", timeout_s=timeout_s, tasks=query))


def task(client: Client, node: TaskId) -> dict[str, Any]:
    """What is known of one task: "state" is "unknown" if nothing is."""
    return dict(client._link.ask("task", node))


def group(client: Client, node: TaskId) -> dict[str, Any]:
    """What is known of a group; {} if there is none of that id."""
    return dict(client._link.ask("group", node))


def start_engines(client: Client, count: int) -> str:
    """Have `count` more engines started; what was begun, in words."""
    return str(client._link.order("start", count=count)["text"])


def steer_engine(client: Client, what: str, engine: int) -> str:
    """Drain, stop or restart an engine; what was begun, in words."""
    return str(client._link.order(what, EngineId(engine))["text"])


def stop_cluster(client: Client, keep_tasks: bool, timeout_s: float) -> None:
    """Stop the cluster, and wait for its goodbye.

    Raises:
        HeadwayError: it did not stop in time, or it can't keep its tasks.
    """
    client._link.shut_down(keep_tasks)
    if not client._link.ended.wait(timeout_s):
        raise errors.HeadwayError(f"the cluster did not stop within {timeout_s:g} s")
    refusal = client._link.refusal
    if refusal is not None and refusal.kind == KIND_START:
        raise errors.HeadwayError(refusal.text)


def retry_task(client: Client, node: TaskId) -> str:
    """Have a task that failed run again; what was begun, in words.

    It keeps its id and begins with fresh budgets. Its client was told that it failed, and a future
    keeps what it was told; what depended on it stays as it ended.

    Raises:
        HeadwayError: it can't, and why.
    """
    return str(client._link.order("retry", task=node)["text"])
