"""Options and arguments that several verbs have."""

from __future__ import annotations

from typing import Annotated

import typer


def _clusters(incomplete: str) -> list[str]:
    from headway.cli.which import complete_cluster

    return complete_cluster(incomplete)


def _tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    from headway.cli.which import complete_task

    return complete_task(incomplete, ctx.params.get("cluster"))


ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="The name or the connection file of the cluster.",
        show_default="HEADWAY_CONNECTION, or the only one that runs",
        autocompletion=_clusters,
    ),
]
ClusterArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The name or the connection file of the cluster.",
        autocompletion=_clusters,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TaskIds = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Tasks or arrays.", autocompletion=_tasks)
]
TaskArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A task, or an array.", autocompletion=_tasks)
]
MaybeTask = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="A task, or an array.", autocompletion=_tasks),
]
AfterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--after",
        metavar="ID",
        help="Run after this task or array; may be given again.",
        autocompletion=_tasks,
    ),
]
FollowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--follow",
        metavar="ID",
        help="Run on the engine on which this task ran; may be given again.",
        autocompletion=_tasks,
    ),
]
