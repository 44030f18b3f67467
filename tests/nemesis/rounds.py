"""A round: a durable cluster, clients that tell stories, faults; then everything heals, all tasks
must end, and nothing may be left.

What this file must not know: how one fault is done, and what is right.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import psutil

from headway.values.store import roots, sweep_dead
from headway.wire.endpoint import read_connection_file
from tests.nemesis import network_faults, process_faults, tasks
from tests.nemesis.checks import Excuses, Judge
from tests.nemesis.cluster import Cluster, Nanny, Process, nanny_of, wait_until
from tests.nemesis.faults import Fault, Plan
from tests.nemesis.process_faults import Undo
from tests.nemesis.result import Result
from tests.processes import MARK, marked
from tests.relay import Relay

#: How long stories may take once everything has healed. A client that was away tries once a
#: second; one or two deaths must be noticed; and the machine may be busy.
_DRAIN_S = 150.0
_ENGINES_A_NANNY = 2


class World:
    """What a round is played with. Must be closed; what is left then is a violation."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.directory = Path(tempfile.mkdtemp(prefix="hwn-"))
        self.mark = uuid.uuid4().hex
        self.env = {MARK: self.mark}
        for variable in ("TMPDIR", "XDG_RUNTIME_DIR"):
            place = self.directory / variable.lower()
            place.mkdir(mode=0o700)
            self.env[variable] = str(place)
        self.nannies: list[Nanny] = []
        self.clients: list[Process] = []
        self.killed_clients: list[Process] = []
        self.relays: dict[str, Relay] = {}
        self.client_prefix: list[str] = []
        self.client_connection = self.directory / "connection.json"
        self.cluster = Cluster(
            self.directory,
            0 if plan.is_spread else 3,
            listen="tcp://127.0.0.1:0" if plan.is_spread else None,
            program="tests.nemesis.impatient" if plan.is_impatient else "headway",
            env=self.env,
        )

    def begin(self) -> None:
        """Start everything, and wait until all clients are there."""
        self.cluster.start()
        self.connect()
        for seed in self.plan.story_seeds:
            plan = self.plan
            command = [
                *self.client_prefix,
                *(sys.executable, "-m", "tests.nemesis.workload", str(self.client_connection)),
                *(str(seed), str(plan.tasks), str(plan.task_s), str(plan.faults_s * 0.7)),
                *(self.runs_of(seed), str(self.report_of(seed))),
            ]
            log = self.directory / f"client{seed}.log"
            self.clients.append(Process(command, log, self.env))
            self.clients[-1].start()
        wait_until(
            lambda: all(map(tasks.read_runs, map(self.runs_of, self.plan.story_seeds))),
            "the first tasks",
        )

    def connect(self) -> None:
        """Put relays before the controller, and start the nannies of other hosts."""
        address = read_connection_file(self.cluster.connection).address
        for name in ("clients", "nannies") if self.plan.is_spread else ("clients",):
            own = f"ipc://{self.directory}/{name}.sock"
            self.relays[name] = Relay(address, *([] if self.plan.is_spread else [own]))
        if self.plan.is_spread:
            far = self.cluster.connection_through(self.relays["nannies"].address, "nannies")
            for connection in (self.cluster.connection, far):
                self.start_nanny(connection)
        near = self.relays["clients"].address
        self.client_connection = self.cluster.connection_through(near, "clients")

    def start_nanny(self, connection: Path, prefix: Sequence[str] = ()) -> None:
        """One more nanny, started by hand."""
        log = self.directory / f"nanny{len(self.nannies)}.log"
        self.nannies.append(Nanny(connection, _ENGINES_A_NANNY, log, prefix, self.env))
        self.nannies[-1].start()

    def do(self, fault: Fault) -> Undo | None:
        """Let it happen; returns what ends it, None if there was nobody to do it to."""
        if fault.kind in network_faults.DOES:
            return network_faults.DOES[fault.kind](fault, self.relays[fault.target])
        try:
            return process_faults.DOES[fault.kind](fault, self)
        except psutil.NoSuchProcess:
            return None  # it ended by itself, in this very moment

    def runs_of(self, seed: int) -> str:
        return str(self.directory / f"runs{seed}")

    def report_of(self, seed: int) -> Path:
        return self.directory / f"report{seed}.json"

    def own_nanny(self) -> psutil.Process | None:
        """The nanny of the controller's own host."""
        return nanny_of(marked(self.mark))

    def heal(self) -> None:
        """Whoever was stopped goes on, whoever is not there is started, and the network works."""
        for relay in self.relays.values():
            relay.resume()
            relay.hang_up()
        for process in marked(self.mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        for process in (self.cluster, *self.nannies):
            if not process.is_running:
                process.start()

    def close(self) -> list[str]:
        """End everything; what was left."""
        left = []
        for process in (*self.clients, self.cluster, *self.nannies):
            try:
                process.end(within_s=30.0)
            except subprocess.TimeoutExpired:
                left.append(f"{process.command[2]} did not end when it was told to")
                process.kill()
        for relay in self.relays.values():
            relay.close()
        try:
            wait_until(lambda: not marked(self.mark), "all processes to end", 20.0)
        except TimeoutError:
            left += [f"a process was left: {p.pid} {p.cmdline()}" for p in marked(self.mark)]
        # What a nanny that was killed has left of large values goes with the next one's start.
        sweep_dead([Path(self.env["TMPDIR"], root.name) for root in roots()])
        places = [Path(self.env[variable]) for variable in ("TMPDIR", "XDG_RUNTIME_DIR")]
        files = [path for place in places for path in place.glob("*/*")]
        left += [f"a file was left: {path.relative_to(self.directory)}" for path in files]
        self.clear()
        return left

    def clear(self) -> None:
        """Whatever happened, leave nothing."""
        for process in marked(self.mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in (*self.clients, self.cluster, *self.nannies):
            process.kill()
        if "HEADWAY_NEMESIS_KEEP" not in os.environ:
            shutil.rmtree(self.directory, ignore_errors=True)


def play(plan: Plan, world: World | None = None, kind: str = "chaos") -> Result:
    """Play one round, and close its world."""
    began_s = time.monotonic()
    result = Result(kind, plan.seed, tasks=plan.clients * plan.tasks)
    world = world or World(plan)
    try:
        world.begin()
        _do_faults(plan.faults, world, result)
        world.heal()
        _drain(world, result)
        _judge(world, result)
        _see_it_empty(world, result)
        result.violations += world.close()
    except (TimeoutError, RuntimeError) as error:
        result.violations.append(str(error))
    finally:
        world.clear()
    result.wall_s = time.monotonic() - began_s
    return result


def _do_faults(faults: list[Fault], world: World, result: Result) -> None:
    began_s = time.monotonic()
    ends: list[tuple[float, int, Undo]] = []

    def end_until(at_s: float) -> None:
        while ends and ends[0][0] <= at_s:
            due_s, _, undo = ends.pop(0)
            _sleep_until(began_s + due_s)
            undo()

    for number, fault in enumerate(faults):
        end_until(fault.at_s)
        _sleep_until(began_s + fault.at_s)
        undo = world.do(fault)
        if undo is None:
            continue
        result.faults[f"{fault.kind} {fault.target}"] += 1
        ends.append((fault.at_s + fault.for_s, number, undo))
        ends.sort(key=lambda end: end[:2])
    end_until(float("inf"))


def _sleep_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))


