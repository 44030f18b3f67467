"""Promise: run_timeout bounds one run, from its beginning; who overruns it is interrupted, and
nobody else is."""

from __future__ import annotations

import pytest

from tests.ipyparallel.kit import Kit


@pytest.fixture
def kit():
    """Engines have a control channel; each gets two tasks."""
    with Kit(hwm=2, has_control=True) as kit:
        yield kit
        kit.check()


def alarms(kit):
    """How many alarms are set."""
    return len(kit.scheduler._desk.alarms._timers)


def test_a_run_that_takes_too_long_is_interrupted_and_ends_with_task_timeout():
    with Kit(has_control=True) as kit:
        kit.engine("a")
        task = kit.submit(run_timeout=10)
        kit.pass_time(9)
        assert kit.interrupts() == []
        kit.pass_time(1)
        assert kit.interrupts() == ["a"]

        kit.answer("a", task, "error")  # a KeyboardInterrupt

        assert kit.outcome(task) == "TaskTimeout"
        other = kit.submit()
        kit.until(lambda: kit.where(other) == ["a"])


def test_the_alarm_rings_by_itself():
    with Kit(has_control=True) as kit:
        kit.engine("a")
        kit.submit(run_timeout=0.01)
        kit.until(lambda: kit.interrupts() == ["a"])


def test_no_task_is_sent_that_an_interrupt_on_its_way_could_hit():
    with Kit(has_control=True) as kit:
        kit.engine("a")
        task, other = kit.submit(run_timeout=10), kit.submit()
        kit.pass_time(10)
        kit.answer("a", task)  # this crossed the interrupt
        assert kit.outcome(task) == "ok"
        assert kit.sent("a") == [task]

        assert kit.interrupts() == ["a"]

        kit.until(lambda: kit.sent("a") == [task, other])


def test_an_interrupt_that_nobody_confirms_holds_the_engine_up_for_a_moment_only():
    with Kit(has_control=True) as kit:
        kit.engine("a")
        task, other = kit.submit(run_timeout=10), kit.submit()
        kit.pass_time(10)
        kit.answer("a", task, "error")
        assert kit.sent("a") == [task]
        kit.pass_time(2)
        assert kit.sent("a") == [task, other]


@pytest.mark.parametrize("hwm", [0, 2])
def test_the_time_of_a_run_does_not_begin_while_another_runs_there(hwm):
    with Kit(hwm=hwm, has_control=True) as kit:
        kit.engine("a")
        long, short = kit.submit(), kit.submit(run_timeout=10)
        assert kit.sent("a") == [long, short]
        kit.pass_time(100)
        assert kit.interrupts() == []

        kit.answer("a", long)

        kit.pass_time(9)
        assert kit.interrupts() == []
        kit.pass_time(1)
        assert kit.interrupts() == ["a"]


def test_each_run_has_a_time_of_its_own(kit):
    kit.engine("a")
    tasks = [kit.submit(run_timeout=10) for _ in range(5)]
    for task in tasks:
        kit.pass_time(9)
        kit.answer("a", task)
    assert kit.interrupts() == []
    assert [kit.outcome(task) for task in tasks] == ["ok"] * 5


def test_a_retry_has_a_time_of_its_own(kit):
    kit.engine("a")
    task = kit.submit(run_timeout=10, retries=1, retry_same_engine=True)
    kit.pass_time(9)
    kit.answer("a", task, "error")
    assert kit.sent("a") == [task, task]
    kit.pass_time(9)
    assert kit.interrupts() == []
    kit.pass_time(1)
    assert kit.interrupts() == ["a"]


def test_the_time_of_a_run_ends_with_its_engine(kit):
    kit.engine("a")
    task = kit.submit(run_timeout=10, retries=1)
    kit.unregister("a")
    kit.scheduler.handle_stranded_tasks(b"a")
    kit.pass_time(20)
    kit.engine("b")
    kit.pass_time(9)
    assert kit.interrupts() == []
    kit.answer("b", task)
    assert kit.outcome(task) == "ok"


