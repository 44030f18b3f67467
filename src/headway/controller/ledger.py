"""All that a controller must not forget: its scheduler, and who its clients and engines are.

Whatever changes it is an entry of the journal (entries.py). `apply` is how a controller that
takes over learns of the past; the methods below it are how the living one says the same things
with the messages already decoded. So both go one way, through the same core.

What this file must not know: sockets, files, the clock, and who is connected just now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from headway.config import SchedulerConfig
from headway.controller import entries as en
from headway.core import events as ev
from headway.core.commands import Command
from headway.core.events import ClientId, EngineId, TaskId
from headway.core.scheduler import Scheduler
from headway.errors import JournalError, ProtocolError, ReplayError
from headway.wire import codec
from headway.wire import messages as m

Commands = list[Command]


@dataclass(slots=True)
class KnownClient:
    """A client, from its first hello until it is given up."""

    identity: bytes
    hello: m.ClientHello
    #: The last batch that was taken in.
    batch: int = 0


@dataclass(slots=True)
class KnownEngine:
    """An engine, from its first hello until its end."""

    identity: bytes
    hello: m.EngineHello
    batch: int = 0


class Gap(Exception):
    """A batch came that is not the next: those before it were lost with a connection."""


class Ledger:
    """The scheduler, its clients and its engines.

    Parameters:
        config: how to place tasks.
        rng: the source of chance for the random schemes.
    """

    def __init__(self, config: SchedulerConfig, rng: Random) -> None:
        self.scheduler = Scheduler(config, rng)
        self.clients: dict[ClientId, KnownClient] = {}
        self.engines: dict[EngineId, KnownEngine] = {}
        self.clients_seen = 0
        self.engines_seen = 0
        self._client_decoder = codec.from_client()
        self._engine_decoder = codec.from_engine()

    # --- the past: from the journal --------------------------------------------------------------

    def replay(self, record: en.Record, out: Commands) -> None:
        """Do again what a turn did.

        Raises:
            JournalError: it does not follow from what came before it.
        """
        for entry in record.entries:
            self.apply(entry, record.now, out)
        pairs = record.placements
        seats = [(TaskId(pairs[i]), EngineId(pairs[i + 1])) for i in range(0, len(pairs) - 1, 2)]
        try:
            self.scheduler.place_as(seats, record.now, out)
        except ReplayError as error:
            raise JournalError(str(error)) from error

    def apply(self, entry: en.Entry, now: float, out: Commands) -> None:
        """Do again what one entry says.

        Raises:
            JournalError: it does not follow from what came before it.
        """
        try:
            if isinstance(entry, en.ClientSaid):
                self.client_said(entry.number, self._client_batch(entry.frames), now, out)
            elif isinstance(entry, en.EngineSaid):
                self.engine_said(entry.number, self._engine_batch(entry.frames), now, out)
            elif isinstance(entry, en.Told):
                self.tell(en.event_of(entry), now, out)
            elif isinstance(entry, en.Ticked):
                self.scheduler.tick(now, out)
            elif isinstance(entry, en.ClientCame):
                self.client_came(entry, now, out)
            else:
                self.engine_came(entry, now, out)
        except ProtocolError:
            pass  # its sender was refused for it, which is the next entry
        except Gap as gap:
            raise JournalError(f"an entry is missing: {gap}") from None
        except KeyError as error:
            raise JournalError(f"an entry is about {error}, of which nobody heard") from None

    def _client_batch(self, frames: Sequence[bytes]) -> m.ClientBatch:
        message = self._client_decoder.decode(frames)
        if not isinstance(message, m.ClientBatch):
            raise JournalError(f"a {type(message).__name__} is no batch of a client")
        return message

    def _engine_batch(self, frames: Sequence[bytes]) -> m.Outcomes:
        message = self._engine_decoder.decode(frames)
        if not isinstance(message, m.Outcomes):
            raise JournalError(f"a {type(message).__name__} is no batch of an engine")
        return message

    # --- the present: from the controller --------------------------------------------------------

    def tell(self, event: ev.Event, now: float, out: Commands) -> None:
        """Tell the scheduler of `event`, which has no method of its own here."""
        if isinstance(event, ev.ClientLeft):
            self.clients.pop(event.client, None)
        elif isinstance(event, ev.EngineLeft):
            self.engines.pop(event.engine, None)
        self.scheduler.handle(event, now, out)

    def client_came(self, entry: en.ClientCame, now: float, out: Commands) -> None:
        """A client was given a number."""
        self.clients[entry.number] = KnownClient(entry.identity, entry.hello)
        self.clients_seen = max(self.clients_seen, entry.number)
        self.scheduler.handle(ev.ClientJoined(entry.number), now, out)

    def engine_came(self, entry: en.EngineCame, now: float, out: Commands) -> None:
        """An engine was given a number."""
        hello = entry.hello
        self.engines[entry.number] = KnownEngine(entry.identity, hello)
        self.engines_seen = max(self.engines_seen, entry.number + 1)
        store = ev.StoreId(hello.nanny)
        facts = (hello.resources, hello.host, hello.pid, store, hello.ends_in_s, hello.stands_in)
        joined = ev.EngineJoined(entry.number, *facts)
        self.scheduler.handle(joined, now, out)

    def client_said(
        self,
        number: ClientId,
        batch: m.ClientBatch,
        now: float,
        out: Commands,
    ) -> bool:
        """Take in a batch. False if it came before.

        Raises:
            Gap: it is not the next. Nothing has changed.
            ProtocolError: it names what is not there. Its sender has to go.
        """
        known = self.clients[number]
        if batch.batch <= known.batch:
            return False
        _require_next(batch.batch, known.batch)
        if isinstance(batch, m.Submit):
            self._require_functions(number, batch)
        known.batch = batch.batch
        if isinstance(batch, m.Submit):
            self._submit(number, batch, now, out)
        elif isinstance(batch, m.Keep):
            self.scheduler.handle(ev.KeepAsked(number), now, out)
        elif isinstance(batch, m.Cancel):
            wish = (batch.queued_only, batch.downstream)
            event = ev.CancelAsked(number, batch.tasks, *wish)
            self.scheduler.handle(event, now, out)
        else:
            if batch.nodes:
                self.scheduler.handle(ev.Released(number, batch.nodes), now, out)
            if batch.functions:
                self.scheduler.handle(ev.FunctionsDropped(number, batch.functions), now, out)
        return True

    def _require_functions(self, number: ClientId, batch: m.Submit) -> None:
        for digest in batch.functions:
            if digest not in batch.new_functions:
                function = self.scheduler.functions.get(digest)
                if function is None or number not in function.declared_by:
                    raise ProtocolError(f"function {digest.hex()} was not sent before its use")

    def _submit(self, number: ClientId, batch: m.Submit, now: float, out: Commands) -> None:
        handle = self.scheduler.handle
        if batch.new_functions:
            functions: Any = batch.new_functions  # the codec has put the payloads in place
            names = batch.function_names
            handle(ev.FunctionsDeclared(number, functions, names), now, out)
        counters = self.scheduler.counters
        ignored = counters.invalid + counters.duplicates
        handle(ev.Submitted(number, batch.functions, batch.groups, batch.tasks), now, out)
        ignored = counters.invalid + counters.duplicates - ignored
        if batch.released:
            handle(ev.Released(number, batch.released), now, out)
        if ignored:  # its client would wait for them for ever
            raise ProtocolError(
                f"{ignored} of the {len(batch.tasks) + len(batch.groups)} nodes of batch "
                f"{batch.batch} are not this client's, or not above those before them"
            )

    def engine_said(self, number: EngineId, batch: m.Outcomes, now: float, out: Commands) -> bool:
        """Take in a batch of outcomes. False if it came before.

        Raises:
            Gap: it is not the next. Nothing has changed.
        """
        known = self.engines[number]
        if batch.batch <= known.batch:
            return False
        _require_next(batch.batch, known.batch)
        known.batch = batch.batch
        self.scheduler.handle(ev.Finished(number, batch.outcomes), now, out)
        return True


def _require_next(batch: int, last: int) -> None:
    if batch != last + 1:
        raise Gap(f"batch {batch} came after batch {last}")
