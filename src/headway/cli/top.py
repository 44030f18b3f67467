"""`headway top`: engines and tasks as they are now, until q or Ctrl-C.

Where nobody watches (no terminal), it is told once. What this file must not know: how a cluster
is found.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from headway.cli import show
from headway.client import steering
from headway.client.client import Client
from headway.core.listing import TaskQuery
from headway.core.states import FINAL_STATES, TaskState

_ENDED = [state.name.lower() for state in TaskState if state in FINAL_STATES]
_ROWS = 15


class Top:
    """One look after another; rates are between two of them."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._last: tuple[float, int] | None = None

    def look(self) -> Group:
        """What is to be seen now."""
        statistics = self._client.statistics()
        engines = self._client.engines()
        query = TaskQuery(
            [TaskState.RUNNING, TaskState.ASSIGNED], sort="age", reverse=True, limit=_ROWS
        )
        running = steering.tasks(self._client, query)
        tasks = statistics["tasks"]
        counts = ", ".join(f"{count:,} {state}" for state, count in tasks.items() if count)
        head = Text(f"{self._name}: {len(engines)} engines{self._rate(engines)}", style="bold")
        rest = running["found"] - len(running["tasks"])
        return Group(
            head,
            Text(f"tasks: {counts or 'none'}"),
            Text(),
            show.engine_table(engines),
            Text(),
            show.task_table(running["tasks"]),
            Text(f"and {rest:,} more on engines" if rest > 0 else ""),
        )

    def _rate(self, engines: list[Any]) -> str:
        now, done = time.monotonic(), sum(engine.done for engine in engines)
        last, self._last = self._last, (now, done)
        if last is None or now <= last[0]:
            return ""
        return f", {max(done - last[1], 0) / (now - last[0]):,.1f} tasks/s"


def run(client: Client, name: str, every_s: float) -> None:
    """Show the cluster until q or Ctrl-C; once if this is no terminal."""
    top = Top(client, name)
    console = show.console()
    if not (console.is_terminal and sys.stdin.isatty()):
        console.print(top.look())
        return
    with (
        _keys(sys.stdin.fileno()),
        contextlib.suppress(KeyboardInterrupt),
        Live(top.look(), console=console, screen=True, auto_refresh=False) as live,
    ):
        while not _is_quit(sys.stdin.fileno(), every_s):
            live.update(top.look(), refresh=True)


@contextlib.contextmanager
def _keys(fd: int) -> Iterator[None]:
    """Keys are heard as they are pressed, and not shown."""
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _is_quit(fd: int, timeout_s: float) -> bool:
    """Wait for a key; whether it was q, or no key can come any more."""
    ready, _, _ = select.select([fd], [], [], timeout_s)
    return bool(ready) and os.read(fd, 1) in (b"q", b"Q", b"")
