"""Where a server listens, and by which name it was called: who could have reached it.

What this file must not know: servers.
"""

from __future__ import annotations

import ipaddress


def parse_listen(option: str, text: str) -> tuple[str, int]:
    """`HOST:PORT`, such as 127.0.0.1:9464, localhost:0, [::1]:9464.

    Raises:
        ValueError: it is not of that form.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    is_port = port.isascii() and port.isdecimal() and int(port) <= 65_535
    if not (host and colon and is_port) or (":" in host and not text.startswith("[")):
        raise ValueError(f"{option} {text}: expected HOST:PORT, such as 127.0.0.1:9464")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this host can reach what listens at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local_name(host: str) -> bool:
    """Whether a request's `Host` is a name of this host, and not one of another site's, made to
    lead here."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return name in ("localhost", "127.0.0.1", "[::1]")
