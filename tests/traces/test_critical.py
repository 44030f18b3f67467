"""Promise: the parts of the critical path, and of each task's time, add up to what passed; the
figures say where the time of tasks and engines went."""

from __future__ import annotations

import pytest

from headway.traces.critical import critical_path
from headway.traces.model import TraceData
from headway.traces.select import renamed, select
from headway.traces.summary import summary
from tests.traces.made import DIAMOND, attempt, task, trace


def test_the_path_goes_back_from_what_ended_last_to_what_waited_for_nothing():
    path = critical_path(DIAMOND)

    assert [step.id for step in path.steps] == ["a", "b"]
    assert path.took_s == 8.5
    assert path.run_s == 6.0
    assert path.waited_s == {"before": 0, "queue": 0.75, "behind": 0, "transfer": 1, "report": 0.75}
    assert path.run_s + sum(path.waited_s.values()) == path.took_s
    assert (path.chain, path.chain_s) == (("a", "b"), 6.0)


def test_what_one_waited_for_behind_others_of_its_engine_is_told_from_the_way_there():
    [step] = critical_path(select(DIAMOND, lambda one: one.id in ("c", "d"))).steps[-1:]
    assert step.id == "c"
    # Without its upstream, time begins at 0 all the same, and d is before it on e1.
    assert (step.behind_s, step.transfer_s) == (1.5, 0.5)


def test_attempts_follow_each_other_without_a_gap():
    tried = task(
        "t", 1.0, 2.0,
        attempt("e0", 2.5, 3.0, 4.0, 4.5, end="raised"),
        attempt("e1", 6.0, 6.5, 7.0, 7.25, number=2),
        after=("u",),
    )  # fmt: skip
    upstream = task("u", 0.5, 0.5, attempt("e0", 0.5, 1.0, 1.5, 2.0))
    path = critical_path(trace(upstream, tried))

    assert [step.id for step in path.steps] == ["u", "t"]
    assert path.steps[1].attempts == 2
    assert path.steps[1].queue_s == 0.5 + 1.5
    assert path.steps[1].run_s == 1.5
    assert path.run_s + sum(path.waited_s.values()) == path.took_s == 7.25


def test_nothing_that_ran_has_no_path():
    never = task("n", 0.0, None, state="impossible", ended_s=4.0)
    for data in (TraceData(0.0, [], []), trace(never)):
        path = critical_path(data)
        assert path.steps == ()
        assert path.chain == ()
        assert path.as_dict()["took_s"] == 0.0
    assert summary(trace(never)).phases["dependencies"].total_s == 4.0


def test_what_waited_for_a_task_that_never_ran_begins_with_its_end():
    never = task("n", 0.0, None, state="impossible", ended_s=4.0)
    rescue = task("r", 0.0, 4.0, attempt("e0", 4.5, 5.0, 6.0, 6.5), after=("n",))
    path = critical_path(trace(never, rescue))

    assert [(step.id, step.engine, step.attempts) for step in path.steps] == [
        ("n", "", 0),
        ("r", "e0", 1),
    ]
    assert path.before_s == 4.0
    assert path.run_s + sum(path.waited_s.values()) == path.took_s == 6.5


def test_tasks_that_name_each_other_are_walked_once():
    one = task("x", 0.0, 1.0, attempt("e0", 1.0, 1.0, 2.0, 2.0), after=("y",))
    other = task("y", 0.0, 1.0, attempt("e0", 3.0, 3.0, 4.0, 4.0), after=("x",))
    assert [step.id for step in critical_path(trace(one, other)).steps] == ["x", "y"]


def test_the_figures_say_where_the_time_went():
    figures = summary(DIAMOND)

    assert figures.states == {"succeeded": 4}
    assert figures.took_s == 8.5
    totals = {name: phase.total_s for name, phase in figures.phases.items()}
    assert totals == {
        "dependencies": 6.5,
        "queue": 0.5 + 0.5 + 0.25 + 0.25,
        "behind": 1.5,
        "transfer": 0.5 + 0.5 + 0.5 + 0.5,
        "run": 2 + 4 + 4 + 0.5,
        "report": 0.25 + 0.25 + 0.5 + 0.5,
    }
    assert figures.phases["dependencies"].tasks == 2
    assert figures.phases["dependencies"].mean_s == 3.25
    assert [(e.id, e.attempts, e.busy_s, e.idle_s) for e in figures.engines] == [
        ("e0", 2, 6.0, 2.5),
        ("e1", 2, 4.5, 4.0),
    ]
    assert figures.busy_s + figures.idle_s == 2 * figures.took_s
    assert figures.utilisation == pytest.approx(10.5 / 17)
    # e0 while a's end was reported; e1 from the end of c on; both while b's was reported.
    assert figures.starved_s == pytest.approx(0.25 + 2.0 + 2 * 0.5)


def test_a_part_begins_with_its_first_task_and_says_what_else_ran():
    part = select(DIAMOND, lambda one: one.id == "b")

    assert part.began_at_s == DIAMOND.began_at_s
    assert part.span_s == 8.5
    assert part.notes == [
        "3 runs of other tasks were on the engines meanwhile: they are not in this trace, and the "
        "engines count as idle for their time"
    ]
    later = trace(task("z", 7.0, 7.5, attempt("e0", 8.0, 8.5, 9.0, 9.5)))
    moved = select(later, lambda one: True)
    assert (moved.began_at_s, moved.span_s, moved.notes) == (1_000_007.0, 2.5, [])
    assert moved.tasks[0].attempts[0].started_s == 1.5


def test_other_names_are_taken_wherever_a_task_is_named():
    [_, _, b, _] = renamed(DIAMOND, {"a": "first", "b": "second"}).tasks
    assert (b.id, b.upstreams, b.after, b.name) == ("second", ["first"], "first", "b")
