"""A thousand clients and a thousand engines on one controller, while engines come and go.

    python -m tests.nemesis.overload --clients 1000 --engines 1000 --tasks 100 --storms 20

The controller is a real process; the others are stand-ins on the real wire (stand_ins.py), all in
this process. Each client submits its tasks and must hear of each once, and rightly. In a storm a
tenth of the engines say goodbye, with whatever they were just given, and as many others come.
In the end the controller must remember no task, no client but one, and no engine that has left.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import headway
from headway.controller.descriptors import raise_limit
from headway.wire.endpoint import ConnectionInfo, read_connection_file
from tests.nemesis.stand_ins import Crowd, StandInClient, StandInEngine

#: What each client submits at once; several batches each, so that all of them are busy together.
_AT_A_TIME = 10


@dataclass(frozen=True)
class Findings:
    """What came of it."""

    succeeded: int
    repeated: int
    failed: int
    joined_s: float
    ran_s: float
    controller_cpu_s: float
    controller_rss_mb: float
    given_up: int
    left: dict[str, Any]

    def is_right(self, tasks: int) -> bool:
        """Whether each task ended once, as it should, and nothing of it is left."""
        ends = (self.succeeded, self.repeated, self.failed)
        return ends == (tasks, 0, 0) and not any(self.left.values())


class Controller:
    """A controller without a nanny, as a program embeds it. Must be closed."""

    def __init__(self, **settings: Any) -> None:
        command = [sys.executable, "-m", "headway.controller", "--embedded", "--settings"]
        self.process = subprocess.Popen(
            [*command, json.dumps({"engines": 0, **settings})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        if "error" in told:
            raise RuntimeError(told["error"])
        self.connection = Path(told["connection"])

    @property
    def info(self) -> ConnectionInfo:
        return read_connection_file(self.connection)

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    @property
    def rss_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def go(clients: int, engines: int, tasks: int, storms: int) -> Findings:
    """Let `clients` submit `tasks` each; what came of it."""
    raise_limit(clients + engines)
    controller = Controller()
    crowd = Crowd(controller.info)
    try:
        began_s = time.monotonic()
        workers = [StandInEngine(crowd) for _ in range(engines)]
        users = [StandInClient(crowd, tasks) for _ in range(clients)]
        crowd.play(lambda: all(each.is_welcome for each in crowd.members), "all to be welcomed")
        joined_s = time.monotonic() - began_s
        ran_s = _run(crowd, users, workers, storms)
        found = controller.cpu_s, controller.rss_mb
        for user in users:
            user.leave()
        with headway.Client(controller.connection) as client:
            left = _left(client, crowd, engines)
    finally:
        crowd.close()
        controller.close()
    ends = [sum(getattr(user, name) for user in users) for name in _ENDS]
    return Findings(*ends, joined_s, ran_s, *found, crowd.given_up, left)


_ENDS = ("succeeded", "repeated", "failed")


def _run(
    crowd: Crowd, users: list[StandInClient], workers: list[StandInEngine], storms: int
) -> float:
    """Until all is done; how long it took."""
    began_s = time.monotonic()
    total = sum(user.tasks for user in users)
    next_storm = 1

    def is_done() -> bool:
        nonlocal next_storm
        done = open_ = 0
        for user in users:
            user.go_on(_AT_A_TIME)
            done += user.succeeded + user.failed
            open_ += not user.is_done
        if next_storm <= storms and done >= total * next_storm // (storms + 1):
            next_storm += 1
            leaving, workers[:] = workers[: len(workers) // 10], workers[len(workers) // 10 :]
            for worker in leaving:
                worker.leave()
            workers.extend(StandInEngine(crowd) for _ in leaving)
        return not open_

    crowd.play(is_done, "all tasks to end", 600.0)
    return time.monotonic() - began_s


def _left(client: headway.Client, crowd: Crowd, engines: int) -> dict[str, Any]:
    """What the controller remembers, once it has heard the goodbyes, that it should not."""
    left: dict[str, Any] = {}

    def is_clean() -> bool:
        counted = client.statistics()
        left.update(
            tasks=sum(counted["tasks"].values()),
            clients=counted["clients"] - 1,
            engines=counted["engines"] - (engines - crowd.given_up),
            functions=counted["functions"],
            bytes=counted["unfinished_bytes"],
            undelivered=counted["undelivered"],
        )
        return not any(left.values())

    try:
        crowd.play(is_clean, "nothing to be left", 20.0)
    except TimeoutError as error:
        raise RuntimeError(f"{error}: {left}") from None
    return left


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if anything was lost, repeated or kept."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.nemesis.overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--engines", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, default=100, help="of each client")
    parser.add_argument("--storms", type=int, default=20)
    told = parser.parse_args(arguments)
    found = go(told.clients, told.engines, told.tasks, told.storms)
    tasks = told.clients * told.tasks
    print(
        f"{told.clients:,} clients and {told.engines:,} engines joined in {found.joined_s:.1f} s; "
        f"{tasks:,} tasks and {told.storms} storms in {found.ran_s:.1f} s: {found.succeeded:,} "
        f"ended rightly, {found.failed} failed, {found.repeated} were told twice; the controller "
        f"took {found.controller_cpu_s:.1f} s of CPU and {found.controller_rss_mb:.0f} MB; "
        f"{found.given_up} engines were given up as silent; left in it: {found.left}"
    )
    return 0 if found.is_right(tasks) else 1


if __name__ == "__main__":
    sys.exit(main())
