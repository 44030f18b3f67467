"""The engines, by uuid outside and by number in the core: those that are here, those that a
request names before they registered, and those that left not long ago.

A uuid keeps its number for as long as it is here, or an unfinished job names it as a target, or it
is among the last that left. Otherwise two jobs could wait for the same engine under two numbers,
of which the core would ever see one.

What this file must not know: sockets, clocks, what a job is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from headway.core import events as ev
from headway.ipyparallel.sent import Sent

#: Engines that left are remembered up to this many, so that a task for one of them fails at once.
_DEPARTED_MAX = 1_000


@dataclass(slots=True, eq=False)
class EngineEntry:
    """One engine, known by `uuid` outside and `id` in the core."""

    uuid: bytes
    id: ev.EngineId
    #: Registered: the core knows it. If not, it has departed, or is expected to register.
    is_here: bool = False
    has_departed: bool = False
    #: How many unfinished jobs name it as a target.
    named: int = 0
    #: Unregistered; when its tasks are given up.
    leaving_at_s: float | None = None
    #: No route to it: when to try again, and how often it failed in a row.
    resume_at_s: float | None = None
    unroutable: int = 0
    #: What it was sent and has not answered: jobs, and None for a probe.
    sent: Sent[Any] = field(default_factory=Sent)
    #: Tasks that nobody waits for any more still run there. And the probes; both are msg_ids,
    #: with their places in `sent`.
    overrun: dict[str, int] = field(default_factory=dict)
    probes: dict[str, int] = field(default_factory=dict)
    #: The msg_ids of interrupts that may not have reached it yet.
    interrupts: set[str] = field(default_factory=set)

    @property
    def is_expected(self) -> bool:
        """Whether it has never registered, and may."""
        return not self.is_here and not self.has_departed

    @property
    def may_work(self) -> bool:
        """Whether nothing keeps it from being given tasks."""
        held = self.overrun or self.interrupts
        return self.leaving_at_s is None and self.resume_at_s is None and not held


class Engines:
    """All entries. As a container it has those that are here, the leaving ones included."""

    def __init__(self, departed_max: int = _DEPARTED_MAX) -> None:
        self._departed_max = departed_max
        self._here: dict[bytes, EngineEntry] = {}
        #: Expected or departed.
        self._absent: dict[bytes, EngineEntry] = {}
        #: Those of them that left last, oldest first.
        self._departed: dict[bytes, None] = {}
        self._by_id: dict[ev.EngineId, EngineEntry] = {}
        self._made = 0

    # --- looking --------------------------------------------------------------------------------

    def __contains__(self, uuid: bytes) -> bool:
        return uuid in self._here

    def __iter__(self) -> Iterator[EngineEntry]:
        return iter(self._here.values())

    def get(self, uuid: bytes) -> EngineEntry | None:
        """The engine, if it is here."""
        return self._here.get(uuid)

    def by_id(self, engine: ev.EngineId) -> EngineEntry | None:
        """The engine of that number, here or not, if it is known."""
        return self._by_id.get(engine)

    def find(self, uuid: bytes) -> EngineEntry | None:
        """The engine, here or not, if it is known."""
        return self._here.get(uuid) or self._absent.get(uuid)

    def known(self) -> int:
        """How many entries there are, for tests."""
        return len(self._by_id)

    # --- a job names an engine ------------------------------------------------------------------

    def name(self, uuid: bytes) -> EngineEntry:
        """A job names `uuid` as a target: `unname` it when the job has ended."""
        entry = self._entry(uuid)
        entry.named += 1
        return entry

    def unname(self, uuid: bytes) -> None:
        """A job that named `uuid` has ended."""
        entry = self.find(uuid)
        if entry is not None:
            entry.named -= 1
            self._forget_if_idle(entry)

    # --- an engine comes and goes ---------------------------------------------------------------

    def joined(self, uuid: bytes) -> EngineEntry:
        """`uuid` has registered, and was not here."""
        entry = self._entry(uuid)
        del self._absent[uuid]
        self._departed.pop(uuid, None)
        entry.is_here, entry.has_departed = True, False
        self._here[uuid] = entry
        return entry

    def left(self, uuid: bytes) -> None:
        """`uuid` is gone: it was here, or never told us."""
        entry = self._entry(uuid)
        self._here.pop(uuid, None)
        self._absent[uuid] = entry
        entry.is_here, entry.has_departed = False, True
        entry.leaving_at_s = entry.resume_at_s = None
        entry.unroutable = 0
        entry.sent.clear()
        entry.overrun.clear()
        entry.probes.clear()
        entry.interrupts.clear()
        self._departed.pop(uuid, None)
        self._departed[uuid] = None
        if len(self._departed) > self._departed_max:
            oldest = next(iter(self._departed))
            del self._departed[oldest]
            self._forget_if_idle(self._absent[oldest])

    def _entry(self, uuid: bytes) -> EngineEntry:
        entry = self.find(uuid)
        if entry is None:
            self._made += 1
            entry = EngineEntry(uuid, ev.EngineId(self._made))
            self._absent[uuid] = self._by_id[entry.id] = entry
        return entry

    def _forget_if_idle(self, entry: EngineEntry) -> None:
        if not entry.is_here and not entry.named and entry.uuid not in self._departed:
            del self._absent[entry.uuid], self._by_id[entry.id]
