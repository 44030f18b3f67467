"""One simulated run, from its seed: a phase of trouble, then everything heals and must drain.

    python -m headway.sim 42            # one run, told in full if it fails
    python -m headway.sim --seeds 1000  # many
    python -m headway.sim --seeds 1000 --first 1000000  # with large values, which get lost
    python -m headway.sim --seeds 1000 --first 3000000  # and clients that leave tasks behind
    python -m headway.sim --seeds 1000 --first 4000000  # and tasks that submit tasks

What this file must not know: how the parts work.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import msgspec

from headway.config import SchedulerConfig, WireConfig
from headway.controller.loop import Controller
from headway.core import invariants
from headway.core.events import (
    SEQUENCE_BITS,
    ConditionSpec,
    StoredValue,
    TaskId,
    TaskOptions,
    parse_value_name,
)
from headway.core.limits import Limit
from headway.core.prefetch import load_max
from headway.core.records import Group, Task
from headway.core.states import FINAL_STATES, TaskState
from headway.sim import faults as fl
from headway.sim.checks import Asked, Checker, Violation
from headway.sim.client import SimClient
from headway.sim.controller import ControllerLife
from headway.sim.engine import Script
from headway.sim.nanny import SimNanny
from headway.sim.network import Network
from headway.sim.stores import Stores
from headway.sim.world import World
from headway.wire import messages as m

#: Silence is noticed soon, so that a run is short.
WIRE = WireConfig(
    heartbeat_s=0.5, heartbeat_timeout_s=5.0, away_timeout_s=10.0, reconnect_s=60.0,
    window_tasks=200,
)  # fmt: skip
#: After the trouble: much longer than any timeout, so that what hangs, hangs for good.
_DRAIN_S = 300.0
_CHECK_EVERY = 10
#: From this seed on, results are large now and then: a store keeps them, and may lose them.
LARGE_FROM = 1_000_000
#: From this seed on, tasks have tags, and these limits hold.
LIMITS_FROM = 2_000_000
#: From this seed on, clients leave their tasks behind, and cancel only what has not begun, or all
#: that is downstream.
LEFT_FROM = 3_000_000
LIMITS = {"db": Limit(at_once=2), "api": Limit(rate=10), "both": Limit(3, 20)}
#: From this seed on, some tasks submit others, which may do so in turn, and wait for them.
NESTED_FROM = 4_000_000
#: How often somebody removes values, in a second; and a client looks at a result after so long.
_LOSSES, _READ_AFTER_S = 2.0, 2.0
#: How often somebody leaves, in a second; and looks whether it was heard that it will.
_LEAVES, _LEAVES_AFTER_S = 0.1, 0.5
#: How the attempts at a task end, one after the other: most tasks just run.
_ENDS = ("ran", "ran", "ran", "raised", "raised ran", "crash ran", "crash", "refused ran")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    seed: int
    violation: str
    tasks: int
    runs: int
    events: int
    controllers: int
    virtual_s: float
    log: list[str]
    faults: dict[str, float]


class Run:
    """A cluster, its programs and its trouble."""

    def __init__(self, seed: int, faults: fl.Faults | None = None) -> None:
        self.world = world = World(seed)
        self.rng = rng = Random(f"workload {seed}")
        self.faults = faults or fl.draw(Random(f"faults {seed}"))
        #: For what came into this world later: what came first is drawn as it was.
        self.later_rng = Random(f"later {seed}")
        self.network = Network(world, self.faults)
        config = SchedulerConfig(
            hwm=rng.choice((1, 2, 8, 0, "auto")),
            scheme=rng.choice(("leastload", "lru", "twobin", "weighted", "plainrandom")),
            seed=seed,
        )
        self.checker = Checker(load_max(config))
        self._turns = 0
        self.stores = Stores(world)
        self._large = 0.5 if seed >= LARGE_FROM else 0.0
        self._values_rng = Random(f"values {seed}")
        self._limits = LIMITS if LIMITS_FROM <= seed < NESTED_FROM else {}
        self._nested = 0.3 if seed >= NESTED_FROM else 0.0
        self._nested_rng = Random(f"nested {seed}")
        self._tags_rng = Random(f"tags {seed}")
        self._is_left = LEFT_FROM <= seed < NESTED_FROM
        self._left_rng = Random(f"left {seed}")
        #: Who has gone, and was told that its tasks go on.
        self.behind: list[SimClient] = []
        self.life = ControllerLife(
            world, self.network, self.faults, config, WIRE, self._check_turn, self._limits
        )
        self.nannies = [
            SimNanny(
                world, self.network, self.faults, WIRE, f"host{n}", rng.randint(1, 3),
                {"gpu": 2.0} if n == 0 or rng.random() < 0.5 else {}, self.checker,
                self.stores,
            )
            for n in range(rng.randint(1, 3))
        ]  # fmt: skip
        self.clients: list[SimClient] = []
        self.left: set[str] = set()
        for n in range(rng.randint(1, 3)):
            self._new_client(f"c{n}")
        self._count = rng.choice((5, 20, 60))

    # --- the programs ----------------------------------------------------------------------------

    def _new_client(self, name: str) -> None:
        client = SimClient(self.world, self.network, WIRE, name, self._on_result)
        self.clients.append(client)
        self.world.after(self.rng.uniform(0, 0.1), lambda: self._program(client, 0))

    def _program(self, client: SimClient, done: int) -> None:
        """Submit a few tasks at a time, and now and then cancel or release some."""
        if client.is_gone:
            return
        rng = self.rng
        if client.number and not client.session.is_full:
            for _ in range(rng.choice((1, 1, 5))):
                if done < self._count:
                    done += 1
                    self._submit(client)
            mine = [t for t, asked in self.checker.tasks.items() if asked.client == client.name]
            if mine and rng.random() < 0.1:
                tasks = rng.sample(mine, min(len(mine), 3))
                for task in tasks:
                    self.checker.tasks[task].cancel_asked = True
                self._cancel(client, tasks)
        if done < self._count:
            self.world.after(rng.expovariate(5.0), lambda: self._program(client, done))

    def _cancel(self, client: SimClient, tasks: list[TaskId]) -> None:
        queued_only = downstream = False
        if self._is_left:
            queued_only, downstream = (self._left_rng.random() < 0.5 for _ in range(2))
        for task in tasks if downstream else ():
            self.checker.tasks[task].is_cancelled_downstream = True
        client.cancel(tasks, queued_only, downstream)

    def _submit(self, client: SimClient) -> None:
        rng = self.rng
        mine = [task for task, asked in self.checker.tasks.items() if asked.client == client.name][
            -20:
        ]

        def some(most: int) -> list[TaskId]:
            return rng.sample(mine, min(len(mine), rng.randint(0, most)))

        inputs = some(2) if rng.random() < 0.4 else []
        after = self._condition(client, some(4)) if rng.random() < 0.3 else None
        follow = self._condition(client, some(2)) if rng.random() < 0.1 else None
        options = TaskOptions(
            retries=rng.choice((0, 0, 1, 3)),
            backoff_s=rng.choice((0.0, 0.0, 0.2)),
            crash_limit=rng.choice((1, 3, 3)),
            at_most_once=rng.random() < 0.1,
            timeout_s=rng.choice((None, None, None, 5.0, 60.0)),
            priority=rng.choice((0, 0, 1, -1)),
            resources={"gpu": 1.0} if rng.random() < 0.1 else None,
            fair=rng.random() < 0.1,
        )
        script = Script(
            rng.choice((0.0001, 0.01, 0.5, 2.0)), rng.choice(_ENDS).split(), rng.random() < 0.2
        )
        if self.later_rng.random() < self.faults.run_timeout:
            options = msgspec.structs.replace(options, run_timeout_s=0.3)
        if self._limits and self._tags_rng.random() < 0.5:
            tags = self._tags_rng.sample(sorted(self._limits), self._tags_rng.choice((1, 1, 2)))
            options = msgspec.structs.replace(options, tags=tags)
        script.children = self._children(2)
        script.is_large = self._values_rng.random() < self._large
        task = client.submit(msgspec.json.encode(script), inputs or None, after, follow, options)
        asked = Asked(client.name, options, inputs, [c for c in (after, follow) if c], follow)
        asked.is_large = script.is_large
        self.checker.tasks[task] = asked

    def _children(self, levels: int) -> list[Script]:
        """What a task submits, down to so many levels."""
        rng = self._nested_rng
        if not levels or rng.random() >= self._nested:
            return []
        return [
            Script(
                rng.choice((0.0001, 0.01, 0.5)),
                rng.choice(_ENDS).split(),
                children=self._children(levels - 1),
            )
            for _ in range(rng.randint(1, 3))
        ]

    def _condition(self, client: SimClient, tasks: list[TaskId]) -> ConditionSpec | None:
        rng = self.rng
        if not tasks:
            return None
        upstreams = tasks
        if rng.random() < 0.3:
            group = client.group(tasks)
            self.checker.groups[group] = tasks
            upstreams = [group]
        return ConditionSpec(upstreams, rng.choice((0, 0, 1)), rng.choice((1, 1, 2, 3)))

    def _on_result(self, client: SimClient, result: m.Result) -> None:
        is_first = not self.checker.tasks[result.task].ends
        self.checker.heard(client.name, result)
        if not is_first:
            return
        self.world.say(
            f"{client.name} hears: task {result.task & 0xFFFFFF} {TaskState(result.state).name}"
        )
        value = result.payload
        if isinstance(value, StoredValue):
            after_s = self._values_rng.expovariate(1 / _READ_AFTER_S)
            self.world.after(after_s, lambda: self._read(client, result.task, value))

    def _read(self, client: SimClient, task: TaskId, value: StoredValue) -> None:
        """A client looks at a large result, and asks for it anew if it is lost."""
        if not client.is_gone and self.stores.read(value) is None:
            self.checker.tasks[task].is_missed = True
            client.miss(task, value.name)

    # --- the trouble -----------------------------------------------------------------------------

    def _plan(self) -> None:
        world, faults = self.world, self.faults

        def often(rate: float, what: object) -> None:
            if rate <= 0:
                return

            def happen() -> None:
                if self.network.is_troubled:
                    what()  # type: ignore[operator]
                    world.after(world.rng.expovariate(rate), happen)

            world.after(world.rng.expovariate(rate), happen)

        often(faults.cut_client, lambda: self._cut(b"client"))
        often(faults.cut_engine, lambda: self._cut(b"engine"))
        often(faults.cut_nanny, lambda: self._cut(b"nanny"))
        often(faults.engine_crash, lambda: self._with_engine(lambda e: e.die("was killed")))
        often(faults.engine_stall, lambda: self._with_engine(self._stall))
        often(faults.nanny_death, lambda: world.rng.choice(self.nannies).die("was killed"))
        often(faults.controller_crash, lambda: self.life.crash("was killed"))
        often(faults.client_vanish, self._vanish)
        often(faults.clock_jump, self._jump)
        often(_LOSSES * bool(self._large), self.stores.lose_some)
        often(_LEAVES * self._is_left, self._leave_behind)
        world.after(faults.until_s, self._heal)

    def _cut(self, role: bytes) -> None:
        found = [c for i, c in self.network.connections.items() if i.startswith(role)]
        if found:
            connection = self.world.rng.choice(found)
            partition_s = self.world.rng.uniform(0, self.faults.partition_s)
            self.world.say(f"{connection.identity.decode()} is cut off for {partition_s:.1f} s")
            connection.cut(partition_s)

    def _with_engine(self, what: object) -> None:
        engines = [e for nanny in self.nannies for e in nanny.engines.values() if not e.is_dead]
        if engines:
            what(self.world.rng.choice(engines))  # type: ignore[operator]

    def _stall(self, engine: object) -> None:
        engine.stalled_until_s = self.world.now + self.world.rng.uniform(0, self.faults.stall_s)  # type: ignore[attr-defined]

    def _vanish(self) -> None:
        present = [client for client in self.clients if not client.is_gone]
        if len(present) > 1:
            client = self.world.rng.choice(present)
            self.world.say(f"{client.name} vanishes")
            self.left.add(client.name)
            client.leave(say_bye=False)

    def _leave_behind(self) -> None:
        """A client asks to have its tasks kept, and goes once it has been told that they are."""
        present = [c for c in self.clients if not c.is_gone]
        asked = [c for c in present if c.number and not c.session.kept]
        if len(present) > 1 and asked:
            client = self._left_rng.choice(asked)
            self.world.say(f"{client.name} asks to leave its tasks behind")
            client.keep()
            self._go_if_kept(client)

    def _go_if_kept(self, client: SimClient) -> None:
        if client.is_gone:
            return
        if client.session.is_kept and not client.session.has_waiting:
            self.world.say(f"{client.name} leaves its tasks behind")
            self.behind.append(client)
            client.leave(say_bye=self._left_rng.random() < 0.5)
        else:
            self.world.after(_LEAVES_AFTER_S, lambda: self._go_if_kept(client))

    def _jump(self) -> None:
        jump_s = self.world.rng.uniform(-1.0, 1.0) * max(self.faults.wall_jump_s, 3600.0)
        self.world.say(f"the clock on the wall jumps by {jump_s:.0f} s")
        self.world.wall_ahead_s += jump_s

    def _heal(self) -> None:
        self.world.say("everything heals")
        self.network.heal()

    # --- the checks ------------------------------------------------------------------------------

    def _check_turn(self, controller: Controller) -> None:
        if self._limits:
            on_engines = [t for e in controller.scheduler.engines.values() for t in e.assigned]
            self.checker.sent(on_engines, self._limits)
        self._turns += 1
        if self._turns % _CHECK_EVERY == 0:
            invariants.check(controller.scheduler)

    def _is_drained(self) -> bool:
        if self.network.is_troubled:
            return False
        for client in self.clients:
            if not client.is_gone and (client.session.open or client.session.has_waiting):
                return False
            mine = sum(asked.client == client.name for asked in self.checker.tasks.values())
            if not client.is_gone and mine < self._count:
                return False
        return not self._is_left or not self._unfinished_behind()

    def _unfinished_behind(self) -> list[TaskId]:
        """What was left behind and has not ended."""
        if self.life.controller is None:
            return [task for task in self.checker.tasks if self._is_behind(task)]
        known = self.life.controller.scheduler.tasks
        sure = {client.name for client in self.behind}
        found = []
        for task, asked in self.checker.tasks.items():
            if task in known:
                if self._is_behind(task) and known[task].state not in FINAL_STATES:
                    found.append(task)
            elif asked.client in sure:
                raise Violation(f"task {task & 0xFFFFFF}, which {asked.client} left, is not known")
        return found

    def _is_behind(self, node: TaskId) -> bool:
        """Whether its client has gone, and asked before to leave it behind: that may have been
        heard, also where it vanished before it was told so."""
        number = node >> SEQUENCE_BITS
        return any(c.number == number and c.is_gone and c.session.kept for c in self.clients)

    def go(self) -> None:
        """Let it happen.

        Raises:
            Violation, InvariantViolation: see checks.py, and core/invariants.py.
        """
        self._plan()
        world = self.world
        limit_s = world.now + self.faults.until_s + _DRAIN_S
        if not world.run(limit_s, self._is_drained):
            self._tell_what_hangs()
        for client in self.clients:
            if client.refusal is not None and "given up" not in client.refusal:
                raise Violation(f"{client.name} was refused: {client.refusal}")
            if not client.is_gone:
                self.checker.require_all_ended(client.name)
        for client in self.clients:
            for task, asked in self.checker.tasks.items():
                if asked.client == client.name:
                    client.release(task)
            for group in list(self.checker.groups):
                if client.number and group >> SEQUENCE_BITS == client.number:
                    client.release(group)
        # A task that was running when its client went goes on to its end.
        world.run(world.now + 120.0, self._is_empty)
        self._require_empty()

    def _tell_what_hangs(self) -> None:
        controller = self.life.controller
        for client in self.clients:
            for task in client.session.open if not client.is_gone else ():
                from headway.core.explain import explain

                told = "there is no controller"
                if controller is not None:
                    told = explain(controller.scheduler, task, controller._books.clock.now())
                raise Violation(f"{client.name} waits for ever for a task: {told}")
        if left := self._unfinished_behind():
            raise Violation(f"{len(left)} tasks that were left behind never end, such as {left[0]}")
        raise Violation("a client could not submit all of its tasks")

    def _is_empty(self) -> bool:
        controller = self.life.controller
        if controller is None or self._nodes_left() or self._values_left():
            return False
        # What has ended may run once more, for a value that its client missed just before it left.
        return not self._is_left or not self._unfinished_behind()

    def _nodes_left(self) -> list[Task | Group]:
        assert self.life.controller is not None
        scheduler = self.life.controller.scheduler
        nodes: list[Task | Group] = [*scheduler.tasks.values(), *scheduler.groups.values()]
        return [node for node in nodes if not self._is_behind(node.id)]

    def _values_left(self) -> list[str]:
        names = self.stores.left()
        return [name for name in names if not self._is_behind(parse_value_name(name)[0])]

    def _require_empty(self) -> None:
        controller = self.life.controller
        if controller is None:
            raise Violation("no controller at the end")
        scheduler = controller.scheduler
        invariants.check(scheduler)
        for task in scheduler.tasks.values():
            if self._is_behind(task.id):
                self.checker.ended_behind(task.id, task.state)
        left = self._nodes_left()
        if left:
            raise Violation(f"{len(left)} nodes are left at the end, such as {left[0]!r}")
        values = self._values_left()
        if values:
            raise Violation(f"{len(values)} values are left at the end, such as {values[0]}")


def run(seed: int, faults: fl.Faults | None = None) -> Outcome:
    """One run of `seed`; `faults` in place of those that the seed draws."""
    one = Run(seed, faults)
    violation = ""
    try:
        one.go()
    except Exception as error:  # of whatever kind: a run that fails is what this is for
        violation = f"{type(error).__name__}: {error}"
        import traceback

        one.world.say(traceback.format_exc())
    return Outcome(
        seed,
        violation,
        len(one.checker.tasks),
        sum(map(len, one.checker.runs.values())),
        one.world.events,
        one.life.epoch,
        one.world.now,
        one.world.log,
        one.faults.named(),
    )
