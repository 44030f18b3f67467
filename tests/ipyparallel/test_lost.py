"""Promise: a task that was lost on the way to its engine, or whose answer was lost on the way back,
is noticed: it ends as if its engine had died, or is tried again if it has retries."""

from __future__ import annotations

import re

import pytest

from headway.ipyparallel.bridge import _NAMED_MAX as NAMED_MAX
from tests.ipyparallel.kit import Kit

GRACE_S = 5.0


@pytest.fixture
def kit():
    with Kit(hwm=3, stranded_grace_s=GRACE_S) as kit:
        yield kit
        kit.check()


def connections_change(kit):
    """As zmq would tell; between sockets in one process it has no connections to tell of."""
    kit.scheduler._desk.fleet.connections_changed()


def signatures(kit, msg_id):
    """Those under which a task was sent."""
    frames_sent = kit.frames_sent[msg_id]
    return [frames[frames.index(b"<IDS|MSG>") + 1] for frames in frames_sent]


# --- an engine answers in order -------------------------------------------------------------------


def test_an_answer_for_a_later_task_shows_that_an_earlier_one_is_lost(kit):
    kit.engine("a")
    lost, later, last = kit.submit(), kit.submit(), kit.submit()
    kit.answer("a", later)
    kit.pass_time(GRACE_S - 1)
    assert kit.outcome(lost) == ""  # its answer may have been overtaken
    kit.pass_time(1)

    assert kit.outcome(lost) == "EngineError"
    assert "never answered" in kit.replies(lost)[0].evalue
    assert kit.replies(lost)[0].metadata["engine"] == "a"
    assert any("lost" in record for record in kit.records)
    kit.pass_time(100)
    assert kit.outcome(last) == ""  # nothing was answered that came after it
    kit.answer("a", last)
    assert kit.outcome(last) == "ok"
    assert kit.where(kit.submit()) == ["a"]


def test_those_that_depend_on_a_lost_task_are_told_its_msg_id_and_what_became_of_it(kit):
    kit.engine("a")
    lost = kit.submit()
    next_one = kit.submit(after=[lost])
    last = kit.submit(after=[next_one])
    kit.unregister("a")
    kit.pass_time(GRACE_S)

    how = f"task {lost} ended with EngineError: engine a died while it had task {lost}"
    assert kit.outcome(next_one) == kit.outcome(last) == "ImpossibleDependency"
    assert kit.replies(next_one)[0].evalue == (
        f"task {next_one} is impossible: after wants the task it names to succeed, but {how}"
    )
    assert kit.replies(last)[0].evalue.endswith(f"1 step further up: {how}")
    assert next_one in kit.replies(last)[0].evalue


def test_a_task_that_ended_long_ago_is_named_by_its_msg_id(kit):
    kit.engine("a")
    old, other = kit.submit(), kit.submit()
    waits = kit.submit(after={"dependencies": [old, other], "all": False})
    kit.answer("a", old, "error")
    for _ in range(2 * NAMED_MAX + 100):
        kit.answer("a", kit.submit())
    kit.answer("a", other, "error")
    kit.pass_time(GRACE_S)

    assert kit.outcome(waits) == "ImpossibleDependency"
    text = kit.replies(waits)[0].evalue
    assert old in text or other in text
    assert not re.search(r"\b\d+-\d+\b", text)
    assert len(kit.scheduler._desk.bridge._ended) <= 4 * NAMED_MAX


def test_a_lost_task_with_retries_is_sent_again_also_to_the_same_engine(kit):
    kit.engine("a")
    lost, later = kit.submit(retries=1), kit.submit()
    kit.answer("a", later)
    kit.pass_time(GRACE_S)
    assert kit.sent("a") == [lost, later, lost]
    first, second = signatures(kit, lost)
    assert first != second
    kit.answer("a", lost)
    assert kit.outcome(lost) == "ok"


def test_an_answer_that_was_overtaken_counts(kit):
    kit.engine("a")
    first, later = kit.submit(), kit.submit()
    kit.answer("a", later)
    kit.pass_time(GRACE_S - 1)
    kit.answer("a", first)
    kit.pass_time(GRACE_S)
    assert kit.outcome(first) == "ok"
    assert not kit.scheduler._desk.bridge.jobs


