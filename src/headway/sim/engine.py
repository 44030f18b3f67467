"""Simulated engines and their nannies: the real queue and messages, and tasks that are scripts.

A task's payload says how long it runs and how each attempt ends. What this file must not know:
what is right, and clients.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import Protocol, cast

import msgspec
from msgspec import Struct

from headway.config import WireConfig
from headway.core import events as ev
from headway.core.events import EngineEnd, Outcome, StoreId, TaskId, Value
from headway.engine.queue import Assigned, TaskQueue
from headway.engine.runner import Function
from headway.sim.faults import Faults
from headway.sim.network import Connection, Network
from headway.sim.stores import Stores
from headway.sim.world import World
from headway.wire import codec
from headway.wire import messages as m

#: From an engine's end until its nanny says so; until another is there; until somebody starts
#: a nanny again.
_REPORT_S, _REPLACE_S, _NEW_NANNY_S = 0.002, 0.3, 1.0
#: An outcome waits so long for others.
_FLUSH_S = 0.001
#: After the end of an engine, and now and then, its nanny says what is in its store.
_STOCK_S, _STOCK_AGAIN_S = 2.0, 60.0


class Script(Struct):
    """What a simulated task does: each attempt ends as the next of `ends` says, the last for
    ever: ran, raised, refused, crash (of its engine)."""

    run_s: float
    ends: list[str]
    ignores_stop: bool = False
    is_large: bool = False


class Witness(Protocol):
    """Who sees what engines do."""

    def began(self, task: m.Assignment, engine: str, inputs: list[bytes]) -> None:
        """An attempt begins."""

    def ended(self, task: m.Assignment, engine: str, how: str, result: bytes) -> None:
        """It has ended."""


@dataclass(slots=True)
class _Run:
    item: Assigned
    script: Script
    number: int


class SimEngine:
    """One engine, from its hello until its process ends."""

    def __init__(self, nanny: SimNanny, token: str, slowness: float) -> None:
        self.nanny = nanny
        self.token = token
        self.world = nanny.world
        self.queue = TaskQueue()
        self.slowness = slowness
        self.stalled_until_s = 0.0
        self.is_dead = False
        self.started: TaskId | None = None
        self.run: _Run | None = None
        self._runs = itertools.count(1)
        self._pending: list[Outcome] = []
        self._unaccepted: deque[m.Outcomes] = deque()
        self._batch = 0
        self._nth = 0
        self._is_welcome = False
        self._cluster = ""
        self._decoder = codec.to_engine()
        identity = f"engine-{token}".encode()
        network = nanny.network
        self.commands = Connection(network, identity, self._hear, self._lost, self._hello)
        self.results = Connection(
            network, identity + m.RESULTS_SUFFIX, lambda frames: None, self._lost, self._results_up
        )

    # --- its process -----------------------------------------------------------------------------

    def die(self, text: str, wanted: bool = False) -> None:
        """Its process ends, now; its nanny will say so."""
        if self.is_dead:
            return
        self.is_dead = True
        self.world.say(f"engine {self.token} ends: {text}")
        busy = self.run is not None
        self.run = None
        self.commands.close()
        self.results.close()
        self.nanny.engine_ended(self, EngineEnd(text, wanted=wanted), self.started, busy)

    def _begin_next(self) -> None:
        if self.run is not None or self.is_dead or not self._is_welcome_once:
            return
        item = self.queue.begin()
        if item is None:
            self.queue.end()
            return
        script = msgspec.json.decode(cast("bytes", item.assignment.payload), type=Script)
        self.run = _Run(item, script, next(self._runs))
        self.started = item.assignment.task
        values = cast("list[Value]", item.assignment.inputs or [])
        lost = self.nanny.stores.missing(values)
        if lost:
            self._miss_inputs(item, lost)
            return
        inputs = [self.nanny.stores.read(value) or b"" for value in values]
        self.nanny.witness.began(item.assignment, self.token, inputs)
        number = self.run.number
        slowness = self.slowness if self.nanny.network.is_troubled else 1.0
        self.world.after(script.run_s * slowness, lambda: self._end_run(number))

    def _miss_inputs(self, item: Assigned, lost: list[str]) -> None:
        task = item.assignment
        self.world.say(f"engine {self.token} can't read {', '.join(lost)}")
        self.run = None
        error = ev.ErrorInfo([], "lost")
        outcome = Outcome(task.task, task.attempt, ev.INPUT_LOST, b"", 0.0, 0.0, error, lost)
        self._add(outcome)
        self.world.after(0.0, self._begin_next)

    @property
    def _is_welcome_once(self) -> bool:
        return bool(self._cluster)

    def _end_run(self, number: int) -> None:
        run = self.run
        if run is None or run.number != number or self.is_dead:
            return
        if self.world.now < self.stalled_until_s and self.nanny.network.is_troubled:
            self.world.after(0.1, lambda: self._end_run(number))
            return
        task = run.item.assignment
        how = run.script.ends[min(task.attempt, len(run.script.ends)) - 1]
        if how == "crash":
            self.nanny.witness.ended(task, self.token, how, b"")
            self.die("crashed")
            return
        self._report(run, how)

    def _report(self, run: _Run, how: str) -> None:
        task = run.item.assignment
        statuses = {
            "ran": ev.RAN,
            "raised": ev.RAISED,
            "refused": ev.REFUSED,
            "stopped": ev.STOPPED,
        }
        error = ev.ErrorInfo(["builtins.ValueError"], "no") if how != "ran" else None
        result = f"{task.task}:{task.attempt}:{self.token}".encode() if how == "ran" else b""
        self.nanny.witness.ended(task, self.token, how, result)
        payload: Value = result
        if how == "ran" and run.script.is_large:
            nanny = self.nanny
            name = ev.value_name(task.task, task.attempt)
            payload = nanny.stores.keep(nanny.store, name, result)
        self.run = None
        self._add(Outcome(task.task, task.attempt, statuses[how], payload, 0.0, 0.001, error))
        self._begin_next()

    def _add(self, outcome: Outcome) -> None:
        if not self._pending:
            self.world.after(_FLUSH_S, self._flush)
        self._pending.append(outcome)

    def _flush(self) -> None:
        if self.is_dead or not self._pending:
            return
        self._batch += 1
        message = m.Outcomes(self._batch, self._pending)
        self._pending = []
        self._unaccepted.append(message)
        if self._is_welcome:
            self.results.send(codec.encode(message))

    # --- its connections -------------------------------------------------------------------------

    def _results_up(self) -> None:
        if self._nth:  # not the first time: what was sent there may be lost
            self._hello()

    def _lost(self) -> None:
        self._is_welcome = False

    def _hello(self) -> None:
        if not self.commands.is_up or self.is_dead:
            return
        self._nth += 1
        self._is_welcome = False
        nanny = self.nanny
        hello = m.EngineHello(
            m.VERSION, self.token, nanny.token, 0, nanny.host, nanny.resources, self._cluster,
            self._held() if self._cluster else [], self._nth,
        )  # fmt: skip
        self.commands.send(codec.encode(hello))

    def _held(self) -> list[m.Held]:
        queue = self.queue
        held = [item.assignment for item in queue._waiting.values()]
        if self.run is not None:
            held.append(self.run.item.assignment)
        outcomes = [o for batch in self._unaccepted for o in batch.outcomes] + self._pending
        return [
            *(m.Held(a.task, a.attempt) for a in held),
            *(m.Held(o.task, o.attempt) for o in outcomes),
        ]

    def _hear(self, frames: list[bytes]) -> None:
        if self.is_dead:
            return
        message = self._decoder.decode(frames)
        if isinstance(message, m.Welcome):
            self._on_welcome(message)
        elif isinstance(message, m.Refused):
            self.die(f"refused: {message.reason}", wanted=True)
        elif not self._is_welcome:
            return
        elif isinstance(message, m.WhoAreYou):
            self._hello()
        elif isinstance(message, m.Assigned):
            self._accepted(message.accepted)
            functions = [Function(digest, b"") for digest in message.functions]
            self.queue.append([Assigned(task, functions[task.function]) for task in message.tasks])
            self._begin_next()
        elif isinstance(message, m.Accepted):
            self._accepted(message.batch)
        elif isinstance(message, m.GiveBack):
            self.commands.send(codec.encode(m.Returned(*self.queue.give_back(message.tasks))))
        elif isinstance(message, m.StopTasks):
            self._stop(message.tasks)

    def _on_welcome(self, welcome: m.Welcome) -> None:
        if welcome.nth != self._nth or self._is_welcome:
            return
        if self._cluster and welcome.cluster != self._cluster:
            self.die("another cluster", wanted=True)
            return
        self._is_welcome = True
        self._cluster = welcome.cluster
        self._accepted(welcome.accepted)
        for message in self._unaccepted:
            self.results.send(codec.encode(message))
        self._begin_next()

    def _accepted(self, batch: int) -> None:
        while self._unaccepted and self._unaccepted[0].batch <= batch:
            self._unaccepted.popleft()

    def _stop(self, tasks: list[TaskId]) -> None:
        dropped, begun = self.queue.stop(tasks)
        for item in dropped:
            task = item.assignment
            self._add(Outcome(task.task, task.attempt, ev.STOPPED, b""))
        run = self.run
        if run is not None and run.item is begun and not run.script.ignores_stop:
            self._report(run, "stopped")


class SimNanny:
    """One nanny after the other on a host: each starts engines, and says how they end.

    Parameters:
        token: the host's name, and the beginning of its nannies' tokens.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        faults: Faults,
        wire: WireConfig,
        host: str,
        engines: int,
        resources: dict[str, float],
        witness: Witness,
        stores: Stores,
    ) -> None:
        self.world = world
        self.network = network
        self.stores = stores
        self.faults = faults
        self.host = host
        self.resources = resources
        self.witness = witness
        self.engines: dict[str, SimEngine] = {}
        self._wanted = engines
        self._heartbeat_s = wire.heartbeat_s
        self._numbers = itertools.count(1)
        self._lives = itertools.count(1)
        self._decoder = codec.to_nanny()
        self._died: deque[m.EngineDied] = deque(maxlen=1000)
        self._begin()
        world.after(self._heartbeat_s, self._beat)

    def _begin(self) -> None:
        self.token = f"{self.host}.{next(self._lives)}"
        self._is_stock_due = False
        self.is_dead = False
        self._cluster = ""
        self._nth = 0
        self._is_welcome = False
        self._died.clear()
        self.connection = Connection(
            self.network, f"nanny-{self.token}".encode(), self._hear, self._lost, self._hello
        )

    @property
    def store(self) -> StoreId:
        """What its store is called."""
        return StoreId(self.token)

    def die(self, why: str) -> None:
        """Its process ends, and its engines with it; somebody starts another."""
        if self.is_dead:
            return
        self.world.say(f"nanny {self.token} ends: {why}")
        self.is_dead = True
        self.stores.end(self.store)
        self.connection.close()
        for engine in list(self.engines.values()):
            engine.die("its nanny ended")  # which tells nobody
        self.engines.clear()
        self.world.after(_NEW_NANNY_S, self._begin)

    def _start_engine(self) -> None:
        if self.is_dead or len(self.engines) >= self._wanted:
            return
        token = f"{self.token}.{next(self._numbers)}"
        slowness = self.world.rng.uniform(1.0, self.faults.slow)
        self.engines[token] = SimEngine(self, token, slowness)

    def engine_ended(
        self, engine: SimEngine, end: EngineEnd, started: TaskId | None, busy: bool
    ) -> None:
        """One of its engines ended: say so, and start another."""
        if self.is_dead:
            return
        life = self.token
        died = m.EngineDied(engine.token, end, started, busy)

        def report() -> None:
            if self.token == life and not self.is_dead:
                del self.engines[engine.token]
                self.world.after(_STOCK_S, self._take_stock)
                self._died.append(died)
                if self._is_welcome:
                    self.connection.send(codec.encode(died))

        self.world.after(_REPORT_S, report)
        self.world.after(_REPLACE_S, self._start_engine)

    def _hello(self) -> None:
        self._nth += 1
        self._is_welcome = False
        returns = bool(self._cluster)
        hello = m.NannyHello(
            m.VERSION, self.token, 0, self.host, self._cluster,
            list(self.engines) if returns else [], list(self._died) if returns else [], self._nth,
        )  # fmt: skip
        self.connection.send(codec.encode(hello))

    def _take_stock(self) -> None:
        self._is_stock_due = True

    def _lost(self) -> None:
        self._is_welcome = False

    def _beat(self) -> None:
        self.world.after(self._heartbeat_s, self._beat)
        if self.is_dead or not self._is_welcome:
            return
        vitals = [
            m.Vitals(e.token, e.run.item.assignment.task if e.run else None, 0.0, 1)
            for e in self.engines.values()
            if not e.is_dead
        ]
        self.connection.send(codec.encode(m.Heartbeat(vitals)))
        if self._is_stock_due:
            self._is_stock_due = False
            self.world.after(_STOCK_AGAIN_S, self._take_stock)
            self.connection.send(codec.encode(m.Stock(self.stores.names(self.store))))

    def _hear(self, frames: list[bytes]) -> None:
        if self.is_dead:
            return
        message = self._decoder.decode(frames)
        if isinstance(message, m.Welcome):
            if message.nth == self._nth:
                is_first, self._cluster = not self._cluster, message.cluster
                self._is_welcome = self._is_stock_due = True
                for _ in range(self._wanted if is_first else 0):
                    self._start_engine()
        elif isinstance(message, m.Refused):
            self.die(f"refused: {message.reason}")
        elif isinstance(message, m.WhoAreYou) and self._is_welcome:
            self._hello()
        elif isinstance(message, m.StopEngine) and self._is_welcome:
            engine = self.engines.get(message.token)
            if engine is not None and not engine.is_dead:
                engine.die(message.reason, wanted=True)
        elif isinstance(message, m.DropValues):
            self.stores.drop(self.store, message.values)
