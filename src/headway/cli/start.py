"""`headway start`: a cluster that stays, in the foreground, until Ctrl-C, SIGTERM, or the end of
its terminal.

What this file must not know: the scheduler. It starts a controller in this process, and says
where to find it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from headway.client.cluster import available_cores, value_store_url
from headway.collector import tune_garbage_collection
from headway.config import HWM_AUTO, NESTED_DEPTH, AdmissionConfig
from headway.controller.journal import NORMAL
from headway.controller.serve import Settings, serve
from headway.core.events import AMOUNT_MAX
from headway.core.limits import check_tag, parse_limit
from headway.logbook import choose_format
from headway.wire.endpoint import cluster_dir, read_connection_file


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What `headway start` was asked for. None is the default of the controller's settings."""

    engines: int | None = None
    name: str | None = None
    listen: str | None = None
    connection: Path | None = None
    scheme: str = "leastload"
    hwm: str = HWM_AUTO
    resources: list[str] = field(default_factory=list)
    durability: str = NORMAL
    journal: Path | None = None
    unfinished_tasks_max: int = AdmissionConfig().unfinished_tasks_max
    unfinished_bytes_max: int = AdmissionConfig().unfinished_bytes_max
    limits: list[str] = field(default_factory=list)
    adaptive: str | None = None
    traced_max: int = Settings().traced_max
    log_format: str | None = None
    value_store: str | None = None
    nested_depth: int = NESTED_DEPTH


def parse_hwm(text: str) -> int | str:
    """`--hwm`: auto, or a number from 0.

    Raises:
        ValueError: it is neither.
    """
    if text == HWM_AUTO:
        return text
    if not text.isdecimal():
        raise ValueError(f"--hwm {text}: expected auto, or a number from 0 (no limit)")
    return int(text)


def parse_resources(texts: list[str]) -> dict[str, float]:
    """`--resource NAME=AMOUNT`, as often as given.

    Raises:
        ValueError: one of them is not of that form.
    """
    found = {}
    for text in texts:
        name, equals, amount = text.partition("=")
        try:
            number = float(amount)
        except ValueError:
            number = -1.0
        if not (name and equals and 0 <= number <= AMOUNT_MAX):
            raise ValueError(
                f"--resource {text}: expected NAME=AMOUNT, such as gpu=2, "
                f"of at most {AMOUNT_MAX:,.0f}"
            )
        found[name] = number
    return found


def parse_limits(option: str, texts: list[str]) -> dict[str, str]:
    """TAG=LIMIT, as often as given.

    Raises:
        ValueError: one of them is not of that form.
    """
    found = {}
    for text in texts:
        tag, equals, limit = text.rpartition("=")
        if not equals:
            raise ValueError(f"{option} {text}: expected TAG=LIMIT, such as db=4 or api=10/s")
        try:
            found[check_tag(tag)] = str(parse_limit(limit))
        except ValueError as error:
            raise ValueError(f"{option} {text}: {error}") from None
    return found


def parse_adaptive(text: str) -> tuple[int, int]:
    """`--adaptive LEAST:MOST`.

    Raises:
        ValueError: it is not of that form.
    """
    least, _, most = text.partition(":")
    are_numbers = least.isdecimal() and most.isdecimal()
    if not are_numbers or not max(1, int(least)) <= int(most) <= 10_000:
        raise ValueError(
            f"--adaptive {text}: expected LEAST:MOST, such as 1:8, of 0 to 10,000 engines, and 1 "
            "at most or more"
        )
    return int(least), int(most)


def settings_of(options: StartOptions) -> Settings:
    """What the controller is started with.

    Raises:
        ValueError: --hwm, --resource, --limit, --adaptive or --log-format is not of its form.
    """
    adaptive = parse_adaptive(options.adaptive) if options.adaptive is not None else None
    engines = available_cores() if options.engines is None else options.engines
    if adaptive is not None:
        engines = min(max(options.engines or 0, adaptive[0]), adaptive[1])
    return Settings(
        engines=engines,
        adaptive=adaptive,
        hwm=parse_hwm(options.hwm),
        scheme=options.scheme,
        resources=parse_resources(options.resources),
        engine_command=[sys.executable],
        sys_path=[os.getcwd()],
        cwd=os.getcwd(),
        name=options.name,
        listen=options.listen,
        connection=str(options.connection) if options.connection is not None else None,
        durability=options.durability,
        journal=str(options.journal) if options.journal is not None else None,
        unfinished_tasks_max=options.unfinished_tasks_max,
        unfinished_bytes_max=options.unfinished_bytes_max,
        limits=parse_limits("--limit", options.limits),
        traced_max=options.traced_max,
        log_format=choose_format(options.log_format),
        value_store=value_store_url(options.value_store),
        nested_depth=options.nested_depth,
    )


def run(options: StartOptions, console: Console) -> None:
    """Serve until told to stop."""

    def on_ready(directory: Path, lines: list[str]) -> None:
        for line in [*lines, "stop it with Ctrl-C"]:
            console.print(line, soft_wrap=True)

    console.print(f"stopped: {serve_until_told(options, on_ready)}", soft_wrap=True)


def serve_until_told(options: StartOptions, on_ready: Callable[[Path, list[str]], None]) -> str:
    """Serve until told to stop; returns why.

    Parameters:
        on_ready: called with the cluster's directory, and what people should know, once clients
            may connect.

    Raises:
        HeadwayError: it could not be started, or can't go on.
    """
    settings = settings_of(options)

    def tell(path: Path, journal: Path | None) -> None:
        directory = cluster_dir(read_connection_file(path))
        # By its name it is found in its own directory alone.
        where = options.name if options.name and options.connection is None else str(path)
        lines = [f"connection file: {path}", f'in Python:       headway.Client("{where}")']
        if journal is not None:
            again = f"--name {options.name}" if options.name else f"--journal {journal}"
            lines.append(f"if it is killed: headway start {again}")
        on_ready(directory, lines)

    tune_garbage_collection()
    # Ctrl-C before the controller listens for it ends the process as usual; from then on it is
    # an ordered stop.
    signal.signal(signal.SIGTERM, _exit)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: it stays
        signal.signal(signal.SIGHUP, _terminate)
    return serve(settings, None, tell)


def _exit(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _terminate(number: int, frame: object) -> None:
    """The terminal was closed: as SIGTERM, which the controller knows as an ordered stop."""
    os.kill(os.getpid(), signal.SIGTERM)
