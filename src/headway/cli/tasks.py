"""`headway wait`, `cancel`, `tasks` and `explain`: tasks that are there, whoever submitted them.

What this file must not know: how a cluster is found, and what a task runs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import headway
from headway import errors
from headway.cli import show, which
from headway.cli.app import EXIT_FAILED, EXIT_OK, EXIT_TIME_PASSED
from headway.client import dependency, steering
from headway.core.listing import SORTS, TaskQuery
from headway.core.states import TaskState

#: So many rows are shown to people who wait for, or cancel, very many.
_SHOWN_MAX = 20

#: `open` is all that has not ended.
_OPEN = [TaskState.WAITING, TaskState.READY, TaskState.ASSIGNED, TaskState.RUNNING]


def wait(
    where: str | None, ids: Sequence[str], timeout_s: float | None, any_: bool, as_json: bool
) -> int:
    """Wait until all of them (or one, with `any_`) have ended, and say how; the exit code."""
    with which.connect(where) as client:
        futures = _futures(client.attach(list(ids)))
        deadline_at = None if timeout_s is None else time.monotonic() + timeout_s
        passed = False
        open_ = list(futures)
        while open_ and not (any_ and len(open_) < len(futures)):
            if any_:
                passed = not _wait_for_one(open_, deadline_at)
            else:
                passed = not _wait_for(open_[0], deadline_at)
            if passed:
                break
            open_ = [future for future in open_ if not future.done()]
        ended = [future for future in futures if future.done()]
        rows = [_end_row(future) for future in ended]
        rows += [_row(future.id, "pending", "") for future in futures if not future.done()]
    _say(rows, as_json)
    if passed:
        return EXIT_TIME_PASSED
    is_bad = any(row["state"] not in ("succeeded", "pending") for row in rows)
    return EXIT_FAILED if is_bad else EXIT_OK


def _futures(found: Iterable[Any]) -> list[headway.Future[Any]]:
    futures: list[headway.Future[Any]] = []
    for each in found:
        futures += each if isinstance(each, list) else [each]
    return futures


def _wait_for(future: headway.Future[Any], deadline_at: float | None) -> bool:
    """Whether it ended in time."""
    try:
        future.exception(None if deadline_at is None else max(0.0, deadline_at - time.monotonic()))
    except TimeoutError:
        return future.done()  # a task that timed out has ended, too
    except errors.TaskCancelled:
        return True
    return True


def _wait_for_one(futures: Sequence[headway.Future[Any]], deadline_at: float | None) -> bool:
    import concurrent.futures

    left_s = None if deadline_at is None else max(0.0, deadline_at - time.monotonic())
    first = concurrent.futures.FIRST_COMPLETED
    return bool(concurrent.futures.wait(futures, left_s, first).done)


def _end_row(future: headway.Future[Any]) -> dict[str, Any]:
    try:
        error = future.exception()
    except errors.TaskCancelled as cancelled:
        error = cancelled
    if isinstance(error, errors.ConnectionLost):
        raise error
    state = future.state
    if isinstance(error, errors.EngineError) and future.engine is None:
        state = "unknown" if "is not known to the scheduler" in str(error) else state
    return _row(future.id, state, str(error) if error is not None else "")


def _row(node: str, state: str, why: str) -> dict[str, Any]:
    return {"id": node, "state": state, "why": why}


def _say(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        show.say_json(rows)
        return
    counts = Counter(row["state"] for row in rows)
    if len(rows) > _SHOWN_MAX:  # of many, those that matter
        rows = [row for row in rows if row["state"] != "succeeded"][:_SHOWN_MAX]
    if rows:
        columns = [(row["id"], row["state"], show.first_line(row["why"])) for row in rows]
        show.console().print(show.table(["id", "state", "why"], columns))
    if counts.total() > _SHOWN_MAX:
        parts = ", ".join(f"{count:,} {state}" for state, count in counts.most_common())
        show.say(f"{counts.total():,} tasks: {parts}")


def cancel(
    where: str | None, ids: Sequence[str], downstream: bool, queued_only: bool, as_json: bool
) -> int:
    """Cancel them, wait for the truth, and say it; the exit code."""
    with which.connect(where) as client:
        futures = _futures(client.attach(list(ids)))
        nodes = [future.id for future in futures]
        groups = [text for text in ids if text not in nodes]
        # With what is downstream of a group: it is a node of its own.
        wanted = [*nodes, *groups] if downstream else nodes
        report = client.cancel(wanted, downstream=downstream, queued_only=queued_only)
    states = report.states[: len(nodes)]
    _say([_row(node, state, "") for node, state in zip(nodes, states, strict=True)], as_json)
    return EXIT_OK if all(state == "cancelled" for state in states) else EXIT_FAILED


def tasks(where: str | None, query: TaskQuery, as_json: bool) -> None:
    """List tasks."""
    with which.connect(where) as client:
        body = steering.tasks(client, query)
    if as_json:
        show.say_json(body)
        return
    if body["tasks"]:
        show.console().print(show.task_table(body["tasks"]))
    rest = body["found"] - len(body["tasks"])
    at_least = "at least " if body["is_cut"] else ""
    notes = []
    if rest:
        notes.append(f"and {at_least}{rest:,} more: --limit shows more of them")
    elif not body["tasks"]:
        notes.append("no such task" if body["total"] else "no tasks")
    if body["is_cut"]:
        notes.append(f"looked at {body['looked_at']:,} of {body['total']:,}, the newest")
    if notes:
        show.say("; ".join(notes))


def query_of(
    states: Sequence[str], label: str, group: str | None, sort: str, reverse: bool, limit: int
) -> TaskQuery:
    """What `headway tasks` asks for.

    Raises:
        ValueError: a state, the group's id or the order is none.
    """
    wanted: list[TaskState] = []
    for name in states:
        if name == "open":
            wanted += _OPEN
        elif name.upper() in TaskState.__members__:
            wanted.append(TaskState[name.upper()])
        else:
            known = ", ".join(state.name.lower() for state in TaskState)
            raise ValueError(f"--state {name}: expected one of {known}, or open")
    if sort not in SORTS:
        raise ValueError(f"--sort {sort}: expected one of {', '.join(SORTS)}")
    node = dependency.as_node(group) if group is not None else None
    return TaskQuery(wanted, label, node, sort, reverse, limit)


def explain(where: str | None, node: str | None, as_json: bool) -> None:
    """Why a task is where it is; or why nothing runs."""
    with which.connect(where) as client:
        text = client.explain(node)
    if as_json:
        show.say_json({"id": node, "text": text})
    else:
        show.say(text)
