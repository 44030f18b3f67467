"""Promise: a task that can't be sent to an engine goes elsewhere or waits, in its turn and with its
deadline; and the engine is tried again, ever more rarely."""

from __future__ import annotations

import pytest

from headway.ipyparallel.scheduler import TaskScheduler
from tests.ipyparallel.kit import Kit


@pytest.fixture
def kit():
    with Kit() as kit:
        yield kit
        kit.check()


def register(kit, *uuids):
    """Engines that are not connected."""
    for uuid in uuids:
        kit.notify("registration_notification", uuid)


def entry(kit, uuid):
    return kit.scheduler._desk.bridge.engines.get(uuid.encode())


def tries(kit):
    """How often an engine was found out of reach."""
    return kit.scheduler._desk._complaints.counts["an engine is not connected"]


@pytest.mark.parametrize("scheme", [None, lambda loads: 0], ids=["core", "lists"])
@pytest.mark.parametrize(("hwm", "engines"), [(3, ["a"]), (1, ["a", "b"]), (0, ["a", "b"])])
def test_tasks_that_could_not_be_sent_keep_their_order(hwm, engines, scheme):
    with Kit(hwm=hwm, scheme=scheme) as kit:
        tasks = [kit.submit() for _ in range(4)]
        register(kit, *engines)
        kit.pass_time(0.05)

        kit.engine("c")

        for n, task in enumerate(tasks):
            assert kit.sent("c") == tasks[: min(n + (hwm or 4), 4)]
            kit.answer("c", task)
        assert [kit.outcome(task) for task in tasks] == ["ok"] * 4


def test_tasks_that_could_not_be_sent_are_sent_in_order_when_the_engine_is_there():
    with Kit(hwm=3) as kit:
        tasks = [kit.submit() for _ in range(3)]
        register(kit, "a")
        kit.connect_engine("a")
        kit.pass_time(1)
        assert kit.sent("a") == tasks
        told = [msg_id for topic, msg_id in kit.monitored() if topic == "tracktask"]
        assert told == tasks


def test_the_engine_is_tried_again_ever_more_rarely_however_many_tasks_wait():
    with Kit(hwm=8) as kit:
        for _ in range(8):
            kit.submit()
        register(kit, "a")
        assert tries(kit) == entry(kit, "a").unroutable == 1
        kit.pass_time(0.05)
        assert tries(kit) == 2
        for pause_s in (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0):
            before = tries(kit)
            kit.pass_time(0.9 * pause_s)
            assert tries(kit) == before
            kit.pass_time(0.1 * pause_s + 0.001)
            assert tries(kit) == before + 1
        kit.connect_engine("a")
        kit.pass_time(2)
        assert len(kit.sent("a")) == 8
        assert entry(kit, "a").unroutable == 0


def test_a_task_that_was_never_sent_keeps_its_deadline(kit):
    task = kit.submit(timeout=3)
    register(kit, "a")
    for _ in range(3):
        kit.pass_time(0.9)
    assert kit.outcome(task) == ""
    assert tries(kit) > 2
    kit.pass_time(0.4)
    assert kit.outcome(task) == "TaskTimeout"


def test_a_late_result_counts_also_after_another_engine_could_not_be_reached(kit):
    kit.engine("a")
    task = kit.submit(retries=1)
    kit.unregister("a")
    kit.scheduler.handle_stranded_tasks(b"a")
    register(kit, "b")
    assert tries(kit) == 1
    kit.answer("a", task)
    assert kit.outcome(task) == "ok"


def test_loads_of_the_lists_are_right_after_a_task_could_not_be_sent():
    class Own(TaskScheduler):
        def add_job(self, idx):
            super().add_job(idx)

    with Kit(Own, hwm=1) as kit:
        kit.submit()
        register(kit, "a")
        assert kit.scheduler.loads == [0]
        kit.connect_engine("a")
        kit.pass_time(1)
        assert kit.scheduler.loads == [1]


def test_where_the_engine_that_a_users_scheme_chose_is_out_of_reach_another_gets_the_task():
    def by_uuid(loads):
        return len(loads) - 1

    with Kit(scheme=by_uuid) as kit:
        register(kit, "a")  # the last in the line, and chosen
        kit.engine("b")
        kit.scheduler.targets, kit.scheduler.loads = [b"b", b"a"], [0, 0]
        task = kit.submit()
        assert kit.sent("b") == [task]
