"""Promise: what a client asked to keep outlives it. Nothing of it is cancelled, others may depend
on it and are told how it ended, and of what has ended no more than so many are kept.
"""

from __future__ import annotations

import pytest

from headway.core import events as ev
from headway.core.commands import Deliver, Forgotten
from headway.core.explain import explain, explain_all
from headway.core.listing import LOOKED_AT_MAX, TaskQuery, list_tasks, task_row
from headway.core.states import TaskState
from tests.core.env import Env, delivered

S = TaskState


def left_behind(count: int = 3, **config):
    """A client that has left its tasks, none of which has ended; and another that is there."""
    env = Env(**config)
    other = env.client()
    tasks = env.submit_many(count)
    env.tell(ev.KeepAsked(env.me), ev.ClientLeft(env.me))
    return env, other, tasks


def test_tasks_of_a_client_that_asked_to_keep_them_go_on_without_it():
    env, other, [first, *_] = left_behind()
    env.engine()
    assert delivered(env.finish(first)) == {first: S.SUCCEEDED}
    assert env.knows(first)
    # And others may depend on it, and cancel the rest
    heir = env.submit(client=other, after=[first], inputs=[first])
    assert env.state(heir) is not S.IMPOSSIBLE
    env.quiet()


def test_without_having_asked_everything_goes_with_its_client():
    env = Env()
    tasks = env.submit_many(2)
    assert delivered(env.tell(ev.ClientLeft(env.me))) == {}
    assert not any(env.knows(task) for task in tasks)


def test_any_client_may_cancel_what_was_left_behind():
    env, other, tasks = left_behind()
    said = env.tell(ev.CancelAsked(other, tasks))
    assert delivered(said) == dict.fromkeys(tasks, S.CANCELLED)
    assert list(env.scheduler.kept) == tasks


def test_the_oldest_of_what_has_ended_is_forgotten_first_and_that_is_said():
    env, other, tasks = left_behind(4, finished_kept=2)
    for task in reversed(tasks):
        said = env.tell(ev.CancelAsked(other, [task]))
    assert [c for c in said if isinstance(c, Forgotten)] == [Forgotten(tasks[2])]
    assert [env.knows(task) for task in tasks] == [True, True, False, False]
    # And those that ended in one event are as old as their ids
    assert list(env.scheduler.kept) == [tasks[1], tasks[0]]


def test_what_had_ended_when_its_client_left_counts_too_but_not_what_it_had_released():
    env = Env(finished_kept=2)
    env.engine()
    tasks = env.submit_many(4)
    for task in tasks:
        env.finish(task)
    env.release(tasks[3])
    env.tell(ev.KeepAsked(env.me), ev.ClientLeft(env.me))
    assert [env.knows(task) for task in tasks] == [False, True, True, False]


def test_one_that_is_kept_no_more_stays_while_a_task_needs_its_value():
    env, other, [first, second, third] = left_behind(3, finished_kept=1)
    engine = env.engine()
    env.finish(first)
    heir = env.submit(client=other, inputs=[first], targets=[99], wait_for_engines=True)
    env.tell(ev.CancelAsked(other, [second, third]))
    assert env.knows(first)
    env.tell(ev.CancelAsked(other, [heir]))
    env.release(heir, client=other)
    assert not env.knows(first)
    assert env.scheduler.engines[engine].load in (0, 1)


def test_a_group_that_was_left_behind_knows_its_members():
    env = Env()
    env.engine()
    tasks = env.submit_many(3)
    between = env.submit()
    group = env.group([*tasks, env.submit(), between])
    env.tell(ev.KeepAsked(env.me), ev.ClientLeft(env.me))
    assert list(env.scheduler.groups[group].members()) == [*tasks, between + 1, between]
    assert env.scheduler.groups[group].spans == [(tasks[0], 3), (between + 1, 1), (between, 1)]
    # And is kept as they are, once they have all ended
    env.tell(ev.CancelAsked(env.client(), [*tasks, between, between + 1]))
    assert group not in env.scheduler.kept
    env.stopped(tasks[0])
    assert group in env.scheduler.kept


