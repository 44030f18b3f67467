"""`headway stop`, `status`, `engines` and `limits`: a whole cluster, looked at and steered.

What this file must not know: how a cluster is found (which.py), and tasks one by one.
"""

from __future__ import annotations

import difflib
import time
from dataclasses import asdict
from typing import Any

import headway
from headway import processes
from headway.cli import show, which
from headway.cli.app import EXIT_FAILED, EXIT_OK
from headway.cli.start import parse_limits
from headway.client import steering
from headway.client.observing import count_engines
from headway.core.states import FINAL_STATES, TaskState
from headway.core.words import plural
from headway.errors import ConnectionLost
from headway.wire.endpoint import read_connection_file

#: The controller gives its nanny and engines some 5 s.
_STOP_S = 30.0
#: Between two looks of a check.
_CHECK_S = 0.1

#: What can be done with engines, and whether it wants an engine or a number.
ACTIONS = ("list", "add", "drain", "stop", "restart")


def stop(where: str | None, keep_tasks: bool, as_json: bool) -> None:
    """Stop the cluster, and say what that was."""
    found = which.find(where)
    with which.connect(found) as client:
        info = read_connection_file(client.connection_file)
        engines = len(client.engines())
        open_tasks = _open_tasks(client.statistics())
        identity = processes.process_identity(info.pid)
        steering.stop_cluster(client, keep_tasks, _STOP_S)
    # Of another host's, the goodbye is all that can be had.
    is_over = not identity or processes.wait_end(identity, _STOP_S)
    name = info.cluster
    if as_json:
        show.say_json(
            {"cluster": name, "engines": engines, "open_tasks": open_tasks, "kept": keep_tasks}
        )
        return
    became = "kept" if keep_tasks else "cancelled"
    text = f"stopped {name}: {plural(engines, 'engine')}, {plural(open_tasks, 'open task')}"
    show.say(f"{text} {became}" if open_tasks else text)
    if keep_tasks:
        show.say(f"go on with: headway start --name {name}")
    if not is_over:
        show.say(f"its controller (process {info.pid}) is still closing down")


def status(where: str | None, as_json: bool) -> None:
    """How the cluster is."""
    with which.connect(where) as client:
        info = read_connection_file(client.connection_file)
        engines = client.engines()
        statistics = client.statistics()
    if as_json:
        show.say_json(
            {
                "cluster": info.cluster,
                "address": info.address,
                "pid": info.pid,
                "connection_file": str(client.connection_file),
                "engines": [asdict(engine) for engine in engines],
                "statistics": statistics,
            }
        )
        return
    draining = sum(engine.state == "draining" for engine in engines)
    load = sum(engine.load for engine in engines)
    tasks = statistics["tasks"]
    for label, text in (
        ("cluster", info.cluster),
        ("address", info.address),
        ("controller", f"process {info.pid}"),
        ("engines", f"{len(engines)}, {draining} draining, {load} tasks on them"),
        ("clients", f"{statistics['clients'] - 1} beside this one"),
        ("tasks", ", ".join(f"{n:,} {s}" for s, n in tasks.items() if n) or "none"),
        ("since start", f"{statistics['submitted']:,} tasks submitted"),
    ):
        show.say(f"{label + ':':<12} {text}")


def check(where: str | None, engines_min: int, timeout_s: float, as_json: bool) -> int:
    """Wait until the controller answers and so many engines are here, `timeout_s` at most. Returns
    the exit code: EXIT_FAILED if there are fewer.

    Raises:
        HeadwayError: it does not answer.
    """
    give_up_at_s = time.monotonic() + timeout_s
    with _connect_until(where, give_up_at_s) as client:
        while True:
            left_s = max(give_up_at_s - time.monotonic(), _CHECK_S)
            count = count_engines(client, left_s)
            if count >= engines_min or time.monotonic() + _CHECK_S >= give_up_at_s:
                break
            time.sleep(_CHECK_S)
    is_ok = count >= engines_min
    if as_json:
        show.say_json({"status": "ok" if is_ok else "too few engines", "engines": count})
    else:
        few = "" if is_ok else f", fewer than {engines_min}"
        show.say(f"the controller answers; {plural(count, 'engine')}{few}")
    return EXIT_OK if is_ok else EXIT_FAILED


def _connect_until(where: str | None, give_up_at_s: float) -> headway.Client:
    """A client of the cluster, which may not be there yet.

    Raises:
        ConnectionLost: nor was it until then.
    """
    while True:
        try:
            return which.connect(where, max(give_up_at_s - time.monotonic(), _CHECK_S))
        except ConnectionLost:
            if time.monotonic() + _CHECK_S >= give_up_at_s:
                raise
        time.sleep(_CHECK_S)


def engines(where: str | None, action: str, subject: str | None, as_json: bool) -> None:
    """List engines, or have them started, drained, stopped or restarted.

    Raises:
        ValueError: the action, the engine or the number is none.
    """
    check_action(action)
    with which.connect(where) as client:
        if action == "list":
            found = client.engines()
            if as_json:
                show.say_json([asdict(engine) for engine in found])
            else:
                show.console().print(show.engine_table(found))
            return
        if action == "add":
            text = steering.start_engines(client, _count(subject))
        else:
            text = steering.steer_engine(client, action, _engine(action, subject))
    if as_json:
        show.say_json({"text": text})
    else:
        show.say(text)


def limits(where: str | None, changes: list[str], as_json: bool) -> None:
    """Change limits, and show them all.

    Raises:
        ValueError: a change is not of the form TAG=LIMIT.
    """
    wanted = parse_limits("limits", changes)
    with which.connect(where) as client:
        for tag, limit in wanted.items():
            client.set_limit(tag, limit)
        found = client.limits()
    if as_json:
        show.say_json(found)
    elif found:
        show.console().print(show.limit_table(found))
    else:
        show.say("no tag has a limit, or a task")


def check_action(action: str) -> None:
    """Raise ValueError unless `action` is one, and suggest which it may be."""
    if action not in ACTIONS:
        near = difflib.get_close_matches(action, ACTIONS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{action!r} is none of {', '.join(ACTIONS)}{hint}")


def _count(subject: str | None) -> int:
    text = subject or "1"
    if not text.isdecimal() or not 0 < int(text) <= 10_000:
        raise ValueError(f"add {text}: expected how many, from 1 to 10,000")
    return int(text)


def _engine(action: str, subject: str | None) -> int:
    digits = (subject or "").removeprefix("e")
    if not digits.isdecimal():
        raise ValueError(f"{action} {subject or ''}: expected an engine's id, such as e0")
    return int(digits)


def _open_tasks(statistics: dict[str, Any]) -> int:
    final = {state.name.lower() for state in FINAL_STATES}
    return sum(
        statistics["tasks"][state.name.lower()]
        for state in TaskState
        if state.name.lower() not in final
    )
