"""What the verbs of `headway` have in common: the app, how they end, and their exit codes.

What this file must not know: any verb.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated

import typer

from headway.errors import ConnectionLost, HeadwayError

#: How verbs end; docs/cli.md and `headway --help` say the same.
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_CLUSTER = 3
#: As `timeout` has it.
EXIT_TIME_PASSED = 124
#: What a shell reports for a program that SIGINT ended: 128 and the number of the signal.
EXIT_INTERRUPTED = 130

EXIT_CODES = {
    EXIT_OK: "done; of `wait` and `run`: all tasks succeeded",
    EXIT_FAILED: "it failed; of `wait` and `run`: some task did; "
    "of `cancel`: some task had ended before",
    EXIT_USAGE: "a wrong option, id or word; of `run`: a wrong flow",
    EXIT_NO_CLUSTER: "no cluster, more than one and none was named, or it was lost",
    EXIT_TIME_PASSED: "of `wait`: its --timeout passed",
    EXIT_INTERRUPTED: "Ctrl-C",
}

_EPILOG = "\b\nExit codes:\n" + "\n".join(
    f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items()
)

app = typer.Typer(
    name="headway",
    no_args_is_help=True,
    epilog=_EPILOG,
    # Plain help reads the same in a terminal, a file and docs/cli.md.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@contextmanager
def ends_in_words(
    interrupted: str = "everything that was started has been stopped",
    wrong_value: int = EXIT_FAILED,
) -> Iterator[None]:
    """Make an error one line, and Ctrl-C an exit code: what is open has been closed by then.

    Parameters:
        interrupted: what Ctrl-C has led to.
        wrong_value: the exit code for a ValueError.
    """
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"headway: interrupted; {interrupted}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:  # whoever read what is printed has seen enough, as `head` has
        # What is still in the buffer has nowhere to go, and must not be an error at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(EXIT_FAILED) from None
    except ConnectionLost as error:
        typer.echo(f"headway: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(EXIT_NO_CLUSTER) from None
    except ValueError as error:
        typer.echo(f"headway: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(wrong_value) from None
    except (HeadwayError, OSError) as error:
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
