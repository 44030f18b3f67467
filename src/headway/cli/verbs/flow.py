"""The verb that runs a flow from a file: run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.cli.app import EXIT_USAGE, app, ends_in_words
from headway.cli.verbs.shared import ClusterOption, JsonOption

FlowFile = Annotated[
    Path,
    typer.Argument(
        exists=True,
        dir_okay=False,
        readable=True,
        metavar="FILE",
        help="A flow in TOML, a workflow in WfFormat 1.5 (.json), or a Python file.",
    ),
]
Engines = Annotated[
    int | None,
    typer.Option(
        "-n", "--engines", min=1, metavar="N", help="Start so many.", show_default="one a core"
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="FACTOR",
        help="Of WfFormat: each task sleeps for its recorded time, times this.",
        show_default="1",
    ),
]
Commands = Annotated[
    bool, typer.Option("--commands", help="Of WfFormat: run the commands, do not sleep.")
]
GraphName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of a Python file: the global variable, or function, that is the flow.",
        show_default="flow, or all steps",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the graph, and run nothing.")]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Run only what failed or was cut off in this run, or has changed since; last is the "
        "newest run of this file.",
    ),
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
ChaosFlag = Annotated[
    bool,
    typer.Option(
        "--chaos",
        help="Kill and stall engines and controller while it runs, and check that each task ends "
        "once.",
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Of --chaos: run it first without trouble, and compare what each task came to.",
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, metavar="N", help="Of --chaos.", show_default="0")]


@app.command()
def run(
    flow: FlowFile,
    cluster: ClusterOption = None,
    engines: Engines = None,
    scale: Scale = None,
    commands: Commands = False,
    graph: GraphName = None,
    dry_run: DryRun = False,
    resume: Resume = None,
    record: RecordDir = None,
    chaos: ChaosFlag = False,
    seed: Seed = None,
    compare: Compare = False,
    json: JsonOption = False,
) -> None:
    """Run a flow from a file, show how far it is, and say what failed and why.

    It runs on the cluster that --cluster or HEADWAY_CONNECTION names; without either, on engines
    that are started here and stopped at its end. Exit code 0 if all tasks succeeded, 1 if some did
    not, 2 if the file or an option is wrong. Ctrl-C cancels what has not ended. docs/flows.md has
    the formats.

    \b
    Example:
        headway run examples/lakes.toml
        headway run examples/atlas.workflow.json --scale 0.01
        headway run examples/lakes.toml --resume last
    """
    with ends_in_words(wrong_value=EXIT_USAGE):
        from headway.cli.run import RunOptions
        from headway.cli.run import run as start

        options = RunOptions(
            flow, cluster, engines, scale, commands, graph, dry_run, resume, record, chaos, seed,
            compare, json,
        )  # fmt: skip
        code = start(options)
    raise typer.Exit(code)
