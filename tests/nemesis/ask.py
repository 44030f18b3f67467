"""Asks a cluster whether it is empty again: no client but this one, no task, and all engines there.

    python -m tests.nemesis.ask CONNECTION ENGINES WAIT_S

A process of its own, since a cluster may be where only another host can reach it. Exit code 1,
and what the cluster holds, if it does not become so in time.
"""

from __future__ import annotations

import sys

import headway
from headway import errors
from tests.nemesis.cluster import wait_until


def main(connection: str, engines: str, wait_s: str) -> int:
    """The exit code."""
    seen: dict[str, object] = {}

    def is_empty() -> bool:
        seen.update(client.statistics())
        open_tasks = sum(seen["tasks"].values())  # type: ignore[attr-defined]
        return (open_tasks, seen["clients"], seen["engines"]) == (0, 1, int(engines))

    try:
        with headway.Client(connection, timeout_s=60, output=False) as client:
            wait_until(is_empty, f"no task, no client and {engines} engines", float(wait_s))
    except (TimeoutError, errors.HeadwayError) as error:
        print(f"{error}; it has {seen}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
