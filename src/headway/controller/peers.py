"""Who is connected: the table from a connection's identity to the peer behind it.

A peer introduces itself once, by a hello; from then on its identity tells its role, and thereby
what it may say. What this file must not know: sockets, and what any message leads to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from headway.controller.descriptors import CONNECTIONS, ENGINE_CONNECTIONS
from headway.controller.printed import Unshown
from headway.controller.undelivered import Undelivered
from headway.core.events import ClientId, EngineId, TaskId
from headway.wire import codec
from headway.wire import messages as m

#: Identities that broke the protocol, remembered so that they stay unheard. Bounded: the
#: oldest of so many has long gone.
_BANNED_MAX = 1_000
#: Engines that ended before their hello was read. Bounded: that of the oldest will not come.
_DEAD_MAX = 1_000
#: Clients that were given up, so that a hello which was on its way for long makes no new one of
#: them. Bounded: that of the oldest will not come.
_GONE_MAX = 1_000


@dataclass(slots=True, eq=False)
class ClientPeer:
    """A client's connection."""

    identity: bytes
    number: ClientId
    hello: m.ClientHello
    heard_at_s: float
    #: False while its connection is lost: it is told nothing, and heard only if it says hello.
    is_here: bool = True
    #: Why no engine will come, as it was told.
    told_hopeless: str = ""
    unshown: Unshown = field(default_factory=Unshown)
    undelivered: Undelivered = field(default_factory=Undelivered)
    #: It has given no sign of life for too long, and its process is there: it is stopped or busy.
    is_silent: bool = False
    #: It was told to submit no more for now.
    is_held: bool = False
    #: Tasks of whose end it wants to be told, whoever submitted them: see watchers.py.
    watched: set[TaskId] = field(default_factory=set)
    decoder: codec.Decoder[m.FromClient] = field(default_factory=codec.from_client)


@dataclass(slots=True, eq=False)
class EnginePeer:
    """An engine's two connections, and which functions it was sent."""

    identity: bytes
    number: EngineId
    hello: m.EngineHello
    heard_at_s: float
    is_here: bool = True
    functions: set[bytes] = field(default_factory=set)
    dropped_functions: list[bytes] = field(default_factory=list)
    #: What its nanny last said that it runs, and its memory.
    running: TaskId | None = None
    #: A client kills it on purpose (chaos), for which no task is charged.
    is_spared: bool = False
    rss_bytes: int = 0
    #: It was asked for by people that it takes no more tasks: then it does not when it returns.
    is_drained: bool = False
    #: Its nanny is about to end, for this reason.
    leaves: str = ""
    decoder: codec.Decoder[m.FromEngine] = field(default_factory=codec.from_engine)


@dataclass(slots=True, eq=False)
class NannyPeer:
    """A nanny's connection. An engine of it was here; why it starts no more, "" if it does."""

    identity: bytes
    hello: m.NannyHello
    heard_at_s: float
    is_here: bool = True
    has_started: bool = False
    failure: str = ""
    #: It is about to end, for this reason: see leavers.py.
    leaves: str = ""
    decoder: codec.Decoder[m.FromNanny] = field(default_factory=codec.from_nanny)


Peer = ClientPeer | EnginePeer | NannyPeer


class Peers:
    """The peers, by identity, by number and by token."""

    def __init__(self) -> None:
        self._by_identity: dict[bytes, Peer] = {}
        self._banned: OrderedDict[bytes, None] = OrderedDict()
        self._dead: OrderedDict[str, None] = OrderedDict()
        self._gone: OrderedDict[bytes, None] = OrderedDict()
        self.clients: dict[ClientId, ClientPeer] = {}
        self.engines: dict[EngineId, EnginePeer] = {}
        self.engines_by_token: dict[str, EnginePeer] = {}
        self.nannies: dict[str, NannyPeer] = {}

    def find(self, identity: bytes) -> Peer | None:
        """The peer that speaks under `identity`, on either of its connections."""
        return self._by_identity.get(identity.removesuffix(m.RESULTS_SUFFIX))

    @property
    def connections(self) -> int:
        """How many connections the peers have."""
        return CONNECTIONS * len(self._by_identity) + (ENGINE_CONNECTIONS - CONNECTIONS) * len(
            self.engines
        )

    def add(self, peer: Peer) -> None:
        """A peer was welcomed."""
        self._by_identity[peer.identity] = peer
        if isinstance(peer, ClientPeer):
            self.clients[peer.number] = peer
        elif isinstance(peer, EnginePeer):
            self.engines[peer.number] = peer
            self.engines_by_token[peer.hello.token] = peer
        else:
            self.nannies[peer.hello.token] = peer

    def remove(self, peer: Peer) -> None:
        """A peer is gone."""
        self._by_identity.pop(peer.identity, None)
        if isinstance(peer, ClientPeer):
            self.clients.pop(peer.number, None)
            self._gone[peer.identity] = None
            if len(self._gone) > _GONE_MAX:
                self._gone.popitem(last=False)
        elif isinstance(peer, EnginePeer):
            self.engines.pop(peer.number, None)
            if self.engines_by_token.get(peer.hello.token) is peer:
                del self.engines_by_token[peer.hello.token]
        elif self.nannies.get(peer.hello.token) is peer:  # it may have come back meanwhile
            del self.nannies[peer.hello.token]

    def ban(self, identity: bytes) -> None:
        """Listen to `identity` no more, on either of its connections."""
        self._banned[identity.removesuffix(m.RESULTS_SUFFIX)] = None
        if len(self._banned) > _BANNED_MAX:
            self._banned.popitem(last=False)

    def is_banned(self, identity: bytes) -> bool:
        """Whether `identity` broke the protocol."""
        return identity.removesuffix(m.RESULTS_SUFFIX) in self._banned

    def is_gone(self, identity: bytes) -> bool:
        """Whether `identity` was a client's that is not known any more: an identity is used by one
        client, so that what comes from there now was on its way for long."""
        return identity in self._gone

    def bury(self, token: str) -> None:
        """The engine `token`, which is not here, has ended: it is not to be welcomed any more."""
        self._dead[token] = None
        if len(self._dead) > _DEAD_MAX:
            self._dead.popitem(last=False)

    def is_dead(self, token: str) -> bool:
        """Whether the engine `token` ended before it was welcomed."""
        return token in self._dead

    def engines_of(self, nanny: NannyPeer) -> list[EnginePeer]:
        """The engines that `nanny` watches."""
        return [e for e in self.engines.values() if e.hello.nanny == nanny.hello.token]

    def some_nanny(self) -> NannyPeer | None:
        """One that is here, whichever."""
        return next((nanny for nanny in self.nannies.values() if nanny.is_here), None)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._by_identity.values()))
