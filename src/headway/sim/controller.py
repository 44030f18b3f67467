"""The life of a simulated controller: the real one, on a simulated socket and journal; it dies,
and the next one takes over.

What this file must not know: clients, engines, and what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headway.config import SchedulerConfig, WireConfig
from headway.controller.books import Books, Clock
from headway.controller.loop import Controller
from headway.controller.recovery import read_ledger
from headway.core.limits import Limit
from headway.sim.faults import Faults
from headway.sim.memory_journal import MemoryJournal
from headway.sim.network import Crashed, Network, SimRouter
from headway.sim.world import World

CLUSTER = "simulated"
#: A turn begins this long after the message that it is for.
_TURN_AFTER_S = 1e-5


class ControllerLife:
    """Controllers, one after the other.

    Parameters:
        after_turn: called after each turn with the controller, to check it.
        limits: by tag, those that each of them begins with.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        faults: Faults,
        config: SchedulerConfig,
        wire: WireConfig,
        after_turn: Callable[[Controller], None],
        limits: Mapping[str, Limit] | None = None,
    ) -> None:
        self.world = world
        self.network = network
        self.faults = faults
        self.config = config
        self.wire = wire
        self.journal = MemoryJournal(config)
        self.controller: Controller | None = None
        self.epoch = 0
        self.crashes = 0
        self._after_turn = after_turn
        self._limits = limits
        self._turn_at_s = float("inf")
        self._turn_number = 0
        self.start()

    def start(self) -> None:
        """A controller takes over what the last one left."""
        if self.controller is not None:
            return
        world = self.world
        from random import Random

        rng = Random(self.config.seed)
        ledger, last_now, last_wall_s = read_ledger(self.journal, self.config, rng)
        clock = Clock(last_now, last_wall_s, lambda: world.now, world.wall_s)
        self.epoch += 1
        router: Any = SimRouter(self.network, self._wake)
        journal: Any = self.journal
        self.controller = Controller(
            router,
            CLUSTER,
            Books(ledger, clock, is_kept=True),
            self.wire,
            epoch=self.epoch,
            journal=journal,
            reconnect_s=self.wire.reconnect_s,
            limits=self._limits,
        )
        self.router: SimRouter = router
        self.network.listen(router)
        world.say(f"controller {self.epoch} starts, with {len(ledger.scheduler.tasks)} tasks")
        self._wake()

    def crash(self, why: str) -> None:
        """It dies, here and now."""
        if self.controller is None:
            return
        self.world.say(f"controller {self.epoch} dies: {why}")
        self.crashes += 1
        self.controller = None
        self._turn_at_s = float("inf")
        self.network.end()
        jump_s = self.faults.wall_jump_s * self.network.is_troubled
        self.world.wall_ahead_s += self.world.rng.uniform(-jump_s, jump_s)
        self.world.after(self.faults.restart_s, self.start)

    def _wake(self) -> None:
        self._turn_in(_TURN_AFTER_S)

    def _turn_in(self, delay_s: float) -> None:
        at_s = self.world.now + delay_s
        if at_s >= self._turn_at_s:
            return
        self._turn_at_s = at_s
        self._turn_number += 1
        number = self._turn_number
        self.world.after(delay_s, lambda: self._turn(number))

    def _turn(self, number: int) -> None:
        if number != self._turn_number or self.controller is None:
            return
        world, faults, controller = self.world, self.faults, self.controller
        self._turn_at_s = float("inf")
        if self.network.is_troubled:
            if world.chance(faults.crash_in_commit):
                self.journal.crash = world.rng.choice(("before", "after"))
                if world.chance(faults.torn):
                    self.journal.crash = "torn"
            if world.chance(faults.crash_in_send):
                self.router.crash_after_sends = world.rng.randrange(5)
        try:
            controller._turn(controller._books.clock.now())
        except Crashed:
            self.crash("in the middle of a turn")
            return
        finally:
            self.journal.crash = None
        self.router.crash_after_sends = None
        self._after_turn(controller)
        if self.network.is_troubled and world.chance(faults.compact / 100):
            books = controller._books
            # Whom sending did not reach is written with the next turn: then it is read again.
            self.journal.compact(None if books._entries else books.ledger)
        self._turn_in(max(_TURN_AFTER_S, controller._patience_ms() / 1000))
