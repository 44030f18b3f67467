"""A flow in virtual time: makespans that were worked out by hand, and what holds for any flow."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.core.schemes import SCHEMES
from headway.errors import FlowError
from headway.flows.flow import Flow, FlowTask, make_flow
from headway.flows.wfformat import read_wfformat
from headway.sim.replay_flow import Choice, Circumstances, Replay, lower_bound_s, replay

#: Traces of real workflows, which the project does not ship: the tests that want them skip.
WORKFLOWS = Path(__file__).parents[3] / "shared" / "workflows"
FREE = Circumstances(overhead_s=0.0)


def flow(*tasks: tuple[float, str]) -> Flow:
    """Tasks 0, 1, ... : how long each runs, and its parents."""
    return make_flow(
        "f", "f", [FlowTask(str(n), tuple(p.split()), s) for n, (s, p) in enumerate(tasks)]
    )


def spread(*runtimes_s: float) -> Flow:
    """Tasks that do not depend on each other."""
    return flow(*((s, "") for s in runtimes_s))


DIAMOND = flow((1, ""), (2, "0"), (3, "0"), (1, "1 2"))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("hwm", [1, 2, 0, "auto"])
def test_a_chain_takes_the_sum_of_its_tasks_whatever_is_chosen(scheme: str, hwm: int | str):
    chain = flow((1, ""), (2, "0"), (3, "1"))

    one = replay(chain, Choice(3, hwm, scheme), FREE)

    assert (one.makespan_s, one.bound_s, one.ratio) == (6.0, 6.0, 1.0)
    assert one.utilisation == pytest.approx(6 / 18)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("engines", "expected_s"), [(1, 7.0), (2, 5.0), (9, 5.0)])
def test_a_diamond_runs_its_two_sides_side_by_side(scheme: str, engines: int, expected_s: float):
    one = replay(DIAMOND, Choice(engines, 1, scheme), FREE)

    assert one.makespan_s == expected_s
    assert one.bound_s == max(5.0, 7.0 / engines)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_with_a_high_water_mark_of_1_nothing_waits_behind_a_long_task(scheme: str):
    # One engine runs the task of 5, the other all of the rest.
    one = replay(spread(5, 1, 1, 1, 1, 1), Choice(2, 1, scheme), FREE)

    assert (one.makespan_s, one.recalled, one.utilisation) == (5.0, 0, 1.0)


def test_without_a_limit_leastload_has_what_waits_behind_a_long_task_taken_back():
    # Engines are given tasks in turns: [5, 1, 1] and [1, 1, 1]. At 3 the second is idle; the
    # last task behind the long one comes back, and goes to it. So again at 4.
    one = replay(spread(5, 1, 1, 1, 1, 1), Choice(2, 0, "leastload"), FREE)

    assert (one.makespan_s, one.recalled) == (5.0, 2)


def test_without_a_limit_lru_gives_the_busy_engine_back_what_was_recalled_from_it():
    # As above, but the first engine was given a task longest ago, so that lru puts what comes
    # back at 3 there again; recalled once more after 20 ms, it runs on the other until 4.02. The
    # same with the second, from 4.02: it runs from 4.04 to 5.04.
    one = replay(spread(5, 1, 1, 1, 1, 1), Choice(2, 0, "lru"), FREE)

    assert one.makespan_s == pytest.approx(5.04)
    assert one.recalled == 4


@pytest.mark.parametrize(
    ("hwm", "expected_s"),
    # With 1 the engine waits for a round trip before each task; else before the first alone.
    [(1, 4.5), (2, 3.5), (0, 3.5), ("auto", 3.5)],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_task_that_is_there_before_its_turn_hides_the_round_trip(
    scheme: str, hwm: int | str, expected_s: float
):
    one = replay(spread(1, 1, 1), Choice(1, hwm, scheme), Circumstances(overhead_s=0.5))

    assert (one.makespan_s, one.bound_s) == (expected_s, 3.0)


def test_runtimes_are_scaled_and_the_bound_with_them():
    one = replay(DIAMOND, Choice(2, 1), Circumstances(overhead_s=0.0, scale=0.5))

    assert (one.makespan_s, one.bound_s, one.busy_s) == (2.5, 2.5, 3.5)


def test_a_flow_that_takes_no_time_takes_none():
    one = replay(spread(0, 0), Choice(2), FREE)

    assert (one.makespan_s, one.ratio, one.utilisation) == (0.0, 1.0, 0.0)


def test_runs_that_fail_are_the_same_for_each_choice_and_are_tried_again():
    tasks = spread(*[1.0] * 200)
    trouble = Circumstances(failures=0.3, seed=4)

    several = [
        replay(tasks, choice, trouble)
        for choice in (Choice(3, 1, "lru"), Choice(8, 4, "leastload"), Choice(2, 0, "twobin"))
    ]

    assert several[0].failed > 30
    assert len({one.failed for one in several}) == 1
    for one in several:
        assert sum(not run.has_failed for run in one.runs) == 200
        assert one.busy_s == pytest.approx(several[0].busy_s)
    assert replay(tasks, Choice(3, 1, "lru"), Circumstances(failures=0.3, seed=5)) != several[0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_seed_is_the_same_run(scheme: str):
    tasks = spread(*(1 + n % 7 for n in range(100)))

    def runs(seed: int) -> Replay:
        return replay(tasks, Choice(7, 3, scheme), Circumstances(seed=seed))

    assert runs(1) == runs(1)
    if scheme in ("plainrandom", "twobin", "weighted"):
        assert runs(1).runs != runs(2).runs


@pytest.mark.parametrize(
    ("choice", "circumstances", "said"),
    [
        (Choice(0), FREE, "0 engines"),
        (Choice(1, 1, "leastlaod"), FREE, "did you mean 'leastload'"),
        (Choice(1), Circumstances(failures=1.0), "failures 1.0"),
        (Choice(1), Circumstances(overhead_s=-1.0), "overhead -1.0"),
        (Choice(1), Circumstances(scale=float("inf")), "scale inf"),
    ],
)
def test_what_makes_no_sense_is_refused(choice: Choice, circumstances: Circumstances, said: str):
    with pytest.raises(ValueError, match=said):
        replay(DIAMOND, choice, circumstances)


def test_a_flow_of_which_no_times_are_known_is_refused():
    with pytest.raises(FlowError, match="have no runtime"):
        replay(make_flow("f", "f", [FlowTask("a")]), Choice(1), FREE)


def test_progress_is_told_now_and_then():
    told: list[int] = []

    replay(spread(*[0.001] * 2_000), Choice(4), FREE, told.append)

    assert told == sorted(told)
    assert (len(told), told[-1]) == (4, 2_000)


# --- what holds for any flow ---------------------------------------------------------------------


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    count = draw(st.integers(1, 25))
    times = st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0, 7.25]) | st.floats(0.0, 10.0)
    tasks = []
    for number in range(count):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        tasks.append((draw(times), " ".join(map(str, sorted(parents)))))
    return flow(*tasks)


CHOICES = st.builds(
    Choice,
    engines=st.integers(1, 5),
    hwm=st.sampled_from([1, 2, 3, 0, "auto"]),
    scheme=st.sampled_from(sorted(SCHEMES)),
)


def require_sound(one: Replay, flow: Flow, failures: float) -> None:
    """Each task ran to its end once, after its parents; an engine ran one task at a time."""
    assert one.makespan_s >= one.bound_s * (1 - 1e-9)
    assert 0.0 <= one.utilisation <= 1.0 + 1e-9
    assert one.busy_s == pytest.approx(sum(run.ended_s - run.began_s for run in one.runs))
    done = {run.task: run for run in one.runs if not run.has_failed}
    assert len(done) + one.failed == len(one.runs)
    assert sorted(done) == list(range(len(flow.tasks)))
    if not failures:
        assert one.busy_s == pytest.approx(flow.work_s())
    for number, parents in enumerate(flow.parent_numbers()):
        for parent in parents:
            assert done[number].began_s >= done[parent].ended_s
    for engine in range(one.choice.engines):
        mine = sorted(run[2:4] for run in one.runs if run.engine == engine)
        assert all(before[1] <= after[0] for before, after in pairwise(mine))


@settings(max_examples=100, deadline=None)
@given(flows(), CHOICES, st.sampled_from([0.0, 0.001, 0.3]), st.sampled_from([0.0, 0.2]))
def test_no_schedule_beats_the_bound_or_breaks_a_rule(
    flow: Flow, choice: Choice, overhead_s: float, failures: float
):
    one = replay(flow, choice, Circumstances(overhead_s, failures=failures))

    require_sound(one, flow, failures)


@settings(max_examples=50, deadline=None)
@given(flows(), st.integers(1, 5), st.sampled_from(sorted(SCHEMES)))
def test_one_task_at_a_time_and_no_way_to_go_is_never_worse_than_graham_proved(
    flow: Flow, engines: int, scheme: str
):
    # Of any schedule that leaves no engine idle while a task could run.
    one = replay(flow, Choice(engines, 1, scheme), FREE)

    worst_s = flow.work_s() / engines + (1 - 1 / engines) * flow.critical_path_s()
    assert one.makespan_s <= worst_s * (1 + 1e-9)


# --- real workflows ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "choice", [Choice(8, 1, "lru"), Choice(64, 4, "weighted"), Choice(16)], ids=str
)
def test_every_real_workflow_simulates(path: Path, choice: Choice):
    flow = read_wfformat(path)

    one = replay(flow, choice, Circumstances())

    require_sound(one, flow, 0.0)
    assert one.bound_s == lower_bound_s(flow, choice.engines)