def test_a_lost_task_that_is_answered_after_all_counts_while_no_other_engine_has_it(kit):
    kit.engine("a")
    lost, later = kit.submit(retries=1), kit.submit()
    kit.answer("a", later)
    kit.unregister("a")  # so that it stays queued when it is given up
    kit.pass_time(GRACE_S)
    assert kit.outcome(lost) == ""
    kit.answer("a", lost)
    assert kit.outcome(lost) == "ok"


def test_an_engine_that_leaves_takes_its_lost_tasks_with_it(kit):
    kit.engine("a")
    lost, later = kit.submit(), kit.submit()
    kit.answer("a", later)
    kit.pass_time(1)
    kit.unregister("a")
    kit.pass_time(GRACE_S)
    assert kit.outcome(lost) == "EngineError"
    assert b"a" not in kit.scheduler._desk.bridge.engines


# --- probes ---------------------------------------------------------------------------------------


def test_after_connections_broke_a_probe_shows_what_was_lost():
    with Kit(stranded_grace_s=GRACE_S) as kit:
        kit.engine("a", "idle")
        lost = kit.submit(targets=["a"])
        connections_change(kit)
        assert kit.answer_probes("a") == 0
        kit.pass_time(1)
        assert kit.answer_probes("idle") == 0  # it has nothing to lose

        assert kit.answer_probes("a") == 1

        kit.pass_time(GRACE_S)
        assert kit.outcome(lost) == "EngineError"
        assert kit.where(kit.submit(targets=["a"])) == ["a"]


def test_a_task_that_runs_is_not_lost_however_late_its_engine_comes_to_the_probe():
    with Kit(stranded_grace_s=GRACE_S) as kit:
        kit.engine("a")
        task = kit.submit()
        connections_change(kit)
        kit.pass_time(1000)
        kit.answer("a", task)
        assert kit.answer_probes("a") == 1
        kit.pass_time(1000)
        assert kit.outcome(task) == "ok"
        assert not kit.scheduler._desk.bridge.engines.get(b"a").probes


def test_an_engine_that_comes_back_within_the_grace_is_probed(kit):
    kit.engine("a")
    lost = kit.submit(retries=1)
    kit.unregister("a")
    kit.notify("registration_notification", "a")
    assert kit.answer_probes("a") == 1
    kit.pass_time(GRACE_S)
    assert kit.sent("a") == [lost, lost]


def test_a_probe_that_can_not_be_sent_is_sent_later(kit):
    kit.engine("a")
    lost = kit.submit()
    kit.engines.pop(b"a").close(linger=0)
    kit.until(lambda: _is_unroutable(kit, "a"))
    connections_change(kit)
    kit.pass_time(1)
    kit.connect_engine("a")
    kit.pass_time(1)
    assert kit.answer_probes("a") == 1
    kit.pass_time(GRACE_S)
    assert kit.outcome(lost) == "EngineError"


def test_a_busy_engine_has_only_so_many_probes_to_answer(kit):
    kit.engine("a")
    task = kit.submit()
    for _ in range(300):
        connections_change(kit)
        kit.pass_time(1)
    assert kit.answer_probes("a") == 100
    assert kit.outcome(task) == ""


def _is_unroutable(kit, uuid):
    """Whether the scheduler's socket has noticed that the engine's is closed."""
    from headway.ipyparallel.sockets import Unroutable

    try:
        kit.scheduler._desk.to_engine([uuid.encode(), b"nothing"])
    except Unroutable:
        return True
    return False


# --- signatures -----------------------------------------------------------------------------------


def test_a_task_that_comes_to_the_same_engine_again_is_signed_anew():
    """An engine drops, without a word, what has a signature that it has seen."""
    with Kit(hwm=2) as kit:
        kit.engine("a")
        task, other = kit.submit(retries=1), kit.submit()
        kit.unregister("a")
        kit.answer("a", task, "error")
        kit.notify("registration_notification", "a")
        assert kit.sent("a") == [task, other, task]
        first, second = signatures(kit, task)
        assert first != second
