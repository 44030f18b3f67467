"""A cluster in the background, and the verbs of `headway`, for tests.

A verb is run as a process (`run`), or in this one, which is ten times as fast (`Cluster(...)`).
Every verb names its cluster: other clusters of this user may run meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

from typer.testing import CliRunner

from headway.cli import main

DEADLINE_S = 60.0


def headway(*arguments: str, code: int = 0) -> str:
    """Run a verb in this process; its stdout. `code` is the exit code that is expected."""
    done = CliRunner().invoke(main.app, list(arguments))
    assert done.exit_code == code, (arguments, done.output, done.exception)
    return done.stdout.strip()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    return subprocess.run(
        [sys.executable, "-m", "headway", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


class Cluster:
    """A cluster that `headway start --daemon` has started."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb about this cluster."""
        return run(verb, "--cluster", self.name, *arguments)

    def __call__(self, verb: str, *arguments: str, code: int = 0) -> str:
        """Run a verb about this cluster, in this process; its stdout."""
        return headway(verb, "--cluster", self.name, *arguments, code=code)

    def json(self, verb: str, *arguments: str, code: int = 0) -> Any:
        """What a verb says as JSON."""
        return json.loads(self(verb, "--json", *arguments, code=code))

    def submit(self, *arguments: str) -> str:
        """Submit a command; its id."""
        return self("submit", *arguments)

    def start(self, *arguments: str) -> str:
        """Start it; what it says."""
        return headway("start", "--daemon", "--name", self.name, *arguments)


@contextlib.contextmanager
def cluster(*arguments: str) -> Iterator[Cluster]:
    """A cluster of a name of its own, which is stopped in any case."""
    made = Cluster(f"t-{uuid.uuid4().hex[:8]}")
    made.start(*arguments)
    try:
        yield made
    finally:
        run("stop", made.name)
