"""Promise: whatever a user's own methods do, no task is lost and none is stuck; and the lists that
they work on are true."""

from __future__ import annotations

import pytest
import zmq

from headway.core.commands import Assign
from headway.ipyparallel.scheduler import TaskScheduler
from headway.ipyparallel.sockets import COPIED_MAX
from tests.ipyparallel.kit import Kit


class Mistake(Exception):
    """A user's."""


def raising(name, times=1_000_000, after=False):
    """A scheduler whose method of that name raises, the first `times` times: before it has done
    anything, or `after`."""
    left = [times]

    def method(self, *arguments):
        if after or not left[0]:
            result = getattr(TaskScheduler, name)(self, *arguments)
        if left[0]:
            left[0] -= 1
            raise Mistake(name)
        return result

    return type("Fragile", (TaskScheduler,), {name: method})


HOOKS = ["add_job", "finish_job", "available_engines", "handle_result", "save_unmet"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("hwm", [1, 2, 0])
def test_a_method_that_always_raises_costs_no_task_its_reply(name, hwm, after):
    with Kit(raising(name, after=after), hwm=hwm) as kit:
        kit.engine("a", "b")
        tasks = [kit.submit() for _ in range(6)]
        for _ in range(6):
            for uuid in ("a", "b"):
                for task in list(kit.sent(uuid)):
                    if not kit.replies(task):
                        kit.answer(uuid, task)
        lost = name == "save_unmet" and not after
        assert [kit.outcome(task) for task in tasks] == ["RuntimeError" if lost else "ok"] * 6
        assert any(f"Mistake('{name}')" in record for record in kit.records)
        assert kit.scheduler.loads == [0, 0]
        kit.check()


@pytest.mark.parametrize("name", ["submit_task", "handle_unmet_dependency"])
def test_a_method_that_raises_once_only_delays(name):
    with Kit(raising(name, times=1)) as kit:
        kit.engine("a", "b")
        task = kit.submit()
        other = kit.submit()
        kit.refuse(kit.at(task), task)
        kit.answer(kit.at(other), other)
        kit.answer(kit.at(task), task)
        assert kit.outcome(task) == kit.outcome(other) == "ok"


def test_a_task_that_can_not_be_sent_for_another_reason_ends_with_that(monkeypatch):
    """And the next that was decided on in the same step is sent all the same."""
    with Kit(hwm=3) as kit:
        bad, good, dependent = kit.submit(), kit.submit(), kit.submit()
        desk = kit.scheduler._desk
        send = desk.to_engine

        def to_engine(message):
            if desk.bridge.jobs[bad].raw_msg[2] in message:
                raise OSError("no room for it")
            send(message)

        monkeypatch.setattr(desk, "to_engine", to_engine)
        kit.engine("a")
        assert kit.outcome(bad) == "EngineError"
        assert "no room for it" in kit.replies(bad)[0].evalue
        assert kit.sent("a") == [good, dependent]
        kit.check()


def test_commands_after_one_that_fails_are_performed(monkeypatch):
    with Kit(hwm=3) as kit:
        kit.engine("a")
        tasks = [kit.submit() for _ in range(3)]
        desk = kit.scheduler._desk
        relay, broken = desk._relay, []

        def _relay(job, raw):
            if not broken:
                broken.append(job.msg_id)
                raise OSError("once")
            relay(job, raw)

        monkeypatch.setattr(desk, "_relay", _relay)
        desk._in_turn = True  # as within a turn, so that all are performed together
        for task in tasks:
            kit.answer("a", task)
        desk._in_turn = False
        desk.settle()
        assert [kit.outcome(task) for task in tasks] == ["", "ok", "ok"]
        assert not desk.bridge.jobs  # nothing is kept of the first either
        assert not [c for c in desk.bridge.out if type(c) is Assign]


def test_an_alarm_that_raises_costs_the_turn_nothing(monkeypatch):
    class Fragile(TaskScheduler):
        def handle_stranded_tasks(self, engine):
            raise Mistake("stranded")

    with Kit(Fragile) as kit:
        kit.engine("a", "b")
        first, second = kit.submit(), kit.submit()
        waiting = kit.submit(timeout=5)
        kit.unregister(kit.at(first))
        kit.pass_time(5)
        assert any("Mistake('stranded')" in record for record in kit.records)
        assert kit.outcome(waiting) == "TaskTimeout"
        kit.answer(kit.at(second), second)
        assert kit.outcome(second) == "ok"


# --- the lists, as engines come and go ------------------------------------------------------------


class Doubled(TaskScheduler):
    """Each task counts double."""

    def add_job(self, idx):
        self.loads[idx] += 2

    def finish_job(self, idx):
        self.loads[idx] -= 2


@pytest.mark.parametrize(("scheduler_class", "weight"), [(TaskScheduler, 1), (Doubled, 2)])
def test_an_engine_that_comes_back_in_time_has_the_load_of_its_tasks(scheduler_class, weight):
    with Kit(scheduler_class, hwm=4, scheme=lambda loads: 0) as kit:
        kit.engine("a")
        tasks = [kit.submit(), kit.submit()]
        kit.unregister("a")
        assert kit.scheduler.targets == kit.scheduler.loads == []
        kit.notify("registration_notification", "a")
        assert kit.scheduler.loads == [2 * weight]
        kit.answer("a", tasks[0])
        kit.answer("a", tasks[1])
        assert kit.scheduler.loads == [0]


def test_an_answer_that_comes_late_from_an_engine_that_is_back_frees_nothing():
    with Kit(hwm=4, scheme=lambda loads: 0) as kit:
        kit.engine("a")
        late = kit.submit(retries=1, targets=["a"], wait_for_engines=True, after=[])
        kit.unregister("a")
        kit.scheduler.handle_stranded_tasks(b"a")
        kit.scheduler.stop_receiving()
        kit.scheduler.hwm = 1
        kit.notify("registration_notification", "a")
        assert kit.sent("a") == [late, late]
        kit.answer("a", late)
        assert kit.outcome(late) == "ok"
        assert kit.scheduler.loads == [0]


@pytest.mark.parametrize("mode", ["core", "lists"])
def test_tasks_move_on_as_engines_leave_and_come_back(mode):
    scheme = None if mode == "core" else lambda loads: loads.index(min(loads))
    with Kit(hwm=2, scheme=scheme) as kit:
        kit.engine("a", "b")
        tasks = [kit.submit(retries=1) for _ in range(8)]
        kit.unregister("a")
        kit.answer("a", kit.sent("a")[0])  # within the grace
        kit.pass_time(5)
        assert b"a" not in kit.scheduler._desk.bridge.engines
        kit.notify("registration_notification", "a")
        assert sorted(kit.scheduler.targets) == [b"a", b"b"]
        for _ in range(8):
            for uuid in ("a", "b"):
                for task in list(dict.fromkeys(kit.sent(uuid))):
                    if kit.at(task) == uuid:
                        kit.answer(uuid, task)
        assert [kit.outcome(task) for task in tasks] == ["ok"] * 8
        assert kit.scheduler.loads == [0, 0]
        kit.check()


# --- settings and direct calls --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["core", "lists"])
def test_a_higher_hwm_counts_at_once(mode):
    scheme = None if mode == "core" else lambda loads: loads.index(min(loads))
    with Kit(scheme=scheme) as kit:
        kit.engine("a")
        tasks = [kit.submit() for _ in range(3)]
        assert kit.sent("a") == tasks[:1]
        kit.scheduler.hwm = 3
        kit.until(lambda: kit.sent("a") == tasks)


@pytest.mark.parametrize("call", ["maybe_run", "submit_task"])
def test_the_hub_hears_of_a_task_that_is_sent_by_a_direct_call(call):
    with Kit() as kit:
        kit.engine("a")
        running, waiting = kit.submit(), kit.submit()
        bridge = kit.scheduler._desk.bridge
        kit.monitored()
        bridge.core.set_hwm(2)
        kit.scheduler.set_trait("hwm", 2)
        getattr(kit.scheduler, call)(bridge.jobs[waiting])
        assert kit.sent("a") == [running, waiting]
        assert kit.monitored() == [("tracktask", waiting)]


def test_a_subclass_is_given_the_frames_that_it_would_have_of_a_stream():
    kinds = []

    class Curious(TaskScheduler):
        def dispatch_submission(self, raw_msg):
            idents, rest = self.session.feed_identities(raw_msg, copy=False)
            kinds.extend(type(frame) for frame in (*idents, *rest))
            super().dispatch_submission(raw_msg)

    with Kit(scheduler_class=Curious) as kit:
        kit.engine("a")
        task, raw = kit.request()
        kit.clients[b"client"].send_multipart(raw[1:])
        kit.until(lambda: kit.sent("a") == [task])
        kit.answer("a", task)
        assert kit.outcome(task) == "ok"
    assert zmq.Frame in kinds


def test_large_buffers_travel_uncopied_and_whole():
    with Kit() as kit:
        kit.engine("a")
        task, raw = kit.request()
        large = bytes(COPIED_MAX + 1)
        kit.clients[b"client"].send_multipart([*raw[1:], large, b"small"])
        kit.until(lambda: kit.sent("a") == [task])
        kept = kit.scheduler._desk.bridge.jobs[task].raw_msg
        assert [type(frame) for frame in kept[-2:]] == [zmq.Frame, bytes]
        assert kit.frames_sent[task][0][-2:] == [large, b"small"]
