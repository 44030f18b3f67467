"""Tasks that tasks have submitted: whose they are, what becomes of them, and of those that wait."""

from __future__ import annotations

from typing import Any

from headway.core import events as ev
from headway.core.commands import Recall, StopTask
from headway.core.events import EngineId, Parent, TaskId
from headway.core.explain import explain, explain_all
from headway.core.limits import parse_limit
from headway.core.same import same_state
from headway.core.scheduler import Scheduler
from headway.core.snapshot import dump, load
from headway.core.states import TaskState
from tests.core.env import Env, placed

ASSIGNED, READY, CANCELLED = TaskState.ASSIGNED, TaskState.READY, TaskState.CANCELLED


class Nest(Env):
    """An Env whose tasks submit others, each through the client of its engine."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.inner = self.client()

    def children(self, parent: TaskId, count: int, attempt: int = 0, **fields: Any) -> list[TaskId]:
        """The code of `parent` submits so many."""
        specs = [self.spec(client=self.inner, **fields) for _ in range(count)]
        for spec in specs:
            spec.parent = Parent(parent, attempt or self.task(parent).attempt)
        self.submit_specs(*specs)
        return [spec.id for spec in specs]

    def block(self, parent: TaskId) -> list[Any]:
        """`parent` waits for its children."""
        engine = self.task(parent).engine
        assert engine is not None
        return self.tell(ev.EngineBlocked(engine, parent, self.task(parent).attempt))

    def go_on(self, engine: EngineId) -> list[Any]:
        return self.tell(ev.EngineUnblocked(engine))

    def stand_in(self) -> EngineId:
        """One more engine that stands in."""
        engine = EngineId(self._engines)
        self._engines += 1
        self.tell(ev.EngineJoined(engine, {}, stands_in=True))
        return engine

    def reloaded(self) -> Scheduler:
        """What a snapshot of this state leads to: the same."""
        loaded = load(list(dump(self.scheduler)), self.scheduler.config, self.scheduler._rng)
        assert same_state(self.scheduler, loaded) == ""
        return loaded


def test_a_blocked_engine_gives_back_what_it_has_not_begun_and_takes_nothing():
    # Given an engine with two tasks behind the one that runs
    env = Nest(hwm=3)
    engine = env.engine()
    parent, *behind = env.submit_many(3)
    env.start(parent)
    # When that waits for its own
    said = env.block(parent)
    # Then the others are asked back, and what is given back stays in the queue
    assert said == [Recall(engine, behind)]
    env.give_back(engine, *behind)
    assert env.states(behind) == [READY, READY]
    # And when it goes on there is room again
    env.go_on(engine)
    assert env.states([parent, *behind]) == [TaskState.RUNNING, ASSIGNED, ASSIGNED]


def test_a_stand_in_runs_nested_tasks_alone_and_the_deepest_first():
    env = Nest()
    env.engine()
    parent = env.submit()
    others = env.submit_many(2)
    children = env.children(parent, 2)
    env.block(parent)
    # Given a stand-in, which takes a child, though the others came before
    stand_in = env.stand_in()
    assert env.task(children[0]).engine == stand_in
    grandchildren = env.children(children[0], 1)
    env.block(children[0])
    # When another comes, then it takes the grandchild, though the other child came before
    second = env.stand_in()
    assert env.task(grandchildren[0]).engine == second
    assert env.states(others) == [READY, READY]
    env.reloaded()


def test_the_children_of_a_run_that_fails_are_cancelled_and_its_next_run_asks_anew():
    # Given a parent with a child that runs and one that waits
    env = Nest()
    env.engines(2)
    parent = env.submit(retries=1)
    running, waiting = env.children(parent, 2)
    engine = env.task(running).engine
    assert engine is not None
    # When it raises, and is tried again
    said = env.fail(parent)
    # Then both are cancelled, and it runs anew
    assert StopTask(engine, running) in said
    assert env.state(waiting) is CANCELLED
    assert env.task(parent).attempt == 2
    env.stopped(running)
    assert env.state(running) is CANCELLED
    # And what a thread of the first run submits now is not begun
    late = env.children(parent, 1, attempt=1)[0]
    assert env.state(late) is CANCELLED
    assert "is over, and did not succeed" in env.delivered[late].problem.text  # type: ignore[union-attr]
    env.reloaded()


def test_the_children_of_a_run_whose_engine_dies_are_cancelled_down_to_the_last():
    env = Nest()
    engine = env.engine()
    parent = env.submit()
    env.start(parent)
    child = env.children(parent, 1)[0]
    env.block(parent)
    env.stand_in()
    grandchild = env.children(child, 1)[0]
    said = env.kill(engine, started=parent)
    assert StopTask(EngineId(1), child) in said
    env.stopped(child)
    assert env.states([child, grandchild]) == [CANCELLED, CANCELLED]
    assert env.state(parent) is READY


def test_the_children_of_a_run_that_succeeds_go_on_also_without_their_client():
    env = Nest()
    env.engine()
    parent = env.submit()
    children = env.children(parent, 2)
    env.finish(parent)
    assert env.state(children[0]) is ASSIGNED
    env.tell(ev.ClientLeft(env.inner, keeps_nested=True))
    assert env.states(children) == [ASSIGNED, READY]
    env.finish(children[0])
    env.finish(children[1])
    assert not env.knows(children[1])


def test_to_cancel_the_parent_cancels_the_children_when_it_has_stopped():
    env = Nest()
    env.engine()
    parent = env.submit()
    child = env.children(parent, 1)[0]
    env.block(parent)
    env.cancel(parent)
    env.stopped(parent)
    assert env.states([parent, child]) == [CANCELLED, CANCELLED]


def test_a_task_that_waits_gives_its_permits_back_and_has_them_again():
    # Given a limit of one, which the parent holds, and a child that needs the same
    env = Nest()
    env.tell(ev.LimitSet("db", parse_limit("1")))
    env.engines(2)
    parent = env.submit(tags=["db"])
    engine = env.task(parent).engine
    assert engine is not None
    child = env.children(parent, 1, tags=["db"])[0]
    assert env.state(child) is READY
    # When the parent waits, then the child gets its permit
    env.block(parent)
    assert env.state(child) is ASSIGNED
    env.reloaded()
    # And both have one when the parent goes on: nobody else is given one until both are back
    env.go_on(engine)
    other = env.submit(tags=["db"])
    env.reloaded()
    env.finish(child)
    assert env.state(other) is READY
    env.finish(parent)
    assert env.state(other) is ASSIGNED


def test_an_engine_that_dies_while_blocked_gives_back_its_permits_once():
    env = Nest()
    env.tell(ev.LimitSet("db", parse_limit("1")))
    engine = env.engine()
    parent = env.submit(tags=["db"])
    env.block(parent)
    env.kill(engine, started=parent)
    tag = env.scheduler.limits.get("db")
    assert tag is not None
    assert tag.held == 0


def test_who_may_run_only_where_those_wait_that_wait_for_it_is_impossible():
    env = Nest()
    engine = env.engine()
    parent = env.submit()
    # Given a child that may run only beside its parent, and one that may run elsewhere, too
    pinned = env.children(parent, 1, targets=[engine])[0]
    env.expect(7)
    free = env.children(parent, 1)[0]
    assert env.state(pinned) is READY
    # When the parent waits, then the first would wait for ever
    env.block(parent)
    assert env.state(pinned) is TaskState.IMPOSSIBLE
    assert "would wait for ever" in env.delivered[pinned].problem.text  # type: ignore[union-attr]
    assert env.state(free) is READY
    # And so would one that is submitted while it waits
    late = env.children(parent, 1, targets=[engine])[0]
    assert env.state(late) is TaskState.IMPOSSIBLE
    # But not a task of somebody else
    other = env.submit(targets=[engine])
    assert env.state(other) is READY


def test_a_child_goes_not_behind_what_its_parent_goes_before():
    env = Nest()
    env.engine()
    parent = env.submit(priority=5, fair=True, weight=3)
    child = env.children(parent, 1, priority=1)[0]
    own = env.task(child).options
    assert (own.priority, own.fair, own.weight) == (5, True, 3)
    assert env.task(child).nest is not None
    assert env.task(child).nest.owner == env.me  # type: ignore[union-attr]


def test_a_flood_of_children_takes_turns_in_the_name_of_its_owner():
    # Given two clients with a parent each, of which one has many children through two engines
    env = Nest()
    env.engines(2)
    other = env.client()
    mine, theirs = env.submit(fair=True), env.submit(client=other, fair=True)
    flood = env.children(mine, 4)
    few = env.children(theirs, 2)
    env.block(mine)
    env.block(theirs)
    # When stand-ins come one after the other, then the two owners take turns
    order = []
    for _ in range(4):
        env.stand_in()
        order += [task for task, _ in placed(env.said)]
    assert order == [flood[0], few[0], flood[1], few[1]]


def test_it_is_said_again_after_a_lost_connection_and_counts_once():
    env = Nest()
    engine = env.engine()
    parent = env.submit()
    env.block(parent)
    assert env.block(parent) == []
    env.drain(engine)
    env.resume(engine)
    assert env.scheduler.engines[engine].limit == 0
    env.finish(parent)
    assert env.scheduler.engines[engine].blocked is None
    assert env.scheduler.engines[engine].limit == 1
    stale = env.scheduler.counters.stale
    env.go_on(engine)
    env.tell(ev.EngineBlocked(engine, parent, 1))
    assert env.scheduler.counters.stale == stale + 2


def test_explain_says_who_waits_for_whom():
    env = Nest()
    env.engine()
    parent = env.submit()
    env.start(parent)
    child, *_ = env.children(parent, 3)
    env.block(parent)
    assert "it waits for its 3 children (open: 2-1 ready" in explain(env.scheduler, parent, 0.0)
    text = explain(env.scheduler, child, 0.0)
    assert "e0: waits for its own children" in text
    assert "it was submitted by task 1-1" in text
    assert "waits for tasks of its own" in explain_all(env.scheduler, 0.0)


def test_a_child_that_failed_may_be_tried_again_while_its_parent_runs_and_after():
    env = Nest()
    env.engines(2)
    parent = env.submit()
    child = env.children(parent, 1)[0]
    env.fail(child)
    env.tell(ev.RetryAsked(child))
    env.retried.add(child)
    assert env.scheduler.families.open() == {parent: [child]}
    env.fail(child)
    env.fail(parent)
    env.tell(ev.RetryAsked(child))
    assert env.state(child) is ASSIGNED
    assert env.scheduler.families.open() == {}
    env.reloaded()


def test_a_chain_of_tasks_that_submit_each_other_ends_in_one_step_without_recursion():
    env = Nest(hwm=0)
    env.engine()
    first = last = env.submit()
    for _ in range(2_000):
        spec = env.spec(client=env.inner)
        spec.parent = Parent(last, 1)
        env.scheduler.handle(
            ev.Submitted(env.inner, [b"digest-of-a-func"], [], [spec]), env.now, []
        )
        env.scheduler.place(env.now, [])
        last = spec.id
    assert len(env.scheduler.families.open()) == 2_000
    env.kill(EngineId(0), started=first)
    assert env.scheduler.families.open() == {}
    assert env.state(last) is CANCELLED
