"""Answers to a client's questions: plain data, read from the scheduler's records.

What this file must not know: sockets. It changes nothing but whom the next kill is no fault of.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from headway.controller.peers import Peers
from headway.controller.recorder import Recorder
from headway.core.events import EngineId, TaskId, format_engine_id, format_task_id
from headway.core.explain import explain, explain_all
from headway.core.listing import TaskQuery, group_row, list_tasks, task_row
from headway.core.records import Engine
from headway.core.scheduler import Scheduler
from headway.core.states import TaskState
from headway.wire import messages as m

#: Who looks at a failed task asks again and again: no more than this travels each time.
_RAISED_BYTES_MAX = 1 << 20

Body = dict[str, Any] | list[dict[str, Any]]


def answer(
    question: m.Ask,
    scheduler: Scheduler,
    peers: Peers,
    now: float,
    recorder: Recorder | None = None,
) -> m.Answer:
    """The answer to `question`, or an Answer that says what is wrong with it."""
    body: Body
    if question.what == "engines":
        body = _engines(scheduler, peers)
    elif question.what == "statistics":
        body = asdict(scheduler.statistics())
        body["clients_held"] = sum(peer.is_held for peer in peers.clients.values())
        body["undelivered"] = sum(len(peer.undelivered.waiting) for peer in peers.clients.values())
    elif question.what == "spare":
        body = _spare(peers, question.node)
    elif question.what == "limits":
        body = scheduler.limits.rows(now)
    elif question.what == "cluster":
        held = sum(peer.is_held for peer in peers.clients.values())
        body = {"text": explain_all(scheduler, now, held)}
    elif question.what == "trace":
        if recorder is None:
            return m.Answer(question.number, error="this cluster was started without traces")
        body = recorder.page(question.node or 0, now)
    elif question.what == "tasks":
        try:
            body = _tasks(scheduler, question.tasks or TaskQuery(), now)
        except ValueError as error:
            return m.Answer(question.number, error=str(error))
    elif question.node is None:
        return m.Answer(question.number, error=f"no such question: {question.what!r}")
    elif question.what == "explain":
        body = {"text": explain(scheduler, question.node, now)}
    elif question.what == "group":
        group = scheduler.groups.get(question.node)
        body = group_row(group) if group is not None else {}
    elif question.what == "raised":
        body = {"payload": _raised(scheduler, question.node)}
    elif question.what == "task":
        body = _task(scheduler, question.node)
    else:
        return m.Answer(question.number, error=f"no such question: {question.what!r}")
    return m.Answer(question.number, body)


def _state_of(engine: Engine) -> str:
    """Whether it takes tasks, in one word."""
    if engine.draining:
        return "draining"
    return "ready" if engine.blocked is None else "waiting"


def _engines(scheduler: Scheduler, peers: Peers) -> list[dict[str, Any]]:
    rows = []
    for engine in scheduler.engines.values():
        peer = peers.engines.get(engine.id)
        rows.append(
            {
                "id": format_engine_id(engine.id),
                "number": engine.id,
                "host": engine.host,
                "pid": engine.pid,
                "state": _state_of(engine),
                "stands_in": engine.stands_in,
                "load": engine.load,
                "limit": None if engine.limit == float("inf") else int(engine.limit),
                "resources": engine.resources,
                "done": engine.done,
                "rss_bytes": peer.rss_bytes if peer is not None else 0,
                "store_bytes": scheduler.stored.bytes_in(engine.store),
            }
        )
    return rows


def _spare(peers: Peers, number: int | None) -> Body:
    """Its client is about to kill this engine: no task is to blame."""
    engine = peers.engines.get(EngineId(number)) if number is not None else None
    if engine is not None:
        engine.is_spared = True
    return {"spared": engine is not None}


def _tasks(scheduler: Scheduler, query: TaskQuery, now: float) -> dict[str, Any]:
    listing = list_tasks(scheduler, query)
    return {
        "tasks": [task_row(task, now) for task in listing.tasks],
        "found": listing.found,
        "looked_at": listing.looked_at,
        "total": listing.total,
        "is_cut": listing.is_cut,
    }


def _raised(scheduler: Scheduler, node: TaskId) -> bytes:
    """What a task raised, as its engine packed it; b"" if it is not there, or is very large."""
    task = scheduler.tasks.get(node)
    payload = task.result if task is not None and task.state is TaskState.FAILED else None
    if not isinstance(payload, bytes) or len(payload) > _RAISED_BYTES_MAX:
        return b""
    return payload


def _task(scheduler: Scheduler, node: TaskId) -> dict[str, Any]:
    task = scheduler.tasks.get(node)
    if task is None:
        return {"id": format_task_id(node), "state": "unknown", "engine": None}
    engine = scheduler.engines.get(task.engine) if task.engine is not None else None
    return {
        "label": task.options.label,
        "host": engine.host if engine is not None else "",
        "why": task.problem.text if task.problem is not None else "",
        "id": format_task_id(node),
        "state": task.state.name.lower(),
        "engine": format_engine_id(task.engine) if task.engine is not None else None,
        "attempt": task.attempt,
        "asked_to_stop": task.cancelled,
        # Cancelled unless it has begun, of which the engine has not said yet.
        "asked_back": engine is not None and node in engine.unwanted,
    }
