"""Promise: each name of the seed's module is there, with its signature, and does what it says."""

from __future__ import annotations

import inspect
import logging

import pytest
from jupyter_client.session import SessionFactory
from traitlets import TraitError

from headway.ipyparallel import scheduler as module
from headway.ipyparallel.scheduler import Job, TaskScheduler
from tests.ipyparallel.kit import Kit

LOADS = [2, 1, 1, 3]


@pytest.fixture
def kit():
    with Kit() as kit:
        yield kit
        kit.check()


def parameters(function: object) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]  # type: ignore[arg-type]


def job_of(kit: Kit, msg_id: str) -> Job:
    return kit.scheduler._desk.bridge.jobs[msg_id]


# --- Job, and the class ---------------------------------------------------------------------------


def test_job_is_a_container_of_what_it_is_given():
    seed = "msg_id raw_msg idents msg header metadata targets after follow timeout"
    names = seed.split(" ")
    job = Job(*names)

    assert parameters(Job) == names
    assert [getattr(job, name) for name in names] == names


def test_task_scheduler_is_a_session_factory_with_its_settings_as_traits():
    assert issubclass(TaskScheduler, SessionFactory)
    traits = TaskScheduler.class_traits(config=True)
    assert {"hwm", "scheme_name"} <= set(traits)
    assert traits["hwm"].default() == 1
    assert traits["scheme_name"].default() == "leastload"
    with pytest.raises(TraitError, match="no scheme 'fastest'"):
        TaskScheduler(scheme_name="fastest")
    with pytest.raises(TraitError):
        TaskScheduler(hwm=-1)


def test_logged_calls_the_method_and_logs_the_call(caplog):
    class Owner:
        log = logging.getLogger("test.logged")

        @module.logged
        def double(self, number):
            """Doubles."""
            return 2 * number

    with caplog.at_level(logging.DEBUG, logger="test.logged"):
        assert Owner().double(4) == 8
    assert "double" in caplog.text
    assert Owner.double.__doc__ == "Doubles."


# --- schemes --------------------------------------------------------------------------------------


def test_lru_picks_the_front_whatever_the_loads():
    assert module.lru(LOADS) == 0


def test_leastload_picks_the_first_of_the_lowest():
    assert module.leastload(LOADS) == 1


def test_plainrandom_picks_any():
    assert {module.plainrandom(LOADS) for _ in range(500)} == {0, 1, 2, 3}


def test_twobin_picks_the_lru_of_two():
    picks = [module.twobin(LOADS) for _ in range(2000)]
    assert set(picks) == {0, 1, 2, 3}
    assert picks.count(0) > picks.count(3) * 2


def test_weighted_prefers_idle_engines_by_far():
    assert {module.weighted([5, 0, 5]) for _ in range(200)} == {1}
    assert {module.weighted([1, 1]) for _ in range(200)} == {0, 1}


# --- engines come and go --------------------------------------------------------------------------


def test_dispatch_notification_registers_and_unregisters_engines(kit):
    kit.engine("a", "b")
    assert kit.scheduler.targets == [b"b", b"a"]  # a new one goes to the head of the line

    kit.unregister("a")
    assert kit.scheduler.targets == [b"b"]


def test_dispatch_query_reply_registers_the_engines_that_the_hub_knows(kit):
    for uuid in ("a", "b"):
        kit.connect_engine(uuid)
    answer = kit.message("connection_reply", {"status": "ok", "engines": {"0": "a", "1": "b"}})
    kit.scheduler.dispatch_query_reply(answer)

    assert sorted(kit.scheduler.targets) == [b"a", b"b"]


def test_handle_stranded_tasks_replies_for_an_engine_that_died(kit):
    kit.engine("a")
    task = kit.submit()
    kit.unregister("a")
    assert kit.outcome(task) == ""  # its result may still come

    kit.scheduler.handle_stranded_tasks(b"a")

    assert kit.outcome(task) == "EngineError"
    reply = kit.replies(task)[0]
    assert "died" in reply.evalue
    assert task in reply.evalue
    assert reply.metadata["engine"] == "a"


# --- jobs come ------------------------------------------------------------------------------------


def test_dispatch_submission_sends_a_task_and_tells_the_hub(kit):
    kit.engine("a")
    task = kit.submit()

    assert kit.sent("a") == [task]
    assert kit.frames_sent[task][0][-2:] == [b"function", b"arguments"]
    assert kit.monitored() == [("intask", task), ("tracktask", task)]


