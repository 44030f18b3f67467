"""`headway dashboard`: a web server in this process, which observes a cluster as a client.

What this file must not know: what is served.
"""

from __future__ import annotations

import os
import signal
import sys

import typer

from headway.client.client import Client
from headway.dashboard.hosts import is_loopback
from headway.errors import HeadwayError
from headway.wire.endpoint import find_connection_file

#: How much the dashboard gives way: a nicer process is given what others leave.
_NICE = 10


def run(cluster: str | None, host: str, port: int, use_token: bool) -> None:
    """Serve until told to stop.

    Raises:
        ValueError: it would be open to others without a token.
        HeadwayError: no such cluster, or the extra is missing.
    """
    if not use_token and not is_loopback(host):
        raise ValueError(f"--no-token on {host}: others could cancel every task; leave it away")
    try:
        from headway.dashboard.server import serve
    except ModuleNotFoundError as error:
        raise HeadwayError(
            f"the dashboard needs {error.name}, which is not installed: "
            "pip install 'headway[dashboard]'"
        ) from None
    path = find_connection_file(cluster)
    # Whoever looks on takes no time from those who work.
    os.nice(_NICE)
    # Its own end of the process: then the client says goodbye on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with Client(path, output=False) as client:

        def on_ready(address: str) -> None:
            typer.echo(f"dashboard of {client.cluster}: {address}")
            typer.echo("stop it with Ctrl-C")
            sys.stdout.flush()

        serve(client, host, port, use_token=use_token, on_ready=on_ready)
