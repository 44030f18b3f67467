"""A controller for tests: a ROUTER that says what the test says, and remembers what it heard.

It speaks the real wire to real nannies and engines, each reaped by `close`. Every wait has a
deadline, and fails with what was heard until then.
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
from headway.wire import codec, payload
from headway.wire import messages as m
from headway.wire.endpoint import ConnectionInfo, bind_router, write_connection_file

WAIT_S = 20.0
WIRE = WireConfig()


class Engine:
    """One engine that has said hello."""

    def __init__(self, number, identity, hello):
        self.number = number
        self.identity = identity
        self.hello = hello
        self.token = hello.token
        self.pid = hello.pid
        self.sent_functions = set()


class FakeController:
    """Welcomes whoever comes. `heard` is every message with the identity of its sender."""

    def __init__(self, directory: Path, refusal=None):
        self.directory = directory
        self.context = zmq.Context()
        self.router, address = bind_router(
            self.context, f"ipc://{directory}/controller.sock", None, WIRE
        )
        self.connection = directory / "connection.json"
        write_connection_file(self.connection, ConnectionInfo("test", address, pid=os.getpid()))
        self.refusal = refusal
        self.heartbeat_timeout_s = 15.0
        self.engines = []
        self.heard = []
        self.nanny_identity = None
        self.processes = []

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
        if isinstance(message, m.NannyHello | m.EngineHello):
            if self.refusal is not None:
                self.say(identity, m.Refused(self.refusal))
                return
            number = 0
            if isinstance(message, m.NannyHello):
                self.nanny_identity = identity
            else:
                number = len(self.engines)
                self.engines.append(Engine(number, identity, message))
            rhythm = (0.1, self.heartbeat_timeout_s)
            self.say(identity, m.Welcome(m.VERSION, "test", 1, number, *rhythm))

    def messages(self, kind, sender=None):
        """All messages of one class so far; of one engine, if `sender` is given."""
        identities = None if sender is None else (sender.identity, sender.identity + b"/out")
        return [
            message
            for identity, message in self.heard
            if isinstance(message, kind) and (identities is None or identity in identities)
        ]

    def outcomes(self, engine=None):
        """All outcomes so far, in order."""
        return [o for message in self.messages(m.Outcomes, engine) for o in message.outcomes]

    def wait_outcomes(self, count, engine=None):
        """The outcomes, once there are `count`."""
        self.wait_for(lambda: len(self.outcomes(engine)) >= count)
        return self.outcomes(engine)

    def wait_outcome(self, task):
        """The outcome of `task`."""
        return self.wait_for(lambda: next((o for o in self.outcomes() if o.task == task), None))

    def wait_death(self, engine):
        """The EngineDied of `engine`."""
        return self.wait_for(
            lambda: next((d for d in self.messages(m.EngineDied) if d.token == engine.token), None)
        )

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
