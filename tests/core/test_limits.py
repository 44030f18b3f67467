"""Limits by tag: how people write them, what they promise, and that nobody waits for nothing."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core.events import TaskId
from headway.core.explain import explain, explain_all
from headway.core.limits import LIMITS_MAX, Limit, Limits, check_tag, parse_limit
from headway.core.scheduler import Scheduler
from headway.core.snapshot import dump, load
from headway.core.states import ON_ENGINE_STATES, TaskState
from tests.core.env import Env, placed


def limit(env: Env, tag: str, text: str) -> list[TaskId]:
    """Set a limit; the tasks that are placed at once because of it."""
    return [task for task, _ in placed(env.tell(ev.LimitSet(tag, parse_limit(text))))]


def on_engines(env: Env) -> list[TaskId]:
    return [task for engine in env.scheduler.engines.values() for task in engine.assigned]


# --- how they are written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("4", Limit(4), "4"),
        ("0", Limit(0), "0"),
        ("10/s", Limit(None, 10, 1.0), "10/s"),
        (" 90 / min ", Limit(None, 90, 60.0), "90/min"),
        ("7/h,2", Limit(2, 7, 3600.0), "2, 7/h"),
        ("none", Limit(), "none"),
    ],
)
def test_a_limit_is_read_and_written(text: str, expected: Limit, shown: str):
    assert parse_limit(text) == expected
    assert str(expected) == shown
    assert parse_limit(shown) == expected


@pytest.mark.parametrize(
    "text", ["", "-1", "four", "1.5", "0/s", "10/d", "1,2", "1/s,2/s", "1,", "10000000", "²", "/s"]
)
def test_what_is_no_limit_is_said_to_be_none(text: str):
    with pytest.raises(ValueError, match="is no limit: expected"):
        parse_limit(text)


@pytest.mark.parametrize("name", ["", "a=b", "a\nb", "x" * 201])
def test_what_is_no_tag_is_said_to_be_none(name: str):
    with pytest.raises(ValueError, match="is no tag: expected"):
        check_tag(name)


# --- at once -------------------------------------------------------------------------------------


def test_no_more_tasks_than_the_limit_are_on_engines_and_others_pass_them_by():
    # Given a limit of two, and room for many
    env = Env(hwm=0)
    env.engines(2)
    limit(env, "db", "2")
    # When five with the tag are submitted, and one without
    tagged = env.submit_many(5, tags=["db"])
    other = env.submit()
    # Then two and the other run, and as one of them ends the next comes, in order
    assert sorted(on_engines(env)) == sorted([*tagged[:2], other])
    assert [task for task, _ in placed(env.finish(tagged[0]))] == [tagged[2]]
    assert [task for task, _ in placed(env.fail(tagged[2]))] == [tagged[3]]
    env.quiet()


def test_a_limit_is_of_the_whole_cluster_whoever_submits_and_whatever_else_a_task_needs():
    env = Env(hwm=0)
    env.engine(gpu=4)
    other = env.client()
    limit(env, "db", "2")
    tasks = [
        env.submit(tags=["db"], resources={"gpu": 1.0}),
        env.submit(tags=["db"], client=other),
        env.submit(tags=["db"]),
    ]
    assert sorted(on_engines(env)) == sorted(tasks[:2])
    assert [task for task, _ in placed(env.finish(tasks[0]))] == [tasks[2]]


def test_of_several_tags_a_task_takes_all_permits_or_none():
    env = Env(hwm=0)
    env.engine()
    limit(env, "a", "1")
    limit(env, "b", "1")
    one, both, two = (env.submit(tags=tags) for tags in (["a"], ["a", "b"], ["b"]))
    assert sorted(on_engines(env)) == sorted([one, two])
    env.finish(one)
    assert on_engines(env) == [two]
    assert [task for task, _ in placed(env.finish(two))] == [both]


def test_the_higher_priority_gets_the_next_permit():
    env = Env(hwm=0)
    env.engine()
    limit(env, "db", "1")
    first, low = env.submit(tags=["db"]), env.submit(tags=["db"])
    high = env.submit(tags=["db"], priority=1, retries=0)
    assert [task for task, _ in placed(env.finish(first))] == [high]
    assert env.state(low) is TaskState.READY


@pytest.mark.parametrize("how", ["killed", "drained", "cancelled", "retried", "undelivered"])
def test_a_permit_comes_back_however_its_task_leaves_its_engine(how: str):
    env = Env(hwm=0)
    engine = env.engine()
    limit(env, "db", "1")
    first, second = env.submit(tags=["db"], retries=1, backoff_s=9.0), env.submit(tags=["db"])
    if how == "killed":
        env.kill(engine, started=first)
        env.engine()
        assert on_engines(env) == [first]  # again, and alone
        env.finish(first)
    elif how == "drained":
        env.drain(engine)
        env.give_back(engine, first)
        env.engine()
        env.finish(first)
    elif how == "cancelled":
        env.cancel(first)
        env.stopped(first)
    elif how == "retried":
        env.fail(first)
    else:
        env.tell(ev.Undelivered(engine, first, 0.0))
        env.finish(first)
    assert on_engines(env) == [second]


def test_a_limit_that_changes_holds_at_once_and_takes_nothing_back():
    env = Env(hwm=0)
    env.engine()
    tasks = env.submit_many(6, tags=["db"])
    assert len(on_engines(env)) == 6  # no limit yet; but they count
    assert limit(env, "db", "2") == []
    more = env.submit_many(3, tags=["db"])
    for task in tasks[:4]:
        assert placed(env.finish(task)) == []
    assert [task for task, _ in placed(env.finish(tasks[4]))] == [more[0]]
    assert limit(env, "db", "3") == [more[1]]
    assert limit(env, "db", "none") == [more[2]]


def test_a_limit_of_none_at_once_holds_all_until_it_is_raised():
    env = Env(hwm=0)
    env.engine()
    limit(env, "db", "0")
    task = env.submit(tags=["db"])
    assert "db, which is limited to 0: 0 tasks on engines" in explain(env.scheduler, task, env.now)
    assert limit(env, "db", "1") == [task]


# --- in a time -----------------------------------------------------------------------------------


def test_a_rate_lets_a_bucket_full_go_and_then_one_by_one_with_one_timer():
    env = Env(hwm=0)
    env.engine()
    limit(env, "api", "10/s")
    tasks = env.submit_many(13, tags=["api"])
    assert on_engines(env) == tasks[:10]
    for nth in (10, 11, 12):
        due_s = env.scheduler.next_deadline_s()
        assert due_s == pytest.approx((nth - 9) / 10)
        env.now = due_s
        assert [task for task, _ in placed(env.tick())] == [tasks[nth]]
    assert env.scheduler.next_deadline_s() is None
    # A second later it is full again, and not fuller
    env.now += 60.0
    assert len(placed(env.tell(ev.Submitted(env.me, [], [], [])))) == 0
    env.submit_many(20, tags=["api"])
    assert len(on_engines(env)) == 23


def test_a_task_that_was_given_back_before_it_began_does_not_count_for_the_rate():
    env = Env(hwm=0)
    engine = env.engine()
    limit(env, "api", "1/h")
    task = env.submit(tags=["api"])
    env.drain(engine)
    env.engine()
    assert placed(env.give_back(engine, task)) != []
    next_ = env.submit(tags=["api"])
    assert env.state(next_) is TaskState.READY


def test_explain_says_which_limit_and_how_many_hold_it_and_when_it_goes_on():
    env = Env(hwm=0)
    env.engine()
    limit(env, "api", "3, 2/min")
    tasks = env.submit_many(4, tags=["api", "free"])
    said = explain(env.scheduler, tasks[3], env.now)
    assert "number 2 in the queue for permits of api, which is limited to 3, 2/min" in said
    assert "2 tasks on engines, and the next may be sent in 30 s" in said
    assert "2 tasks ready: the queue for permits of api" in explain_all(env.scheduler, env.now)


# --- all of it -----------------------------------------------------------------------------------


def test_a_task_without_tags_never_meets_the_limits():
    env = Env(hwm=0)
    env.engine()
    env.submit_many(5)
    assert list(env.scheduler.limits) == []


def test_tags_that_nobody_needs_are_forgotten_and_there_are_not_too_many_limits():
    limits = Limits()
    for number in range(LIMITS_MAX):
        limits.tag(str(number))
    assert not limits.knows_or_has_room("one more")
    assert limits.knows_or_has_room("7")
    env = Env(hwm=0)
    env.engine()
    limit(env, "db", "1")
    limit(env, "db", "none")
    assert list(env.scheduler.limits) == []
    for number in range(200):
        env.finish(env.submit(tags=[f"tag {number}"]))
    assert len(list(env.scheduler.limits)) <= 130


def test_a_snapshot_knows_who_holds_what_and_when_the_rate_goes_on():
    env = Env(hwm=0)
    env.engine()
    limit(env, "db", "2")
    limit(env, "api", "2/s")
    env.submit_many(3, tags=["db"])
    env.submit_many(3, tags=["api"])
    config = SchedulerConfig(hwm=0)
    again = load(dump(env.scheduler), config, Random(0))
    assert again.next_deadline_s() == env.scheduler.next_deadline_s() == pytest.approx(0.5)
    out: list[object] = []
    again.place(env.now, out)  # type: ignore[arg-type]
    assert out == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "finish", "finish", "fail", "kill", "limit", "time"]),
        st.integers(0, 9),
    ),
    max_size=40,
)
TAGS = [["db"], ["api"], ["db", "api"], None, ["free"]]
CHANGES = ["1", "2", "3/s", "1, 2/s", "none", "0"]


@settings(deadline=None, derandomize=True, database=None, max_examples=80)
@given(STEPS)
def test_whatever_happens_no_limit_is_passed_and_nobody_waits_for_nothing(steps):
    env = Env(hwm=3)
    env.engines(2)
    current = {"db": Limit(2), "api": Limit(None, 2)}
    for tag, wanted in current.items():
        env.tell(ev.LimitSet(tag, wanted))
    sent: list[float] = []
    for what, number in steps:
        before = Counter(t for task in on_engines(env) for t in env.task(task).options.tags or ())
        running = on_engines(env)
        if what == "submit":
            env.submit_many(number % 3 + 1, tags=TAGS[number % len(TAGS)], retries=1)
        elif what == "finish" and running:
            env.finish(running[number % len(running)])
        elif what == "fail" and running:
            env.fail(running[number % len(running)])
        elif what == "kill":
            engines = list(env.scheduler.engines)
            env.leave(engines[number % len(engines)])
            env.engine()
        elif what == "limit":
            tag = ("db", "api")[number % 2]
            current[tag] = parse_limit(CHANGES[number % len(CHANGES)])
            env.tell(ev.LimitSet(tag, current[tag]))
            sent.clear()
        elif what == "time":
            env.tick(number / 7)
        # No limit is passed, but for what was there before it was lowered.
        now_on = Counter(t for task in on_engines(env) for t in env.task(task).options.tags or ())
        for tag, wanted in current.items():
            if wanted.at_once is not None:
                assert now_on[tag] <= max(wanted.at_once, before[tag])
        sent += [env.now for task, _ in placed(env.said) if "api" in _tags(env, task)]
        rate = current["api"]
        if rate.rate:
            for first, start in enumerate(sent):
                within = env.now - start
                assert len(sent) - first <= rate.rate * (1 + within) + 1e-3
    # In the end all that is limited to more than none runs to its end.
    for tag in current:
        env.tell(ev.LimitSet(tag, parse_limit("1, 5/s")))
    for _ in range(2_000):
        running = on_engines(env)
        if running:
            env.finish(running[0])
        elif (due_s := env.scheduler.next_deadline_s()) is not None:
            env.now = max(env.now, due_s)
            env.tick()
        else:
            break
    states = {task.state for task in env.scheduler.tasks.values()}
    assert not states & {TaskState.READY, TaskState.WAITING, *ON_ENGINE_STATES}


def _tags(env: Env, task: TaskId) -> list[str]:
    record = env.scheduler.tasks.get(task)
    return list(record.options.tags or ()) if record is not None else []


def test_what_is_held_up_is_not_looked_at_for_each_that_is_not():
    """10,000 tasks wait for one permit; 10,000 others are placed, and the queue of the first is
    never walked."""
    env = Env(hwm=0)
    scheduler: Scheduler = env.scheduler
    env.engine()
    limit(env, "db", "1")
    env.submit_many(2_000, tags=["db"])
    held = next(lane for lane in scheduler.lanes if lane.tags)
    looked = 0
    head = type(held).head

    def counted(lane):
        nonlocal looked
        looked += lane is held
        return head(lane)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(held), "head", counted)
        out: list[object] = []
        for _ in range(100):
            task = env.next_id()
            spec = ev.TaskSpec(task, 0, b"")
            scheduler.handle(ev.Submitted(env.me, [b"digest-of-a-func"], [], [spec]), 0.0, out)  # type: ignore[arg-type]
            scheduler.place(0.0, out)  # type: ignore[arg-type]
    assert looked <= 200
