"""The states of a task, and every edge between them.

Rule 1: every edge of the machine is in `TRANSITIONS`; a state changes nowhere but in
`Life.move`, which reads it. Rule 2: this file knows no engines, clients or clocks.

A task waits for its dependencies or its backoff (WAITING), waits for an engine (READY), is on
an engine (ASSIGNED: sent, perhaps still queued there; RUNNING: the engine or its nanny said that
it started), and ends once, in one of six final states. A message about a task that has ended is
stale, is counted, and changes nothing. A final state has no way out, but for one: a task that
succeeded is run again if its value is lost, and somebody needs it.

docs/states.md is generated from the tables here (`python -m headway.core.states`).
"""

from __future__ import annotations

from enum import IntEnum


class TaskState(IntEnum):
    """Where a task is. Integers, so that a table is a list and a count is an index."""

    WAITING = 0
    READY = 1
    ASSIGNED = 2
    RUNNING = 3
    SUCCEEDED = 4
    FAILED = 5
    IMPOSSIBLE = 6
    TIMED_OUT = 7
    CANCELLED = 8
    LOST = 9


class Cause(IntEnum):
    """Why a task changes its state."""

    DEPENDENCIES_MET = 0
    DEPENDENCY_LOST = 1
    NO_ENGINE_LEFT = 2
    PLACED = 3
    STARTED = 4
    RETURNED = 5
    ENGINE_LOST = 6
    RETRY = 7
    RETRY_LATER = 8
    RAN = 9
    RAISED = 10
    DEADLINE = 11
    CANCEL = 12
    CRASH_LIMIT = 13
    BACKOFF_OVER = 14
    FOLLOW_LOST = 15
    RAN_LATE = 16
    VALUE_LOST = 17
    INPUT_LOST = 18
    RETRY_ASKED = 19


S = TaskState
C = Cause

#: What each cause means, for docs/states.md.
CAUSE_MEANINGS: dict[Cause, str] = {
    C.DEPENDENCIES_MET: "the last condition of the task was met",
    C.DEPENDENCY_LOST: "a condition can no longer be met, or names an unknown task; or the shell "
    "abandoned the task",
    C.NO_ENGINE_LEFT: "no engine is left on which the task may run, or the shell abandoned it, or "
    "could not send it",
    C.PLACED: "the scheme chose an engine, whose seat is taken in the same step",
    C.STARTED: "the engine, or its nanny, reported that the task runs",
    C.RETURNED: "the engine gave the task back before it started: recalled, drained or refused; "
    "or the shell could not send it",
    C.ENGINE_LOST: "the engine ended; the task may be repeated",
    C.RETRY: "the function raised, and may be tried again now",
    C.RETRY_LATER: "the function raised, and may be tried again after its backoff",
    C.RAN: "the function returned",
    C.RAISED: "the function raised, and no retry is left",
    C.DEADLINE: "the time limit passed: in the queue (timeout) or of one run (run_timeout)",
    C.CANCEL: "its client cancelled it",
    C.CRASH_LIMIT: "its engine ended, and it may not be repeated again",
    C.FOLLOW_LOST: "the engines that met its follow condition left; another may yet meet it",
    C.BACKOFF_OVER: "the backoff before its next attempt has passed",
    C.RAN_LATE: "its engine was given up, but then reported that the latest attempt returned",
    C.VALUE_LOST: "its stored value is lost, somebody needs it, and it may be repeated",
    C.RETRY_ASKED: "it had failed, and somebody asked that it runs again",
    C.INPUT_LOST: "the value of an upstream is lost: the task waits until that has run again",
}

_FROM_ENGINE: dict[Cause, TaskState] = {
    C.RETURNED: S.READY,
    C.ENGINE_LOST: S.READY,
    C.RETRY: S.READY,
    C.RETRY_LATER: S.WAITING,
    C.RAN: S.SUCCEEDED,
    C.RAISED: S.FAILED,
    C.DEADLINE: S.TIMED_OUT,
    C.CANCEL: S.CANCELLED,
    C.CRASH_LIMIT: S.LOST,
    C.INPUT_LOST: S.WAITING,
}

#: state -> cause -> new state. Every state has a row; a final one has an empty row.
TRANSITIONS: dict[TaskState, dict[Cause, TaskState]] = {
    S.WAITING: {
        C.DEPENDENCIES_MET: S.READY,
        C.BACKOFF_OVER: S.READY,
        C.RAN_LATE: S.SUCCEEDED,
        C.DEPENDENCY_LOST: S.IMPOSSIBLE,
        C.DEADLINE: S.TIMED_OUT,
        C.CANCEL: S.CANCELLED,
    },
    S.READY: {
        C.PLACED: S.ASSIGNED,
        C.FOLLOW_LOST: S.WAITING,
        C.RAN_LATE: S.SUCCEEDED,
        C.NO_ENGINE_LEFT: S.IMPOSSIBLE,
        C.DEADLINE: S.TIMED_OUT,
        C.CANCEL: S.CANCELLED,
    },
    S.ASSIGNED: {C.STARTED: S.RUNNING, C.NO_ENGINE_LEFT: S.IMPOSSIBLE, **_FROM_ENGINE},
    S.RUNNING: dict(_FROM_ENGINE),
    S.SUCCEEDED: {C.VALUE_LOST: S.WAITING},
    S.FAILED: {C.RETRY_ASKED: S.WAITING},
    S.IMPOSSIBLE: {},
    S.TIMED_OUT: {C.RETRY_ASKED: S.WAITING},
    S.CANCELLED: {},
    S.LOST: {C.RETRY_ASKED: S.WAITING},
}

#: States in which a task has ended: the only way out of any is to be run again.
FINAL_STATES: frozenset[TaskState] = frozenset(
    s for s, row in TRANSITIONS.items() if not row.keys() - {C.VALUE_LOST, C.RETRY_ASKED}
)
ON_ENGINE_STATES: frozenset[TaskState] = frozenset({S.ASSIGNED, S.RUNNING})
#: Final states from which somebody may ask for another try: it had begun, or had waited in vain.
RETRIABLE_STATES: frozenset[TaskState] = frozenset({S.FAILED, S.TIMED_OUT, S.LOST})


def diagram() -> str:
    """The machine as docs/states.md shows it: a Mermaid diagram, and the causes in words."""
    edges: dict[tuple[TaskState, TaskState], list[str]] = {}
    for state, row in TRANSITIONS.items():
        for cause, target in row.items():
            edges.setdefault((state, target), []).append(cause.name)
    lines = [
        "# The states of a task",
        "",
        "Generated from `headway/core/states.py` by `make docs`; do not edit.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> WAITING: submitted",
    ]
    lines += [
        f"    {source.name} --> {target.name}: {' / '.join(causes)}"
        for (source, target), causes in edges.items()
    ]
    lines += [f"    {state.name} --> [*]" for state in TaskState if state in FINAL_STATES]
    lines += ["```", "", "| cause | meaning |", "|---|---|"]
    lines += [f"| `{cause.name}` | {CAUSE_MEANINGS[cause]} |" for cause in Cause]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(diagram())
