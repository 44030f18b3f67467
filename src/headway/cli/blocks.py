"""`headway engines --launcher NAME`: blocks of engines, started and watched until they end.

What this file must not know: any launcher's own ways.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway.cli import show, which
from headway.cli.start import parse_resources
from headway.errors import HeadwayError
from headway.launchers import Block, BlockState, BlockStatus, Launcher, from_file, make
from headway.wire.endpoint import find_connection_file

#: What of the command line is left to a launcher, by its own name, if it was given.
_PLAIN = ("nodes", "per_node", "walltime", "account", "queue", "drain", "python", "cwd", "setup")
_WAIT_S = 3_600.0


@dataclass(frozen=True, slots=True)
class BlocksOptions:
    """What was asked for."""

    launcher: str | None
    config: Path | None
    where: str | None
    blocks: int = 1
    detach: bool = False
    #: Settings of the launcher, those that were given; lists as they came.
    given: dict[str, Any] = field(default_factory=dict)
    resources: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)


def launcher_of(options: BlocksOptions) -> Launcher:
    """The launcher that is meant.

    Raises:
        ValueError: it is none, or a setting is wrong.
    """
    settings = {name: options.given[name] for name in _PLAIN if options.given.get(name) is not None}
    if options.resources:
        settings["resources"] = parse_resources(options.resources)
    if options.hosts:
        settings["hosts"] = options.hosts
    for text in options.more:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"--set {text}: expected NAME=VALUE")
        settings[name] = _value(value)
    if options.config is not None:
        if options.launcher is not None:
            settings["name"] = options.launcher
        return from_file(options.config, settings)
    assert options.launcher is not None
    return make(options.launcher, settings)


def _value(text: str) -> object:
    words: dict[str, object] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    return int(text) if text.isdecimal() else text


def run(options: BlocksOptions, as_json: bool) -> None:
    """Start the blocks; then watch them, or leave them alone.

    Raises:
        HeadwayError: a block can't be had, or all have failed.
        ValueError: an option is wrong.
    """
    launcher = launcher_of(options)
    file = find_connection_file(options.where or which.find(None))
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        blocks = [launcher.start(file) for _ in range(options.blocks)]
        if as_json:
            show.say_json([{"launcher": each.launcher, "block": each.id} for each in blocks])
        if options.detach:
            launcher.leave()
            for block in () if as_json else blocks:
                show.say(f"{launcher.name} {block.id}: submitted")
            return
        if not as_json:
            show.say("Ctrl-C cancels them, in order")
        _watch(launcher, blocks, as_json)
    finally:
        launcher.close()


def _watch(launcher: Launcher, blocks: list[Block], as_json: bool) -> None:
    """Say what becomes of them, until they are over."""
    shown: dict[Block, BlockStatus] = {}
    while True:
        now = launcher.status(blocks)
        for block in blocks:
            if now[block] != shown.get(block) and not as_json:
                show.say(f"{launcher.name} {block.id}: {now[block]}")
        shown = now
        if all(status.state.is_over for status in now.values()):
            break
        launcher.wait(_WAIT_S)
    failed = [each.text for each in shown.values() if each.state is BlockState.FAILED]
    if failed:
        raise HeadwayError("; ".join(filter(None, failed)) or f"{len(failed)} blocks failed")


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM is an ordered end, as Ctrl-C is."""
    raise KeyboardInterrupt
