"""Promise: what the stock scheduler gets wrong is right here.

Each test is named by the behaviour, and says in its first line what the stock one does; see
docs/ipyparallel.md.
"""

from __future__ import annotations

import tracemalloc

import pytest

from headway.ipyparallel.scheduler import TaskScheduler
from tests.ipyparallel.kit import Kit


@pytest.fixture
def kit():
    with Kit() as kit:
        yield kit
        kit.check()


# --- order, cascades, repeats ---------------------------------------------------------------------


def test_waiting_tasks_keep_their_order(kit):
    """Stock: each scan of the queue reverses it."""
    tasks = [kit.submit() for _ in range(6)]
    blocked = kit.submit(after=[tasks[5]])
    kit.engine("a")  # a rescan, in the stock one
    for n in range(6):
        assert kit.sent("a") == tasks[: n + 1]
        kit.answer("a", tasks[n])
    assert kit.sent("a") == [*tasks, blocked]


def test_a_failure_cascades_through_ten_thousand_tasks(kit):
    """Stock: a RecursionError after 490, and the rest hang."""
    kit.engine("a")
    chain = [kit.submit()]
    for _ in range(10_000):
        chain.append(kit.submit(after=[chain[-1]]))

    kit.answer("a", chain[0], "error")

    assert kit.outcome(chain[0]) == "ZeroDivisionError"
    assert {kit.outcome(task) for task in chain[1:]} == {"ImpossibleDependency"}
    assert (
        chain[0] in kit.replies(chain[-1])[0].evalue or "failed" in kit.replies(chain[-1])[0].evalue
    )
    assert not kit.scheduler._desk.bridge.jobs


@pytest.mark.parametrize("hwm", [0, 2])
def test_an_engine_that_joins_gets_no_task_that_another_has(hwm):
    """Stock: with hwm 0 or 2, tasks that ran through the graph are sent again."""
    with Kit(hwm=hwm) as kit:
        kit.engine("a")
        first = kit.submit()
        rest = [kit.submit(after=[first]) for _ in range(2)]
        kit.answer("a", first)
        assert kit.sent("a") == [first, *rest]

        kit.engine("b")

        assert kit.sent("b") == []
        for task in rest:
            kit.answer("a", task)
            assert kit.outcome(task) == "ok"


def test_an_invalid_dependency_is_always_answered(kit):
    """Stock: no reply if another task waits for one of the same ids."""
    head = kit.submit()
    waiting = kit.submit(after=[head])
    invalid = kit.submit(after=[head, "no-such-task_1_1"])
    message, raw = kit.request()
    raw_self = kit.submit(after=[message])

    assert kit.outcome(invalid) == "InvalidDependency"
    assert "no-such-task_1_1" in kit.replies(invalid)[0].evalue
    assert kit.outcome(raw_self) == "InvalidDependency"
    assert kit.outcome(waiting) == ""
    assert raw


def test_a_task_can_not_depend_on_itself(kit):
    msg_id, _ = kit.request()
    message = kit.session.msg("apply_request", metadata={"after": [msg_id]})
    message["header"]["msg_id"] = msg_id
    kit.scheduler.dispatch_submission([b"client", *kit.session.serialize(message)])
    assert kit.outcome(msg_id) == "InvalidDependency"
    assert "itself" in kit.replies(msg_id)[0].evalue


def test_an_engine_that_registers_twice_is_one_engine(kit):
    """Stock: after it leaves, every submission is dropped."""
    kit.engine("a")
    kit.notify("registration_notification", "a")
    kit.connect_engine("b")
    kit.unregister("a")
    kit.notify("registration_notification", "b")
    task = kit.submit()
    assert kit.sent("b") == [task]
    assert kit.sent("a") == []


def test_a_task_that_comes_twice_runs_once(kit):
    kit.engine("a", "b")
    task, raw = kit.request()
    kit.scheduler.dispatch_submission(list(raw))
    kit.scheduler.dispatch_submission(list(raw))
    assert len(kit.where(task)) == 1
    kit.answer(kit.where(task)[0], task)
    kit.scheduler.dispatch_submission(list(raw))
    assert len(kit.where(task)) == 1
    assert kit.outcome(task) == "ok"


# --- never stuck ----------------------------------------------------------------------------------


def test_dead_targets_are_impossible_also_when_no_engine_is_left(kit):
    """Stock: waits for ever."""
    kit.engine("a")
    kit.unregister("a")
    task = kit.submit(targets=["a"])
    kit.until(lambda: kit.outcome(task)) if not kit.outcome(task) else None
    assert kit.outcome(task) == "ImpossibleDependency"