def test_stop_receiving_leaves_tasks_in_the_zmq_queue_until_resume_receiving(kit):
    kit.engine("a")
    kit.scheduler.stop_receiving()
    task, raw = kit.request()
    kit.clients[b"client"].send_multipart(raw[1:])
    other, result = kit.submit(), "a"
    kit.until(lambda: kit.sent("a") == [other])
    assert kit.scheduler.client_stream.poll(0)  # it is there, and nobody took it
    kit.answer(result, other)
    assert task not in kit.sent("a")

    kit.scheduler.resume_receiving()

    kit.until(lambda: kit.sent("a") == [other, task])


def test_save_unmet_keeps_a_task_until_its_dependencies_are_met(kit):
    kit.engine("a", "b")
    first = kit.submit()
    second = kit.submit(after=[first])
    assert kit.where(second) == []

    kit.answer(kit.where(first)[0], first)

    assert len(kit.where(second)) == 1


def test_job_timeout_fails_a_job_that_waits_and_leaves_one_that_runs(kit):
    kit.engine("a")
    running, waiting = kit.submit(timeout=100), kit.submit(timeout=100)

    kit.scheduler.job_timeout(job_of(kit, running))
    kit.scheduler.job_timeout(job_of(kit, waiting))

    assert kit.outcome(waiting) == "TaskTimeout"
    assert kit.outcome(running) == ""


def test_a_timeout_fails_a_queued_task_when_its_time_has_come(kit):
    task = kit.submit(timeout=0.01)

    kit.until(lambda: kit.outcome(task))

    assert kit.outcome(task) == "TaskTimeout"
    assert "timeout of 0.01 s" in kit.replies(task)[0].evalue


def test_fail_unreachable_replies_and_fails_those_that_depend_on_it(kit):
    first = kit.submit()
    second = kit.submit(after=[first])

    kit.scheduler.fail_unreachable(first)

    assert kit.outcome(first) == "ImpossibleDependency"
    assert kit.outcome(second) == "ImpossibleDependency"
    assert first in kit.replies(second)[0].evalue
    assert parameters(TaskScheduler.fail_unreachable) == ["msg_id", "why"]


def test_fail_unreachable_names_the_error_that_it_is_given(kit):
    class Obsolete(Exception):
        pass

    task = kit.submit()
    kit.scheduler.fail_unreachable(task, Obsolete)
    assert kit.outcome(task) == "Obsolete"


# --- jobs run -------------------------------------------------------------------------------------


def test_available_engines_are_those_below_hwm():
    with Kit(hwm=2) as kit:
        kit.engine("a", "b")
        for _ in range(3):
            kit.submit()
        available = kit.scheduler.available_engines()
        assert [kit.scheduler.loads[idx] for idx in available] == [1]
        kit.scheduler.hwm = 0
        assert kit.scheduler.available_engines() == [0, 1]


def test_maybe_run_runs_a_job_whose_dependencies_are_met_and_no_other(kit):
    first = kit.submit()
    second = kit.submit(after=[first])
    assert not kit.scheduler.maybe_run(job_of(kit, first))  # no engine is there
    kit.engine("a")
    assert kit.sent("a") == [first]
    assert not kit.scheduler.maybe_run(job_of(kit, second))


def test_maybe_run_checks_location(kit):
    kit.engine("a", "b")
    first = kit.submit(targets=["a"])
    kit.answer("a", first)
    blocker = kit.submit(targets=["a"])
    second = kit.submit(follow=[first])
    assert not kit.scheduler.maybe_run(job_of(kit, second))
    kit.answer("a", blocker)
    assert kit.where(second) == ["a"]


def test_submit_task_chooses_among_the_indices_by_the_scheme(kit):
    kit.scheduler.hwm = 2
    kit.engine("a", "b")
    idx = kit.scheduler.targets.index(b"a")
    blockers = [kit.submit(), kit.submit(), kit.submit(), kit.submit()]
    waiting = kit.submit()
    kit.scheduler.hwm = 3

    kit.scheduler.submit_task(job_of(kit, waiting), [kit.scheduler.targets.index(b"a")])

    assert kit.where(waiting) == ["a"]
    assert len(blockers) + 1 == len(kit.sent("a")) + len(kit.sent("b"))
    assert idx in (0, 1)
    assert parameters(TaskScheduler.submit_task) == ["job", "indices"]


# --- jobs end -------------------------------------------------------------------------------------


def test_dispatch_result_relays_the_reply_and_tells_the_hub(kit):
    kit.engine("a")
    task = kit.submit()
    kit.answer("a", task)

    assert kit.outcome(task) == "ok"
    reply = kit.replies(task)[0]
    assert reply.idents == [b"a"]  # the engine's identity is where the client's was
    assert [bytes(b) for b in reply.buffers] == [b"result"]
    assert kit.monitored() == [("intask", task), ("tracktask", task), ("outtask", task)]


