"""The ledger of a living controller, and what is to be written of this turn.

Everything that changes the scheduler goes through here, so that nothing can be done without
being noted. `take_record` is called once a turn, after `place` and before anything is sent.

What this file must not know: files, sockets, who is connected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from headway.controller import entries as en
from headway.controller.ledger import Commands, Ledger
from headway.controller.recorder import Recorder
from headway.core import events as ev
from headway.core.commands import Assign
from headway.core.events import ClientId, EngineId
from headway.core.scheduler import Scheduler
from headway.wire import messages as m


class Clock:
    """The journal's time in seconds: that of the monotonic clock, and after a restart it goes on
    where it was, plus what has passed on the wall.

    Parameters:
        last_now, last_wall_s: the times of the last turn that was written; 0 if none was.
        monotonic, wall: where the time is read.
    """

    def __init__(
        self,
        last_now: float = 0.0,
        last_wall_s: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self.wall_s = wall
        self._ahead_s = 0.0
        if last_now:
            # A wall clock that was set back is no reason to go back.
            passed_s = max(0.0, wall() - last_wall_s)
            self._ahead_s = last_now + passed_s - monotonic()

    def now(self) -> float:
        """The time. It never goes back."""
        return self._monotonic() + self._ahead_s


class Books:
    """What the controller does to its ledger, noted where there is a journal.

    Parameters:
        ledger: all that was known when this controller began.
        clock: the time that its turns are in.
        is_kept: whether a journal wants to know.
        recorder: keeps what ran, for traces; None for nobody.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, is_kept: bool, recorder: Recorder | None = None
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self.recorder = recorder
        self.commands: Commands = []
        self._is_kept = is_kept
        self._entries: list[en.Entry] = []

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, to be looked at."""
        return self.ledger.scheduler

    def tell(self, event: ev.Event, now: float) -> None:
        """Tell the scheduler of `event`."""
        if self._is_kept:
            self._entries.append(en.told(event))
        if self.recorder is not None:
            if isinstance(event, ev.EngineLeft):
                self.recorder.engine_leaves(event, now)
            elif isinstance(event, ev.Started):
                self.recorder.begins(event.engine, event.task)
        self.ledger.tell(event, now, self.commands)

    def client_came(self, identity: bytes, hello: m.ClientHello, now: float) -> ClientId:
        """A new client; its number."""
        entry = en.ClientCame(ClientId(self.ledger.clients_seen + 1), identity, hello)
        if self._is_kept:
            self._entries.append(entry)
        self.ledger.client_came(entry, now, self.commands)
        return entry.number

    def engine_came(self, identity: bytes, hello: m.EngineHello, now: float) -> EngineId:
        """A new engine; its number."""
        entry = en.EngineCame(EngineId(self.ledger.engines_seen), identity, hello)
        if self._is_kept:
            self._entries.append(entry)
        if self.recorder is not None:
            self.recorder.engine_came(entry.number, hello.host, hello.pid, now)
        self.ledger.engine_came(entry, now, self.commands)
        return entry.number

    def client_said(
        self,
        number: ClientId,
        batch: m.ClientBatch,
        frames: Sequence[bytes],
        now: float,
    ) -> None:
        """Take in a batch of a client, unless it came before.

        Raises:
            Gap, ProtocolError: see Ledger.client_said.
        """
        if batch.batch == self.ledger.clients[number].batch + 1:
            if self._is_kept:
                self._entries.append(en.ClientSaid(number, list(frames)))
            if self.recorder is not None and isinstance(batch, m.Submit):
                self.recorder.submitted(number, batch, now)
        self.ledger.client_said(number, batch, now, self.commands)

    def engine_said(
        self, number: EngineId, batch: m.Outcomes, frames: Sequence[bytes], now: float
    ) -> None:
        """Take in a batch of an engine, unless it came before.

        Raises:
            Gap: see Ledger.engine_said.
        """
        if batch.batch == self.ledger.engines[number].batch + 1:
            if self._is_kept:
                self._entries.append(en.EngineSaid(number, list(frames)))
            if self.recorder is not None:
                self.recorder.ran(number, batch.outcomes, now)
        self.ledger.engine_said(number, batch, now, self.commands)

    def tick(self, now: float) -> None:
        """Do what has become due."""
        if self._is_kept:
            self._entries.append(en.Ticked())
        self.scheduler.tick(now, self.commands)

    def place(self, now: float) -> None:
        """Place what can be placed."""
        self.scheduler.place(now, self.commands)

    def take_record(self, now: float) -> bytes | None:
        """What is to be written of this turn; None if nothing is."""
        if not self._is_kept:
            return None
        placements: list[int] = []
        for command in self.commands:
            if type(command) is Assign:
                placements += (command.task.id, command.engine)
        if not self._entries and not placements:
            return None
        record = en.Record(now, self.clock.wall_s(), self._entries, placements)
        self._entries = []
        return en.encode_record(record)