def test_a_target_that_dies_fails_the_tasks_that_wait_for_it(kit):
    kit.engine("a", "b")
    running = kit.submit(targets=["a"])
    waiting = kit.submit(targets=["a"])
    kit.unregister("a")
    kit.scheduler.handle_stranded_tasks(b"a")
    assert kit.outcome(running) == "EngineError"
    assert kit.outcome(waiting) == "ImpossibleDependency"


def test_a_target_that_nobody_knows_yet_is_waited_for():
    with Kit(stranded_grace_s=0.05) as kit:
        early, never = kit.submit(targets=["late"]), kit.submit(targets=["never"])
        kit.engine("late")
        assert kit.sent("late") == [early]
        kit.until(lambda: kit.outcome(never))
        assert kit.outcome(never) == "ImpossibleDependency"
        kit.answer("late", early)
        assert kit.outcome(early) == "ok"


def test_following_a_task_whose_engine_died_is_impossible(kit):
    """Stock: waits for ever."""
    kit.engine("a", "b")
    first = kit.submit(targets=["a"])
    kit.answer("a", first)
    kit.unregister("a")
    assert kit.outcome(kit.submit(follow=[first])) == "ImpossibleDependency"


def test_a_task_that_failed_on_every_engine_ends_with_its_own_error(kit):
    """Stock: with retries >= engines it waits for ever."""
    kit.engine("a", "b")
    task = kit.submit(retries=10)
    for _ in range(2):
        kit.answer(kit.at(task), task, "error")
    assert sorted(kit.where(task)) == ["a", "b"]
    assert kit.outcome(task) == "ZeroDivisionError"


def test_with_a_timeout_it_waits_that_long_for_another_engine(kit):
    """As the stock one: ipyparallel's own tests want a TaskTimeout."""
    kit.engine("a")
    waits, lucky = kit.submit(retries=10, timeout=0.05), kit.submit(retries=10, timeout=60)
    kit.answer("a", waits, "error")
    kit.answer("a", lucky, "error")
    kit.until(lambda: kit.outcome(waits))
    assert kit.outcome(waits) == "TaskTimeout"
    kit.engine("b")
    assert kit.where(lucky) == ["a", "b"]


def test_a_dependency_that_no_engine_meets_is_impossible(kit):
    """Stock: waits for ever."""
    kit.engine("a", "b")
    task = kit.submit()
    for _ in range(2):
        kit.refuse(kit.at(task), task)
    assert kit.outcome(task) == "ImpossibleDependency"
    assert "refused" in kit.replies(task)[0].evalue


def test_refused_everywhere_it_may_wait_for_engines_if_asked(kit):
    kit.engine("a")
    task = kit.submit(wait_for_engines=True)
    kit.refuse("a", task)
    kit.engine("b")
    assert kit.where(task) == ["a", "b"]


# --- deaths ---------------------------------------------------------------------------------------


def test_a_result_that_comes_within_the_grace_counts(kit):
    kit.engine("a")
    task = kit.submit()
    kit.unregister("a")
    kit.answer("a", task)
    assert kit.outcome(task) == "ok"
    assert b"a" not in kit.scheduler._desk.bridge.engines


def test_a_result_that_comes_after_the_grace_counts_while_no_other_engine_has_the_task(kit):
    """Stock: a KeyError, and the result is lost."""
    kit.engine("a")
    task = kit.submit(retries=1)
    kit.unregister("a")
    kit.scheduler.handle_stranded_tasks(b"a")
    assert kit.outcome(task) == ""

    kit.answer("a", task)

    assert kit.outcome(task) == "ok"
    kit.engine("b")
    assert kit.sent("b") == []


def test_a_result_that_comes_when_another_engine_has_the_task_does_not_count(kit):
    kit.engine("a", "b")
    task = kit.submit(targets=["a", "b"], retries=1)
    first = kit.at(task)
    kit.unregister(first)
    kit.scheduler.handle_stranded_tasks(first.encode())
    kit.answer(first, task)
    assert kit.outcome(task) == ""
    kit.answer(kit.at(task), task)
    assert kit.outcome(task) == "ok"
    assert any("unknown engine" in record for record in kit.records)


def test_the_tasks_of_a_dead_engine_are_given_up_when_the_grace_is_over():
    with Kit(stranded_grace_s=0.05) as kit:
        kit.engine("a")
        done, retried = kit.submit(), kit.submit(retries=1)
        kit.answer("a", done)
        kit.unregister("a")
        kit.until(lambda: b"a" not in kit.scheduler._desk.bridge.engines)
        kit.engine("b")
        assert kit.sent("b") == [retried]


