"""`python -m headway.controller`: the controller as its owner (a client) starts it.

It says one line of JSON on stdout: {"connection": PATH} when clients may connect, or
{"error": TEXT}. Nothing else is written there, and nobody reads on: what a user's scheme prints
goes to stderr. Its stdin is its lifeline. People start a cluster with `headway start`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TextIO

import msgspec

from headway.collector import tune_garbage_collection
from headway.controller.serve import Settings, serve
from headway.errors import HeadwayError, JournalError


def main() -> int:
    """Returns the exit status: 0 after an ordered stop, 1 if it could not start."""
    parser = argparse.ArgumentParser(prog="python -m headway.controller", description=__doc__)
    parser.add_argument("--embedded", action="store_true", help="stop at the end of stdin")
    parser.add_argument("--settings", default="{}", help="how to run, as JSON")
    arguments = parser.parse_args()

    stdout = _take_stdout()

    def say(line: dict[str, str]) -> None:
        with stdout:
            stdout.write(json.dumps(line) + "\n")

    def on_ready(path: Path, journal: Path | None) -> None:
        say({"connection": str(path)})

    tune_garbage_collection()
    try:
        settings = msgspec.json.decode(arguments.settings, type=Settings)
        serve(settings, sys.stdin.fileno() if arguments.embedded else None, on_ready)
    except (HeadwayError, ValueError, OSError) as error:
        if stdout.closed and isinstance(error, JournalError):
            sys.stderr.write(f"{error}\n")  # which says what to do; its client shows it
            return 1
        if stdout.closed:
            raise  # it was ready: what it fails of now goes to stderr
        say({"error": str(error)})
        return 1
    return 0


def _take_stdout() -> TextIO:
    """The real stdout, for one line; whatever else writes there writes to stderr from now on.

    By the descriptors too, for code in C; and from before a user's scheme is imported.
    """
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stdout


if __name__ == "__main__":
    sys.exit(main())
