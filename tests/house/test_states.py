"""Promise: the machine of a task's states is whole, and its picture is the machine."""

from __future__ import annotations

import pytest

from headway.core import states
from headway.core.states import FINAL_STATES, ON_ENGINE_STATES, TRANSITIONS, Cause, TaskState
from tests.house import source

#: Why a state that is not final has no exit on ENGINE_LOST.
NO_ENGINE = {
    TaskState.WAITING: "it is on no engine: its dependencies or its backoff keep it",
    TaskState.READY: "it is on no engine: when the last that may run it leaves, NO_ENGINE_LEFT",
}


@pytest.mark.parametrize("state", TaskState)
def test_every_state_has_a_row(state):
    assert state in TRANSITIONS, f"add a row for {state.name} to TRANSITIONS in core/states.py"


def test_every_state_can_be_reached_from_the_first():
    reached = {TaskState.WAITING}
    frontier = [TaskState.WAITING]
    while frontier:
        for target in TRANSITIONS[frontier.pop()].values():
            if target not in reached:
                reached.add(target)
                frontier.append(target)

    missing = sorted(set(TaskState) - reached)
    assert not missing, f"no edge leads to {[state.name for state in missing]}: add one, or strike"


@pytest.mark.parametrize("state", [state for state in TaskState if state not in FINAL_STATES])
def test_every_state_that_is_not_final_can_be_cancelled_and_survives_its_engine(state):
    row = TRANSITIONS[state]

    assert Cause.CANCEL in row, f"{state.name} has no exit on CANCEL: a cancel would be lost"
    if state in NO_ENGINE:
        assert Cause.ENGINE_LOST not in row, f"strike {state.name} out of NO_ENGINE: it has an exit"
        assert state not in ON_ENGINE_STATES, f"{state.name}: NO_ENGINE says it is on no engine"
    else:
        assert Cause.ENGINE_LOST in row, (
            f"{state.name} has no exit on ENGINE_LOST: add the edge, or the reason to NO_ENGINE"
        )


@pytest.mark.parametrize("state", [state for state in TaskState if state not in FINAL_STATES])
def test_every_state_that_is_not_final_can_come_to_an_end(state):
    assert set(TRANSITIONS[state].values()) & FINAL_STATES, f"{state.name} leads to no final state"


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_is_used_and_explained(cause):
    used = any(cause in row for row in TRANSITIONS.values())

    assert used, f"no row of TRANSITIONS has {cause.name}: strike it out"
    assert states.CAUSE_MEANINGS.get(cause), f"say what {cause.name} means in CAUSE_MEANINGS"


def test_the_diagram_in_the_docs_is_the_machine():
    page = source.ROOT / "docs" / "states.md"

    assert page.exists(), "docs/states.md is missing: run `make docs`"
    assert page.read_text(encoding="utf-8") == states.diagram(), (
        "docs/states.md differs from TRANSITIONS: run `make docs`"
    )