def test_an_engine_that_comes_back_within_the_grace_keeps_its_tasks(kit):
    kit.engine("a")
    task = kit.submit()
    kit.unregister("a")
    kit.notify("registration_notification", "a")
    kit.answer("a", task)
    assert kit.outcome(task) == "ok"
    assert kit.where(kit.submit()) == ["a"]


def test_tasks_of_a_dead_engine_are_tried_again_in_the_order_in_which_they_were_sent():
    with Kit(hwm=3) as kit:
        kit.engine("a")
        tasks = [kit.submit(retries=1) for _ in range(5)]
        kit.unregister("a")
        kit.scheduler.handle_stranded_tasks(b"a")
        kit.engine("b")
        assert kit.sent("b") == tasks[:3]


def test_a_late_abort_of_a_task_that_waits_for_another_try_ends_it(kit):
    kit.engine("a")
    task = kit.submit(retries=1)
    kit.unregister("a")
    kit.scheduler.handle_stranded_tasks(b"a")

    kit.answer("a", task, "aborted")

    assert kit.outcome(task) == "aborted"
    kit.engine("b")
    assert kit.sent("b") == []


def test_a_late_refusal_does_not_become_the_reply(kit):
    kit.engine("a")
    task = kit.submit(retries=1)
    kit.unregister("a")
    kit.scheduler.handle_stranded_tasks(b"a")
    kit.refuse("a", task)
    kit.engine("b")
    assert kit.sent("b") == [task]
    kit.answer("b", task)
    assert kit.outcome(task) == "ok"


# --- aborts, retries, losses ----------------------------------------------------------------------


def test_an_aborted_task_is_not_sent_again(kit):
    """Stock: it consumes a retry, and runs on another engine."""
    kit.engine("a", "b")
    task = kit.submit(retries=3)
    kit.answer(kit.where(task)[0], task, "aborted")
    assert kit.outcome(task) == "aborted"
    assert len(kit.where(task)) == 1


def test_a_retry_goes_to_another_engine_and_to_the_same_one_if_asked(kit):
    kit.engine("a")
    task = kit.submit(retries=2, retry_same_engine=True)
    for _ in range(2):
        kit.answer("a", task, "error")
    assert kit.where(task) == ["a", "a", "a"]
    # Signed anew, or the engine would drop it; otherwise as it was.
    first, second, third = kit.frames_sent[task]
    signatures = {frames[frames.index(b"<IDS|MSG>") + 1] for frames in (first, second, third)}
    assert len(signatures) == 3
    assert first[-2:] == third[-2:]
    kit.answer("a", task)
    assert kit.outcome(task) == "ok"


def test_a_task_that_can_not_be_delivered_is_noticed_and_sent_later(kit):
    """Stock: a message to an engine that is not connected is gone, and nobody knows."""
    kit.notify("registration_notification", "a")  # its connection is not there yet
    task = kit.submit()
    assert any("not connected" in record for record in kit.records)
    kit.connect_engine("a")
    kit.until(lambda: kit.sent("a") == [task])
    kit.answer("a", task)
    assert kit.outcome(task) == "ok"
    assert kit.monitored().count(("tracktask", task)) == 1


# --- bounded memory -------------------------------------------------------------------------------


def test_what_finished_is_remembered_to_a_configured_number(kit):
    """Stock: five containers hold each msg_id for life."""
    with Kit(finished_max=128) as kit:
        kit.engine("a")
        tasks = []
        for _ in range(1000):
            tasks.append(kit.submit())
            kit.answer("a", tasks[-1])
        bridge = kit.scheduler._desk.bridge
        assert len(bridge.finished) <= 128
        assert kit.outcome(kit.submit(after=[tasks[-1]])) == ""
        assert kit.outcome(kit.submit(after=[tasks[0]])) == "InvalidDependency"
        assert len(bridge.core.tasks) == len(bridge.jobs) == 1


def test_a_timer_holds_no_buffers(kit):
    """Stock: each task with a timeout keeps its frames until the timeout would have come."""
    kit.engine("a")
    payload = b"x" * 100_000

    def run(count: int) -> None:
        for _ in range(count):
            task, raw = kit.request(timeout=1000, run_timeout=1000)
            kit.scheduler.dispatch_submission([*raw, payload + task.encode()])
            kit.sent("a")
            kit.frames_sent.clear()
            kit.answer("a", task)
            assert kit.outcome(task) == "ok"

    run(5)
    tracemalloc.start()
    try:
        run(50)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10 * len(payload)


