"""Faults of the network, on the relay between the controller and its clients, or nannies with
their engines. One function for each kind, which does it, and returns what ends it."""

from __future__ import annotations

from tests.nemesis.faults import Fault
from tests.nemesis.process_faults import Undo, nothing
from tests.relay import DOWN, UP, Relay


def cut(fault: Fault, relay: Relay) -> Undo:
    """All connections end; new ones work."""
    relay.cut()
    return nothing


def refuse(fault: Fault, relay: Relay) -> Undo:
    """All connections end, and nobody can connect."""
    relay.refuse()
    return relay.resume


def stall(fault: Fault, relay: Relay) -> Undo:
    """Nothing arrives, in one direction or both, and then all of it."""
    relay.stall({"stall up": (UP,), "stall down": (DOWN,)}.get(fault.kind, (UP, DOWN)))
    return relay.resume


def lose(fault: Fault, relay: Relay) -> Undo:
    """What is said gets lost; then the connections end, as TCP has it."""
    if relay.connections:
        relay.hold()
    return lambda: _end(relay)


def _end(relay: Relay) -> None:
    relay.cut()


def delay(fault: Fault, relay: Relay) -> Undo:
    """Everything comes late."""
    relay.delay(0.02 + fault.which)
    return relay.resume


def forget(fault: Fault, relay: Relay) -> Undo:
    """The peers' ends close, and the controller can't tell."""
    relay.forget()
    return relay.hang_up


def replay(fault: Fault, relay: Relay) -> Undo:
    """Somebody says again what each peer said first: its handshake, its hello."""
    relay.replay()
    return relay.hang_up


def half_open(fault: Fault, relay: Relay) -> Undo:
    """Somebody connects, and says nothing, or the beginning of a greeting."""
    relay.open_half(1 + int(fault.which * 50))
    return relay.hang_up


DOES = {
    "cut": cut,
    "refuse": refuse,
    "stall": stall,
    "stall up": stall,
    "stall down": stall,
    "lose": lose,
    "delay": delay,
    "forget": forget,
    "replay": replay,
    "half-open": half_open,
}
