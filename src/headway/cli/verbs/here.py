"""Verbs that need no cluster: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.cli.app import app, ends_in_words


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
    with ends_in_words():
        from rich.console import Console

        from headway.cli.demo import Settings, run

        code = run(Settings(engines, limit, check, trace), Console(highlight=False))
    raise typer.Exit(code)
