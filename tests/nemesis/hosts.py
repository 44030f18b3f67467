"""Hosts of their own on this machine: network namespaces, joined by a switch, each with a name.

    hosts = Hosts(("a", "b"))          # raises Unsupported where the system does not allow it
    subprocess.run([*hosts.prefix("a"), "hostname"])
    hosts.cut("b")                     # its cable is out: nothing arrives, and nobody is told

What this file must not know: headway.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence

#: Of a network that exists in these namespaces alone.
_NETWORK = "10.77.0"


class Unsupported(Exception):
    """There can be no namespaces here; the message says why."""


class Hosts:
    """Hosts of these names. Must be closed."""

    def __init__(self, names: Sequence[str]) -> None:
        if os.geteuid() != 0:
            raise Unsupported("network namespaces need root")
        if shutil.which("ip") is None or shutil.which("unshare") is None:
            raise Unsupported("no ip (iproute2) or no unshare (util-linux) here")
        self._names = list(names)
        unique = uuid.uuid4().hex[:6]
        self._switch = f"hw-{unique}-switch"
        self._spaces = {name: f"hw-{unique}-{name}" for name in names}
        try:
            self._make()
        except (Unsupported, KeyboardInterrupt):
            self.close()
            raise

    def _make(self) -> None:
        for space in (self._switch, *self._spaces.values()):
            _ip("netns", "add", space)
        _ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "switch", "up")
        for name, space in self._spaces.items():
            port = self._port(name)
            _ip("link", "add", "name", port, "netns", self._switch, "type", "veth",
                "peer", "name", "eth0", "netns", space)  # fmt: skip
            _ip("-n", self._switch, "link", "set", port, "master", "switch", "up")
            _ip("-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")

    def close(self) -> None:
        """Undo it all; processes there must have ended."""
        for space in (self._switch, *self._spaces.values()):
            with contextlib.suppress(Unsupported):  # it was not made
                _ip("netns", "del", space)

    def _port(self, name: str) -> str:
        return f"port{self._names.index(name)}"

    def address(self, name: str) -> str:
        """The address of a host."""
        return f"{_NETWORK}.{self._names.index(name) + 1}"

    def prefix(self, name: str) -> list[str]:
        """What a command begins with to be run on that host, as the process that was started."""
        rename = 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"'
        space = self._spaces[name]
        return ["ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c", rename, name]

    def cut(self, name: str) -> None:
        """Nothing reaches that host, and nothing comes from it."""
        _ip("-n", self._switch, "link", "set", self._port(name), "down")

    def join(self, name: str) -> None:
        """Its cable is in again."""
        _ip("-n", self._switch, "link", "set", self._port(name), "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unsupported(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
