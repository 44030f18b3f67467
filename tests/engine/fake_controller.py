"""A controller for tests: a ROUTER that says what the test says, and remembers what it heard.

It speaks the real wire to real nannies and engines, each reaped by `close`. Every wait has a
deadline, and fails with what was heard until then. It can vanish and come back at the same
address, as one that was killed and started again on its journal: it knows its engines then and
their last batches, and nobody's connection.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import zmq

from headway.config import WireConfig
from headway.errors import StartError
from headway.wire import codec, payload
from headway.wire import messages as m
from headway.wire.endpoint import (
    ConnectionInfo,
    bind_router,
    make_keys,
    start_authenticator,
    write_connection_file,
)

WAIT_S = 20.0
WIRE = WireConfig()


class Engine:
    """One engine that has said hello. `hello` is its last one."""

    def __init__(self, number, identity, hello):
        self.number = number
        self.identity = identity
        self.hello = hello
        self.token = hello.token
        self.pid = hello.pid
        self.sent_functions = set()
        #: Its last batch that was taken in, and the outcomes in all of them.
        self.batch = 0
        self.outcomes = []

    def held(self):
        """What it held at its last hello."""
        return [(held.task, held.attempt) for held in self.hello.held]


class FakeController:
    """Welcomes whoever comes. `heard` is every message with the identity of its sender."""

    def __init__(self, directory: Path, listen=None):
        self.directory = directory
        self.context = zmq.Context()
        self.authenticator = None
        self.keys = None
        if listen is not None:
            self.keys = make_keys()
            self.authenticator = start_authenticator(self.context, self.keys)
        self.address = listen or f"ipc://{directory}/controller.sock"
        self.router, self.address = bind_router(self.context, self.address, self.keys, WIRE)
        self.connection = directory / "connection.json"
        self.write_connection_file(self.address)
        self.cluster = "test"
        self.epoch = 1
        #: None, or why nobody is welcome.
        self.refusal = None
        #: Whether hellos are answered.
        self.answers = True
        #: Whether outcomes are taken in and accepted.
        self.accepts = True
        self.heartbeat_timeout_s = 15.0
        self.reconnect_s = 0.0
        self.engines = []
        self.heard = []
        self.nanny_identity = None
        #: Identities that said hello to this router, or to the one before.
        self.here = set()
        self.processes = []

    def write_connection_file(self, address):
        """The file that peers find, which says that we are at `address`."""
        keys = self.keys
        info = ConnectionInfo(
            "test",
            address,
            keys and keys.server_public,
            keys and keys.client_public,
            keys and keys.client_secret,
            pid=os.getpid(),
        )
        write_connection_file(self.connection, info)

    # --- away, and back --------------------------------------------------------------------------

    def vanish(self):
        """As if killed: no word to anybody, and nobody listens any more."""
        self.router.close(linger=0)
        self.here.clear()

    def return_(self, epoch=True):
        """Listen again at the same address; `epoch`: as the next controller of the cluster."""
        self.epoch += epoch
        for engine in self.engines:
            engine.sent_functions.clear()
        deadline_s = time.monotonic() + WAIT_S
        while True:
            try:
                self.router, _ = bind_router(self.context, self.address, self.keys, WIRE)
                return
            except StartError:  # the old one is closed in the background
                assert time.monotonic() < deadline_s, "the address is not free"
                time.sleep(0.005)

    # --- processes -------------------------------------------------------------------------------

    def start_nanny(self, engines=1, config=None, **options):
        """A nanny process, whose stdin is our lifeline."""
        arguments = [
            *(sys.executable, "-m", "headway.engine.nanny"),
            *("--connection", str(self.connection), "--engines", str(engines)),
            *("--config", json.dumps({"stop_grace_s": 0.3, **(config or {})})),
        ]
        for name, value in options.items():
            text = value if isinstance(value, str) else json.dumps(value)
            arguments += [f"--{name.replace('_', '-')}", text]
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def start(self, engines=1, **options):
        """A nanny and its engines; the engines, welcomed."""
        self.start_nanny(engines, **options)
        self.wait_for(lambda: len(self.engines) == engines)
        return list(self.engines)

    def close(self):
        """End every process, and give everything back."""
        if self.nanny_identity is not None:
            self.say(self.nanny_identity, m.Bye("test over"))
        for process in self.processes:
            process.stdin.close()
            try:
                process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stderr.close()
        for engine in self.engines:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(engine.pid, signal.SIGKILL)
        self.router.close(linger=0)
        if self.authenticator is not None:
            self.authenticator.stop()
        self.context.term()

    # --- hearing ---------------------------------------------------------------------------------

    def wait_for(self, condition, timeout_s=WAIT_S):
        """Hear messages until `condition()` is true; what it returned."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := condition()):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                told = "\n".join(f"  {who!r}: {message}" for who, message in self.heard[-30:])
                raise AssertionError(f"not within {timeout_s} s; heard last:\n{told}")
            if self.router.poll(min(left_s, 0.05) * 1000):
                self.hear()
        return found

    def hear(self):
        """Take in one message."""
        identity, *frames = self.router.recv_multipart()
        if identity.startswith(b"nanny-"):
            message = codec.from_nanny().decode(frames)
        else:
            message = codec.from_engine().decode(frames)
        self.heard.append((identity, message))
        own_identity = identity.removesuffix(m.RESULTS_SUFFIX)
        if isinstance(message, m.NannyHello | m.EngineHello):
            self.on_hello(identity, message)
        elif own_identity not in self.here:
            self.say(own_identity, m.WhoAreYou())
        elif isinstance(message, m.Outcomes) and self.accepts:
            self.on_outcomes(self.engine(own_identity), message)

    def on_hello(self, identity, hello):
        """Welcome a peer, or do what else the test wants."""
        assert identity == identity.removesuffix(m.RESULTS_SUFFIX)
        if self.refusal is not None:
            self.say(identity, m.Refused(self.refusal))
            return
        number, accepted = 0, 0
        if isinstance(hello, m.NannyHello):
            self.nanny_identity = identity
        else:
            engine = self.engine(identity)
            if engine is None:
                engine = Engine(len(self.engines), identity, hello)
                self.engines.append(engine)
            assert engine.token == hello.token
            engine.hello = hello
            number, accepted = engine.number, engine.batch
        if self.answers:
            self.welcome(identity, hello, number, accepted)

    def welcome(self, identity, hello, number=0, accepted=0):
        """Answer `hello`."""
        self.here.add(identity)
        rhythm = (0.1, self.heartbeat_timeout_s)
        self.say(
            identity,
            m.Welcome(
                m.VERSION, self.cluster, self.epoch, number, *rhythm, accepted, self.reconnect_s,
                hello.nth,
            ),
        )  # fmt: skip

    def on_outcomes(self, engine, message):
        """Take in a batch, once, and say so."""
        assert message.batch <= engine.batch + 1, f"{engine.batch} was the last: {message}"
        if message.batch == engine.batch + 1:
            engine.batch += 1
            engine.outcomes += message.outcomes
        self.say(engine.identity, m.Accepted(engine.batch))

    def engine(self, identity):
        """The engine that has this identity; None if it never said hello."""
        return next((engine for engine in self.engines if engine.identity == identity), None)

    def messages(self, kind, sender=None):
        """All messages of one class so far; of one engine, if `sender` is given."""
        identities = None if sender is None else (sender.identity, sender.identity + b"/out")
        return [
            message
            for identity, message in self.heard
            if isinstance(message, kind) and (identities is None or identity in identities)
        ]

    def outcomes(self, engine=None):
        """All outcomes that were taken in so far, in order."""
        engines = self.engines if engine is None else [engine]
        return [outcome for engine in engines for outcome in engine.outcomes]

    def wait_outcomes(self, count, engine=None):
        """The outcomes, once there are `count`."""
        self.wait_for(lambda: len(self.outcomes(engine)) >= count)
        return self.outcomes(engine)

    def wait_outcome(self, task):
        """The outcome of `task`."""
        return self.wait_for(lambda: next((o for o in self.outcomes() if o.task == task), None))

    def deaths(self, engine):
        """Each time that somebody said how `engine` ended: on its own, or in a hello."""
        told = [*self.messages(m.EngineDied)]
        for hello in self.messages(m.NannyHello):
            told += hello.died
        return [died for died in told if died.token == engine.token]

    def wait_death(self, engine):
        """The EngineDied of `engine`."""
        return self.wait_for(lambda: self.deaths(engine))[0]

    def settle(self, engine):
        """`engine` has heard all that it was told."""
        before = len(self.messages(m.Returned, engine))
        self.say(engine.identity, m.GiveBack([]))
        self.wait_for(lambda: len(self.messages(m.Returned, engine)) > before)

    def wait_running(self, engine, task):
        """A heartbeat has said that `engine` runs `task`."""
        self.wait_for(
            lambda: any(
                v.token == engine.token and v.task == task
                for heartbeat in self.messages(m.Heartbeat)
                for v in heartbeat.engines
            )
        )

    def printed(self, stream="stdout"):
        """All text printed so far to `stream`: (task, text), neighbours of one task merged."""
        found = []
        for message in self.messages(m.Output):
            for line in message.lines:
                if line.stream != stream:
                    continue
                if found and found[-1][0] == line.task:
                    found[-1] = (line.task, found[-1][1] + line.text)
                else:
                    found.append((line.task, line.text))
        return found

    # --- saying ----------------------------------------------------------------------------------

    def say(self, identity, message, large=()):
        """Send one message; a peer that is gone is no error."""
        with contextlib.suppress(zmq.ZMQError):
            self.router.send_multipart([identity, *codec.encode(message, large)])

    def assign(self, engine, *calls, first=1, attempt=1, run_timeout_s=None):
        """Assign `calls`, each (function, *args), as tasks `first`, ...; their ids."""
        functions, new, tasks = [], {}, []
        for number, (function, *args) in enumerate(calls, first):
            digest, pickled = payload.dump_function(function)
            if digest not in functions:
                functions.append(digest)
            if digest not in engine.sent_functions:
                engine.sent_functions.add(digest)
                new[digest] = pickled
            arguments, _ = payload.dump_arguments(tuple(args), {})
            index = functions.index(digest)
            tasks.append(
                m.Assignment(number, attempt, index, arguments, run_timeout_s=run_timeout_s)
            )
        self.say(engine.identity, m.Assigned(functions, tasks, new))
        return [task.task for task in tasks]


def is_alive(pid):
    """Whether `pid` is a process that has not ended; a zombie has."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may go between open and read
        return False
