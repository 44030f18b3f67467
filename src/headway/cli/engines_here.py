"""`headway engines --connect FILE`: one nanny with engines on this host, for a cluster anywhere.

It stays in the foreground, until the cluster stops, its time is over, or it is told to end: then
its engines take no more tasks, and what runs has `--drain` seconds. A second Ctrl-C ends at once.

What this file must not know: how a nanny works.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headway.cli.ranks import rank_here
from headway.cli.show import say
from headway.cli.start import parse_resources
from headway.client.cluster import available_cores
from headway.config import WireConfig
from headway.engine.nanny import Nanny, NannyOptions
from headway.launchers.crew import DRAIN_S, parse_duration
from headway.logbook import choose_format, open_log
from headway.wire.endpoint import find_connection_file, read_connection_file

#: What stands for a connection file that comes on stdin, as one line.
STDIN = "-"
_LINE_BYTES_MAX = 1 << 16
#: As few seconds of a lifetime are for draining as this, where it is short.
_DRAIN_PART_MAX = 0.5


@dataclass(frozen=True, slots=True)
class EnginesOptions:
    """What was asked for."""

    connect: str
    engines: int | None = None
    lifetime: str | None = None
    drain_s: float | None = None
    resources: list[str] = field(default_factory=list)
    #: The end of stdin is the end of us.
    lifeline: bool = False
    log_format: str | None = None


def run(options: EnginesOptions) -> None:
    """Start a nanny, and be it until its end.

    Raises:
        HeadwayError: the cluster can't be reached, refuses us, or was away for too long.
        ValueError: an option is wrong.
    """
    # Whoever holds our lifeline wants us, also where that one is a rank itself.
    count = engines_here(options.engines, {} if options.lifeline else os.environ)
    if count is None:
        say("another process on this host starts the engines: this one has nothing to do")
        return
    open_log(choose_format(options.log_format))
    lifetime_s = None
    drain_s = DRAIN_S if options.drain_s is None else options.drain_s
    if options.lifetime is not None:
        lifetime_s = parse_duration("--lifetime", options.lifetime)
        drain_s = min(drain_s, lifetime_s * _DRAIN_PART_MAX)
    with _connection(options.connect) as path:
        info = read_connection_file(path)
        nanny_options = NannyOptions(
            connection=path,
            engines=count,
            resources=parse_resources(options.resources),
            sys_path=[os.getcwd()],
            cwd=Path.cwd(),
            has_lifeline=options.lifeline,
            is_orphan=True,
            lifetime_s=lifetime_s,
            drain_s=drain_s,
        )
        # Before it listens for signals itself, they end the process as usual.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: it stays
            signal.signal(signal.SIGHUP, _terminate)
        nanny = Nanny(nanny_options, WireConfig())
        try:
            engines = f"{count} engine{'s' if count != 1 else ''}"
            until = f", for {options.lifetime}" if options.lifetime is not None else ""
            say(f"{engines} for the cluster {info.cluster} at {info.address}{until}")
            say("Ctrl-C or SIGTERM: no new tasks, then end; Ctrl-C again: end now")
            nanny.run()
        finally:
            nanny.close()
    say("the engines have ended")


def engines_here(asked: int | None, environment: Mapping[str, str]) -> int | None:
    """How many engines to start; None if another process of this host's ranks does."""
    rank = rank_here(environment)
    if rank is not None and rank.number > 0:
        return None
    if asked is not None:
        return asked
    if rank is not None and rank.count > 1:
        return rank.count
    return available_cores()


@contextlib.contextmanager
def _connection(where: str) -> Iterator[Path]:
    """The path of the connection file that is meant."""
    if where != STDIN:
        yield find_connection_file(where)
        return
    text = _first_line()
    if hasattr(os, "memfd_create"):  # in memory, and gone with us
        fd = os.memfd_create("headway-connection")
        try:
            os.write(fd, text)
            yield Path(f"/proc/{os.getpid()}/fd/{fd}")
        finally:
            os.close(fd)
        return
    with tempfile.TemporaryDirectory(prefix="headway-") as directory:
        path = Path(directory, "connection.json")
        path.touch(mode=0o600)
        path.write_bytes(text)
        yield path


def _first_line() -> bytes:
    """The first line of stdin, and nothing of what follows."""
    found = bytearray()
    while len(found) < _LINE_BYTES_MAX and (byte := os.read(0, 1)) not in (b"", b"\n"):
        found += byte
    return bytes(found)


def _terminate(number: int, frame: object) -> None:
    """The terminal was closed: as SIGTERM, which the nanny knows as an ordered end."""
    os.kill(os.getpid(), signal.SIGTERM)
