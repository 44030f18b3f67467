"""Verbs about a cluster that stays: start, stop, status, engines, limits, top."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from headway.cli.app import EXIT_USAGE, app, ends_in_words
from headway.cli.verbs.shared import ClusterArgument, ClusterOption, JsonOption

_GOES_ON = "the cluster and its tasks go on"

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


Engines = Annotated[
    int | None,
    typer.Option("-n", "--engines", min=0, metavar="N", help="So many.", show_default="one a core"),
]
Name = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What clients on this host may call the cluster."),
]
Listen = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Serve other hosts too, encrypted: tcp://HOST[:PORT].",
        show_default="this host's user only",
    ),
]
Connection = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help="Where to write the connection file: who can read it may run tasks.",
        show_default="the cluster's own directory",
    ),
]
Scheme = Annotated[
    str,
    typer.Option(
        metavar="SCHEME",
        help="leastload, lru, twobin, weighted, plainrandom, or your module:function.",
    ),
]
Hwm = Annotated[
    str,
    typer.Option(metavar="N", help="Tasks outstanding on an engine; 0 is no limit."),
]
Resource = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=AMOUNT", help="What each engine has; may be given again."),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="TAG=LIMIT",
        help="Of tasks with a tag so many at once (db=4), or in a time (api=10/s); may be given "
        "again.",
    ),
]
Adaptive = Annotated[
    str | None,
    typer.Option(
        metavar="LEAST:MOST",
        help="So many engines at least and at most, as the work demands: 1:8.",
    ),
]
TracedMax = Annotated[
    int,
    typer.Option(
        min=0,
        max=10_000_000,
        metavar="N",
        help="The last N attempts that ended are kept for `headway trace`; 0 is none.",
    ),
]
ValueStore = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where large results are kept for all hosts: a directory that they share, or "
        "s3://bucket/prefix and the like.",
        show_default="each on its host",
    ),
]
NestedDepth = Annotated[
    int,
    typer.Option(
        min=0,
        max=1_000,
        metavar="N",
        help="Engines more, at most, for each, while tasks wait for tasks that they submitted.",
    ),
]
Daemon = Annotated[
    bool,
    typer.Option("--daemon", help="In the background: returns, with the name, when it serves."),
]

LogFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Of the log, on stderr, a line an event: text, json, or off.",
        show_default="HEADWAY_LOG_FORMAT, or text",
    ),
]

Connect = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Start engines here, for the cluster of this connection file, or name; - is stdin.",
    ),
]
EnginesHere = Annotated[
    int | None,
    typer.Option(
        "-n", "--engines", min=1, metavar="N", help="So many.", show_default="one a core, or a rank"
    ),
]
Lifetime = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="They end after so long: 90s, 1h30m, 01:30:00. No task that would not fit begins.",
    ),
]
Drain = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=86_400,
        metavar="SECONDS",
        help="What runs has so long when they are to end.",
        show_default="20",
    ),
]
Lifeline = Annotated[
    bool, typer.Option("--lifeline", help="The end of stdin is the end of them, in order.")
]
LauncherName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Start them by: local, ssh, ipyparallel, slurm, pbs, lsf, sge, htcondor, kubernetes, "
        "aws, googlecloud.",
    ),
]
LauncherFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="A launcher and its settings, in TOML."),
]
Blocks = Annotated[int, typer.Option(min=1, max=1_000, metavar="N", help="So many blocks.")]
Nodes = Annotated[
    int | None, typer.Option(min=1, max=10_000, metavar="N", help="Nodes of a block.")
]
PerNode = Annotated[
    int | None, typer.Option(min=1, max=10_000, metavar="N", help="Engines on each node.")
]
Walltime = Annotated[
    str | None, typer.Option(metavar="TIME", help="How long a block may run: 1h, 01:00:00.")
]
Account = Annotated[str | None, typer.Option(metavar="NAME", help="Who pays.")]
Queue = Annotated[str | None, typer.Option(metavar="NAME", help="The queue, or partition.")]
Host = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST", help="Of the launcher ssh; may be given again."),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Another setting of the launcher; may be given again."
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Return at once: the blocks go on, and end by themselves.")
]


@app.command()
def start(
    engines: Engines = None,
    name: Name = None,
    listen: Listen = None,
    connection: Connection = None,
    scheme: Scheme = "leastload",
    hwm: Hwm = "auto",
    resource: Resource = None,
    durability: Durability = "normal",
    journal: JournalPath = None,
    unfinished_tasks_max: UnfinishedTasks = 4_000_000,
    unfinished_bytes_max: UnfinishedBytes = 4 << 30,
    limit: Limits = None,
    adaptive: Adaptive = None,
    traced_max: TracedMax = 100_000,
    log_format: LogFormat = None,
    value_store: ValueStore = None,
    nested_depth: NestedDepth = 32,
    daemon: Daemon = False,
    json: JsonOption = False,
) -> None:
    """Start a cluster that stays, in the foreground, until Ctrl-C, or with --daemon until stopped.

    It prints where its connection file is; programs connect to it with headway.Client(FILE),
    or headway.Client(NAME). If its controller is killed, engines go on, and clients wait: the
    same command with the same --name, or with the --journal that it printed, takes over.

    \b
    Example:
        headway start -n 4 --name lab --resource gpu=1 --daemon
    """
    with ends_in_words():
        from rich.console import Console

        from headway.cli.start import StartOptions, run

        limits = (unfinished_tasks_max, unfinished_bytes_max)
        durable = (durability, journal)
        cluster = (engines, name, listen, connection, scheme, hwm, resource or [])
        asked = StartOptions(*cluster, *durable, *limits, limit or [], adaptive, traced_max)
        options = replace(
            asked, log_format=log_format, value_store=value_store, nested_depth=nested_depth
        )
        if not daemon:
            run(options, Console(highlight=False))
            return
        from headway.cli.daemon import start_daemon

        name, said = start_daemon(options)
        if json:
            from headway.cli.show import say_json

            say_json({"cluster": name})
            return
        typer.echo("\n".join([*said, f"stop it with:    headway stop {name}", name]))


@app.command()
def stop(
    name: ClusterArgument = None,
    cluster: ClusterOption = None,
    keep_tasks: Annotated[
        bool,
        typer.Option(
            "--keep-tasks",
            help="The next `headway start` of that name goes on with its tasks; what had begun "
            "begins anew. Needs a journal, which is there unless --durability off.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Stop a cluster: engines, nannies, controller. Tasks that have not ended are cancelled.

    \b
    Example:
        headway stop lab --keep-tasks && headway start --name lab --daemon
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli.steer import stop as run

        run(name or cluster, keep_tasks, json)


@app.command()
def status(
    name: ClusterArgument = None,
    cluster: ClusterOption = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Say only whether it answers: exit code 0, or 3 if not."),
    ] = False,
    engines: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Of --check: 1 if fewer engines than this are here."),
    ] = 0,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, max=3_600, metavar="SECONDS", help="Of --check: wait for so long at most."
        ),
    ] = 5.0,
    json: JsonOption = False,
) -> None:
    """Say how a cluster is: its engines, and its tasks by state. With --check, for probes.

    \b
    Example:
        headway status lab
        headway status lab --check --engines 1 --timeout 30
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli import steer

        if check:
            raise typer.Exit(steer.check(name or cluster, engines, timeout, json))
        steer.status(name or cluster, json)