def test_clients_without_tasks_are_forgotten(kit):
    kit.engine("a")
    for n in range(1100):
        ident = f"c{n}".encode()
        task, raw = kit.request(ident)
        kit.scheduler.dispatch_submission(raw)
        kit.answer("a", task)
    assert len(kit.scheduler._desk.bridge.core.clients) <= 1001


def test_clients_that_all_have_tasks_are_not_looked_through_for_each_new_one(kit, monkeypatch):
    bridge, sweeps = kit.scheduler._desk.bridge, []
    forget = bridge._forget_idle_clients
    monkeypatch.setattr(bridge, "_forget_idle_clients", lambda: sweeps.append(forget()))
    for n in range(1100):
        kit.scheduler.dispatch_submission(kit.request(f"c{n}".encode())[1])
    assert len(bridge.core.clients) == 1100
    assert len(sweeps) == 1


# --- new keys -------------------------------------------------------------------------------------


def test_priority_goes_before_order(kit):
    kit.engine("a")
    running, low, high = kit.submit(), kit.submit(), kit.submit(priority=5)
    kit.answer("a", running)
    assert kit.sent("a") == [running, high]
    kit.answer("a", high)
    assert kit.sent("a") == [running, high, low]


def test_fair_tasks_take_turns_between_clients(kit):
    kit.client(b"other")
    kit.engine("a")
    running = kit.submit()
    many = [kit.submit(fair=True) for _ in range(10)]
    few = [kit.submit(b"other", fair=True) for _ in range(3)]
    kit.answer("a", running)
    for _ in range(6):
        kit.answer("a", kit.sent("a")[-1])
    assert kit.sent("a")[1:7] == [many[0], few[0], many[1], few[1], many[2], few[2]]


def test_need_and_on_of_a_dependency(kit):
    kit.engine("a", "b", "c")
    upstreams = [kit.submit() for _ in range(3)]
    two = kit.submit(after={"dependencies": upstreams, "need": 2})
    done = kit.submit(after={"dependencies": upstreams, "on": "done"})
    kit.answer(kit.where(upstreams[0])[0], upstreams[0], "error")
    kit.answer(kit.where(upstreams[1])[0], upstreams[1])
    assert kit.where(two) == kit.where(done) == []
    kit.answer(kit.where(upstreams[2])[0], upstreams[2])
    assert len(kit.where(two)) == len(kit.where(done)) == 1
    # The same of tasks that have ended.
    late = kit.submit(after={"dependencies": upstreams, "need": 2})
    never = kit.submit(after={"dependencies": upstreams, "need": 3})
    assert len(kit.where(late)) == 1
    assert kit.outcome(never) == "ImpossibleDependency"


def test_follow_of_tasks_that_have_ended(kit):
    kit.engine("a", "b")
    at_a, at_b = kit.submit(targets=["a"]), kit.submit(targets=["b"])
    kit.answer("a", at_a)
    kit.answer("b", at_b)
    follower = kit.submit(follow=[at_b])
    assert kit.where(follower) == ["b"]
    assert kit.outcome(kit.submit(follow=[at_a, at_b])) == "ImpossibleDependency"
    either = kit.submit(follow={"dependencies": [at_a, at_b], "all": False})
    assert len(kit.where(either)) == 1
    kit.answer("b", follower)
    kit.answer(kit.where(either)[0], either)
    assert not kit.scheduler._desk.bridge.core.tasks


def test_cancel_of_queued_tasks(kit):
    kit.engine("a")
    running, queued, dependent = kit.submit(), kit.submit(), ""
    dependent = kit.submit(after=[queued])
    done = kit.submit(targets=["a"])
    kit.answer("a", running)
    kit.answer("a", queued if kit.sent("a")[-1] == queued else done)
    waiting = kit.submit()
    ids = [waiting, dependent, running, "no-such-task"]
    ask = kit.session.msg("cancel_request", content={"msg_ids": ids})
    kit.scheduler.dispatch_submission([b"client", *kit.session.serialize(ask)])

    answer = kit.replies(ask["header"]["msg_id"])[0]
    assert answer.kind == "cancel_reply"
    assert waiting in answer.content["cancelled"]
    assert answer.content["done"] == [running]
    assert answer.content["unknown"] == ["no-such-task"]
    assert kit.outcome(waiting) == "aborted"
    assert waiting not in kit.sent("a")


