"""Engines on a list of hosts, by the system's ssh: its configuration, keys and agent count.

The connection file travels over ssh's stdin, and is on no disk there for longer than its nanny
lives. That stdin stays open: when the session ends, however that happens, the engines drain.

What this file must not know: passwords. ssh asks for none (BatchMode).
"""

from __future__ import annotations

import os
import shlex
import uuid
from collections.abc import Sequence

from headway.errors import StartError
from headway.launchers.base import Block
from headway.launchers.children import Child, Children
from headway.launchers.crew import DRAIN_S, Crew, parse_duration


class SSH(Children):
    """Engines on hosts that can be reached by ssh. One block is all of them.

    Parameters:
        hosts: as ssh knows them: "node1", "user@node2".
        per_node: engines on each; default one a core of it.
        walltime: they end after so long: seconds, or a text such as "1h"; default never.
        drain: seconds that what runs may go on when they are to end.
        resources: what each engine has to give.
        python: the interpreter there; default "python3".
        cwd: the working directory there; default where ssh arrives.
        ssh: the command, with options of your own: ("ssh", "-p", "2222").
        listen: where a controller that is started for it listens; default on all interfaces.
    """

    name = "ssh"

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        per_node: int | None = None,
        walltime: str | float | None = None,
        drain: float = DRAIN_S,
        resources: dict[str, float] | None = None,
        python: str = "python3",
        cwd: str | None = None,
        ssh: Sequence[str] = ("ssh",),
        listen: str = "tcp://*",
    ) -> None:
        if isinstance(hosts, str):
            raise TypeError(f"hosts={hosts!r} is a text: give a list of hosts")
        self.hosts = list(hosts)
        if not self.hosts or not all(self.hosts):
            raise ValueError("hosts is empty, or one of them is")
        for host in self.hosts:
            if host.startswith("-"):  # ssh would take it for an option
                raise ValueError(f"{host!r} is no host: it begins with '-'")
        lifetime_s = None if walltime is None else parse_duration("walltime", walltime)
        super().__init__(Crew(per_node, lifetime_s, drain, resources or {}, python, cwd), listen)
        self._ssh = [ssh] if isinstance(ssh, str) else list(ssh)

    def start(self, connection_file: str | os.PathLike[str]) -> Block:
        """Open a session to each host, and start a nanny there."""
        running = [block for block in self._children if not self._status(block).state.is_over]
        if running:
            raise StartError(f"the hosts have their engines already: block {running[0].id}")
        path = self.check_reach(connection_file)
        text = b" ".join(path.read_bytes().split(b"\n")) + b"\n"
        engines = (self.crew.engines or 0) * len(self.hosts)
        block = Block(uuid.uuid4().hex[:8], self.name, engines)
        children = self._children[block] = []
        try:
            for host in self.hosts:
                children.append(Child(self._command(host), host, text))
        except StartError:
            for child in children:
                child.close(0.0)
            del self._children[block]
            raise
        return block

    def _command(self, host: str) -> list[str]:
        there = shlex.join(self.crew.command("-", "--lifeline"))
        if self.crew.cwd is not None:
            there = f"cd {shlex.quote(self.crew.cwd)} && exec {there}"
        return [*self._ssh, "-o", "BatchMode=yes", "-T", host, there]
