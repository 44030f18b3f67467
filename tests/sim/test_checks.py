"""The checker sees what must not be, by itself: each rule is broken here once."""

from __future__ import annotations

import pytest

from headway.core.events import TaskId, TaskOptions
from headway.core.limits import Limit
from headway.core.states import TaskState
from headway.sim.checks import Asked, Checker, Violation
from headway.wire import messages as m

ONE, TWO = TaskId(1), TaskId(2)


def checker(load_max: float = 2, **options: object) -> Checker:
    """One that knows of two tasks: the second needs the value of the first."""
    found = Checker(load_max)
    found.tasks[ONE] = Asked("c", TaskOptions(**options), [])  # type: ignore[arg-type]
    found.tasks[TWO] = Asked("c", TaskOptions(), [ONE])
    return found


def attempt(task: TaskId, number: int) -> m.Assignment:
    return m.Assignment(task, number, 0, b"")


def ran(found: Checker, number: int, value: bytes = b"v", how: str = "ran") -> None:
    """The first task runs, for the `number`-th time."""
    found.began(attempt(ONE, number), "e", [])
    found.ended(attempt(ONE, number), "e", how, value)


def ends(found: Checker, state: TaskState, value: bytes | None = None) -> None:
    found.heard("c", m.Result(ONE, state, value))


def test_a_task_that_runs_and_ends_and_is_told_of_again_is_as_it_should_be():
    found = checker()
    ran(found, 1, how="raised")
    ran(found, 2)
    ends(found, TaskState.SUCCEEDED, b"v")
    ends(found, TaskState.SUCCEEDED, b"v")
    found.began(attempt(TWO, 1), "e", [b"v"])


def test_an_end_that_differs_from_the_one_before_is_found():
    found = checker()
    ran(found, 1)
    ends(found, TaskState.SUCCEEDED, b"v")
    with pytest.raises(Violation, match="ended twice"):
        ends(found, TaskState.LOST)


def test_a_value_that_no_run_gave_is_found():
    found = checker()
    ran(found, 1, how="stopped", value=b"")
    with pytest.raises(Violation, match="which no run of it gave"):
        ends(found, TaskState.SUCCEEDED, b"v")


def test_a_stale_attempt_that_counts_is_found():
    found = checker()
    ran(found, 1)
    found.began(attempt(ONE, 2), "e", [])
    with pytest.raises(Violation, match="attempt 1, which was stale"):
        ends(found, TaskState.SUCCEEDED, b"v")


def test_an_attempt_after_the_one_that_counted_is_found():
    found = checker()
    ran(found, 1)
    ends(found, TaskState.SUCCEEDED, b"v")
    with pytest.raises(Violation, match="began after attempt 1 had succeeded"):
        found.began(attempt(ONE, 2), "e", [])


def test_a_value_of_a_task_that_was_cancelled_is_found_in_either_order():
    first = checker()
    first.tasks[ONE].cancel_asked = True
    ran(first, 1)
    first.began(attempt(TWO, 1), "e", [b"v"])
    with pytest.raises(Violation, match="ended CANCELLED, after others were given its value"):
        ends(first, TaskState.CANCELLED)

    second = checker()
    second.tasks[ONE].cancel_asked = True
    ran(second, 1)
    ends(second, TaskState.CANCELLED)
    with pytest.raises(Violation, match="was given the value of a task that failed"):
        second.began(attempt(TWO, 1), "e", [b"v"])


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (TaskState.CANCELLED, "nobody asked"),
        (TaskState.FAILED, "no run of it raised"),
        (TaskState.TIMED_OUT, "of which it had no end"),
    ],
)
def test_an_end_without_a_reason_is_found(state: TaskState, said: str):
    with pytest.raises(Violation, match=said):
        ends(checker(), state)


def test_what_is_downstream_may_be_cancelled_only_where_that_was_asked():
    found = checker()
    found.tasks[ONE].is_cancelled_downstream = True
    found.heard("c", m.Result(TWO, TaskState.CANCELLED))

    found = checker()
    found.tasks[ONE].cancel_asked = True
    with pytest.raises(Violation, match="nobody asked"):
        found.heard("c", m.Result(TWO, TaskState.CANCELLED))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (TaskState.RUNNING, "never ended"),
        (TaskState.SUCCEEDED, "no run of it did"),
        (TaskState.CANCELLED, "nobody asked"),
        (TaskState.LOST, "was FAILED before"),
    ],
)
def test_what_was_left_behind_and_did_not_end_as_it_should_is_found(state: TaskState, said: str):
    found = checker()
    if state is TaskState.LOST:
        ran(found, 1, how="raised")
        ends(found, TaskState.FAILED)
    with pytest.raises(Violation, match=said):
        found.ended_behind(ONE, state)


def test_a_task_with_a_limit_may_run_out_of_time():
    ends(checker(run_timeout_s=1.0), TaskState.TIMED_OUT)


def test_an_engine_that_has_more_than_it_may_is_found():
    found = checker(load_max=1, resources={"gpu": 1.0})
    found.holds("e", {"gpu": 1.0}, [ONE])
    with pytest.raises(Violation, match="e has 2 tasks, of which 1 are allowed"):
        found.holds("e", {"gpu": 1.0}, [ONE, TWO])
    with pytest.raises(Violation, match=r"e has tasks that need 1\.0 of gpu, and has 0\.5"):
        found.holds("e", {"gpu": 0.5}, [ONE])


def test_more_tasks_of_a_tag_on_engines_than_its_limit_are_found():
    found = checker(tags=["db"])
    found.tasks[TWO].options = TaskOptions(tags=["db", "db"])
    found.sent([ONE, TWO], {"db": Limit(at_once=2)})
    with pytest.raises(Violation, match="2 tasks with the tag db are on engines, not 1"):
        found.sent([ONE, TWO], {"db": Limit(at_once=1)})
