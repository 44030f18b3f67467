"""Malformed frames, drawn from a seed: what peers of every role might say, broken in every way.

`messages(role)` has a good one of each kind; `malformed` breaks one, on one of the layers:
what ZeroMQ sends (`Raw`), the frames of a message, msgpack in the first of them, the fields.

What this file must not know: sockets.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Any

import msgspec

from headway.core import events as ev
from headway.wire import codec
from headway.wire import messages as m

#: Of a process that there is not, so that nobody waits for it to come back.
NO_PID = 1 << 22
DIGEST = b"d" * 16
#: Tasks of a client that nobody is.
_FIRST = (1 << 20) << 40

SAMPLES: dict[str, list[Any]] = {
    "client": [
        m.Submit(1, [DIGEST], [], [ev.TaskSpec(ev.TaskId(_FIRST | 1), 0, b"x")], {DIGEST: b"f"}),
        m.Submit(1, [], [ev.GroupSpec(ev.TaskId(_FIRST | 2), [ev.TaskId(_FIRST | 1)])], []),
        m.Release(1, [ev.TaskId(_FIRST | 1)], [DIGEST]),
        m.Cancel(1, [ev.TaskId(_FIRST | 1)], True, True),
        m.Resume([ev.TaskId(_FIRST | 1)]),
        m.Ask(1, "explain", ev.TaskId(_FIRST | 1)),
        m.Shown(3),
        m.Ping(),
    ],
    "engine": [
        m.Outcomes(1, [ev.Outcome(ev.TaskId(_FIRST | 1), 1, 0, b"x")]),
        m.Returned([m.Held(ev.TaskId(_FIRST | 1), 1)], [ev.TaskId(_FIRST | 2)]),
        m.Output([m.Printed(ev.TaskId(_FIRST | 1), "stdout", "text")]),
        m.Ping(),
    ],
    "nanny": [
        m.Heartbeat([m.Vitals("nobody", ev.TaskId(_FIRST | 1), 0.5, 1 << 20)]),
        m.EngineDied("nobody", ev.EngineEnd("was killed"), ev.TaskId(_FIRST | 1), True),
        m.EnginesFailed("they do not start"),
        m.Output([m.Printed(None, "stderr", "text")], "nobody"),
    ],
    "to client": [
        m.Accepted(7),
        m.Results([m.Result(ev.TaskId(_FIRST | 1), 4, b"x", ev.EngineId(0))]),
        m.Answer(99, {"a": 1}),
        m.Output([m.Printed(ev.TaskId(_FIRST | 1), "stdout", "")]),
        m.Ping(),
    ],
    "to engine": [
        m.Accepted(0),
        m.Assigned([DIGEST], [m.Assignment(ev.TaskId(_FIRST | 1), 1, 0, b"x")], {DIGEST: b"f"}),
        m.GiveBack([ev.TaskId(_FIRST | 1)]),
        m.StopTasks([ev.TaskId(_FIRST | 1)]),
        m.Ping(),
    ],
    "to nanny": [
        m.StopEngine("nobody", "a reason", False),
        m.InterruptTasks("nobody", [ev.TaskId(_FIRST | 1)]),
        m.Ping(),
    ],
}
ROLES = ("client", "engine", "nanny")


def hello(role: str, name: str) -> Any:
    """A good hello of a peer that nobody misses."""
    if role == "client":
        return m.ClientHello(m.VERSION, name, NO_PID, "elsewhere")
    if role == "engine":
        # With a need that no task has, so that it is given none.
        return m.EngineHello(m.VERSION, name, "nobody", NO_PID, "elsewhere", {})
    return m.NannyHello(m.VERSION, name, NO_PID, "elsewhere")


def malformed(rng: Random, good: Any) -> tuple[str, list[bytes]]:
    """How `good` was broken, and its frames."""
    data = bytes(codec.encode(good)[0])
    kind = rng.choice(list(_BREAKS))
    return kind, [bytes(frame) for frame in _BREAKS[kind](rng, data)]


def _cut(rng: Random, data: bytes) -> list[bytes]:
    return [data[: rng.randrange(len(data))]]


def _flip(rng: Random, data: bytes) -> list[bytes]:
    flipped = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return [bytes(flipped)]


def _noise(rng: Random, data: bytes) -> list[bytes]:
    return [rng.randbytes(rng.randint(0, 300))]


def _other_types(rng: Random, data: bytes) -> list[bytes]:
    """The same fields with other values."""
    fields = msgspec.msgpack.decode(data)
    for name in list(fields):
        if name != "type" and rng.random() < 0.7:
            fields[name] = rng.choice(
                [None, -1, 2**64 - 1, 1.5, float("nan"), "", "x" * 1000, b"", [], {}, [[[]]], True]
            )
    return [msgspec.msgpack.encode(fields)]


def _huge(rng: Random, data: bytes) -> list[bytes]:
    """A length that no message has, at any place."""
    at = rng.randrange(len(data) + 1)
    head = rng.choice([b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"])
    return [data[:at] + head + struct.pack(">I", rng.choice([2**32 - 1, 2**31, 2**20])) + data[at:]]


def _deep(rng: Random, data: bytes) -> list[bytes]:
    return [rng.choice([b"\x91", b"\x81\xa1x"]) * rng.choice([600, 5_000]) + data]


def _frames(rng: Random, data: bytes) -> list[bytes]:
    """Frames too many, or missing, or in another order."""
    extra = [rng.randbytes(rng.choice([0, 1, 2000])) for _ in range(rng.randint(1, 5))]
    return rng.choice([[data, *extra], [*extra, data], [b""], [b"", data]])


def _twice(rng: Random, data: bytes) -> list[bytes]:
    return [data * rng.randint(2, 4)]


def _other_role(rng: Random, data: bytes) -> list[bytes]:
    return [bytes(codec.encode(rng.choice(SAMPLES[rng.choice(list(SAMPLES))]))[0])]


def _version(rng: Random, data: bytes) -> list[bytes]:
    version = rng.choice([-1, 0, 1, m.VERSION + 1, 2**40])
    return [bytes(codec.encode(m.ClientHello(version, "s"))[0])]


_BREAKS = {
    "cut": _cut,
    "flipped": _flip,
    "noise": _noise,
    "other types": _other_types,
    "huge": _huge,
    "deep": _deep,
    "frames": _frames,
    "twice": _twice,
    "other role": _other_role,
    "version": _version,
}


# --- ZMTP, by hand (RFC 23) ----------------------------------------------------------------------

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


def ready(identity: bytes, kind: bytes = b"DEALER") -> bytes:
    """The command that ends a handshake without keys."""
    body = b"\x05READY" + _property(b"Socket-Type", kind) + _property(b"Identity", identity)
    return b"\x04" + bytes([len(body)]) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def message(frames: list[bytes]) -> bytes:
    """A message as it goes over the wire."""
    out = b""
    for n, frame in enumerate(frames):
        flags = 2 | (n < len(frames) - 1)
        out += bytes([flags]) + struct.pack(">Q", len(frame)) + frame
    return out


def raw(rng: Random, identity: bytes) -> tuple[str, bytes]:
    """A connection on which ZeroMQ itself is spoken badly."""
    good = GREETING + ready(identity)
    kind = rng.choice(
        ["raw noise", "raw cut", "raw flipped", "raw length", "raw flags", "raw http"]
    )
    if kind == "raw noise":
        return kind, rng.randbytes(rng.randint(1, 2000))
    if kind == "raw cut":
        return kind, good[: rng.randrange(len(good))]
    if kind == "raw flipped":
        return kind, _flip(rng, good)[0]
    if kind == "raw length":
        size = rng.choice([2**63 - 1, 2**63, 2**64 - 1, (1 << 30) + 1])
        return kind, good + b"\x02" + struct.pack(">Q", size) + bytes(500)
    if kind == "raw flags":
        return kind, good + bytes([rng.randrange(4, 256)]) + rng.randbytes(200)
    return kind, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
