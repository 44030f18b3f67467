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

import msgspec

from headway.config import EngineConfig, WireConfig
from headway.engine import forker, lifeline, stack
from headway.engine.process import EngineOptions, EngineProcess
from headway.errors import HeadwayError
from headway.values.writing import StoreInfo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one engine; the exit code. Or fork others, which run, until the nanny is gone."""
    parser = _parser()
    told = parser.parse_args(arguments)
    if told.requests_fd is not None:
        born = forker.serve(told.requests_fd, told.cwd, told.parent)
        if born is None:
            return 0
        told.token, told.stand_in = born.token, born.stands_in
        told.status_fd, told.notify_fd, told.stack_fd = born.ends.others()
    elif None in (told.token, told.status_fd, told.notify_fd, told.stack_fd):
        parser.error("--token, --status-fd, --notify-fd and --stack-fd make an engine")
    return _run(told)


def _run(told: argparse.Namespace) -> int:
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
        store=msgspec.json.decode(told.store, type=StoreInfo) if told.store else None,
        ends_at_s=told.ends_at,
        is_patient=told.patient,
        stands_in=told.stand_in,
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
    add = parser.add_argument
    add("--connection", type=Path, required=True, help="the connection file")
    add("--nanny", required=True, help="the token of the nanny")
    add("--parent", type=int, required=True, help="the nanny's process id")
    add("--resources", type=json.loads, default={}, help="JSON: name to amount")
    add("--sys-path", type=json.loads, default=[], help="JSON: list of entries")
    add("--store", default="", help="JSON: where large results are kept; none for nowhere")
    add("--ends-at", type=float, help="when it ends, by the monotonic clock")
    add("--patient", action="store_true", help="SIGTERM counts if it is the nanny's")
    add("--stand-in", action="store_true", help="it runs in place of one that is blocked")
    add("--token", help="what the nanny calls this engine")
    add("--status-fd", type=int, help="the status file")
    add("--notify-fd", type=int, help="wakes the nanny")
    add("--stack-fd", type=int, help="where stacks are written")
    add("--requests-fd", type=int, help="fork the engines that are asked for there (forker.py)")
    add("--cwd", help="their working directory")
    return parser


if __name__ == "__main__":
    sys.exit(main())
