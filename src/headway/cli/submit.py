"""`headway submit`: a command, or an array of them, as tasks that outlive this process.

What this file must not know: how a command is run: see doors/shell.py.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import headway
from headway.cli import show, which
from headway.cli.start import parse_resources
from headway.client import dependency, steering
from headway.doors.shell import Command, run
from headway.errors import HeadwayError
from headway.wire.endpoint import LOGS_DIR, cluster_dir, read_connection_file

ARRAY_MAX = 100_000
#: Characters of a command that make its label.
_LABEL_CHARS = 60

_On = Literal["success", "failure", "done"]

_ARRAY = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class Wish:
    """What `headway submit` was asked for; texts as they were typed."""

    command: list[str]
    after: list[str] = field(default_factory=list)
    on: str = "success"
    follow: list[str] = field(default_factory=list)
    array: str | None = None
    output: str | None = None
    cwd: str | None = None
    env: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    label: str | None = None
    #: Options of `Client.options` that travel as they are.
    options: dict[str, Any] = field(default_factory=dict)


def submit(where: str | None, wish: Wish, as_json: bool) -> None:
    """Submit it, and print its id: of an array, that of the group.

    Raises:
        ValueError: something is of a wrong form.
        HeadwayError: it depends on a task that is not known.
    """
    if wish.on not in get_args(_On):
        raise ValueError(f"--on {wish.on}: expected one of {', '.join(get_args(_On))}")
    indexes = parse_array(wish.array) if wish.array is not None else None
    environment = parse_env(wish.env)
    with which.connect(where) as client:
        settings = _settings(client, wish)
        command = Command(
            wish.command,
            logs=str(cluster_dir(read_connection_file(client.connection_file)) / LOGS_DIR),
            cwd=wish.cwd or os.getcwd(),
            env=environment,
            output=wish.output,
        )
        if indexes is None:
            node = client.options(**settings).submit(run, command).id
            ids = [node]
        else:
            label = settings.pop("label")
            futures = [
                client.options(**settings, label=f"{label} [{index}]").submit(run, command, index)
                for index in indexes
            ]
            group = client.group(futures)
            client._group_node(group)
            node, ids = group.id, [future.id for future in futures]
        client.detach()
    if as_json:
        show.say_json({"id": node, "tasks": ids})
    else:
        show.say(node)


def _settings(client: headway.Client, wish: Wish) -> dict[str, Any]:
    for text in (*wish.after, *wish.follow):
        node = dependency.as_node(text)
        if steering.task(client, node)["state"] == "unknown" and not steering.group(client, node):
            raise HeadwayError(f"no task {text} is known here: it can't be waited for")
    label = wish.label if wish.label is not None else shlex.join(wish.command)
    settings: dict[str, Any] = {
        **{name: value for name, value in wish.options.items() if value is not None},
        "label": label if len(label) <= _LABEL_CHARS else f"{label[: _LABEL_CHARS - 1]}…",
    }
    if wish.after:
        settings["after"] = headway.Dependency(wish.after, on=cast("_On", wish.on))
    if wish.follow:
        settings["follow"] = wish.follow
    if wish.resources:
        settings["resources"] = parse_resources(wish.resources)
    return settings


def parse_array(text: str) -> range:
    """`--array`: the numbers that FIRST-LAST means.

    Raises:
        ValueError: it is not of that form, or too long.
    """
    match = _ARRAY.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError(f"--array {text}: expected FIRST-LAST, such as 1-100")
    numbers = range(int(match[1]), int(match[2]) + 1)
    if len(numbers) > ARRAY_MAX:
        raise ValueError(f"--array {text}: {len(numbers):,} tasks, and at most {ARRAY_MAX:,}")
    return numbers


def parse_env(texts: Iterable[str]) -> dict[str, str]:
    """`--env NAME=VALUE`, as often as given; `--env NAME` takes the value from here.

    Raises:
        ValueError: one is not of that form, or not set here.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or (not equals and name not in os.environ):
            raise ValueError(f"--env {text}: expected NAME=VALUE, or the NAME of one that is set")
        found[name] = value if equals else os.environ[name]
    return found
