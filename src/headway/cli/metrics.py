"""`headway metrics`: `/metrics` and `/healthz` of a cluster, served for as long as it is wanted.

What this file must not know: what is served.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

import typer

from headway.cli import show, which
from headway.dashboard.hosts import is_loopback, parse_listen
from headway.errors import HeadwayError

_TOKEN_CHARS_MIN = 8


def run(where: str | None, listen: str, token_file: Path | None, is_open: bool) -> None:
    """Serve until told to stop.

    Raises:
        ValueError: an option is wrong, or it would be open to others unasked.
        HeadwayError: the extra is missing.
        OSError: it can't listen there, or the token can't be read.
    """
    host, port = parse_listen("--listen", listen)
    token = _read_token(token_file) if token_file is not None else None
    if token is None and not is_open and not is_loopback(host):
        raise ValueError(
            f"--listen {listen}: others could read the metrics; give --token-file, or --open if "
            "they may"
        )
    try:
        import prometheus_client  # noqa: F401 - to say at once that it is missing

        from headway.dashboard.exporter import serve
        from headway.dashboard.source import ANSWER_S
    except ModuleNotFoundError as error:
        raise HeadwayError(
            f"metrics need {error.name}, which is not installed: pip install 'headway[metrics]'"
        ) from None
    # What a program's user is told of the cluster is in the cluster's log.
    logging.getLogger("headway.client").setLevel(logging.ERROR)
    # Its own end of the process: then the client says goodbye on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))

    def on_ready(address: str) -> None:
        show.say(f"metrics: {address}")
        show.say("stop it with Ctrl-C")

    serve(
        lambda: which.connect(where, ANSWER_S),
        host, port, token=token, is_open=is_open, on_ready=on_ready,
        say=lambda text: typer.echo(f"headway: {text}", err=True),
    )  # fmt: skip


def _read_token(path: Path) -> str:
    token = path.read_text(encoding="utf-8").strip()
    if len(token) < _TOKEN_CHARS_MIN or not (token.isascii() and token.isprintable()):
        raise ValueError(
            f"--token-file {path}: expected a line of at least {_TOKEN_CHARS_MIN} ASCII characters"
        )
    return token
