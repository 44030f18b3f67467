"""`python -m headway.controller`: the controller as its owner (a client) starts it.

It says one line of JSON on stdout: {"connection": PATH} when clients may connect, or
{"error": TEXT}. Its stdin is its lifeline. People start a cluster with `headway start`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import msgspec

from headway.collector import tune_garbage_collection
from headway.controller.serve import Settings, serve
from headway.errors import HeadwayError


def main() -> int:
    """Returns the exit status: 0 after an ordered stop, 1 if it could not start."""
    parser = argparse.ArgumentParser(prog="python -m headway.controller", description=__doc__)
    parser.add_argument("--embedded", action="store_true", help="stop at the end of stdin")
    parser.add_argument("--settings", default="{}", help="how to run, as JSON")
    arguments = parser.parse_args()

    def say(line: dict[str, str]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def on_ready(path: Path, journal: Path | None) -> None:
        say({"connection": str(path)})

    tune_garbage_collection()
    try:
        settings = msgspec.json.decode(arguments.settings, type=Settings)
        serve(settings, sys.stdin.fileno() if arguments.embedded else None, on_ready)
    except (HeadwayError, ValueError, OSError) as error:
        say({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
