"""Verbs that look at a cluster: dashboard, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.cli.app import EXIT_USAGE, app, ends_in_words
from headway.cli.verbs.shared import ClusterArgument, ClusterOption


@app.command()
def dashboard(
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="The cluster's name, or its connection file.",
            show_default="HEADWAY_CONNECTION",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Listen here. Beyond loopback it is not encrypted."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="0 is any port that is free.")
    ] = 0,
    token: Annotated[
        bool,
        typer.Option(help="Who looks must have opened the address with the token in it."),
    ] = True,
) -> None:
    """Show a cluster in the browser: tasks, engines, timeline, graph.

    It prints the address to open, and serves until Ctrl-C. Whoever has the token in it may see
    every task, and cancel it. It needs the extra: pip install 'headway[dashboard]'. /healthz, and
    with the token /metrics, are there too: see headway metrics.

    \b
    Example:
        headway dashboard --cluster lab
    """
    with ends_in_words():
        from headway.cli.dashboard import run

        run(cluster, host, port, token)


@app.command()
def metrics(
    name: ClusterArgument = None,
    cluster: ClusterOption = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Listen here; port 0 is any that is free.")
    ] = "127.0.0.1:9464",
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Who scrapes must show what is in it: Authorization: Bearer TOKEN.",
        ),
    ] = None,
    is_open: Annotated[
        bool, typer.Option("--open", help="Whoever can reach it may read, also from other hosts.")
    ] = False,
) -> None:
    """Serve a cluster's metrics for Prometheus, and its health for probes, without a browser.

    /metrics has what docs/metrics.md lists. /healthz says whether the controller answers: 200 or
    503; it needs no token. It serves until Ctrl-C, also while the cluster is not there yet or no
    more, and asks the controller only when it is asked, once a second at most. It needs the extra:
    pip install 'headway[metrics]'.

    \b
    Example:
        headway metrics lab --listen 127.0.0.1:9464
    """
    with ends_in_words(wrong_value=EXIT_USAGE):
        from headway.cli.metrics import run

        run(name or cluster, listen, token_file, is_open)
