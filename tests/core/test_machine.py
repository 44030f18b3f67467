"""The real core and the naive model (model.py) live through the same story, and never disagree.

Hypothesis invents the story: clients, engines and batches that come and go, conditions of every
kind on tasks that live, ended or never were, outcomes that are late, doubled or made up. After
each step the two are compared: the state of every task, who is forgotten, what was delivered;
then every index of the core is checked against every other. At the end everybody leaves, and
nothing may remain.

`HEADWAY_EXAMPLES=5000 pytest tests/core/test_machine.py` looks further, and elsewhere each time.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core import invariants, problems
from headway.core.commands import (
    Assign,
    Command,
    Deliver,
    DropFunction,
    Forgotten,
    Recall,
    StopTask,
)
from headway.core.events import (
    ClientId,
    EngineEnd,
    EngineId,
    GroupSpec,
    Outcome,
    TaskId,
)
from headway.core.explain import explain
from headway.core.same import same_state
from headway.core.scheduler import Scheduler
from headway.core.snapshot import dump, load, pack, unpack
from headway.core.states import ON_ENGINE_STATES, TaskState
from tests.core.model import Model
from tests.core.model_facts import ModelGroup, Said
from tests.core.recall_watch import RecallWatch
from tests.core.story import TIMES_S, Story, outcome

EXAMPLES = int(os.environ.get("HEADWAY_EXAMPLES", "0"))

#: It computes all the time, and shares the processor with other tests.
pytestmark = pytest.mark.timeout(0 if EXAMPLES else 600)


@pytest.fixture(autouse=True)
def _may_take_long() -> None:
    """A long search is no hang: pytest's own watchdog, armed a moment ago, is called off."""
    if EXAMPLES:
        faulthandler.cancel_dump_traceback_later()


SCHEMES = ["leastload", "lru", "twobin", "weighted", "plainrandom"]
SCHEMES += ["tests.core.own_schemes:mostload", "tests.core.own_schemes:moody"]
#: What a run takes: under hwm "auto" an engine is then given from 2 to 4 tasks.
RUNS_S = [0.5, 0.0, 0.25, 1.0]
RECALL_AFTER_S = 0.5
FINISHED_KEPT = 3
RESOURCES = [{}, {}, {"gpu": 1.0}, {"gpu": 2.0, "ram": 4.0}]
SHARED = b"a function of all"


