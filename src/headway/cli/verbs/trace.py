"""The verb that says what ran, and where the time went: trace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.cli.app import EXIT_USAGE, app, ends_in_words
from headway.cli.verbs.shared import ClusterOption, JsonOption

What = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN|ID...]",
        help="A run of `headway run`, by its name, or last; or ids of tasks and groups.",
        show_default="all that the cluster ran of late",
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="TEXT", help="Tasks with this label; again for more."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        dir_okay=False,
        help="Write a Chrome trace, which ui.perfetto.dev opens.",
    ),
]
Steps = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Show so many steps of the critical path."),
]
RecordDir = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="DIR",
        file_okay=False,
        help="Where runs are kept.",
        show_default="headway/runs in XDG_STATE_HOME or ~/.local/state",
    ),
]


@app.command()
def trace(
    what: What = None,
    label: Labels = None,
    output: Output = None,
    steps: Steps = 20,
    cluster: ClusterOption = None,
    record: RecordDir = None,
    json: JsonOption = False,
) -> None:
    """Say where the time went: the critical path, and what tasks and engines waited for.

    Of a run of `headway run`, which is kept with its record; or of what a cluster has run of late,
    of which its controller keeps the last 100,000 attempts. docs/traces.md says what the words
    mean.

    \b
    Example:
        headway trace last -o trace.json
        headway trace 1-17 1-18 --cluster lab
        headway trace --label mProject --json
    """
    with ends_in_words(wrong_value=EXIT_USAGE):
        from headway.cli.trace import TraceOptions, run

        run(
            TraceOptions(
                tuple(what or ()), tuple(label or ()), output, steps, cluster, record, json
            )
        )
