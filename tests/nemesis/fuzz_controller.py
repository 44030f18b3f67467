"""Malformed frames on the controller's socket, as any peer, while a good client works.

Each peer says what it has in one breath, on a connection of its own, and at the end something that
nobody can take for a message: so each must be told that it is refused, or find its connection
closed, before the attack goes on much further. The controller must go on, its memory must not
grow with what it was told, and the good client's tasks must all end well.

What this file must not know: how frames are malformed.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections import deque
from pathlib import Path
from random import Random

import psutil

import headway
from headway.wire import codec
from headway.wire.endpoint import read_connection_file
from headway.wire.messages import RESULTS_SUFFIX
from tests.nemesis import frames
from tests.nemesis.cluster import Cluster, wait_until
from tests.nemesis.result import Result
from tests.nemesis.warned import Warnings
from tests.processes import MARK, marked

_OPEN_MAX = 64
_ANSWER_S = 30.0
_NO_MESSAGE = frames.message([b"\xc1"])
#: After so many, the controller must have heard them all.
_PACE = 500
_FLOOD = 20
#: What its memory may do from the first fifth of the frames to the last.
_GROWTH = 1.3
_GROWTH_BYTES = 32 << 20


class GoodClient(threading.Thread):
    """Works, and sees that all of it is right. `stop` ends it."""

    def __init__(self, client: headway.Client) -> None:
        super().__init__(daemon=True)
        # The resource keeps its tasks from engines that are none.
        self._view = client.options(resources={"good": 1}, crash_limit=1_000)
        self._gather = client.gather
        self.tasks = 0
        self.failure = ""
        self._is_over = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            while not self._is_over.is_set():
                found = self._gather(self._view.map(abs, range(-20, 0)), timeout=60)
                if found != list(range(20, 0, -1)):
                    self.failure = f"the good client was given {found}"
                    return
                self.tasks += 20
                self._is_over.wait(0.005)
        except Exception as error:
            self.failure = f"the good client failed: {type(error).__name__}: {error}"

    def stop(self) -> None:
        self._is_over.set()
        self.join(90)


class Attack:
    """Sends malformed frames to one local socket."""

    def __init__(self, path: str, seed: int, result: Result) -> None:
        self._path = path
        self._rng = Random(seed)
        self._result = result
        self._open: deque[socket.socket] = deque()
        #: Those to whom nobody owes an answer: they have not spoken to an end.
        self._halves: deque[socket.socket] = deque()
        self.sent = 0
        #: Peers that were told why they are not heard any more.
        self.refused = 0

    def close(self) -> None:
        """Hang up."""
        for end in self._halves:
            end.close()
        while self._open:
            self._see_refused(self._open.popleft())

    def send(self) -> None:
        """One more peer that says something malformed."""
        rng = self._rng
        role = rng.choice(frames.ROLES)
        identity = f"{role}-fuzz-{self.sent}".encode()
        chance = rng.random()
        if chance < 0.15:
            kind, data = frames.raw(rng, identity)
            self._halves.append(self._say(kind, data))
            if len(self._halves) > _OPEN_MAX:
                self._halves.popleft().close()
            return
        if chance < 0.16:
            hello = frames.message([bytes(codec.encode(frames.hello(role, identity.decode()))[0])])
            opening = frames.GREETING + frames.ready(identity)
            self._speak("hellos", opening + hello * _FLOOD, _FLOOD)
            return
        is_results = role == "engine" and rng.random() < 0.2
        opening = frames.GREETING + frames.ready(identity + RESULTS_SUFFIX * is_results)
        if chance < 0.8 and not is_results:
            hello = bytes(codec.encode(frames.hello(role, identity.decode()))[0])
            opening += frames.message([hello])
            good = rng.choice(frames.SAMPLES[role])
        else:
            good = frames.hello(role, identity.decode())
        kind, broken = frames.malformed(rng, good)
        self._speak(kind, opening + frames.message(broken))

    def _speak(self, kind: str, data: bytes, count: int = 1) -> None:
        self._open.append(self._say(kind, data + _NO_MESSAGE, count))
        if len(self._open) > _OPEN_MAX:
            self._see_refused(self._open.popleft())

    def _say(self, kind: str, data: bytes, count: int = 1) -> socket.socket:
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(30)
        deadline_s = time.monotonic() + 30
        while True:
            try:
                end.connect(self._path)
                break
            except BlockingIOError:  # its backlog is full
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.001)
        with contextlib.suppress(ConnectionError):  # it had enough before it had heard all
            end.sendall(data)
        self.sent += count
        self._result.faults[kind] += count
        return end

    def _see_refused(self, end: socket.socket) -> None:
        """Wait until it was told so, or its connection is closed; then hang up."""
        said = b""
        end.settimeout(_ANSWER_S)
        try:
            while b"refused" not in said:
                data = end.recv(1 << 16)
                if not data:
                    break
                said = said[-20:] + data
            self.refused += 1
        except TimeoutError:
            self._result.violations.append(f"a peer was not answered in {_ANSWER_S:g} s: {said!r}")
        except ConnectionError:
            self.refused += 1
        end.close()


def run(seed: int, count: int) -> Result:
    """Send so many to a new cluster."""
    result = Result("fuzz ctrl", seed)
    directory, mark = Path(tempfile.mkdtemp(prefix="hwn-")), uuid.uuid4().hex
    env = {MARK: mark, "XDG_RUNTIME_DIR": str(directory)}
    more = ("--resource", "good=1000")
    program = "tests.nemesis.impatient"  # an engine that is none is missed after seconds
    cluster = Cluster(directory, 2, program=program, more=more, env=env)
    began_s = time.monotonic()
    try:
        cluster.start()
        _attack(cluster, seed, count, result)
    except (TimeoutError, RuntimeError, headway.errors.HeadwayError, OSError) as error:
        result.violations.append(f"{type(error).__name__}: {error}; it said {cluster.said()}")
    finally:
        cluster.close()
        try:
            wait_until(lambda: not marked(mark), "all processes to end", 20.0)
        except TimeoutError:
            result.violations += [f"a process was left: {p.pid}" for p in marked(mark)]
            for process in marked(mark):
                process.kill()
        shutil.rmtree(directory)
    result.wall_s = time.monotonic() - began_s
    return result


def _attack(cluster: Cluster, seed: int, count: int, result: Result) -> None:
    path = read_connection_file(cluster.connection).address.removeprefix("ipc://")
    process = psutil.Process(cluster.pid)
    attack = Attack(path, seed, result)
    rss_bytes: list[int] = []
    with Warnings(), headway.Client(cluster.connection, timeout_s=60, output=False) as client:
        client.wait_for_engines(2)
        good = GoodClient(client)
        try:
            while attack.sent < count and not good.failure:
                paced = attack.sent + _PACE
                while attack.sent < min(paced, count):
                    attack.send()
                client.statistics()  # it has heard what was sent before
                rss_bytes.append(process.memory_info().rss)
            attack.close()
            seen: dict[str, object] = {}

            def is_as_before() -> bool:
                seen.update(client.statistics())
                return (seen["clients"], seen["engines"]) == (1, 2)

            wait_until(is_as_before, f"one client and two engines to be left; last {seen}")
        finally:
            good.stop()
    first, last = rss_bytes[len(rss_bytes) // 5], rss_bytes[-1]
    if last > first * _GROWTH + _GROWTH_BYTES:
        result.violations.append(f"the controller grew from {first:,} to {last:,} bytes")
    if good.failure or not good.tasks:
        result.violations.append(good.failure or "the good client did nothing")
    result.tasks = result.runs = good.tasks
    result.states["succeeded"] = good.tasks
    result.note = f"{attack.refused:,} refused; controller {first >> 20} to {last >> 20} MiB"
