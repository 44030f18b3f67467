"""Simulated nannies: one after the other on a host, each starts engines, says how they end, and
stops runs by the real ladder.

What this file must not know: what is right, and clients.
"""

from __future__ import annotations

import itertools
from collections import deque

from headway.config import EngineConfig, WireConfig
from headway.core.events import EngineEnd, StoreId
from headway.engine.ladder import NEVER_S, Ladder, Step
from headway.engine.status import INTERRUPT_OVERRAN, Status
from headway.sim.engine import SimEngine, Witness
from headway.sim.faults import Faults
from headway.sim.network import Connection, Network
from headway.sim.stores import Stores
from headway.sim.world import World
from headway.wire import codec
from headway.wire import messages as m

#: From an engine's end until its nanny says so; until another is there; until somebody starts
#: a nanny again.
_REPORT_S, _REPLACE_S, _NEW_NANNY_S = 0.002, 0.3, 1.0
#: After the end of an engine, and now and then, its nanny says what is in its store.
_STOCK_S, _STOCK_AGAIN_S = 2.0, 60.0
_GRACE_S = EngineConfig().stop_grace_s


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
        self.wire = wire
        self.stores = stores
        self.faults = faults
        self.host = host
        self.resources = resources
        self.witness = witness
        self.engines: dict[str, SimEngine] = {}
        self._ladders: dict[str, Ladder] = {}
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
        self._ladders.clear()
        self.world.after(_NEW_NANNY_S, self._begin)

    def _start_engine(self, stands_in: bool = False) -> None:
        own = sum(not engine.stands_in for engine in self.engines.values())
        if self.is_dead or (own >= self._wanted and not stands_in):
            return
        token = f"{self.token}.{next(self._numbers)}"
        slowness = self.world.rng.uniform(1.0, self.faults.slow)
        self._ladders[token] = Ladder(_GRACE_S, lambda: True)
        self.engines[token] = SimEngine(self, token, slowness, stands_in=stands_in)

    def engine_ended(self, engine: SimEngine, end: EngineEnd, status: Status) -> None:
        """One of its engines ended: say so, and start another."""
        if self.is_dead:
            return
        life = self.token
        ladder = self._ladders.pop(engine.token)
        if ladder.is_killing:
            is_overrun = ladder.hit(status) and ladder.reason == INTERRUPT_OVERRAN
            end = EngineEnd(end.text, wanted=not is_overrun, overran=is_overrun)
        died = m.EngineDied(engine.token, end, status.task, status.busy)

        def report() -> None:
            if self.token == life and not self.is_dead:
                del self.engines[engine.token]
                self.world.after(_STOCK_S, self._take_stock)
                self._died.append(died)
                if self._is_welcome:
                    self.connection.send(codec.encode(died))

        self.world.after(_REPORT_S, report)
        if not engine.stands_in:
            self.world.after(_REPLACE_S, self._start_engine)

    def watch(self, engine: SimEngine) -> None:
        """Look at an engine, do what the ladder says, and look again when it says so."""
        ladder = self._ladders.get(engine.token)
        if ladder is None or engine.is_dead:
            return
        now_s = self.world.now
        step = ladder.look(engine.status(), now_s)
        if step is Step.INTERRUPT:
            engine.interrupt(ladder.run, ladder.reason)
        elif step is Step.KILL:
            engine.die("ran on after its interrupt, and was killed")
            return
        look_at_s = ladder.next_look_s(engine.status(), now_s)
        if look_at_s < NEVER_S:
            self.world.at(max(look_at_s, now_s), lambda: self.watch(engine))

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
        elif isinstance(message, m.InterruptTasks) and self._is_welcome:
            engine = self.engines.get(message.token)
            if engine is not None and not engine.is_dead:
                self._ladders[message.token].stop(message.tasks)
                self.watch(engine)
        elif isinstance(message, m.StopEngine) and self._is_welcome:
            engine = self.engines.get(message.token)
            if engine is not None and not engine.is_dead:
                engine.die(message.reason, wanted=True)
        elif isinstance(message, m.StartEngines):
            for _ in range(message.count):
                self._start_engine(message.stand_ins)
        elif isinstance(message, m.DropValues):
            self.stores.drop(self.store, message.values)
