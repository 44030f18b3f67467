"""How much does the controller get through, where clients and engines cost next to nothing?

    python benchmarks/stand_ins.py [--quick] [--counts 1,10,100,1000] [--json FILE]

A real controller in a process of its own, on its real wire. One process plays all engines, which
answer each task in the moment in which it comes; this one plays a client, without futures. Both
share the machine with the controller, so that it has less than a core where there are but two:
what it could do by itself is said by its CPU time.

Two figures for each number of engines: tasks a second, from the first message to the last result,
and tasks a second of the controller's CPU time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import peers
import suite
import zmq
from timing import cpu_s, in_turn

from headway.config import WireConfig
from headway.core import events as ev
from headway.wire import codec
from headway.wire import messages as m
from headway.wire.endpoint import connect_dealer, read_connection_file

#: What the client's batches, its window and its payloads are in earnest.
BATCH = 2_000
WINDOW = WireConfig().window_tasks
ARGUMENTS = b"\x80\x05)\x94.".ljust(40, b".")
RESULT = b"\x80\x05N."
FUNCTION = b"no-op".ljust(16, b".")
START_TIMEOUT_S = 60.0
#: A controller that says nothing for so long hangs.
SILENCE_MS = 60_000
PING_S = 3.0


class Run(NamedTuple):
    """How fast a number of tasks was worked off."""

    tasks_per_s: float
    tasks_per_cpu_s: float


@contextlib.contextmanager
def controller() -> Iterator[Path]:
    """A controller without engines; the path of its connection file."""
    with tempfile.TemporaryDirectory(prefix="hw-bench-") as directory:
        path = Path(directory) / "connection.json"
        command = [sys.executable, "-m", "headway", "start", "-n", "0", "--durability", "off"]
        process = subprocess.Popen([*command, "--connection", str(path)], stdout=subprocess.DEVNULL)
        try:
            suite.wait_until(path.exists, START_TIMEOUT_S, "the controller's connection file")
            yield path
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Wire:
    """A socket to the controller, with what says and hears messages."""

    def __init__(self, context: Any, path: Path, identity: bytes, decoder: Any) -> None:
        self.socket: Any = connect_dealer(
            context, read_connection_file(path), identity, WireConfig()
        )
        self._decoder = decoder

    def say(self, message: Any) -> None:
        """Send one message."""
        self.socket.send_multipart(codec.encode(message))

    def hear(self) -> Any:
        """The next message, once it is there.

        Raises:
            TimeoutError: nothing came.
        """
        if not self.socket.poll(SILENCE_MS):
            raise TimeoutError(f"the controller said nothing for {SILENCE_MS / 1000:g} s")
        return self._decoder.decode(self.socket.recv_multipart())


class Engine:
    """A stand-in: a command connection, one for results, and a count of batches."""

    def __init__(self, context: Any, path: Path, number: int) -> None:
        token = f"stand-in-{os.getpid()}-{number}"
        identity = f"engine-{token}".encode()
        self._commands = Wire(context, path, identity, codec.to_engine())
        self._results = Wire(context, path, identity + m.RESULTS_SUFFIX, codec.to_engine())
        self._batch = 0
        self.socket = self._commands.socket
        self._commands.say(m.EngineHello(m.VERSION, token, "", os.getpid(), "stand-in", {}))

    def welcomed(self) -> None:
        """Wait until the controller has let it in."""
        answer = self._commands.hear()
        if not isinstance(answer, m.Welcome):
            raise RuntimeError(f"the controller answers a stand-in with {answer}")

    def answer_all(self) -> None:
        """Answer all that has come."""
        while self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            heard = self._commands.hear()
            if isinstance(heard, m.Assigned) and heard.tasks:
                self._batch += 1
                outcomes = [ev.Outcome(t.task, t.attempt, ev.RAN, RESULT) for t in heard.tasks]
                self._results.say(m.Outcomes(self._batch, outcomes))
            elif isinstance(heard, m.GiveBack):
                self._commands.say(m.Returned([], heard.tasks))

    def ping(self) -> None:
        """A sign of life: it has no nanny that would give it."""
        self._commands.say(m.Ping())


def play_engines(path: Path, count: int, ready: Connection) -> None:
    """So many engines in one process, until `ready` is closed at its other end."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4 * count + 64)
    engines = [Engine(context, path, number) for number in range(count)]
    poller = zmq.Poller()
    by_socket: dict[Any, Engine] = {}
    for engine in engines:
        engine.welcomed()
        by_socket[engine.socket] = engine
        poller.register(engine.socket, zmq.POLLIN)
    poller.register(ready.fileno(), zmq.POLLIN)
    ready.send(count)
    ping_at_s = time.monotonic() + PING_S
    while True:
        for socket, _ in poller.poll(1_000):
            if socket == ready.fileno():
                context.destroy(linger=0)
                return
            by_socket[socket].answer_all()
        if time.monotonic() > ping_at_s:
            ping_at_s = time.monotonic() + PING_S
            for engine in engines:
                engine.ping()


