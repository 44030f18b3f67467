"""Verbs about a cluster that stays: start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.cli.app import app, ends_in_words

Durability = Annotated[
    str,
    typer.Option(
        metavar="HOW",
        help="What was acknowledged survives: off: nothing; normal: the end of the controller; "
        "full: also that of the host.",
    ),
]
JournalPath = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help="Where that is written. One that a controller left is taken over.",
        show_default="in the cluster's own directory",
    ),
]

UnfinishedTasks = Annotated[
    int,
    typer.Option(
        min=2,
        metavar="N",
        help="Tasks that have not ended; a client may have as many as are still free.",
    ),
]
UnfinishedBytes = Annotated[
    int,
    typer.Option(min=2, metavar="BYTES", help="The same for the bytes of their arguments."),
]


@app.command()
def start(
    engines: Annotated[
        int | None,
        typer.Option(
            "-n", "--engines", min=0, metavar="N", help="So many.", show_default="one a core"
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What clients on this host may call the cluster."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Serve other hosts too, encrypted: tcp://HOST[:PORT].",
            show_default="this host's user only",
        ),
    ] = None,
    connection: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Where to write the connection file: who can read it may run tasks.",
            show_default="the cluster's own directory",
        ),
    ] = None,
    scheme: Annotated[
        str,
        typer.Option(
            metavar="SCHEME",
            help="leastload, lru, twobin, weighted, plainrandom, or your module:function.",
        ),
    ] = "leastload",
    hwm: Annotated[
        str,
        typer.Option(metavar="N", help="Tasks outstanding on an engine; 0 is no limit."),
    ] = "auto",
    resource: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=AMOUNT", help="What each engine has; may be given again."),
    ] = None,
    durability: Durability = "normal",
    journal: JournalPath = None,
    unfinished_tasks_max: UnfinishedTasks = 4_000_000,
    unfinished_bytes_max: UnfinishedBytes = 4 << 30,
) -> None:
    """Start a cluster that stays, in the foreground, until Ctrl-C.

    It prints where its connection file is; programs connect to it with headway.Client(FILE),
    or headway.Client(NAME). If its controller is killed, engines go on, and clients wait: the
    same command with the same --name, or with the --journal that it printed, takes over.

    \b
    Example:
        headway start -n 4 --name lab --resource gpu=1
    """
    with ends_in_words():
        from rich.console import Console

        from headway.cli.start import StartOptions, run

        limits = (unfinished_tasks_max, unfinished_bytes_max)
        durable = (durability, journal)
        cluster = (engines, name, listen, connection, scheme, hwm, resource or [])
        run(StartOptions(*cluster, *durable, *limits), Console(highlight=False))
