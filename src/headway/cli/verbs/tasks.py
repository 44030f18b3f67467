"""Verbs about tasks: submit, wait, cancel, tasks, explain, logs."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli.app import EXIT_USAGE, app, ends_in_words
from headway.cli.verbs.shared import (
    AfterOption,
    ClusterOption,
    FollowOption,
    JsonOption,
    MaybeTask,
    TaskArgument,
    TaskIds,
)

_GOES_ON = "the cluster and its tasks go on"


CommandLine = Annotated[
    list[str], typer.Argument(metavar="COMMAND...", help="The command, and its arguments.")
]
On = Annotated[
    str, typer.Option(metavar="END", help="How those must have ended: success, failure, done.")
]
Array = Annotated[
    str | None,
    typer.Option(
        metavar="FIRST-LAST",
        help="One task for each number, which it finds in $HEADWAY_ARRAY_INDEX, and in place "
        "of {index} in the command, --cwd, --env and --output.",
    ),
]
Retries = Annotated[
    int, typer.Option(min=0, metavar="N", help="How often to try again when it fails.")
]
Backoff = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="Before the first retry; then twice as long."),
]
QueueTimeout = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="How long it may wait in the queue."),
]
RunTimeout = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="How long one run may take.")
]
Priority = Annotated[int, typer.Option(metavar="N", help="Higher goes first.")]
Share = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Take turns with others, as a task of this share."),
]
Weight = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Take turns with others, so many tasks a turn."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A tag whose limits hold for it; again for more."),
]
Resources = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=AMOUNT", help="What it takes of its engine; again for more."),
]
Cwd = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Where it runs.", show_default="this directory"),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Set in its environment, which is else the engine's; NAME alone takes the value "
        "from here. May be given again.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Where stdout and stderr go, both; {id} stands for the task's id.",
        show_default="files of the cluster, a file each",
    ),
]
Label = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="What people call it.", show_default="the command"),
]


@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    command: CommandLine,
    cluster: ClusterOption = None,
    after: AfterOption = None,
    on: On = "success",
    follow: FollowOption = None,
    array: Array = None,
    retries: Retries = 0,
    backoff: Backoff = None,
    timeout: QueueTimeout = None,
    run_timeout: RunTimeout = None,
    priority: Priority = 0,
    share: Share = None,
    weight: Weight = None,
    tag: Tags = None,
    resources: Resources = None,
    cwd: Cwd = None,
    env: Env = None,
    output: Output = None,
    label: Label = None,
    json: JsonOption = False,
) -> None:
    """Submit a command as a task, and print its id. It goes on when this has ended.

    Its exit code is the outcome: other than 0 the task has failed, and may be retried. What it
    prints is read with `headway logs`. It finds its id in $HEADWAY_TASK_ID. Of an array, the id
    is that of all of its tasks together.

    \b
    Example:
        headway submit --retries 2 --run-timeout 600 -- make test
        headway submit --array 1-100 -- ./simulate --seed {index}
        headway submit --after 2-101 -- ./summarize
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli.submit import Wish
        from headway.cli.submit import submit as run

        wish = Wish(
            command,
            after or [],
            on,
            follow or [],
            array,
            output,
            cwd,
            env or [],
            resources or [],
            label,
            {
                "retries": retries,
                "backoff": backoff,
                "timeout": timeout,
                "run_timeout": run_timeout,
                "priority": priority,
                "share": share,
                "weight": weight,
                "tags": tag or None,
            },
        )
        run(cluster, wish, json)


@app.command()
def wait(
    ids: TaskIds,
    cluster: ClusterOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Wait so long; exit code 124 if it passes."),
    ] = None,
    any_: Annotated[bool, typer.Option("--any", help="Until one of them has ended.")] = False,
    json: JsonOption = False,
) -> None:
    """Wait until tasks have ended, and say how; exit code 0 if all of them succeeded.

    \b
    Example:
        headway wait 2-1 3-101 --timeout 3600 && echo all is well
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli.tasks import wait as run

        code = run(cluster, ids, timeout, any_, json)
    raise typer.Exit(code)


@app.command()
def cancel(
    ids: TaskIds,
    cluster: ClusterOption = None,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="And all that depends on them.")
    ] = False,
    queued_only: Annotated[
        bool, typer.Option("--queued-only", help="But not what has begun.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Cancel tasks, and say what became of each. A command that runs ends, with all it started.

    \b
    Example:
        headway cancel 2-1 --downstream
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli.tasks import cancel as run

        code = run(cluster, ids, downstream, queued_only, json)
    raise typer.Exit(code)


@app.command()
def tasks(
    cluster: ClusterOption = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE", help="In this state, or open: not ended; may be given again."
        ),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="TEXT", help="With this in their label.", show_default="any")
    ] = "",
    group: Annotated[
        str | None, typer.Option(metavar="ID", help="Of this array or group.", show_default="all")
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="id, label, state, engine, age or attempt.")
    ] = "id",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """List tasks. Of very many, the newest are looked at, and that is said.

    \b
    Example:
        headway tasks --state failed --state lost --sort label
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli.tasks import query_of
        from headway.cli.tasks import tasks as run

        run(cluster, query_of(state or [], label, group, sort, reverse, limit), json)


@app.command()
def explain(id: MaybeTask = None, cluster: ClusterOption = None, json: JsonOption = False) -> None:
    """Say why a task is where it is, or how it ended; without one, why nothing runs.

    \b
    Example:
        headway explain 2-1
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli.tasks import explain as run

        run(cluster, id, json)


@app.command()
def logs(
    id: TaskArgument,
    cluster: ClusterOption = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the task has ended.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what a task's command has printed, its stderr on stderr.

    \b
    Example:
        headway logs -f 2-1
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli.logs import logs as run

        run(cluster, id, follow, json)
