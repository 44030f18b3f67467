"""Promise: a target is one engine however many tasks name it, and no task waits for an engine that
can't come: neither one that left, nor one on which it has failed."""

from __future__ import annotations

import pytest

from headway.ipyparallel.engines import Engines
from headway.ipyparallel.sent import Sent
from tests.ipyparallel.kit import Kit

GRACE_S = 5.0


@pytest.fixture
def kit():
    with Kit(stranded_grace_s=GRACE_S) as kit:
        yield kit
        kit.check()


def known(kit):
    """How many engines the scheduler keeps in mind."""
    return kit.scheduler._desk.bridge.engines.known()


# --- targets that nobody knows yet ----------------------------------------------------------------


def test_two_tasks_that_name_an_engine_before_it_registers_mean_the_same_one(kit):
    """The first is given up before the engine comes; the second must not be."""
    first = kit.submit(targets=["x"])
    kit.pass_time(4)
    second = kit.submit(targets=["x"])
    kit.pass_time(1)
    assert kit.outcome(first) == "ImpossibleDependency"
    kit.pass_time(1)

    kit.engine("x")

    assert kit.sent("x") == [second]


def test_a_task_that_waits_for_engines_waits_for_a_target_that_others_gave_up(kit):
    waits = kit.submit(targets=["x"], wait_for_engines=True)
    given_up = kit.submit(targets=["x"])
    kit.pass_time(GRACE_S)
    assert kit.outcome(given_up) == "ImpossibleDependency"
    kit.pass_time(1000)
    kit.engine("x")
    assert kit.sent("x") == [waits]


@pytest.mark.parametrize("how", ["cancelled", "timed out", "given up", "impossible"])
def test_nothing_is_left_of_a_target_that_never_came(kit, how):
    head = kit.submit(targets=["y"], wait_for_engines=True)
    before = known(kit)
    task = kit.submit(targets=["x"], timeout=1 if how == "timed out" else None, after=[head])
    assert known(kit) == before + 1
    if how == "cancelled":
        ask = kit.session.msg("cancel_request", content={"msg_ids": [task]})
        kit.scheduler.dispatch_submission([b"client", *kit.session.serialize(ask)])
    elif how == "impossible":
        kit.scheduler.fail_unreachable(head)
    else:
        kit.pass_time(GRACE_S)
    assert kit.outcome(task)
    assert known(kit) <= before


def test_a_task_that_failed_on_the_one_target_that_is_here_ends_when_the_other_does_not_come(kit):
    kit.engine("b")
    task = kit.submit(targets=["unknown", "b"], retries=1)
    kit.answer("b", task, "error")
    assert kit.outcome(task) == ""  # the other may be about to register
    kit.pass_time(GRACE_S)
    assert kit.outcome(task) == "ZeroDivisionError"


def test_a_task_that_the_one_target_here_refuses_ends_when_the_other_does_not_come(kit):
    kit.engine("b")
    task = kit.submit(targets=["unknown", "b"])
    kit.refuse("b", task)
    assert kit.outcome(task) == ""
    kit.pass_time(GRACE_S)
    assert kit.outcome(task) == "ImpossibleDependency"
    assert "unknown" in kit.replies(task)[0].evalue


def test_a_task_that_fails_when_the_wait_for_its_other_target_is_over_ends_at_once(kit):
    kit.engine("b", "c")
    runs = kit.submit(targets=["unknown", "b"], retries=1)
    waits = kit.submit(targets=["unknown", "b"])
    kit.pass_time(2 * GRACE_S)
    assert kit.outcome(runs) == kit.outcome(waits) == ""  # b is here
    kit.answer("b", runs, "error")
    assert kit.outcome(runs) == "ZeroDivisionError"
    assert kit.sent("b") == [runs, waits]
    kit.refuse("b", waits)
    assert kit.outcome(waits) == "ImpossibleDependency"


def test_a_task_whose_last_target_leaves_when_the_wait_for_the_other_is_over_ends_at_once(kit):
    kit.engine("b")
    blocker, waits = kit.submit(targets=["b"]), kit.submit(targets=["unknown", "b"])
    kit.pass_time(2 * GRACE_S)
    kit.unregister("b")
    kit.answer("b", blocker)
    assert kit.outcome(waits) == "ImpossibleDependency"
    assert not kit.scheduler._desk.fleet._sworn


def test_with_no_grace_at_all_a_target_must_be_known(kit):
    with Kit(stranded_grace_s=0) as kit:
        kit.engine("b")
        task = kit.submit(targets=["unknown", "b"])
        never = kit.submit(targets=["unknown"])
        kit.pass_time(1)
        assert kit.outcome(never) == "ImpossibleDependency"
        kit.answer("b", task)
        assert kit.outcome(task) == "ok"


# --- targets that left ----------------------------------------------------------------------------


def test_a_target_that_has_left_is_impossible_at_once(kit):
    kit.engine("a", "b")
    kit.unregister("a")
    task = kit.submit(targets=["a"])
    assert kit.outcome(task) == "ImpossibleDependency"
    assert "a" in kit.replies(task)[0].evalue
    assert kit.where(kit.submit(targets=["a", "b"])) == ["b"]


def test_a_target_that_left_and_registers_again_gets_its_tasks(kit):
    kit.engine("a")
    kit.unregister("a")
    waits = kit.submit(targets=["a"], wait_for_engines=True)
    kit.notify("registration_notification", "a")
    assert kit.sent("a") == [waits]


def test_a_task_can_follow_another_to_an_engine_that_left_and_came_back(kit):
    kit.engine("a", "b")
    first = kit.submit(targets=["a"])
    kit.answer("a", first)
    kit.unregister("a")
    kit.notify("registration_notification", "a")
    assert kit.where(kit.submit(follow=[first])) == ["a"]


def test_engines_that_left_are_remembered_up_to_a_number():
    engines = Engines(departed_max=3)
    named = engines.name(b"named")
    for uuid in (b"named", b"1", b"2", b"3", b"4"):
        engines.joined(uuid)
        engines.left(uuid)
    assert engines.find(b"1") is None
    assert engines.find(b"2") is not None
    assert engines.find(b"named") is named  # for as long as a job names it
    assert named.has_departed
    engines.unname(b"named")
    assert engines.find(b"named") is None
    assert engines.known() == 3


def test_an_engine_keeps_its_number_while_anything_can_mean_it():
    engines = Engines()
    number = engines.name(b"x").id
    assert engines.name(b"x").id == number
    assert engines.find(b"x").is_expected
    assert b"x" not in engines
    assert engines.joined(b"x").id == number
    assert b"x" in engines
    engines.unname(b"x")
    engines.unname(b"x")
    engines.left(b"x")
    assert engines.find(b"x").id == number
    assert engines.joined(b"x").id == number


# --- what an engine was sent ----------------------------------------------------------------------


def test_what_was_sent_is_answered_in_order():
    sent: Sent[str] = Sent()
    a, b, c = sent.add("a"), sent.add("b"), sent.add("c")
    assert sent.first == "a"
    assert sent.answered(a) == []
    assert sent.answered(c) == ["b"]
    assert sent.answered(b) == []  # it came after all
    assert sent.first is None
    assert sent.add("d") > c
    sent.clear()
    assert len(sent) == 0
    assert sent.answered(sent.add("e")) == []
