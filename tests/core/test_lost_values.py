"""Promise: whatever is lost and whenever, each task ends, no task runs without the values that it
needs, what may run once does, and in the end no store keeps anything.

A cluster in a few lines lives through random stories: engines that really look whether a value is
in its store, stores that lose some, clients that come, miss values, let go and leave.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core import invariants
from headway.core.commands import Assign, Command, Deliver, DropValue
from headway.core.events import ClientId, EngineId, StoredValue, StoreId, TaskId
from headway.core.problems import KIND_VALUE_LOST
from headway.core.scheduler import Scheduler
from headway.core.states import FINAL_STATES, TaskState

STORES = [StoreId("here"), StoreId("there")]


class Cluster:
    """A scheduler, two engines with a store each, two clients, and what is where."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        config = SchedulerConfig(hwm=2, reruns_max=2, lineage_bytes_max=20_000)
        self.core = Scheduler(config, Random(seed))
        self.stores: dict[StoreId, set[str]] = {store: set() for store in STORES}
        self.queues: dict[EngineId, list[tuple[TaskId, int]]] = {}
        self.runs: Counter[TaskId] = Counter()
        self.ends: dict[TaskId, Deliver] = {}
        self.held: dict[TaskId, ClientId] = {}
        self.once: set[TaskId] = set()
        self.last = {ClientId(1): 0, ClientId(2): 0}
        for number, store in enumerate(STORES):
            self.queues[EngineId(number)] = []
            self.tell(ev.EngineJoined(EngineId(number), {}, store=store))
        for client in self.last:
            self.tell(ev.ClientJoined(client))
            self.tell(ev.FunctionsDeclared(client, {b"f": b"function"}))

    def tell(self, event: ev.Event) -> None:
        out: list[Command] = []
        self.core.handle(event, 0.0, out)
        self.core.place(0.0, out)
        invariants.check(self.core)
        for command in out:
            if isinstance(command, Assign):
                self.queues[command.engine].append((command.task.id, command.task.attempt))
            elif isinstance(command, Deliver):
                self.ends[command.task] = command
            elif isinstance(command, DropValue):
                self.stores[command.store].discard(command.name)

    # --- what happens ----------------------------------------------------------------------------

    def submit(self) -> None:
        client = self.rng.choice(list(self.last))
        known = [task for task, holder in self.held.items()][-8:]
        self.last[client] += 1
        node = ev.task_id(client, self.last[client])
        inputs = self.rng.sample(known, min(len(known), self.rng.choice([0, 1, 1, 2])))
        options = None
        if self.rng.random() < 0.15:
            options = ev.TaskOptions(at_most_once=True)
            self.once.add(node)
        after = None
        if known and self.rng.random() < 0.2:
            after = ev.ConditionSpec([self.rng.choice(known)], on=ev.ON_DONE)
        spec = ev.TaskSpec(node, 0, b"arguments", inputs or None, after, None, options)
        self.held[node] = client
        self.tell(ev.Submitted(client, [b"f"], [], [spec]))

    def step(self, engine: EngineId) -> None:
        """An engine goes one task further."""
        if not self.queues[engine]:
            return
        node, attempt = self.queues[engine].pop(0)
        task = self.core.tasks[node]
        values = [_sent(upstream) for upstream in task.inputs or ()]
        lost = [name for name in map(self._missing, values) if name is not None]
        outcome = ev.Outcome(node, attempt, ev.RAN, b"small")
        if lost:
            outcome = ev.Outcome(node, attempt, ev.INPUT_LOST, b"", lost=lost)
        else:
            self.runs[node] += 1
            if self.rng.random() < 0.1:
                outcome.status, outcome.payload = ev.RAISED, b"error"
            elif self.rng.random() < 0.8:
                store, name = STORES[engine], ev.value_name(node, attempt)
                self.stores[store].add(name)
                outcome.payload = StoredValue(store, name, 1_000)
        self.tell(ev.Finished(engine, [outcome]))

    def _missing(self, value: ev.Value | None) -> str | None:
        """The name of a value that can't be read; None if it can."""
        if isinstance(value, StoredValue):
            return None if value.name in self.stores[value.store] else value.name
        return "" if value is None else None

    def lose(self) -> None:
        names = self.stores[self.rng.choice(STORES)]
        for name in sorted(names):
            if self.rng.random() < 0.5:
                names.discard(name)

    def read(self) -> None:
        """A client looks at a result."""
        done = [node for node in self.held if node in self.ends]
        if not done:
            return
        node = self.rng.choice(done)
        value = self.ends[node].payload
        if isinstance(value, StoredValue) and value.name not in self.stores[value.store]:
            self.tell(ev.ValueMissed(self.held[node], node, value.name))

    def release(self, count: int) -> None:
        for node in self.rng.sample(list(self.held), min(len(self.held), count)):
            self.tell(ev.Released(self.held.pop(node), [node]))

    def live(self, steps: int) -> None:
        acts = [self.submit, self.submit, self.lose, self.read, lambda: self.release(1)]
        for _ in range(steps):
            self.rng.choice(acts)()
            for engine in self.queues:
                if self.rng.random() < 0.7:
                    self.step(engine)

    def drain(self) -> None:
        for _ in range(1_000):
            if not any(self.queues.values()):
                return
            for engine in self.queues:
                self.step(engine)
        pytest.fail("some tasks run again and again")


def _sent(upstream) -> ev.Value | None:
    """What an engine is sent of it: its value, or nothing that it could read."""
    return upstream.result if upstream.state is TaskState.SUCCEEDED else None


@pytest.mark.parametrize("seed", range(40))
def test_every_task_ends_and_no_store_keeps_anything(seed):
    cluster = Cluster(seed)
    cluster.live(60)
    cluster.drain()

    core = cluster.core
    assert all(task.state in FINAL_STATES for task in core.tasks.values())
    for node in cluster.held:
        assert cluster.ends[node].state in FINAL_STATES
    for task in core.tasks.values():
        if isinstance(task.result, StoredValue) and not task.released:
            end = cluster.ends[task.id]
            assert end.payload == task.result or end.problem.kind == KIND_VALUE_LOST
    assert all(cluster.runs[node] <= 1 for node in cluster.once)

    cluster.release(len(cluster.held))
    assert not core.tasks
    assert not len(core.stored)
    assert core.lineages.bytes == 0
    assert cluster.stores == {store: set() for store in STORES}


def test_the_stories_lose_enough_to_matter():
    recomputed = lost = 0
    for seed in range(40):
        cluster = Cluster(seed)
        cluster.live(60)
        cluster.drain()
        recomputed += cluster.core.counters.recomputed
        kinds = [end.problem.kind for end in cluster.ends.values() if end.problem is not None]
        lost += kinds.count(KIND_VALUE_LOST)
    assert recomputed > 100
    assert lost > 20
