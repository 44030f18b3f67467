"""`cancel_request`: a client wants tasks not to run.

Those that no engine has end now; the answer says what became of each. What this file must not
know: what a cancelled task is to those that depend on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway.ipyparallel.desk import Desk


def cancel(desk: Desk, raw: list[Any]) -> None:
    """Take a cancel_request, and answer it."""
    message = desk.read("cancel_request", desk.frames.whole, raw)
    if message is None:
        return
    ids = message.content.get("msg_ids")
    if not isinstance(ids, list):
        desk.complain("a cancel_request without msg_ids", repr(message.content))
        ids = []
    answer: dict[str, Any] = {"status": "ok"}
    answer |= {"cancelled": [], "running": [], "done": [], "unknown": []}
    for msg_id in dict.fromkeys(i for i in ids if isinstance(i, str)):
        answer[_cancelled(desk, msg_id)].append(msg_id)
    desk.to_client(
        desk.frames.build("cancel_reply", answer, parent=message.header, idents=message.idents)
    )


def _cancelled(desk: Desk, msg_id: str) -> str:
    """Cancel one task if it is not too late. Returns what became of it."""
    bridge = desk.bridge
    job = bridge.jobs.get(msg_id)
    if job is None:
        return "done" if msg_id in bridge.finished else "unknown"
    if bridge.is_on_engine(job):
        return "running"
    job.reply = None  # that of an earlier try is not how it ends
    bridge.cancel(job, desk.now())
    return "cancelled"
