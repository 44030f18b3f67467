"""Simulated tasks that submit tasks: the client inside an engine, and its task that waits.

What this file must not know: what is right, and what a cluster does about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from headway.core.events import Parent, TaskId, TaskOptions, TaskSpec
from headway.sim.client import SimClient
from headway.wire import codec
from headway.wire import messages as m

if TYPE_CHECKING:
    from headway.sim.engine import Script, SimEngine

#: Until a task that waits is told of; and until it looks again whether it can submit.
_SOON_S, _AGAIN_S = 0.005, 0.05


@dataclass(slots=True)
class _Wait:
    """A run, and the tasks that it has submitted and waits for."""

    run: int
    parent: Parent
    scripts: list[Script]
    open: set[TaskId]
    is_told: bool = False


class SimNested:
    """What an engine has of tasks that submit others."""

    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine
        self._client: SimClient | None = None
        self._clients = 0
        self._wait: _Wait | None = None
        #: The last word on whether the run waits.
        self.standing: m.Blocked | m.Unblocked | None = None

    def begin(self, run: int, parent: Parent, scripts: list[Script]) -> None:
        """A run submits tasks, and waits until they have ended: then `engine.go_on(run)`."""
        self._wait = _Wait(run, parent, scripts, set())
        self._submit(run)

    def end(self) -> None:
        """Whatever runs is over."""
        self._wait = None

    def close(self) -> None:
        """The engine's process has ended."""
        self._wait = None
        if self._client is not None:
            self._client.leave(say_bye=False)

    def refuse(self, task: TaskId, attempt: int) -> bool:
        """Whether that attempt waits, which shall raise instead."""
        wait = self._wait
        return wait is not None and wait.parent == Parent(task, attempt)

    def _submit(self, run: int) -> None:
        wait, engine = self._wait, self._engine
        if wait is None or wait.run != run or engine.is_dead:
            return
        if self._client is None or self._client.is_gone:
            nanny = engine.nanny
            self._clients += 1
            name = f"in-{engine.token}-{self._clients}"
            self._client = SimClient(
                engine.world, nanny.network, nanny.wire, name, self._on_result, engine.token
            )
        client = self._client
        if not client.number or client.session.is_full:
            engine.world.after(_AGAIN_S, lambda: self._submit(run))
            return
        options = TaskOptions(retries=1)
        for script in wait.scripts:
            task = client.submit(msgspec.json.encode(script), None, None, None, options)
            spec = client.session._asked[-1][0]
            assert isinstance(spec, TaskSpec)
            spec.parent = wait.parent
            engine.nanny.witness.asked(task, client.name, options)
            wait.open.add(task)
        engine.world.after(_SOON_S, lambda: self._tell(run))
        self._watch_client(run, client)

    def _tell(self, run: int) -> None:
        wait = self._wait
        if wait is not None and wait.run == run and wait.open and not self._engine.is_dead:
            wait.is_told = True
            self._say(m.Blocked(wait.parent.task, wait.parent.attempt))

    def _say(self, standing: m.Blocked | m.Unblocked) -> None:
        self.standing = standing
        self._engine.say(codec.encode(standing))

    def _watch_client(self, run: int, client: SimClient) -> None:
        """Should the controller not talk to the client any more, its futures fail."""
        wait = self._wait
        if wait is None or wait.run != run or self._engine.is_dead:
            return
        if client.is_gone:
            self._go_on(wait)
        else:
            self._engine.world.after(1.0, lambda: self._watch_client(run, client))

    def _on_result(self, client: SimClient, result: m.Result) -> None:
        self._engine.nanny.witness.heard(client.name, result)
        client.release(result.task)
        wait = self._wait
        if wait is not None and result.task in wait.open:
            wait.open.discard(result.task)
            if not wait.open:
                self._go_on(wait)

    def _go_on(self, wait: _Wait) -> None:
        self._wait = None
        if wait.is_told:
            self._say(m.Unblocked())
        self._engine.go_on(wait.run)
