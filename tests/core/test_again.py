"""Promise: a stored value lives as long as somebody may ask for it, and no longer; if it is lost,
its task runs again with all that takes, or whoever needs it is told why not."""

from __future__ import annotations

import pytest

from headway.core import events as ev
from headway.core import problems
from headway.core.commands import Deliver, DropValue
from headway.core.explain import explain
from headway.core.states import TaskState
from tests.core.env import Env, delivered, placed

SUCCEEDED, WAITING, READY = TaskState.SUCCEEDED, TaskState.WAITING, TaskState.READY


def dropped(commands):
    return [command.name for command in commands if isinstance(command, DropValue)]


def problem_of(env, task):
    return env.delivered[task].problem


@pytest.fixture
def env():
    env = Env()
    env.engine()
    return env


# --- how long a value lives ---------------------------------------------------------------------


def test_a_stored_value_is_delivered_as_a_reference_and_dropped_when_its_future_goes(env):
    task = env.submit()
    value = env.value(task)

    assert Deliver(env.me, task, SUCCEEDED, value, 0, None) in env.store(task)
    assert env.scheduler.statistics().stored_bytes == value.size

    assert dropped(env.release(task)) == [value.name]
    assert not env.knows(task)
    assert env.scheduler.statistics().stored_values == 0


def test_a_value_stays_while_a_task_needs_it_and_goes_with_the_last_one(env):
    source = env.submit()
    env.store(source)
    first, second = env.submit(inputs=[source]), env.submit(inputs=[source])
    assert not dropped(env.release(source))
    assert not dropped(env.finish(first))
    assert len(dropped(env.finish(second))) == 1
    assert not env.knows(source)


def test_a_value_of_an_attempt_that_does_not_count_is_dropped(env):
    task = env.submit()
    old = env.value(task)
    env.fail(task, ev.ErrorInfo([], "no"))
    stale = ev.Outcome(task, 1, ev.RAN, old)
    assert dropped(env.tell(ev.Finished(0, [stale]))) == [old.name]
    assert dropped(env.tell(ev.Finished(99, [stale]))) == [old.name]


def test_a_value_that_counts_is_not_dropped_when_its_outcome_comes_again(env):
    task = env.submit()
    outcome = ev.Outcome(task, 1, ev.RAN, env.value(task))
    assert not dropped(env.tell(ev.Finished(0, [outcome, outcome])))


def test_the_values_of_a_client_that_left_are_dropped(env):
    tasks = [env.submit() for _ in range(3)]
    for task in tasks:
        env.store(task)
    assert len(dropped(env.tell(ev.ClientLeft(env.me)))) == 3


def test_of_what_a_store_has_only_what_nobody_will_ask_for_is_named(env):
    kept, running = env.submit_many(2)
    env.store(kept)
    names = ["1-1.1", "1-2.1", "1-2.7", "1-9.1", "no name"]
    unneeded = env.scheduler.stored.unneeded(ev.StoreId("store"), names, env.scheduler.tasks)
    assert env.state(running) is TaskState.ASSIGNED
    assert unneeded == ["1-2.7", "1-9.1", "no name"]


# --- lost, and made again -----------------------------------------------------------------------


def test_a_task_whose_input_is_lost_waits_until_that_was_made_again(env):
    source = env.submit()
    env.store(source)
    user = env.submit(inputs=[source])

    said = env.lose(user, source)

    assert placed(said) == [(source, 0)]
    assert (env.state(user), env.task(source).attempt) == (WAITING, 2)
    assert placed(env.store(source)) == [(user, 0)]
    assert delivered(env.finish(user)) == {user: SUCCEEDED}
    assert env.scheduler.statistics().recomputed == 1
    env.quiet()


def test_explain_says_that_a_task_runs_again_and_who_waits_for_it(env):
    source = env.submit()
    env.store(source)
    user = env.submit(inputs=[source])
    env.lose(user, source)
    assert "its value was lost 1 time" in explain(env.scheduler, source, env.now)
    assert "open: 1-1" in explain(env.scheduler, user, env.now)


def test_an_input_that_was_made_again_meanwhile_is_not_made_once_more(env):
    env.engine()
    source = env.submit()
    env.store(source)
    one, other = env.submit_many(2, inputs=[source])
    old = ev.value_name(source, 1)
    env.lose(one, source)
    lost = ev.Outcome(other, 1, ev.INPUT_LOST, b"", lost=[old])
    env.store(source)
    env.tell(ev.Finished(env.task(other).engine, [lost]))
    assert env.scheduler.statistics().recomputed == 1
    assert env.task(other).attempt == 2


def test_a_second_task_that_misses_the_same_value_waits_for_the_same_run(env):
    env.engine()
    source = env.submit()
    env.store(source)
    users = env.submit_many(2, inputs=[source])
    env.lose(users[0], source)
    env.tell(
        ev.Finished(
            env.task(users[1]).engine,
            [ev.Outcome(users[1], 1, ev.INPUT_LOST, b"", lost=[ev.value_name(source, 1)])],
        )
    )
    assert env.states(users) == [WAITING, WAITING]
    assert {task for task, _ in placed(env.store(source))} == set(users)
    assert env.scheduler.statistics().recomputed == 1


