"""Verbs that need no cluster: demo, memo, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.cli.app import app, ends_in_words
from headway.cli.verbs.shared import JsonOption


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


@app.command()
def memo(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            file_okay=False,
            help="The folder, where clients have another memo_dir.",
            show_default="headway/memo in XDG_CACHE_HOME or ~/.cache",
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete all results and runs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is kept under memo=True and run="name": how much, and the runs, the newest first.

    Programs that go on meanwhile are not disturbed by --clear: what they would have found, they
    run again. docs/memo.md has more.

    \b
    Example:
        headway memo
        headway memo --clear
    """
    with ends_in_words():
        from headway.cli.memo import memo as show_memo

        show_memo(folder, clear, as_json)


FlowFile = Annotated[
    Path,
    typer.Argument(
        exists=True,
        dir_okay=False,
        readable=True,
        metavar="FLOW",
        help="A workflow in WfFormat 1.5 (JSON), or the journal of headway start.",
    ),
]
EnginesChoices = Annotated[
    list[str] | None,
    typer.Option("-n", "--engines", metavar="N,...", help="So many.", show_default="8"),
]
HwmChoices = Annotated[
    list[str] | None,
    typer.Option(
        metavar="N,...",
        help="Tasks outstanding on an engine: auto, or a number; 0 is no limit.",
        show_default="auto",
    ),
]
SchemeChoices = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SCHEME,...",
        help="leastload, lru, twobin, weighted, plainrandom, or your module:function.",
        show_default="leastload",
    ),
]
OverheadUs = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="MICROSECONDS",
        help="The round trip of a dispatch; the default was measured on two cores: README.md.",
    ),
]
Failures = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.95,
        metavar="P",
        help="So probably a run raises, at some point of its time, and is tried again.",
    ),
]
PlotFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", dir_okay=False, help="Write a chart of its engines over time, as SVG."
    ),
]


@app.command()
def simulate(
    flow: FlowFile,
    engines: EnginesChoices = None,
    hwm: HwmChoices = None,
    scheme: SchemeChoices = None,
    overhead_us: OverheadUs = 665.0,
    scale: Annotated[
        float, typer.Option(min=0, metavar="FACTOR", help="Multiply all runtimes by this.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of chance in schemes and failures.")] = 0,
    failures: Failures = 0.0,
    row: Annotated[
        int | None,
        typer.Option(metavar="N", help="The row of the table to plot.", show_default="the best"),
    ] = None,
    plot: PlotFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Replay a recorded flow in virtual time, and compare engines, hwm and schemes.

    The scheduler is the real one; tasks take as long as they were recorded to. --engines, --hwm
    and --scheme take several values, with commas or given again: each combination is a row, with
    its makespan, how busy its engines were, and the bound below which no schedule can be: the
    critical path, or all work spread evenly. A journal is only read, also while it is in use.

    \b
    Example:
        headway simulate examples/atlas.workflow.json --engines 2,4 --hwm 1,auto
    """
    with ends_in_words():
        from rich.console import Console

        from headway.cli.simulate import SimulateOptions, run
        from headway.sim.replay_flow import Circumstances

        run(
            SimulateOptions(
                flow,
                engines or ["8"],
                hwm or ["auto"],
                scheme or ["leastload"],
                Circumstances(overhead_us / 1e6, scale, seed, failures),
                plot,
                row,
                json,
            ),
            Console(highlight=False),
        )
