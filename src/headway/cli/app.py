"""What the verbs of `headway` have in common: the app, how they end, and their exit codes.

What this file must not know: any verb.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
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
def ends_in_words() -> Iterator[None]:
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