def test_what_was_dropped_on_the_way_is_made_again_first(env):
    first = env.submit()
    env.store(first)
    second = env.submit(inputs=[first])
    env.release(first)
    assert dropped(env.store(second)) == ["1-1.1"]
    third = env.submit(inputs=[second])

    assert placed(env.lose(third, second)) == [(first, 0)]
    assert env.states([first, second, third]) == [TaskState.ASSIGNED, WAITING, WAITING]
    assert placed(env.store(first)) == [(second, 0)]
    assert placed(env.store(second)) == [(third, 0)]
    env.finish(third)
    env.release(second, third)
    assert not env.scheduler.tasks


def test_a_long_chain_is_kept_without_its_values_and_forgotten_at_once(env):
    tasks = [env.submit()]
    env.store(tasks[0])
    for _ in range(100):
        tasks.append(env.submit(inputs=[tasks[-1]]))
        env.release(tasks[-2])
        env.store(tasks[-1])
    assert env.scheduler.statistics().stored_values == 1
    assert len(env.scheduler.tasks) == 101
    env.release(tasks[-1])
    assert not env.scheduler.tasks
    assert env.scheduler.lineages.bytes == 0


def test_no_more_is_kept_than_the_bound_and_what_is_lost_then_is_an_error():
    env = Env(lineage_bytes_max=1_200)
    env.engine()
    tasks = [env.submit() for _ in range(3)]
    for task in tasks:
        env.store(task)
    user = env.submit(inputs=[tasks[2]])
    env.lose(user, tasks[2])
    assert problem_of(env, user).kind == problems.KIND_VALUE_LOST
    assert "lineage_bytes_max" in problem_of(env, user).text
    user = env.submit(inputs=[tasks[0]])
    assert placed(env.lose(user, tasks[0])) == [(tasks[0], 0)]


def test_what_may_run_once_at_most_is_not_made_again(env):
    source = env.submit(at_most_once=True)
    env.store(source)
    user = env.submit(inputs=[source])
    after = env.submit(after=[user])
    env.lose(user, source)
    assert env.state(user) is TaskState.IMPOSSIBLE
    assert problem_of(env, user).kind == problems.KIND_VALUE_LOST
    assert "once at most" in problem_of(env, user).text
    assert "once at most" in problem_of(env, after).root_text


def test_a_value_that_is_lost_again_and_again_is_given_up(env):
    source = env.submit()
    env.store(source)
    user = env.submit(inputs=[source])
    for _ in range(3):
        env.lose(user, source)
        env.store(source)
    env.lose(user, source)
    assert env.state(user) is TaskState.IMPOSSIBLE
    assert "3 times" in problem_of(env, user).text


def test_a_task_that_fails_when_it_is_made_again_makes_who_needs_it_impossible(env):
    env.engines(2)
    source = env.submit()
    env.store(source)
    users = env.submit_many(2, inputs=[source])
    env.lose(users[0], source)
    env.fail(source)
    assert env.state(users[0]) is TaskState.IMPOSSIBLE
    # The other one counted it as succeeded: it is sent no value, says so, and ends as well.
    env.lose(users[1])
    assert env.state(users[1]) is TaskState.IMPOSSIBLE
    env.release(source, *users)
    assert not env.scheduler.tasks


def test_what_only_comes_after_a_task_is_not_held_up_when_its_value_is_lost(env):
    env.engine()
    source = env.submit()
    env.store(source)
    user, later = env.submit(inputs=[source]), env.submit(after=[source])
    env.lose(user, source)
    assert env.state(source) is not SUCCEEDED
    env.finish(later)
    assert env.state(later) is SUCCEEDED


def test_a_cancelled_task_whose_input_is_lost_is_cancelled_and_nothing_runs_again(env):
    source = env.submit()
    env.store(source)
    user = env.submit(inputs=[source])
    env.cancel(user)
    env.lose(user, source)
    assert env.state(user) is TaskState.CANCELLED
    assert env.scheduler.statistics().recomputed == 0


def test_a_client_that_misses_a_value_hears_the_end_of_its_task_anew(env):
    task = env.submit()
    env.store(task)
    assert placed(env.miss(task)) == [(task, 0)]
    value = env.value(task)
    assert Deliver(env.me, task, SUCCEEDED, value, 0, None) in env.store(task)
    assert value.name.endswith(".2")


def test_a_client_that_misses_a_value_that_is_gone_for_good_is_told_so(env):
    task = env.submit(at_most_once=True)
    env.store(task)
    (said,) = env.miss(task)
    assert (said.state, said.problem.kind) == (TaskState.LOST, problems.KIND_VALUE_LOST)
    assert env.state(task) is SUCCEEDED


def test_a_client_that_misses_an_old_value_is_told_of_the_new_one(env):
    task = env.submit()
    env.store(task)
    env.miss(task)
    env.store(task)
    (said,) = env.tell(ev.ValueMissed(env.me, task, ev.value_name(task, 1)))
    assert said.payload == env.value(task)


def test_nobody_can_have_the_task_of_another_client_run_again(env):
    task = env.submit()
    env.store(task)
    stranger = env.client()
    (said,) = env.miss(task, client=stranger)
    assert (said.client, said.state) == (stranger, TaskState.LOST)
    assert env.state(task) is SUCCEEDED


def test_a_task_that_runs_again_may_be_cancelled_by_its_client_leaving(env):
    source = env.submit()
    env.store(source)
    other = env.client()
    user = env.submit(inputs=[source], client=other)
    env.lose(user, source)
    env.tell(ev.ClientLeft(env.me))
    env.stopped(source)
    assert env.state(user) is TaskState.IMPOSSIBLE
