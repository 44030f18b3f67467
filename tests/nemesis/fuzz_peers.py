"""Malformed frames from a controller: to a real engine, a real nanny, and real clients.

A peer believes its controller, which has its keys or its directory, but not that what arrives is
a message. What is one, and makes no sense (an answer to nothing, tasks that it does not have), is
to change nothing. What is none ends the peer, in words: an engine is replaced by its nanny, a
client's futures raise. Nobody hangs, and nobody crashes.

What this file must not know: how frames are malformed.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from pathlib import Path
from random import Random

import zmq

import headway
from headway import errors
from headway.config import WireConfig
from headway.core.states import TaskState
from headway.errors import ProtocolError
from headway.wire import codec, payload
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo, bind_router, write_connection_file
from tests.engine.fake_controller import FakeController
from tests.nemesis import frames
from tests.nemesis.result import Result
from tests.nemesis.warned import Warnings

#: What changes nothing, for one that ends a peer.
_SENSELESS_FOR_EACH = 200


def decoders(seed: int, count: int) -> Result:
    """What each kind of peer may hear is decoded, or is a ProtocolError, whose text says that it is
    a message which is wrong: nothing else."""
    rng, result = Random(seed), Result("fuzz code", seed)
    began_s = time.monotonic()
    samples = [good for goods in frames.SAMPLES.values() for good in goods]
    samples += [frames.hello(role, "name") for role in frames.ROLES]
    made = (codec.to_client, codec.to_engine, codec.to_nanny)
    made_too = (codec.from_client, codec.from_engine, codec.from_nanny, codec.hello)
    all_decoders = [make() for make in (*made, *made_too)]
    refused = 0
    for _ in range(count):
        kind, broken = frames.malformed(rng, rng.choice(samples))
        result.faults[kind] += 1
        try:
            rng.choice(all_decoders).decode(broken)
        except ProtocolError as error:
            refused += 1
            if not _is_reason(str(error)):
                result.violations.append(f"no reason: {error}")
        except Exception as error:
            result.violations.append(f"{type(error).__name__}: {error}, of {broken[0][:200]!r}")
    result.note = f"{refused:,} refused, the others are messages all the same"
    result.wall_s = time.monotonic() - began_s
    return result


def _is_reason(text: str) -> bool:
    return "message" in text or "frame" in text


# --- engines, and their nanny --------------------------------------------------------------------


def engines(seed: int, count: int) -> Result:
    """Send so many to an engine, and to those that replace it; each runs a task in between."""
    rng, result = Random(seed), Result("fuzz eng", seed)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hwn-") as directory:
        fake = FakeController(Path(directory))
        fake.reconnect_s = 100.0
        try:
            fake.start_nanny(config={"start_failures_max": 1_000_000})
            _disturb(fake, rng, count, result)
            _end_nanny(fake, rng, result)
        except AssertionError as error:
            result.violations.append(str(error)[:3_000])
        finally:
            fake.close()
    result.wall_s = time.monotonic() - began_s
    return result


def _disturb(fake: FakeController, rng: Random, count: int, result: Result) -> None:
    while sum(result.faults.values()) < count:
        fake.wait_for(lambda: fake.engines and not fake.deaths(fake.engines[-1]))
        engine = fake.engines[-1]
        for _ in range(_SENSELESS_FOR_EACH):
            fake.say(engine.identity, _senseless(rng, "to engine"))
        result.faults["senseless"] += _SENSELESS_FOR_EACH
        (task,) = fake.assign(engine, (abs, -5), first=1_000_000 + result.tasks)
        outcome = fake.wait_outcome(task)
        result.tasks += 1
        result.runs += 1
        if payload.load_result(outcome.payload) != 5:
            result.violations.append(f"an engine gave {outcome}")
        result.states["succeeded"] += 1
        kind, broken = _no_message(rng, "to engine", codec.to_engine())
        result.faults[kind] += 1
        fake.router.send_multipart([engine.identity, *broken])
        fake.wait_for(lambda engine=engine: fake.deaths(engine))
        end = fake.deaths(engine)[0].end.text
        if not _is_reason(end):
            result.violations.append(f"an engine ended without the reason: {end}")
        fake.wait_for(lambda engine=engine: fake.engines[-1] is not engine)
        del fake.heard[:-50]


def _end_nanny(fake: FakeController, rng: Random, result: Result) -> None:
    """The nanny goes on through what makes no sense; what is no message ends it, in words."""
    (nanny,) = fake.processes
    for _ in range(_SENSELESS_FOR_EACH):
        fake.say(fake.nanny_identity, _senseless(rng, "to nanny"))
    result.faults["senseless"] += _SENSELESS_FOR_EACH
    beats = len(fake.messages(m.Heartbeat))
    fake.wait_for(lambda: len(fake.messages(m.Heartbeat)) > beats + 1)
    kind, broken = _no_message(rng, "to nanny", codec.to_nanny())
    result.faults[kind] += 1
    fake.router.send_multipart([fake.nanny_identity, *broken])
    nanny.wait(30)
    said = nanny.stderr.read().decode(errors="replace")
    if nanny.returncode != 1 or "the nanny ends" not in said or "Traceback" in said:
        result.violations.append(f"the nanny ended with {nanny.returncode}: {said[-2_000:]}")


def _senseless(rng: Random, role: str) -> object:
    """A message that has no sense in this moment."""
    number = rng.choice([0, 1, 7, 2**40 | 1, 2**62])
    task = m.TaskId(number)
    if role == "to client":
        return rng.choice([
            m.Answer(number, None, "nobody asked"), m.Accepted(0), m.Ping(),
            m.Results([m.Result(m.TaskId(2**62 | number), TaskState.FAILED)]),
            m.Welcome(m.VERSION, "other", 9, 9, 1.0, 15.0, 0, 0.0, 0),
        ])  # fmt: skip
    if role == "to nanny":
        return rng.choice([
            m.StopEngine("nobody", "a reason"), m.InterruptTasks("nobody", [task]), m.Ping(),
            m.Welcome(m.VERSION, "other", 9, 0, 1.0, 15.0, 0, 0.0, 0),
        ])  # fmt: skip
    return rng.choice([
        m.GiveBack([task, task]), m.StopTasks([]), m.Accepted(0), m.Ping(), m.Assigned([], []),
        m.Assigned([], [], {}, [frames.DIGEST]),
        m.Welcome(m.VERSION, "other", 9, 9, 1.0, 15.0, 0, 0.0, 0),
    ])  # fmt: skip


def _no_message(rng: Random, role: str, decoder: codec.Decoder) -> tuple[str, list[bytes]]:
    """Frames that are no message that this peer may hear."""
    while True:
        kind, broken = frames.malformed(rng, rng.choice(frames.SAMPLES[role]))
        try:
            decoder.decode(broken)
        except ProtocolError:
            return kind, broken


# --- clients -------------------------------------------------------------------------------------


class Liar(threading.Thread):
    """A controller that welcomes clients, and answers what they ask for by nonsense."""

    def __init__(self, directory: Path, rng: Random, result: Result) -> None:
        super().__init__(daemon=True)
        self._rng = rng
        self._result = result
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        address = f"ipc://{directory}/controller.sock"
        self._router, _ = bind_router(self._context, address, None, WireConfig())
        self.connection = directory / "connection.json"
        write_connection_file(self.connection, ConnectionInfo("liar", address))
        self._is_over = threading.Event()
        self.start()

    def close(self) -> None:
        self._is_over.set()
        self.join(30)
        self._router.close(linger=0)
        self._context.term()

    def run(self) -> None:
        while not self._is_over.is_set():
            if not self._router.poll(50):
                continue
            identity, *heard = self._router.recv_multipart()
            message = codec.hello().decode(heard) if b"client-hello" in heard[0] else None
            if message is not None:
                welcome = m.Welcome(m.VERSION, "liar", 1, 1, 1.0, 15.0, 0, 60.0, message.nth)
                self._say(identity, codec.encode(welcome))
            elif b"submit" in heard[0][:20]:
                self._answer(identity)

    def _answer(self, identity: bytes) -> None:
        for _ in range(_SENSELESS_FOR_EACH):
            self._say(identity, codec.encode(_senseless(self._rng, "to client")))
        kind, broken = _no_message(self._rng, "to client", codec.to_client())
        self._result.faults["senseless"] += _SENSELESS_FOR_EACH
        self._result.faults[kind] += 1
        self._say(identity, broken)

    def _say(self, identity: bytes, said: list[codec.Buffer] | list[bytes]) -> None:
        with contextlib.suppress(zmq.ZMQError):  # it has gone
            self._router.send_multipart([identity, *said])


def clients(seed: int, count: int) -> Result:
    """So many, to one client after another: what each waits for ends in a ProtocolError."""
    result = Result("fuzz clnt", seed)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hwn-") as directory, Warnings():
        liar = Liar(Path(directory), Random(seed), result)
        try:
            while sum(result.faults.values()) < count and not result.violations:
                _one_client(liar, result)
        finally:
            liar.close()
    result.wall_s = time.monotonic() - began_s
    return result


def _one_client(liar: Liar, result: Result) -> None:
    with headway.Client(liar.connection, timeout_s=30, output=False) as client:
        result.tasks += 1
        try:
            said = client.submit(abs, -1).exception(timeout=30)
        except TimeoutError:
            result.violations.append("a client waits for ever for a controller that lies")
            return
        if not isinstance(said, errors.ProtocolError):
            result.violations.append(f"a client was told {type(said).__name__}: {said}")
        result.states["told why"] += 1