class SchedulerMachine(RuleBasedStateMachine):
    """What can happen to a scheduler, one rule for each kind of event."""

    #: False from the moment on in which something may have gone wrong.
    agrees = False

    @initialize(
        hwm=st.sampled_from([1, 2, 0, "auto"]),
        scheme=st.sampled_from(SCHEMES),
        seed=st.integers(0, 9),
        engines=st.sampled_from([2, 3, 1, 0]),
        expected=st.sampled_from([0, 0, 4]),
    )
    def begin(self, hwm: int | str, scheme: str, seed: int, engines: int, expected: int) -> None:
        config = SchedulerConfig(
            hwm=hwm, scheme=scheme, recall_after_s=RECALL_AFTER_S, prefetch_s=1.0, hwm_auto_max=4,
            finished_kept=FINISHED_KEPT,
        )  # fmt: skip
        self.core = Scheduler(config, Random(seed))
        self.model = Model(config)
        self.now = 0.0
        self.engines_ever = 0
        self.clients_ever = 0
        self.recalls = RecallWatch(self.model, RECALL_AFTER_S)
        self.batches: list[ev.Submitted] = []
        self.client_joins()
        self.happens(ev.EnginesExpected([EngineId(number) for number in range(expected)]))
        for _ in range(engines):
            self._join({})
        self.place()

    # --- clients -------------------------------------------------------------------------------

    def client_joins(self) -> None:
        self.clients_ever += 1
        client = ClientId(self.clients_ever)
        self.happens(ev.ClientJoined(client))
        self.happens(ev.FunctionsDeclared(client, {SHARED: b"f", _own(client): b"g"}))

    @rule(data=st.data(), batched=st.booleans())
    def client_submits(self, data: st.DataObject, batched: bool) -> None:
        story = Story(data, self)
        client = story.client()
        last = self.model.clients.get(client, 0)
        count = story.pick([2, 1, 4])
        groups = []
        if story.once_in(3):
            last += 1
            groups.append(GroupSpec(ev.task_id(client, last), story.nodes(4)))
        ids = [ev.task_id(client, last + n) for n in range(1, count + 1)]
        if story.once_in(40):
            ids[-1] = ev.task_id(ClientId(98), 1)
        tasks = [story.task(id_, ids) for id_ in ids]
        batch = ev.Submitted(client, [SHARED, _own(client)], groups, tasks)
        self.batches.append(batch)
        self.happens(batch)
        self.place(unless=batched)

    # Rules are drawn alike often: the common ones stand here under several names.
    client_submits_2 = client_submits_3 = client_submits_4 = client_submits

    @precondition(lambda self: self.model.nodes)
    @rule(data=st.data())
    def client_cancels(self, data: st.DataObject) -> None:
        story = Story(data, self)
        on_engines = [id_ for engine in self.model.engines.values() for id_ in engine.assigned]
        tasks = story.some(on_engines, 2) if story.once_in(2) else story.nodes(2)
        queued_only, downstream = story.once_in(3), story.once_in(3)
        self.happens(ev.CancelAsked(story.client(), tasks, queued_only, downstream))
        self.place()

    @precondition(lambda self: self.model.nodes)
    @rule(data=st.data())
    def client_releases(self, data: st.DataObject) -> None:
        story = Story(data, self)
        nodes = list(self.model.nodes) if story.once_in(4) else story.nodes(4)
        self.happens(ev.Released(story.client(), nodes))
        self.place()

    @rule(data=st.data())
    def client_returns(self, data: st.DataObject) -> None:
        story = Story(data, self)
        client, tasks = story.client(), story.nodes(4)
        tasks = [id_ for id_ in tasks if not isinstance(self.model.known(id_), ModelGroup)]
        out: list[Command] = []
        note(f"{self.now}: redeliver({client}, {tasks})")
        self.core.redeliver(client, tasks, out)
        said = []
        for id_ in tasks:
            task = self.model.task(id_)
            if task is None or task.client != client:
                said.append((id_, TaskState.LOST, problems.KIND_LOST))
            elif task.is_final:
                said.append((id_, task.state, task.problem))
        assert all(isinstance(c, Deliver) and c.client == client for c in out)
        assert [(c.task, c.state, c.problem.kind if c.problem else None) for c in out] == said
        self.compare([])

    # --- engines -------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.engines) < 4)
    @rule(resources=st.sampled_from(RESOURCES))
    def engine_joins(self, resources: dict[str, float]) -> None:
        self._join(resources)
        self.place()

    engine_joins_2 = engine_joins

    def _join(self, resources: dict[str, float]) -> None:
        self.happens(ev.EngineJoined(EngineId(self.engines_ever), resources))
        self.engines_ever += 1

    @precondition(lambda self: self.model.engines)
    @rule(data=st.data(), batched=st.booleans())
    def engine_leaves_drains_or_resumes(self, data: st.DataObject, batched: bool) -> None:
        story = Story(data, self)
        engine = story.engine()
        if story.once_in(3):
            self.happens(ev.EngineDraining(engine))
            self.place(unless=batched)
            return
        draining = [e.id for e in self.model.engines.values() if e.draining]
        if draining and story.once_in(2):
            self.happens(ev.EngineResumed(story.pick([*draining, engine])))
            self.place(unless=batched)
            return
        assigned = self.model.engines[engine].assigned if engine in self.model.engines else []
        started = story.pick([*assigned, None])
        if story.once_in(10):
            started = story.pick([None, *self.model.nodes])
        known = not story.once_in(4)
        wanted = story.once_in(4)
        overran = known and not wanted and story.once_in(4)
        end = EngineEnd("died", wanted, overran)
        busy = started is not None and not story.once_in(3)
        self.happens(ev.EngineLeft(engine, end, started, busy, known))
        self.place(unless=batched)

    @precondition(lambda self: any(e.assigned for e in self.model.engines.values()))
    @rule(data=st.data(), batched=st.booleans())
    def engine_finishes(self, data: st.DataObject, batched: bool) -> None:
        story = Story(data, self)
        engine = story.pick([e for e in self.model.engines.values() if e.assigned])
        run_s = story.pick(RUNS_S) if self.model.config.hwm == "auto" else 0.0
        outcomes = []
        for id_ in engine.assigned[: story.pick([1, 2, 4])]:
            task = self.model.task(id_)
            assert task is not None
            outcomes.append(outcome(story, id_, task.attempt, run_s))
        self.happens(ev.Finished(engine.id, outcomes))
        self.place(unless=batched)

    engine_finishes_2 = engine_finishes_3 = engine_finishes_4 = engine_finishes_5 = engine_finishes

    @precondition(lambda self: self.recalls.open)
    @rule(data=st.data())
    def engine_answers_a_recall(self, data: st.DataObject) -> None:
        story = Story(data, self)
        recall = self.recalls.open.pop(story.pick(range(len(self.recalls.open))))
        tasks = [t for t in recall.tasks if not story.once_in(3)]
        if story.once_in(10):
            tasks += story.nodes(1)
        tasks = [t for t in tasks if not self._runs(t)]
        begun = [t for t in recall.tasks if t not in tasks]
        self.happens(ev.GaveBack(recall.engine, tasks, begun))
        self.place()

    engine_answers_a_recall_2 = engine_answers_a_recall

    def _runs(self, id_: TaskId) -> bool:
        task = self.model.task(id_)
        return task is not None and task.state is TaskState.RUNNING

    # --- time ----------------------------------------------------------------------------------

    @rule(by_s=st.sampled_from(TIMES_S), ticks=st.sampled_from([True, True, False]))
    def time_passes(self, by_s: float, ticks: bool) -> None:
        self.now += by_s
        if ticks:
            self._tick()

    time_passes_2 = time_passes

    def _tick(self) -> None:
        out: list[Command] = []
        self.agrees = False
        note(f"{self.now}: tick")
        self.recalls.taken_stock(self.now)
        self.core.tick(self.now, out)
        self.model.tick(self.now)
        self.recalls.ticked([command for command in out if isinstance(command, Recall)], self.now)
        self.compare(out)
        self.place()

    # --- what is rare, or ought not to be ------------------------------------------------------

    @rule(data=st.data())
    def something_rare_happens(self, data: st.DataObject) -> None:
        story = Story(data, self)
        rare: list[Callable[[], None]] = [
            self._tick,
            lambda: self._starts(story),
            lambda: self._functions_change(story),
            lambda: self._is_sent_again(story),
            lambda: self._is_stale_or_made_up(story),
            lambda: self._client_comes_or_goes(story),
            lambda: self._is_abandoned(story),
            lambda: self._is_remembered(story),
            lambda: self._is_late(story),
            lambda: self._is_undelivered(story),
            lambda: self._engines_are_expected(story),
        ]
        story.pick(rare)()
        self.place()

    def _starts(self, story: Story) -> None:
        engine = story.engine()
        tasks = story.nodes(1)
        if engine in self.model.engines and not story.once_in(4):
            tasks = self.model.engines[engine].assigned[:1]
        for task in tasks:
            self.happens(ev.Started(engine, task))

    def _functions_change(self, story: Story) -> None:
        client = story.client()
        digest = story.pick([SHARED, _own(client)])
        if story.once_in(3):
            self.happens(ev.FunctionsDropped(client, [digest]))
        else:
            self.happens(ev.FunctionsDeclared(client, {digest: b"f"}))

    def _is_sent_again(self, story: Story) -> None:
        if self.model.engines:
            self.happens(ev.EngineJoined(story.pick(sorted(self.model.engines)), {"gpu": 9.0}))
        if self.batches:
            self.happens(story.pick(self.batches))

    def _is_stale_or_made_up(self, story: Story) -> None:
        engine = story.engine()
        tasks = story.nodes(2)
        if engine in self.model.engines and not story.once_in(4):
            tasks = story.some(self.model.engines[engine].assigned, 2)
        outcomes = []
        for id_ in tasks:
            task = self.model.task(id_)
            attempt = task.attempt if task is not None else 1
            outcomes.append(outcome(story, id_, attempt - story.pick([1, 0])))
        self.happens(ev.Finished(engine, outcomes))

    def _client_comes_or_goes(self, story: Story) -> None:
        if len(self.model.clients) < 3:
            self.client_joins()
        elif story.once_in(2):
            self.happens(ev.KeepAsked(story.client()))
        else:
            self.happens(ev.ClientLeft(story.client()))

    # --- what only a shell says ----------------------------------------------------------------

    def _queued(self) -> list[TaskId]:
        queued = (TaskState.WAITING, TaskState.READY)
        return [task.spec.id for task in self.model.tasks() if task.state in queued]

    def _is_abandoned(self, story: Story) -> None:
        kinds = [problems.KIND_IMPOSSIBLE, problems.KIND_INVALID, problems.KIND_TIMEOUT]
        unsent = [t.spec.id for t in self.model.tasks() if t.state is TaskState.ASSIGNED]
        if story.once_in(2):
            tasks = story.some(unsent, 1)
        else:
            tasks = story.some(self._queued(), 1) or story.nodes(1)
        for id_ in tasks:
            task = self.model.task(id_)
            attempt = task.attempt if task is not None and story.once_in(2) else 0
            self.happens(ev.Abandoned(id_, story.pick(kinds), "the shell says so", attempt))

    def _is_remembered(self, story: Story) -> None:
        client = story.client()
        first = max(self.model.clients.get(client, 0) + story.pick([1, 1, 1, 0]), 1)
        engines = [None, *sorted(self.model.engines), EngineId(99)]
        tasks = [
            ev.PastTask(ev.task_id(client, first + n), not story.once_in(3), story.pick(engines))
            for n in range(story.pick([1, 2]))
        ]
        self.happens(ev.Remembered(client, tasks))

    def _engines_are_expected(self, story: Story) -> None:
        engines = [EngineId(self.engines_ever + n) for n in range(story.pick([1, 2]))]
        self.happens(ev.EnginesExpected([*engines, *story.some(sorted(self.model.engines), 1)]))

    def _is_late(self, story: Story) -> None:
        for id_ in story.some(self._queued(), 1) or story.nodes(1):
            task = self.model.task(id_)
            attempt = task.attempt if task is not None else 1
            late = outcome(story, id_, attempt - story.pick([0, 0, 1]))
            self.happens(ev.LateOutcome(late))

    def _is_undelivered(self, story: Story) -> None:
        engine = story.engine()
        seated = self.model.engines[engine].assigned if engine in self.model.engines else []
        for task in story.some([t for t in seated if not self._runs(t)], 1) or story.nodes(1):
            queued_at_s = self.now - story.pick(TIMES_S)
            self.happens(ev.Undelivered(engine, task, queued_at_s))

    @precondition(lambda self: self.model.ready())
    @rule(data=st.data())
    def a_task_is_placed_before_its_turn(self, data: st.DataObject) -> None:
        story = Story(data, self)
        task = story.pick(self.model.ready())
        among = story.some(sorted(self.model.engines), 3) if story.once_in(2) else None
        allowed = [e for e in self.model.eligible(task) if among is None or e in among]
        out: list[Command] = []
        self.agrees = False
        note(f"{self.now}: place_task({task.spec.id}, among={among})")
        was_placed = self.core.place_task(task.spec.id, self.now, out, among)
        assert was_placed == bool(allowed), f"allowed on {allowed}, placed: {out}"
        for command in out:
            assert isinstance(command, Assign)
            assert command.engine in allowed
            loads = {e: len(self.model.engines[e].assigned) for e in allowed}
            assert among is None or loads[command.engine] == min(loads.values())
            self.recalls.assigned(command.engine, self.now)
            self.model.assign(command.task.id, command.engine, in_turn=False)
        self.compare([])

    @rule()
    def the_core_goes_on_from_a_snapshot(self) -> None:
        note(f"{self.now}: a snapshot")
        old = self.core
        packed = [pack(part) for part in dump(old)]
        self.core = load(map(unpack, packed), old.config, Random(len(self.batches)))
        assert not (difference := same_state(old, self.core)), difference
        self.compare([])

    # --- the two together ----------------------------------------------------------------------

    def happens(self, event: ev.Event) -> None:
        """Tell both, and compare."""
        out: list[Command] = []
        self.agrees = False
        note(f"{self.now}: {event}")
        self.recalls.happened(event)
        self.core.handle(event, self.now, out)
        self.model.handle(event, self.now)
        if isinstance(event, ev.EngineDraining):
            engine = self.model.engines.get(event.engine)
            assigned = engine.assigned if engine is not None else []
            assert [c.tasks for c in out if isinstance(c, Recall)] == (
                [assigned] if assigned else []
            )
        if isinstance(event, ev.CancelAsked):
            assert [c.tasks for c in out if isinstance(c, Recall)] == [
                [task] for task in self.model.asked_back
            ]
            self.model.asked_back.clear()
        self.compare(out)

    def place(self, unless: bool = False) -> None:
        """Let the core place, and the model judge; `unless` more events belong to the batch."""
        if unless:
            return
        out: list[Command] = []
        self.agrees = False
        self.core.place(self.now, out)
        self.recalls.taken_stock(self.now)
        for command in out:
            assert isinstance(command, Assign), f"place only places: {command}"
            self.recalls.assigned(command.engine, self.now)
            note(f"{self.now}: placed {command.task.id} on {command.engine}")
            self.model.assign(command.task.id, command.engine)
        self.model.check_all_placed()
        self.compare([], placed=True)
        deadline_s = self.model.next_deadline_s()
        if deadline_s is not None:
            at_s = self.core.next_deadline_s()
            self.agrees = at_s is not None and at_s <= deadline_s
            assert self.agrees, f"next_deadline_s() is {at_s}, though {deadline_s} matters"

    def compare(self, out: list[Command], placed: bool = False) -> None:
        """Whatever can be seen from outside is the same."""
        tasks = {task.spec.id: task for task in self.model.tasks()}
        assert not (too_many := self.core.tasks.keys() - tasks.keys()), f"kept: {too_many}"
        assert not (too_few := tasks.keys() - self.core.tasks.keys()), f"forgotten: {too_few}"
        for id_, task in tasks.items():
            real = self.core.tasks[id_]
            kind = real.problem.kind if real.problem is not None else None
            seen = (real.state, kind, real.engine, real.attempt)
            expected = (task.state, task.problem, task.engine, task.attempt)
            assert seen == expected, f"{id_}: core {seen}, model {expected}"
        groups = {id_ for id_, n in self.model.nodes.items() if isinstance(n, ModelGroup)}
        assert set(self.core.groups) == groups - self.model.forgotten
        assert self.core.statistics().functions == len(self.model.functions())
        assert list(self.core.kept) == self.model.kept
        assert {id_: list(e.assigned) for id_, e in self.core.engines.items()} == {
            id_: e.assigned for id_, e in self.model.engines.items()
        }
        self._compare_words(out)
        invariants.check(self.core, placed=placed)
        for id_ in [*self.core.tasks, *self.core.groups]:
            assert explain(self.core, id_, self.now)
        self.agrees = True

    def _compare_words(self, out: list[Command]) -> None:
        """The same was said, if not in the same order."""
        said, stops, rest = set(), set(), []
        for command in out:
            if isinstance(command, Deliver):
                problem = command.problem.kind if command.problem else None
                said.add(Said(command.client, command.task, command.state, problem))
            elif isinstance(command, StopTask):
                stops.add((command.engine, command.task))
            elif isinstance(command, Recall):
                self.recalls.open.append(command)
            elif not isinstance(command, DropFunction | Forgotten):
                rest.append(command)
        assert not rest, f"said out of place: {rest}"
        assert len(said) == sum(isinstance(c, Deliver) for c in out), "an end was told twice"
        assert said == set(self.model.said)
        assert len(self.model.said) == len(said)
        assert stops == set(self.model.stops)
        self.model.said.clear()
        self.model.stops.clear()

    def teardown(self) -> None:
        """Everybody leaves, and nothing remains but what is kept of those who left it behind."""
        if not self.agrees:
            return
        self.place()
        for client in sorted(self.model.clients):
            self.happens(ev.ClientLeft(client))
        self.happens(ev.CancelAsked(ClientId(1), sorted(self.core.tasks)))
        self.place()
        for engine in list(self.model.engines.values()):
            outcomes = [Outcome(t, self._attempt(t), ev.STOPPED, b"") for t in engine.assigned]
            self.happens(ev.Finished(engine.id, outcomes))
        self.place()
        left = {t.id for t in self.core.tasks.values() if t.state not in ON_ENGINE_STATES}
        assert left <= set(self.model.kept), f"nobody wants these any more: {left}"
        assert {*self.core.tasks, *self.core.groups} == set(self.model.kept)
        assert self.core.statistics().functions == 0
        assert not len(self.core.timers)

    def _attempt(self, id_: TaskId) -> int:
        task = self.model.task(id_)
        assert task is not None
        return task.attempt


def _own(client: ClientId) -> bytes:
    """A function that only this client declares."""
    return b"a function of %d" % client


TestTheCoreAndItsModelAgree = SchedulerMachine.TestCase
TestTheCoreAndItsModelAgree.settings = settings(
    max_examples=EXAMPLES or 200,
    stateful_step_count=50,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    print_blob=bool(EXAMPLES),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