def test_a_task_that_is_cancelled_while_it_waits_for_another_try_is_aborted(kit):
    kit.engine("a", "b")
    blocker = kit.submit(targets=["b"])
    task = kit.submit(targets=["a", "b"], retries=1)
    kit.answer("a", task, "error")  # b is busy, and a is out of question

    ask = kit.session.msg("cancel_request", content={"msg_ids": [task]})
    kit.scheduler.dispatch_submission([b"client", *kit.session.serialize(ask)])

    assert kit.outcome(task) == "aborted"
    kit.answer("b", blocker)
    assert kit.sent("b") == [blocker]


# --- bad input ------------------------------------------------------------------------------------


def bad_messages(kit):
    _, good = kit.request()
    unsigned = list(good)
    unsigned[2] = b""
    wrong = list(good)
    wrong[2] = b"0" * 64
    changed = list(good)
    changed[3] = good[3].replace(b"apply", b"apple")
    yield "unsigned", unsigned
    yield "wrong signature", wrong
    yield "wrong signature", changed
    for n in range(len(good) - 2):
        yield "", good[:n]
    yield "no delimiter", [b"client", b"garbage", b"\xff" * 100]
    nested = [b"client", *kit.message("apply_request", {})]
    yield "", nested[:1]


def test_bad_messages_are_named_once_and_disturb_nothing(kit):
    kit.engine("a")
    good = kit.submit()
    for _, raw in bad_messages(kit):
        kit.scheduler.dispatch_submission(list(raw))
        kit.scheduler.dispatch_result([b"a", *raw])
        kit.scheduler.dispatch_notification(raw[1:])
        kit.scheduler.dispatch_query_reply(raw[1:])
    kit.check()
    kit.answer("a", good)
    assert kit.outcome(good) == "ok"
    for kind in ("unsigned", "wrong signature", "no delimiter"):
        assert sum(f"an unusable task ({kind})" in r for r in kit.records) == 1
    assert len(kit.records) < 40


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retries", -1), ("retries", "many"), ("timeout", "soon"), ("timeout", [1]),
        ("targets", "a"), ("targets", [1]), ("after", 7), ("after", [1]),
        ("follow", {"dependencies": "x"}), ("after", {"dependencies": ["x"], "need": 4}),
        ("after", {"dependencies": ["x"], "success": False}), ("priority", 1.5),
        ("run_timeout", -1), ("fair", "yes"), ("after", {"dependencies": ["x"], "on": "maybe"}),
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_answered_with_the_reason(kit, key, value):
    kit.engine("a")
    task = kit.submit(**{key: value})
    assert kit.outcome(task) == "ValueError"
    assert key in kit.replies(task)[0].evalue
    assert kit.where(kit.submit()) == ["a"]


def test_replies_that_nobody_waits_for_change_nothing(kit):
    kit.engine("a", "b")
    task = kit.submit()
    here = kit.where(task)[0]
    other = "b" if here == "a" else "a"
    never_sent, _ = kit.request()
    kit.answer("a", never_sent)
    kit.answer(other, task)
    kit.answer("stranger", task)
    assert kit.outcome(task) == ""
    kit.answer(here, task)
    kit.answer(here, task)
    assert kit.outcome(task) == "ok"
    for words in ("unknown task", "unknown engine", "has not the task"):
        assert any(words in record for record in kit.records), words


def test_messages_of_unknown_types_are_named(kit):
    kit.scheduler.dispatch_submission([b"client", *kit.message("dance_request", {})])
    kit.notify("dance_notification", "a")
    kit.notify("registration_notification", "")
    kit.unregister("never-seen")
    text = "\n".join(kit.records)
    assert "dance_request" in text
    assert "dance_notification" in text
    assert "without a uuid" in text
    assert "never-seen" in text


def test_an_exception_in_a_handler_costs_no_other_task():
    class Fragile(TaskScheduler):
        def finish_job(self, idx):
            raise RuntimeError("a user's mistake")

    with Kit(Fragile, hwm=0) as kit:
        kit.engine("a")
        task, raw = kit.request()
        kit.clients[b"client"].send_multipart(raw[1:])
        kit.until(lambda: kit.sent("a") == [task])
        engine = kit.engines[b"a"]
        engine.send_multipart([b"task_out", *kit.reply_of("a", task)[1:]])
        other, raw = kit.request()
        kit.clients[b"client"].send_multipart(raw[1:])
        kit.until(lambda: kit.sent("a") == [task, other])
        assert any("a user's mistake" in record for record in kit.records)
