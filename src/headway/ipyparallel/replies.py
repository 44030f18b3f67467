"""What the scheduler says in an engine's place: the contents of replies that it makes itself.

What this file must not know: sockets, when a job has ended.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from headway.core.problems import (
    KIND_IMPOSSIBLE,
    KIND_INVALID,
    KIND_LOST,
    KIND_RUN_TIMEOUT,
    KIND_TIMEOUT,
    Problem,
)
from headway.ipyparallel.bridge import Job
from headway.ipyparallel.frames import Frames

#: What a client of ipyparallel calls the ways in which a task can end without a reply.
_ERROR_NAMES = {
    KIND_INVALID: "InvalidDependency",
    KIND_IMPOSSIBLE: "ImpossibleDependency",
    KIND_TIMEOUT: "TaskTimeout",
    KIND_RUN_TIMEOUT: "TaskTimeout",
    KIND_LOST: "EngineError",
}
#: Content and metadata of the reply to a task that will not run, as an engine makes it.
ABORTED = {"status": "aborted"}


def error_content(name: str, text: str) -> dict[str, Any]:
    """The content of a reply that says that a task did not succeed."""
    return {
        "status": "error",
        "ename": name,
        "evalue": text,
        "traceback": [f"{name}: {text}"],
        "engine_info": {},
    }


def error_name(job: Job, problem: Problem) -> str:
    """The name of the error with which `job` ends."""
    return job.why or _ERROR_NAMES.get(problem.kind, "ImpossibleDependency")


def error_metadata(engine: bytes) -> dict[str, Any]:
    """The metadata of a reply that says that a task did not succeed on `engine`. By it the Hub
    knows that the engine has the task no more, and the client where it was."""
    uuid = engine.decode("utf-8", "replace")
    return {"status": "error", "engine": uuid, "date": datetime.now(UTC).isoformat()}


def lost_reply(frames: Frames, job: Job, engine: bytes, text: str) -> list[Any]:
    """What the engine would have said of `job`, had it known that its answer gets lost: the frames
    as if they had come from there."""
    content, metadata = error_content("EngineError", text), error_metadata(engine)
    idents = [engine, *job.idents]
    return list(
        frames.build("apply_reply", content, parent=job.header, metadata=metadata, idents=idents)
    )
