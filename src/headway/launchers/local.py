"""Engines on this host, beside those that a cluster has: for trying things out, and for tests.

What this file must not know: other hosts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from headway.launchers.base import Block
from headway.launchers.children import Child, Children
from headway.launchers.crew import DRAIN_S, Crew, parse_duration
from headway.wire.endpoint import read_connection_file


class Local(Children):
    """Engines on this host.

    Parameters:
        per_node: how many; default one a core.
        walltime: they end after so long: seconds, or a text such as "1h"; default never.
        drain: seconds that what runs may go on when they are to end.
        resources: what each engine has to give.
        python: their interpreter; default this one.
        cwd: their working directory; default this one.
    """

    name = "local"

    def __init__(
        self,
        *,
        per_node: int | None = None,
        walltime: str | float | None = None,
        drain: float = DRAIN_S,
        resources: dict[str, float] | None = None,
        python: str | None = None,
        cwd: str | None = None,
    ) -> None:
        lifetime_s = None if walltime is None else parse_duration("walltime", walltime)
        crew = Crew(per_node, lifetime_s, drain, resources or {}, python or sys.executable, cwd)
        super().__init__(crew, None)

    def start(self, connection_file: str | os.PathLike[str]) -> Block:
        """Start one nanny with its engines."""
        path = Path(connection_file).absolute()
        read_connection_file(path)  # what is wrong with it is said here
        child = Child(self.crew.command(str(path), "--lifeline"), "this host", cwd=self.crew.cwd)
        block = Block(str(child.process.pid), self.name, self.crew.engines or 0)
        self._children[block] = [child]
        return block