def test_who_watches_is_told_what_has_ended_and_which_have_not():
    env, other, [first, second, third] = left_behind()
    env.tell(ev.CancelAsked(other, [second]))
    unknown = ev.task_id(env.me, 77)
    out: list = []
    assert env.scheduler.watch(other, [first, second, unknown, third], out) == [first, third]
    told = [(c.client, c.task, c.state) for c in out if isinstance(c, Deliver)]
    assert told == [(other, second, S.CANCELLED), (other, unknown, S.LOST)]


def test_a_client_that_is_not_there_can_keep_nothing():
    env = Env()
    env.tell(ev.KeepAsked(ev.ClientId(99)))
    assert env.scheduler.statistics().invalid == 1


# --- looking at all of it -----------------------------------------------------------------------


def test_tasks_are_listed_by_state_label_and_group():
    env = Env()
    env.engine()
    a, b = env.submit(label="rye"), env.submit(label="wheat")
    c = env.submit(label="rye bread", after=[b])
    group = env.group([a, b])

    def found(**query):
        return [t.id for t in list_tasks(env.scheduler, TaskQuery(**query)).tasks]

    assert found() == [a, b, c]
    assert found(label="rye") == [a, c]
    assert found(states=[S.ASSIGNED]) == [a]
    assert found(states=[S.READY, S.WAITING], reverse=True) == [c, b]
    assert found(group=group) == [a, b]
    assert found(group=group, label="wheat", states=[S.READY]) == [b]
    assert found(sort="label", limit=2) == [a, c]
    with pytest.raises(ValueError, match="can't be sorted by"):
        found(sort="weight")
    with pytest.raises(ValueError, match="no group"):
        found(group=a)
    assert task_row(env.task(c), env.now + 2)["age_s"] == 2.0


def test_of_very_many_the_newest_are_looked_at_and_the_listing_says_so():
    env = Env()
    kept = env.submit()
    env.tell(ev.KeepAsked(env.me), ev.CancelAsked(env.me, [kept]), ev.ClientLeft(env.me))
    me = env.client()
    specs = [env.spec(client=me) for _ in range(LOOKED_AT_MAX + 1)]
    env.tell(ev.Submitted(me, [next(iter(env.scheduler.functions)).digest], [], specs))

    listing = list_tasks(env.scheduler, TaskQuery(limit=3))
    assert (listing.found, listing.total) == (LOOKED_AT_MAX, LOOKED_AT_MAX + 2)
    assert listing.is_cut
    assert listing.tasks[0].id == specs[1].id
    # What was left behind and has ended is found behind all of them
    ended = list_tasks(env.scheduler, TaskQuery([S.CANCELLED]))
    assert [task.id for task in ended.tasks] == [kept]


def test_why_nothing_runs_is_told_for_the_whole_cluster():
    env = Env()
    first = env.submit(label="first")
    assert "no engine is here to run it" in explain_all(env.scheduler, env.now)
    env.engine()
    env.submit_many(2, resources={"gpu": 1.0})
    env.submit(after=[first])
    told = explain_all(env.scheduler, env.now)
    assert "tasks: 1 waiting, 2 ready, 1 assigned, 0 running" in told
    assert "engines: 1 here, 1 with tasks, 0 idle" in told
    assert "2 tasks ready: fits no engine: e0 lacks gpu=1 (has 0)" in told
    # And in the words that each of them has for itself
    assert explain(env.scheduler, first + 1, env.now) in told
    env.finish(first)
    assert "ended, and not forgotten: 1 succeeded" in explain_all(env.scheduler, env.now)


def test_full_engines_are_the_reason_for_a_queue():
    env = Env()
    env.engine()
    env.submit_many(3)
    told = explain_all(env.scheduler, env.now)
    assert "2 tasks ready: the queue for any engine, which have no room (e0: 1 of 1)" in told
