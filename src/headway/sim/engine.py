"""Simulated engines: the real queue and messages, and tasks that are scripts.

A task's payload says how long it runs and how each attempt ends. What this file must not know:
what is right, and clients.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import msgspec
from msgspec import Struct

from headway.core import events as ev
from headway.core.events import EngineEnd, Outcome, TaskId, Value
from headway.engine.queue import Assigned, TaskQueue
from headway.engine.runner import Function
from headway.engine.status import INTERRUPT_OVERRAN, Status
from headway.sim.nested import SimNested
from headway.sim.network import Connection
from headway.wire import codec
from headway.wire import messages as m

if TYPE_CHECKING:
    from headway.sim.nanny import SimNanny

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
    #: It submits these first, and waits until they have ended.
    children: list[Script] = []


class Witness(Protocol):
    """Who sees what engines do."""

    def asked(self, task: TaskId, client: str, options: ev.TaskOptions) -> None:
        """A task in an engine submits another, through the client there."""

    def heard(self, client: str, result: m.Result) -> None:
        """That client hears how a task ended."""

    def began(self, task: m.Assignment, engine: str, inputs: list[bytes]) -> None:
        """An attempt begins."""

    def ended(self, task: m.Assignment, engine: str, how: str, result: bytes) -> None:
        """It has ended."""

    def holds(self, engine: str, resources: Mapping[str, float], tasks: Iterable[TaskId]) -> None:
        """It was sent tasks, and now has these that have not ended."""


@dataclass(slots=True)
class _Run:
    item: Assigned
    script: Script
    number: int
    began_s: float
    #: It was interrupted, for this reason of engine/status.py: what it returns does not count.
    interrupted: int = 0


class SimEngine:
    """One engine, from its hello until its process ends."""

    def __init__(
        self, nanny: SimNanny, token: str, slowness: float, *, stands_in: bool = False
    ) -> None:
        self.nanny = nanny
        self.token = token
        self.stands_in = stands_in
        self.nested = SimNested(self)
        self.world = nanny.world
        self.queue = TaskQueue()
        self.slowness = slowness
        self.stalled_until_s = 0.0
        self.is_dead = False
        self.started: TaskId | None = None
        self.run: _Run | None = None
        self._runs = itertools.count(1)
        #: The last task of which it has heard that it shall not run.
        self._stop_heard = 0
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
        self.world.say(f"engine {self.token} ends: {text}")
        status = self.status()
        self.is_dead = True
        self.run = None
        self.nested.close()
        self.commands.close()
        self.results.close()
        self.nanny.engine_ended(self, EngineEnd(text, wanted=wanted), status)

    def status(self) -> Status:
        """What its nanny sees of it."""
        run = self.run
        if run is None:
            return Status(True, 0, False, self.started, 0.0, 0.0, 0.0, self._stop_heard)
        limit_s = run.item.assignment.run_timeout_s
        deadline_s = run.began_s + limit_s if limit_s is not None else 0.0
        return Status(
            True, run.number, True, self.started, run.began_s, deadline_s, 0.0, self._stop_heard
        )

    def interrupt(self, number: int, reason: int) -> None:
        """Interrupt that run: it ends, unless it takes no notice of it."""
        run = self.run
        is_stalled = self.world.now < self.stalled_until_s and self.nanny.network.is_troubled
        if run is None or run.number != number or run.interrupted or is_stalled:
            return
        run.interrupted = reason
        if not run.script.ignores_stop:
            self._report(run, "stopped")

    def _begin_next(self) -> None:
        if self.run is not None or self.is_dead or not self._is_welcome_once:
            return
        item = self.queue.begin()
        if item is None:
            self.queue.end()
            return
        script = msgspec.json.decode(cast("bytes", item.assignment.payload), type=Script)
        self.run = _Run(item, script, next(self._runs), self.world.now)
        self.started = item.assignment.task
        values = cast("list[Value]", item.assignment.inputs or [])
        lost = self.nanny.stores.missing(values)
        if lost:
            self._miss_inputs(item, lost)
            return
        inputs = [self.nanny.stores.read(value) or b"" for value in values]
        self.nanny.witness.began(item.assignment, self.token, inputs)
        number = self.run.number
        if script.children:
            parent = ev.Parent(item.assignment.task, item.assignment.attempt)
            self.nested.begin(number, parent, script.children)
        else:
            self.go_on(number)
        if item.assignment.run_timeout_s is not None:
            self.nanny.watch(self)

    def go_on(self, number: int) -> None:
        """That run has nothing to wait for, and works."""
        run = self.run
        if run is not None and run.number == number:
            slowness = self.slowness if self.nanny.network.is_troubled else 1.0
            self.world.after(run.script.run_s * slowness, lambda: self._end_run(number))

    def say(self, frames: list[codec.Buffer]) -> None:
        """Send something on the connection for results, after the outcomes before it."""
        self._flush()
        if self._is_welcome and not self.is_dead:
            self.results.send(frames)

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
        # Also if it took no notice of its interrupt: what it returns may be half a result.
        self._report(run, "stopped" if run.interrupted else how)

    def _report(self, run: _Run, how: str) -> None:
        task = run.item.assignment
        statuses = {
            "ran": ev.RAN,
            "raised": ev.RAISED,
            "refused": ev.REFUSED,
            "stopped": ev.OVERRAN if run.interrupted == INTERRUPT_OVERRAN else ev.STOPPED,
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
        self.nested.end()
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
            self._held() if self._cluster else [], self._nth, None, self.stands_in,
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
            self._show_what_it_holds()
            self._begin_next()
        elif isinstance(message, m.Accepted):
            self._accepted(message.batch)
        elif isinstance(message, m.GiveBack):
            self.commands.send(codec.encode(m.Returned(*self.queue.give_back(message.tasks))))
        elif isinstance(message, m.StopTasks):
            self._stop(message.tasks)
        elif isinstance(message, m.StopWaiting):
            self._stop_waiting(message)

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
        if self.nested.standing is not None:
            self.results.send(codec.encode(self.nested.standing))
        self._begin_next()

    def _accepted(self, batch: int) -> None:
        while self._unaccepted and self._unaccepted[0].batch <= batch:
            self._unaccepted.popleft()

    def _show_what_it_holds(self) -> None:
        held = [held.task for held in self.queue.held()]
        if self.run is None and self.started in held:
            held.remove(self.started)  # it has ended since
        self.nanny.witness.holds(self.token, self.nanny.resources, held)

    def _stop_waiting(self, message: m.StopWaiting) -> None:
        if self.run is not None and self.nested.refuse(message.task, message.attempt):
            self._report(self.run, "raised")

    def _stop(self, tasks: list[TaskId]) -> None:
        """Drop those that have not begun. The one that runs is its nanny's to interrupt."""
        dropped, _ = self.queue.stop(tasks)
        for item in dropped:
            task = item.assignment
            self._add(Outcome(task.task, task.attempt, ev.STOPPED, b""))
        if tasks:
            self._stop_heard = tasks[-1]
