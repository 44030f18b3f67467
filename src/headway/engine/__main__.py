"""`python -m headway.engine`: the engine's command line. Nannies write it; people need not.

What this file must not know: what the engine does.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from headway.config import EngineConfig, WireConfig
from headway.engine import lifeline, stack
from headway.engine.process import EngineOptions, EngineProcess
from headway.errors import HeadwayError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one engine; the exit code."""
    told = _parser().parse_args(arguments)
    lifeline.die_with_parent(told.parent)
    lifeline_fd = lifeline.take_stdin()
    lifeline.kill_group_at_end_of(lifeline_fd)
    lifeline.watch_in_thread(lifeline_fd, told.parent)
    stack.write_to(told.stack_fd)
    os.environ["HEADWAY_CONNECTION"] = str(told.connection)
    # After headway's own imports: an entry of the user's must not shadow what we need.
    sys.path += [entry for entry in told.sys_path if entry not in sys.path]
    options = EngineOptions(
        connection=told.connection,
        nanny=told.nanny,
        token=told.token,
        status_fd=told.status_fd,
        notify_fd=told.notify_fd,
        host=socket.gethostname(),
        resources=told.resources,
    )
    try:
        engine = EngineProcess(options, EngineConfig(), WireConfig())
    except HeadwayError as error:
        sys.stderr.write(f"the engine can't start: {error}\n")
        return 1
    engine.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m headway.engine", description=__doc__)
    parser.add_argument("--connection", type=Path, required=True, help="the connection file")
    parser.add_argument("--nanny", required=True, help="the token of the nanny")
    parser.add_argument("--token", required=True, help="what the nanny calls this engine")
    parser.add_argument("--parent", type=int, required=True, help="the nanny's process id")
    parser.add_argument("--status-fd", type=int, required=True, help="the status file")
    parser.add_argument("--notify-fd", type=int, required=True, help="wakes the nanny")
    parser.add_argument("--stack-fd", type=int, required=True, help="where stacks are written")
    parser.add_argument("--resources", type=json.loads, default={}, help="JSON: name to amount")
    parser.add_argument("--sys-path", type=json.loads, default=[], help="JSON: list of entries")
    return parser


if __name__ == "__main__":
    sys.exit(main())
