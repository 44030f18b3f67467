"""Promise: an observer is told what changes, bounded, and nobody pays for one that is not there."""

from __future__ import annotations

import msgspec

from headway.core import events as ev
from headway.core.events import TaskOptions, TaskSpec
from headway.core.states import TaskState
from headway.core.watched import LABEL_CHARS_MAX, UPSTREAMS_MAX
from headway.wire import messages as m
from headway.wire import observed as ob
from tests.controller.conftest import WIRE, Kit, Peer, ran


class Observer:
    """A client that observes."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.client = kit.client()
        self._asked = 0
        self._wait_s = ob.INTERVAL_S

    def ask(self) -> None:
        self._asked += 1
        self.client.say(m.Ask(self._asked, "observe"))

    def look(self) -> ob.Observed:
        self.ask()
        self.kit.turn(self._wait_s)
        answer = self.client.hear(m.Answer, also=[m.Output])
        assert not answer.error
        assert answer.number == self._asked
        seen = msgspec.convert(answer.body, ob.Observed)
        is_busy = seen.tasks_more or seen.runs_more
        self._wait_s = ob.BUSY_INTERVAL_S if is_busy else ob.INTERVAL_S
        return seen

    def look_all(self) -> list[int]:
        """The tasks of a whole round, in the order in which they are told."""
        told = []
        while True:
            seen = self.look()
            told += [row.id for row in seen.tasks]
            assert len(seen.tasks) <= ob.SLICE_MAX
            if seen.is_all:
                return told


def states_of(seen: ob.Observed) -> dict[int, TaskState]:
    return {row.id: TaskState(row.state) for row in seen.tasks}


def run_one(kit: Kit, engine: Peer) -> None:
    kit.results_of(engine).say(ran(engine.hear(m.Assigned)))


def test_the_first_look_shows_what_is_there_and_the_next_only_what_changed(kit: Kit):
    client, observer = kit.client(), Observer(kit)
    first, second = client.submit(2, label="mill")
    seen = observer.look()
    assert seen.is_first
    assert states_of(seen) == {first: TaskState.READY, second: TaskState.READY}
    assert {row.label for row in seen.tasks} == {"mill"}
    assert seen.states[TaskState.READY] == 2
    assert not observer.look().tasks

    engine = kit.engine()
    kit.turn(until=lambda: not kit.controller.scheduler.counters.by_state[TaskState.READY])
    seen = observer.look()
    assert not seen.is_first
    assert states_of(seen) == {first: TaskState.ASSIGNED, second: TaskState.ASSIGNED}
    (row,) = seen.engines
    assert (row.id, row.load, row.task, row.host) == (engine.number, 2, first, "elsewhere")


def test_a_task_that_ends_and_is_forgotten_between_two_looks_is_shown_with_its_run(kit: Kit):
    client, engine, observer = kit.client(), kit.engine(), Observer(kit)
    observer.look()
    (task,) = client.submit()
    run_one(kit, engine)
    client.hear(m.Results)
    client.say(m.Release(0, [task]))
    kit.turn(until=lambda: task not in kit.controller.scheduler.tasks)
    seen = observer.look()
    assert states_of(seen) == {task: TaskState.SUCCEEDED}
    assert seen.ended[TaskState.SUCCEEDED] == 1
    assert [(run.engine, run.task, run.status) for run in seen.runs] == [
        (engine.number, task, ev.RAN)
    ]


def test_what_a_task_waits_for_and_belongs_to_is_shown_up_to_a_bound(kit: Kit):
    client, observer = kit.client(), Observer(kit)
    observer.look()
    upstreams = client.submit(UPSTREAMS_MAX + 5)
    waiting = client.spec(label="x" * 1_000)
    client._nodes += 1
    group = ev.task_id(ev.ClientId(client.number), client._nodes)
    waiting = TaskSpec(
        waiting.id, 0, b"", after=ev.ConditionSpec(upstreams), options=waiting.options
    )
    client.batches[0] += 1
    members = [ev.GroupSpec(group, upstreams[:1])]
    client.say(m.Submit(client.batches[0], [b"digest-of-a-func"], members, [waiting]))
    kit.turn(until=lambda: waiting.id in kit.controller.scheduler.tasks)
    kit.settle()
    rows = {row.id: row for row in observer.look().tasks}
    row = rows[waiting.id]
    assert row.state == TaskState.WAITING
    assert row.upstreams == upstreams[:UPSTREAMS_MAX]
    assert row.label == "x" * LABEL_CHARS_MAX
    assert rows[upstreams[0]].groups == [group]


def test_an_observer_is_answered_four_times_a_second_however_often_it_asks(kit: Kit):
    observer = Observer(kit)
    observer.look()
    for _ in range(3):
        observer.ask()
        kit.settle()
    told = [each for each in observer.client.heard_all() if isinstance(each, m.Answer)]
    assert [bool(each.error) for each in told] == [True, True]
    assert "asked again" in told[0].error
    kit.turn(ob.INTERVAL_S)
    assert not observer.client.hear(m.Answer).error


def test_of_too_many_changes_some_are_shown_and_the_others_counted(kit: Kit):
    client, observer = kit.client(), Observer(kit)
    observer.look()
    tasks = client.submit(ob.TASKS_MAX + 10)
    seen = observer.look()
    assert [row.id for row in seen.tasks] == tasks[:-10]
    assert seen.tasks_more == 10
    assert Observer(kit).look_all() == tasks


def test_once_it_is_quieter_what_was_left_out_is_told_with_all_tasks_a_slice_at_a_time(kit: Kit):
    client, observer = kit.client(), Observer(kit)
    first = observer.look()
    tasks = client.submit(ob.TASKS_MAX + 10)
    assert observer.look().tasks_more == 10
    seen = observer.look()
    assert not seen.tasks  # not so soon after the last time
    assert (seen.round, seen.is_all) == (first.round, False)
    kit.turn(ob.AGAIN_S)
    assert observer.look_all() == tasks
    kit.turn(ob.AGAIN_S)
    seen = observer.look()
    assert not seen.tasks
    assert seen.round == first.round + 1


def test_however_much_happens_an_observer_is_told_so_many_rows_a_second_and_exact_sums(kit: Kit):
    client, observer = kit.client(), Observer(kit)
    observer.look()
    began_s = kit.now
    told = runs = runs_more = 0
    outcomes = [ev.Outcome(1, 1, ev.RAN, b"")] * ob.RUNS_MAX
    for _ in range(6):
        client.submit(ob.TASKS_MAX)
        kit.controller._observers.ran(ev.EngineId(0), outcomes)
        seen = observer.look()
        told, runs = told + len(seen.tasks), runs + len(seen.runs)
        runs_more += seen.runs_more
    passed_s = kit.now - began_s
    assert ob.TASKS_AT_ONCE <= told <= ob.TASKS_AT_ONCE + ob.TASKS_A_SECOND * passed_s
    assert ob.RUNS_AT_ONCE <= runs <= ob.RUNS_AT_ONCE + ob.RUNS_A_SECOND * passed_s
    assert runs + runs_more == 6 * ob.RUNS_MAX
    assert seen.states[TaskState.READY] == seen.submitted == 6 * ob.TASKS_MAX


def test_nothing_is_noted_while_nobody_observes_and_no_more_once_the_last_one_is_silent(kit: Kit):
    watchers = kit.controller.scheduler.watchers
    client = kit.client()
    client.submit()
    assert not watchers
    silent, leaving = Observer(kit), Observer(kit)
    silent.look()
    leaving.look()
    assert len(watchers) == 2
    leaving.client.say(m.Bye())
    kit.turn(until=lambda: not kit.has_client(leaving.client))
    kit.turn(WIRE.heartbeat_s)
    assert len(watchers) == 1
    kit.turn(11.0)
    assert not watchers
    assert not kit.controller._observers
    assert silent.look().is_first


def test_more_observers_than_are_allowed_are_told_so(kit: Kit):
    observers = [Observer(kit) for _ in range(17)]
    for observer in observers[:-1]:
        observer.look()
    observers[-1].ask()
    assert "observe already" in observers[-1].client.hear(m.Answer).error


def test_a_label_is_no_more_than_text_to_those_who_look(kit: Kit):
    client, observer = kit.client(), Observer(kit)
    spec = client.spec()
    spec.options = TaskOptions(label="<script>\x00\u202e")
    client.submit_specs([spec])
    kit.turn(until=lambda: spec.id in kit.controller.scheduler.tasks)
    assert observer.look().tasks[0].label == "<script>\x00\u202e"


def test_what_engines_print_is_told_while_somebody_looks_cut_and_counted(kit: Kit):
    client, engine, observer = kit.client(), kit.engine(), Observer(kit)
    observer.look()
    (task,) = client.submit()
    lines = [m.Printed(task, "stdout", "x" * 1_000)] + [m.Printed(None, "stderr", "y")] * 300
    engine.say(m.Output(lines))
    kit.settle()
    seen = observer.look()
    assert seen.lines[0] == ob.Line(engine.number, task, "stdout", "x" * ob.LINE_CHARS_MAX)
    assert len(seen.lines) == ob.LINES_MAX
    assert seen.lines_more == 301 - ob.LINES_MAX
    assert not observer.look().lines


def test_an_observer_is_told_what_an_engine_has_beside_what_it_runs(kit: Kit):
    client, engine, observer = kit.client(), kit.engine(), Observer(kit)
    tasks = client.submit(2)
    engine.hear(m.Assigned)
    (row,) = observer.look().engines
    assert row.task == tasks[0]
    assert row.prefetched == tasks[1:]


def test_a_task_that_is_to_be_tried_again_runs_again_or_it_is_said_why_not(kit: Kit):
    client, engine, steerer = kit.client(), kit.engine(), kit.client()
    fails, fine = client.submit(2)

    def order(number: int, task: int | None) -> m.Answer:
        steerer.say(m.Order(number, "retry", task=task))
        kit.settle()
        return steerer.hear(m.Answer)

    assert "has not ended" in order(1, fails).error
    error = ev.ErrorInfo(["builtins.ValueError"], "no")
    sent = engine.hear(m.Assigned)
    kit.results_of(engine).say(
        m.Outcomes(
            1,
            [
                ev.Outcome(fails, sent.tasks[0].attempt, ev.RAISED, b"pickled", error=error),
                ev.Outcome(fine, sent.tasks[1].attempt, ev.RAN, b"result"),
            ],
        )
    )
    client.hear(m.Results)

    def raised(number: int, task: int) -> bytes:
        steerer.say(m.Ask(number, "raised", task))
        kit.settle()
        return steerer.hear(m.Answer).body["payload"]

    assert (raised(11, fails), raised(12, fine), raised(13, 12345)) == (b"pickled", b"", b"")
    kit.controller.scheduler.tasks[fails].result = b"x" * (1 << 21)
    assert raised(14, fails) == b""
    assert "attempt 2" in order(2, fails).body["text"]
    again = engine.hear(m.Assigned)
    assert [(each.task, each.attempt) for each in again.tasks] == [(fails, 2)]
    assert "only what failed" in order(3, fine).error
    assert "forgotten" in order(4, 12345).error
    assert "(no task)" in order(5, None).error