def test_handle_result_relays_success_and_failure(kit):
    kit.engine("a")
    for status, outcome in (("ok", "ok"), ("error", "ZeroDivisionError")):
        task = kit.submit()
        raw = kit.reply_of("a", task, status)
        parent = kit.requests[task].header
        kit.scheduler.handle_result([b"a", b"client"], parent, raw, status == "ok")
        assert kit.outcome(task) == outcome
    assert parameters(TaskScheduler.handle_result) == ["idents", "parent", "raw_msg", "success"]


def test_handle_unmet_dependency_tries_the_other_engines_and_not_the_same_again(kit):
    kit.engine("a", "b")
    task = kit.submit(retries=0)
    first = kit.where(task)[0]
    kit.scheduler.handle_unmet_dependency([first.encode()], kit.requests[task].header)

    assert sorted(kit.where(task)) == ["a", "b"]
    assert kit.outcome(task) == ""


def test_update_graph_submits_what_became_runnable(kit):
    kit.engine("a")
    first = kit.submit()
    second = kit.submit(after=[first])
    job_of(kit, first).reply = kit.reply_of("a", first)

    kit.scheduler.update_graph(first, success=True)

    assert kit.where(second) == ["a"]
    kit.scheduler.update_graph()  # for hwm alone: nothing to do
    assert parameters(TaskScheduler.update_graph) == ["dep_id", "success"]


# --- methods to override --------------------------------------------------------------------------


def test_add_job_and_finish_job_keep_lru_order_and_the_number_of_jobs(kit):
    kit.scheduler.targets = [b"a", b"b", b"c"]
    kit.scheduler.loads = [0, 0, 0]

    kit.scheduler.add_job(1)
    assert (kit.scheduler.targets, kit.scheduler.loads) == ([b"a", b"c", b"b"], [0, 0, 1])
    kit.scheduler.finish_job(2)
    assert kit.scheduler.loads == [0, 0, 0]


def test_a_subclass_with_loads_of_its_own_decides_by_them():
    class HalfAsFast(TaskScheduler):
        """Engine a counts each task double."""

        def add_job(self, idx):
            self.loads[idx] += 2 if self.targets[idx] == b"a" else 1

        def finish_job(self, idx):
            self.loads[idx] -= 2 if self.targets[idx] == b"a" else 1

    with Kit(HalfAsFast, hwm=4) as kit:
        kit.engine("a", "b")
        tasks = [kit.submit() for _ in range(7)]
        assert (len(kit.sent("a")), len(kit.sent("b"))) == (2, 4)
        assert kit.scheduler.targets == [b"b", b"a"]  # its order is the subclass's too

        kit.answer("a", kit.sent("a")[0])

        assert len(kit.sent("a")) == 3
        assert all(kit.where(task) for task in tasks)


def test_a_scheme_of_the_users_own_decides():
    seen = []

    def last(loads):
        seen.append(list(loads))
        return len(loads) - 1

    with Kit(scheme=last, hwm=0) as kit:
        kit.engine("a", "b")
        for _ in range(3):
            kit.submit()
        assert len(kit.sent("a")) == 3
        assert seen[0] == [0, 0]


def test_a_scheme_that_fails_is_named_and_leastload_chooses():
    with Kit(scheme=lambda loads: 17) as kit:
        kit.engine("a")
        task = kit.submit()
        assert kit.where(task) == ["a"]
        assert any("returned 17" in record for record in kit.records)


@pytest.mark.parametrize("name", ["leastload", "lru", "twobin", "weighted", "plainrandom"])
def test_each_scheme_by_name_places_every_task(name):
    with Kit(scheme_name=name, hwm=2) as kit:
        kit.engine("a", "b", "c")
        tasks = [kit.submit() for _ in range(12)]
        for _ in range(12):
            for uuid in ("a", "b", "c"):
                for task in kit.sent(uuid):
                    if not kit.replies(task):
                        kit.answer(uuid, task)
        assert [kit.outcome(task) for task in tasks] == ["ok"] * 12


def test_launch_scheduler_has_the_signature_of_the_seed():
    seed = "in_addr out_addr mon_addr not_addr reg_addr config logname log_url loglevel identity"
    names = parameters(module.launch_scheduler)
    assert names[:11] == [*seed.split(), "in_thread"]
    defaults = inspect.signature(module.launch_scheduler).parameters
    assert defaults["logname"].default == "root"
    assert defaults["loglevel"].default == 10
    assert defaults["identity"].default == "task"
    assert defaults["in_thread"].default is False
