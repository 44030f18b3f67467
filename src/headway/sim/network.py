"""Connections between a controller and its peers, which can be cut.

As with TCP, what travels on one connection keeps its order; what is on its way when the connection
is cut is lost, and one half of it may be dead before that. Then the peer notices, and connects
again as soon as it can. As with ZeroMQ, what a peer had sent and lay unsent may arrive after all,
on the new connection, before anything else.

A `SimRouter` is to a controller what a ROUTER is: `recv_multipart`, `send_multipart`, `poll`.
What this file must not know: what messages say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from headway.sim.faults import Faults
from headway.sim.world import World
from headway.wire.codec import Buffer

#: How often a peer tries to connect again.
_RETRY_S = 0.05


class Crashed(BaseException):
    """The controller's process ended, here and now. Not an Exception: nobody may catch it."""


class Connection:
    """One peer's end: `send` to the controller; what comes is handed to `on_frames`.

    Parameters:
        identity: the peer's, under which the controller knows it.
        on_frames, on_lost, on_connected: what the peer does when something comes, when it
            notices that the connection was cut, and when it is there again.
    """

    def __init__(
        self,
        network: Network,
        identity: bytes,
        on_frames: Callable[[list[bytes]], None],
        on_lost: Callable[[], None],
        on_connected: Callable[[], None],
    ) -> None:
        self.network = network
        self.identity = identity
        self.on_frames = on_frames
        self.on_lost = on_lost
        self.on_connected = on_connected
        self.is_up = False
        self.is_closed = False
        #: Nobody gets through before then.
        self.partitioned_until_s = 0.0
        #: Of the connection: what was sent in an older one never arrives.
        self.generation = 0
        #: Until then the controller sends into a connection that is dead, and does not know it.
        self.blind_until_s = 0.0
        self._last_in_s = 0.0
        self._last_out_s = 0.0
        #: Nothing gets through that way any more, though the connection seems to be up.
        self._is_dead_in = False
        self._is_dead_out = False
        #: Sent while it was down, and perhaps flushed when it is up again.
        self._unsent: list[list[bytes]] = []
        network.connections[identity] = self
        network.world.after(0.0, self._try)

    def send(self, frames: Sequence[Buffer]) -> None:
        """Send a message to the controller, or into the void."""
        sent = [bytes(frame) for frame in frames]
        if self.is_up:
            self._travel_in(sent)
        elif not self.is_closed:
            self._unsent.append(sent)

    def _travel_in(self, frames: list[bytes]) -> None:
        network, generation = self.network, self.generation
        self._is_dead_in = self._is_dead_in or self._loses("to")
        if self._is_dead_in:
            return
        self._last_in_s = max(self._last_in_s, self._held_up_until_s())
        copies = 2 if network.world.chance(network.faults.duplicate * network.is_troubled) else 1
        for _ in range(copies):
            self._last_in_s = at_s = max(self._last_in_s, network.world.now + network.delay_s())

            def arrive() -> None:
                if self.generation == generation and network.router is not None:
                    network.router.arrived([self.identity, *frames])

            network.world.at(at_s, arrive)

    def travel_out(self, frames: list[bytes]) -> None:
        """Carry a message from the controller to the peer."""
        network, generation = self.network, self.generation
        self._is_dead_out = self._is_dead_out or self._loses("from")
        if self._is_dead_out:
            return
        self._last_out_s = max(self._last_out_s, self._held_up_until_s())
        self._last_out_s = at_s = max(self._last_out_s, network.world.now + network.delay_s())

        def arrive() -> None:
            if self.generation == generation and not self.is_closed:
                self.on_frames(frames)

        network.world.at(at_s, arrive)

    def _loses(self, way: str) -> bool:
        """Whether this message is lost. Then the connection is dead, and is noticed to be."""
        network, generation = self.network, self.generation
        if not network.world.chance(network.faults.drop * network.is_troubled):
            return False
        network.world.say(f"{self.identity.decode()}: lost {way} the controller, and what follows")

        def notice() -> None:
            if self.generation == generation:
                self.cut()

        network.world.after(network.world.rng.uniform(0, network.faults.drop_notice_s), notice)
        return True

    def _held_up_until_s(self) -> float:
        """When this message may arrive: 0 if nothing holds it up."""
        network = self.network
        if not network.world.chance(network.faults.reorder * network.is_troubled):
            return 0.0
        return network.world.now + network.world.rng.uniform(0, network.faults.reorder_s)

    def cut(self, partition_s: float = 0.0) -> None:
        """Break the connection: what is on its way is lost, and nobody connects for a while."""
        network = self.network
        self.partitioned_until_s = network.world.now + partition_s
        if not self.is_up:
            return
        self.is_up = False
        self.generation += 1
        self.blind_until_s = network.world.now + network.world.rng.uniform(
            0, network.faults.notice_s
        )
        if not self.is_closed:
            network.world.after(network.world.rng.uniform(0, network.faults.notice_s), self._notice)

    def _notice(self) -> None:
        if not self.is_closed:
            self.on_lost()
            self._try()

    def _try(self) -> None:
        if self.is_up or self.is_closed:
            return
        network = self.network
        if network.router is None or network.world.now < self.partitioned_until_s:
            network.world.after(_RETRY_S, self._try)
            return
        self.is_up = True
        self.generation += 1
        self._last_in_s = self._last_out_s = 0.0
        self._is_dead_in = self._is_dead_out = False
        unsent, self._unsent = self._unsent, []
        if network.world.chance(network.faults.flush_old * network.is_troubled):
            for frames in unsent:
                self._travel_in(frames)
        self.on_connected()

    def close(self) -> None:
        """The peer is gone."""
        self.is_closed = True
        self.is_up = False
        self.generation += 1
        if self.network.connections.get(self.identity) is self:
            del self.network.connections[self.identity]