def test_without_a_way_to_interrupt_the_task_is_given_up_and_its_engine_spared():
    with Kit() as kit:
        kit.engine("a")
        task = kit.submit(run_timeout=10)
        kit.pass_time(10)
        assert kit.outcome(task) == "TaskTimeout"
        other = kit.submit()
        assert kit.sent("a") == [task]  # it still runs there

        kit.answer("a", task)

        assert kit.sent("a") == [task, other]
        assert kit.outcome(task) == "TaskTimeout"


def test_one_that_goes_on_after_its_interrupt_is_given_up_and_its_engine_spared():
    with Kit(has_control=True) as kit:
        kit.engine("a")
        task, other = kit.submit(run_timeout=10), kit.submit()
        kit.pass_time(10)
        assert kit.interrupts() == ["a"]
        kit.pass_time(2)
        assert kit.outcome(task) == "TaskTimeout"
        assert kit.sent("a") == [task]
        kit.answer("a", task)
        kit.until(lambda: kit.sent("a") == [task, other])


@pytest.mark.parametrize("stops", [True, False])
def test_the_reply_for_a_run_that_took_too_long_names_its_engine(stops):
    """Else the Hub, which was told that the engine has the task, would count it there for ever."""
    with Kit(has_control=True) as kit:
        kit.engine("a", "b")
        kit.submit()
        task = kit.submit(run_timeout=10)
        (engine,) = kit.where(task)
        kit.pass_time(10)
        assert kit.interrupts() == [engine]

        if stops:
            kit.answer(engine, task, "error")
        else:
            kit.pass_time(2)

        assert kit.outcome(task) == "TaskTimeout"
        (reply,) = kit.replies(task)
        assert (reply.metadata["engine"], reply.metadata["status"]) == (engine, "error")


def test_two_that_overrun_on_one_engine_both_keep_it_from_new_tasks():
    with Kit(hwm=2) as kit:
        kit.engine("a")
        first, second = kit.submit(run_timeout=10), kit.submit(run_timeout=10)
        kit.pass_time(10)
        assert kit.outcome(first) == "TaskTimeout"
        kit.pass_time(100)
        assert kit.outcome(second) == ""  # it can't have begun
        kit.answer("a", first)
        kit.pass_time(10)
        assert kit.outcome(second) == "TaskTimeout"
        other = kit.submit()
        assert other not in kit.sent("a")

        kit.answer("a", second)

        assert other in kit.sent("a")


def test_an_engine_whose_interrupt_cost_it_its_answer_is_free_again():
    """The interrupt can come when the task has run and its result is being sent."""
    with Kit(has_control=True) as kit:
        kit.engine("a")
        task, other = kit.submit(run_timeout=10), kit.submit()
        kit.pass_time(10)
        assert kit.interrupts() == ["a"]
        kit.pass_time(2)
        assert kit.outcome(task) == "TaskTimeout"
        assert other not in kit.sent("a")

        assert kit.answer_probes("a") == 1

        kit.until(lambda: other in kit.sent("a"))


def test_no_alarm_is_left_of_runs_that_ended(kit):
    kit.engine("a")
    before = alarms(kit)
    tasks = [kit.submit(run_timeout=10, retries=1) for _ in range(6)]
    for task in tasks:
        kit.answer("a", task)
    assert alarms(kit) == before


@pytest.mark.parametrize("hwm", [1, 0])
def test_however_many_tasks_with_a_bound_an_engine_has_the_first_is_found_at_once(hwm):
    """With hwm=0 all of them are on it."""
    with Kit(hwm=hwm, has_control=True) as kit:
        kit.engine("a")
        desk = kit.scheduler._desk
        tasks = [kit.submit(run_timeout=10) for _ in range(3_000)]
        entry = desk.bridge.engines.get(b"a")
        assert len(entry.sent) == (3_000 if hwm == 0 else 1)
        for task in tasks:
            assert entry.sent.first.msg_id == task
            kit.answer("a", task)
        assert len(entry.sent) == 0