@app.command()
def engines(
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="list, start, add, drain, stop or restart.")
    ] = "list",
    subject: Annotated[
        str | None, typer.Argument(metavar="WHICH", help="An engine's id; for add, how many.")
    ] = None,
    cluster: ClusterOption = None,
    connect: Connect = None,
    engines: EnginesHere = None,
    lifetime: Lifetime = None,
    drain: Drain = None,
    resource: Resource = None,
    lifeline: Lifeline = False,
    launcher: LauncherName = None,
    config: LauncherFile = None,
    blocks: Blocks = 1,
    nodes: Nodes = None,
    per_node: PerNode = None,
    walltime: Walltime = None,
    account: Account = None,
    queue: Queue = None,
    host: Host = None,
    setting: Setting = None,
    detach: Detach = False,
    log_format: LogFormat = None,
    json: JsonOption = False,
) -> None:
    """List engines; start some here, or by a launcher; add, drain, stop or restart one.

    With --connect: one nanny with engines on this host, in the foreground, for the cluster of that
    connection file. With --launcher or --config: engines elsewhere, in blocks. Told to end, they
    take no more tasks, and what runs has some seconds.

    A drained engine takes no more tasks, and gives back what it has not begun. What a stopped or
    restarted one runs is repeated elsewhere, where it may be.

    \b
    Example:
        headway engines
        headway engines drain e0
        headway engines --connect connection.json -n 8 --lifetime 1h
        headway engines --launcher slurm --nodes 2 --per-node 8 --walltime 1h --account physics
        headway engines --launcher ssh --host node1 --host node2
        headway engines --launcher ipyparallel --set profile=mycluster
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        if launcher is not None or config is not None:
            from headway.cli import blocks as launched

            _only(action, "start")
            given: dict[str, object] = {"nodes": nodes, "account": account, "queue": queue}
            given |= {"per_node": per_node or engines, "drain": drain}
            given |= {"walltime": walltime or lifetime}
            lists = (given, resource or [], host or [], setting or [])
            which = (launcher, config, connect or cluster, blocks, detach)
            launched.run(launched.BlocksOptions(*which, *lists), json)
        elif connect is not None or action == "start":
            from headway.cli import engines_here as here
            from headway.cli.which import find

            _only(action, "start")
            where = connect or find(cluster)
            told = (where, engines, lifetime, drain, resource or [], lifeline, log_format)
            here.run(here.EnginesOptions(*told))
        else:
            from headway.cli.steer import engines as run

            run(cluster, action, subject, json)


def _only(action: str, wanted: str) -> None:
    if action not in ("list", wanted):  # "list" is what it is if nothing was said
        raise ValueError(f"{action} goes without --connect and --launcher: they {wanted} engines")


@app.command()
def limits(
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TAG=LIMIT", help="db=4, api=10/s (/min, /h), web=4,10/s, or db=none."
        ),
    ] = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
) -> None:
    """Show the limits of tags, how many tasks hold them, and how many wait; or change some first.

    \b
    Example:
        headway limits
        headway limits db=4 api=10/s
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli.steer import limits as run

        run(cluster, changes or [], json)


@app.command()
def top(
    cluster: ClusterOption = None,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Between two looks.")
    ] = 1.0,
    json: JsonOption = False,
) -> None:
    """Watch engines and tasks, until q or Ctrl-C. Where there is no terminal: one look.

    \b
    Example:
        headway top --cluster lab
    """
    with ends_in_words(_GOES_ON, EXIT_USAGE):
        from headway.cli import steer, which

        if json:
            steer.status(cluster, json)
            return
        from headway.cli.top import run

        found = which.find(cluster)
        with which.connect(found) as client:
            run(client, found, every)
