"""The verbs of `headway`, one function each: options in, one call into the verb's own module.

Rules: a verb's module is imported by the verb, so that `headway --version` stays instant; each
verb's help ends with an example; an error of headway's own is one line on stderr and exit code
1, and Ctrl-C is exit code 130, as shells have it. docs/cli.md is generated from what is here
(`python -m headway.cli.reference`). Nothing imports this file but `headway.__main__`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from headway.errors import HeadwayError

#: What a shell reports for a program that SIGINT ended: 128 and the number of the signal.
EXIT_INTERRUPTED = 130
EXIT_FAILED = 1

app = typer.Typer(
    name="headway",
    no_args_is_help=True,
    add_completion=False,
    # Plain help reads the same in a terminal, a file and docs/cli.md.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@contextmanager
def _ends_in_words() -> Iterator[None]:
    """Make an error one line, and Ctrl-C an exit code: what is open has been closed by then."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("headway: interrupted; everything that was started has been stopped", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (HeadwayError, OSError, ValueError) as error:
        typer.echo(f"headway: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headway {version('headway')}")
        raise typer.Exit


@app.callback()
def headway(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """A rich task scheduler for Python over ZeroMQ."""


@app.command()
def demo(
    engines: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="So many engines.", show_default="one a core"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="So many files, spread over all.", show_default="every file"
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare with the serial result; exit code 1 on any difference."
        ),
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write a Chrome trace, one track an engine; ui.perfetto.dev opens it.",
        ),
    ] = None,
) -> None:
    """Survey Python's standard library on engines, and compare with one process.

    Each file is read, parsed and counted by a task of its own, each package and then the
    report are made from what those tasks return. Then the same functions run one after
    another in this process.

    \b
    Example:
        headway demo --engines 2 --limit 200 --check
    """
    with _ends_in_words():
        from rich.console import Console

        from headway.cli.demo import Settings, run

        code = run(Settings(engines, limit, check, trace), Console(highlight=False))
    raise typer.Exit(code)


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
) -> None:
    """Start a cluster that stays, in the foreground, until Ctrl-C.

    It prints where its connection file is; programs connect to it with headway.Client(FILE),
    or headway.Client(NAME). If its controller is killed, engines go on, and clients wait: the
    same command with the same --name, or with the --journal that it printed, takes over.

    \b
    Example:
        headway start -n 4 --name lab --resource gpu=1
    """
    with _ends_in_words():
        from rich.console import Console

        from headway.cli.start import StartOptions, run

        run(
            StartOptions(
                engines, name, listen, connection, scheme, hwm, resource or [], durability, journal
            ),
            Console(highlight=False),
        )
