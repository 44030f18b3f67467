"""Verbs that look at a cluster: dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli.app import app, ends_in_words


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
    every task, and cancel it. It needs the extra: pip install 'headway[dashboard]'.

    \b
    Example:
        headway dashboard --cluster lab
    """
    with ends_in_words():
        from headway.cli.dashboard import run

        run(cluster, host, port, token)