class Client:
    """A stand-in for a client: batches out, results in, and what was heard is released."""

    def __init__(self, context: Any, path: Path) -> None:
        self._wire = Wire(context, path, f"client-{os.getpid()}".encode(), codec.to_client())
        self._wire.say(m.ClientHello(m.VERSION, "stand-in", os.getpid(), os.uname().nodename))
        welcome = self._wire.hear()
        if not isinstance(welcome, m.Welcome):
            raise RuntimeError(f"the controller answers a stand-in with {welcome}")
        self._number = welcome.number
        self._batch = self._count = 0

    def run(self, tasks: int) -> float:
        """Seconds until the results of so many tasks are here."""
        sent = heard = 0
        released: list[ev.TaskId] = []
        start = time.perf_counter()
        while heard < tasks:
            while sent < tasks and sent - heard < WINDOW:
                size = min(BATCH, tasks - sent)
                self._submit(size)
                sent += size
            message = self._wire.hear()
            if isinstance(message, m.Results):
                heard += len(message.results)
                released += [result.task for result in message.results]
                if len(released) >= BATCH or heard == tasks:
                    self._batch += 1
                    self._wire.say(m.Release(self._batch, released))
                    released = []
            elif isinstance(message, m.Refused | m.Bye):
                raise RuntimeError(f"the controller said {message}")
        return time.perf_counter() - start

    def _submit(self, size: int) -> None:
        first = self._count + 1
        self._count += size
        client = ev.ClientId(self._number)
        specs = [
            ev.TaskSpec(ev.task_id(client, number), 0, ARGUMENTS)
            for number in range(first, self._count + 1)
        ]
        self._batch += 1
        new: dict[bytes, bytes | int] = {FUNCTION: b"function"} if self._batch == 1 else {}
        self._wire.say(m.Submit(self._batch, [FUNCTION], [], specs, new))


@contextlib.contextmanager
def cluster(engines: int) -> Iterator[tuple[Client, int]]:
    """A client of a controller with so many stand-ins; and the controller's process id."""
    with controller() as path:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=play_engines, args=(path, engines, theirs), daemon=True)
        process.start()
        theirs.close()
        zmq_context: Any = zmq.Context()
        try:
            if not ours.poll(START_TIMEOUT_S * 2):
                raise TimeoutError(f"{engines} stand-ins were not let in")
            ours.recv()
            yield Client(zmq_context, path), peers.connection_pid(str(path))
        finally:
            zmq_context.destroy(linger=0)
            ours.close()
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()


def measure(client: Client, pid: int, tasks: int) -> Run:
    """One run."""
    before_s = cpu_s(pid)
    wall_s = client.run(tasks)
    return Run(tasks / wall_s, tasks / (cpu_s(pid) - before_s))


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    made = suite.parser(__doc__)
    made.add_argument("--counts", default=None, help="of engines; 1,10,100,1000; quick: 2,50")
    made.add_argument("--tasks", type=int, help="in a run; default 100000; 20000 with --quick")
    args = suite.parse(made, argv)
    tasks = args.tasks or (20_000 if args.quick else 100_000)
    default = "2,50" if args.quick else "1,10,100,1000"
    counts = [int(count) for count in (args.counts or default).split(",")]
    suite.only(args, [suite.BASE], "their schedulers speak wires of their own")
    report = suite.Report("stand_ins", args)
    with contextlib.ExitStack() as undo:
        clusters = {str(count): undo.enter_context(cluster(count)) for count in counts}
        runs = in_turn(
            {name: partial(measure, *both, tasks) for name, both in clusters.items()},
            args.repetitions,
        )
    for key, title, index in (
        ("wall", "controller with engines that answer at once, by their number", 0),
        ("cpu", "the same, by the controller's CPU time", 1),
    ):
        figures = {name: [run[index] for run in of_one] for name, of_one in runs.items()}
        unit = "tasks/s" if key == "wall" else "tasks/CPU s"
        facts = {"tasks": tasks}
        report.add(suite.Measure(key, title, unit, figures, base=str(counts[0]), facts=facts))
    report.finish()


if __name__ == "__main__":
    suite.main(main)
