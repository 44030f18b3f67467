"""Faults of processes: killed, or stopped for a while. One function for each kind, which does it,
and returns what ends it; None if there was nobody to do it to."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from tests.nemesis.cluster import Process, engines_of
from tests.nemesis.faults import Fault

if TYPE_CHECKING:
    from tests.nemesis.rounds import World

Undo = Callable[[], None]


def nothing() -> None:
    """There is nothing to end."""


def kill(fault: Fault, world: World) -> Undo | None:
    """SIGKILL; a controller or a nanny is started again."""
    if fault.target == "engine":
        victims = _engines(fault, world)
        for victim in victims:
            victim.kill()
        return nothing if victims else None
    process = _process(fault, world)
    if process is None:
        return None
    process.kill()
    if fault.target == "client":
        world.killed_clients.append(process)
        return nothing
    return lambda: _start_again(process)


def kill_starting(fault: Fault, world: World) -> Undo:
    """SIGKILL to a controller, and to the next one while it starts."""
    if world.cluster.is_running:
        world.cluster.kill()
    again = Process(world.cluster.command, world.cluster.log, world.env)
    again.start()
    time.sleep(fault.which)
    again.kill()
    return lambda: _start_again(world.cluster)


def stop(fault: Fault, world: World) -> Undo | None:
    """SIGSTOP, and SIGCONT."""
    if fault.target == "engine":
        victims = _engines(fault, world)
    elif fault.target == "nanny" and not world.nannies:
        own = world.own_nanny()
        victims = [own] if own is not None else []
    else:
        process = _process(fault, world)
        victims = [psutil.Process(process.pid)] if process is not None else []
    if not victims:
        return None
    for victim in victims:
        victim.send_signal(signal.SIGSTOP)

    def resume() -> None:
        for victim in victims:
            try:
                victim.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                continue  # it was killed meanwhile

    return resume


DOES = {"kill": kill, "kill starting": kill_starting, "stop": stop}


def _start_again(process: Process) -> None:
    if not process.is_running:
        process.start()


def _process(fault: Fault, world: World) -> Process | None:
    """The target, if it runs. Of the clients the last one is left alone."""
    candidates: list[Process] = {
        "controller": [world.cluster],
        "nanny": [*world.nannies],
        "client": [*world.clients[:-1]],
    }[fault.target]
    running = [process for process in candidates if process.is_running]
    return running[int(fault.which * len(running))] if running else None


def _engines(fault: Fault, world: World) -> list[psutil.Process]:
    """One engine, or what engines are forked from; none if none lives."""
    own = world.own_nanny() if not world.nannies else None
    nannies = [own.pid] if own is not None else [nanny.pid for nanny in world.nannies]
    found = [engine for pid in nannies for engine in engines_of(pid)]
    return found[int(fault.which * len(found)) :][:1]