class SimRouter:
    """The controller's socket. `on_arrival` is called when something has come."""

    def __init__(self, network: Network, on_arrival: Callable[[], None]) -> None:
        self._network = network
        self._on_arrival = on_arrival
        self._inbox: deque[list[bytes]] = deque()
        #: Set to crash the controller after so many sends.
        self.crash_after_sends: int | None = None

    def arrived(self, message: list[bytes]) -> None:
        self._inbox.append(message)
        self._on_arrival()

    def getsockopt(self, option: int) -> int:
        assert option == zmq.EVENTS
        return zmq.POLLIN if self._inbox else 0

    def recv_multipart(self, flags: int = 0) -> list[bytes]:
        if not self._inbox:
            raise zmq.Again
        return self._inbox.popleft()

    def send_multipart(self, message: Sequence[Any], flags: int = 0, copy: bool = True) -> None:
        if self.crash_after_sends is not None:
            if self.crash_after_sends == 0:
                raise Crashed
            self.crash_after_sends -= 1
        identity, *frames = message
        connection = self._network.connections.get(bytes(identity))
        if connection is None or not connection.is_up:
            if connection is not None and self._network.world.now < connection.blind_until_s:
                return
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        connection.travel_out([bytes(frame) for frame in frames])

    def poll(self, timeout_ms: int) -> bool:
        return bool(self._inbox)

    def close(self, linger: int | None = None) -> None:
        pass


class Network:
    """All connections, by identity."""

    def __init__(self, world: World, faults: Faults) -> None:
        self.world = world
        self.faults = faults
        self.connections: dict[bytes, Connection] = {}
        #: The controller's end; None while there is no controller.
        self.router: SimRouter | None = None
        #: 1 until everything heals.
        self.is_troubled = 1

    def delay_s(self) -> float:
        """How long the next message travels."""
        tail_s = self.faults.delay_tail_s * self.is_troubled
        return self.faults.delay_s + (self.world.rng.expovariate(1 / tail_s) if tail_s else 0.0)

    def listen(self, router: SimRouter) -> None:
        """A controller is there."""
        self.router = router

    def end(self) -> None:
        """The controller is gone, and every connection with it."""
        self.router = None
        for connection in list(self.connections.values()):
            connection.cut()

    def heal(self) -> None:
        """No more trouble."""
        self.is_troubled = 0
        for connection in self.connections.values():
            connection.partitioned_until_s = 0.0