def _drain(world: World, result: Result) -> None:
    """Wait until all clients have ended; who has not says why."""
    alive = [client for client in world.clients if client not in world.killed_clients]
    try:
        wait_until(lambda: not any(c.is_running for c in alive), "stories to end", _DRAIN_S)
    except TimeoutError as error:
        result.violations.append(str(error))
        for client in alive:
            client.send(signal.SIGUSR1)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not any(c.is_running for c in alive), "their reports")


def _judge(world: World, result: Result) -> None:
    plan = world.plan
    for seed, client in zip(plan.story_seeds, world.clients, strict=True):
        story = tasks.story(random.Random(seed), plan.tasks, plan.task_s)
        runs = tasks.read_runs(world.runs_of(seed))
        result.runs += sum(what == "begin" for what, _ in runs)
        # What kills an engine takes with it the news of what has just ended there.
        is_calm = plan.is_gentle and not any(task.kind in ("crash", "cancel") for task in story)
        judge = Judge(f"client {seed}", story, runs, Excuses(plan.may_cut_off, is_calm))
        judge.judge_runs()
        if world.report_of(seed).exists():
            result.states += judge.judge_report(json.loads(world.report_of(seed).read_text()))
        elif client not in world.killed_clients:
            result.violations.append(f"client {seed} ended without a report: {client.said()}")
        result.violations += judge.violations


def _see_it_empty(world: World, result: Result) -> None:
    """All clients are gone: the scheduler must hold nothing any more, and all engines be there."""
    plan = world.plan
    expected = len(world.nannies) * _ENGINES_A_NANNY if world.nannies else 3
    wait_s = 30.0 + plan.away_timeout_s + plan.heartbeat_timeout_s
    command = [
        *world.client_prefix,
        *(sys.executable, "-m", "tests.nemesis.ask", str(world.cluster.connection)),
        *(str(expected), str(wait_s)),
    ]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        result.violations.append(f"{asked.stdout.strip()} {asked.stderr.strip()}")
