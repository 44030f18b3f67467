"""An ordinary ipyparallel program, and two engines that are killed under it.

Start a cluster in one terminal, and this in another, on the same machine:

    ipcluster start -n 4 --controller=headway
    python examples/ipyparallel_cluster.py

It runs tasks with `after`, `follow` and `retries`, kills two of the cluster's engines while they
run tasks, one of which has a retry, and prints what happened. Nothing in it knows which scheduler
the cluster has. The two engines are gone afterwards: `ipcluster stop` ends the rest.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ipyparallel as ipp

#: It kills two.
ENGINES_MIN = 3
#: The results of healthy engines: more is a hang. Those of a killed one come after the
#: scheduler's stranded_grace_s, 5 s, in which results could still be on their way.
TIMEOUT_S = 60


# The tasks. What they need they import themselves: they run in another process.


def load() -> list[int]:
    return list(range(10))


def fail_once(marker: str) -> str:
    """Fail where nobody has before."""
    import os

    try:
        with open(marker, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return "done"
    raise RuntimeError("the first time")


def stay(marker: str) -> str:
    """Write down which process runs this and stay there, to be killed; the second time, return.

    It also ends when the marker is removed, so that an interrupted program leaves no busy engine.
    """
    import os
    import time

    try:
        with open(marker, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return "done"
    while os.path.exists(marker):
        time.sleep(0.05)
    return "nobody killed it"


def pid_in(marker: Path) -> int:
    """The process that a task has written down, once it has."""
    deadline_at = time.monotonic() + TIMEOUT_S
    while not marker.exists() or not marker.read_text():
        if time.monotonic() > deadline_at:
            raise TimeoutError(f"no task began within {TIMEOUT_S} s")
        time.sleep(0.02)
    return int(marker.read_text())


def error_of(result: Any) -> str:
    """How a task failed, in one line."""
    try:
        value = result.get(timeout=TIMEOUT_S)
    except ipp.RemoteError as error:
        return f"{error.ename}: {error.evalue}"
    raise RuntimeError(f"a task that should have failed returned {value!r}")


def engines_of(client: Any) -> dict[int, int]:
    """Process -> engine. Exits if they are too few, or not here, where they can be killed."""
    try:
        client.wait_for_engines(ENGINES_MIN, timeout=TIMEOUT_S)
    except TimeoutError:
        sys.exit(f"this program needs {ENGINES_MIN} engines; the cluster has {len(client.ids)}")
    hosts = set(client[:].apply_sync(socket.gethostname))
    if hosts != {socket.gethostname()}:
        sys.exit(f"this program kills engines of its own machine; these are on {sorted(hosts)}")
    return dict(zip(client[:].apply_sync(os.getpid), client.ids, strict=True))


def show_dependencies(view: Any) -> None:
    """`after` says when, `follow` says where."""
    first = view.apply_async(load)
    with view.temp_flags(after=[first]):
        second = view.apply_async(load)
    second.get(timeout=TIMEOUT_S)
    pause_ms = (second.started - first.completed).total_seconds() * 1e3
    print(f"after: the second task began {pause_ms:.1f} ms after the first had ended")

    with view.temp_flags(follow=[first]):
        followers = [view.apply_async(load) for _ in range(3)]
    for follower in followers:
        follower.get(timeout=TIMEOUT_S)
    where = {follower.engine_id for follower in followers}
    print(
        f"follow: 3 tasks ran on engine {', '.join(map(str, where))}, "
        f"where the task that they follow had run: {first.engine_id}"
    )


def show_retry(view: Any, engines: dict[int, int], marker: Path) -> None:
    """A task that fails runs again on another engine, if it has a retry."""
    with view.temp_flags(retries=1):
        result = view.apply_async(fail_once, str(marker))
    value = result.get(timeout=TIMEOUT_S)
    print(
        f"retries: a task failed on engine {engines[pid_in(marker)]}, "
        f"and ran again on engine {result.engine_id}: {value}"
    )


def show_death(view: Any, engines: dict[int, int], markers: list[Path]) -> None:
    """The task of a killed engine fails, and what needs it; with a retry, it runs elsewhere."""
    doomed = view.apply_async(stay, str(markers[0]))
    with view.temp_flags(after=[doomed]):
        needs_it = view.apply_async(load)
    with view.temp_flags(retries=1):
        retried = view.apply_async(stay, str(markers[1]))
    for marker, how in zip(markers, ("no retry", "one retry"), strict=True):
        pid = pid_in(marker)
        os.kill(pid, signal.SIGKILL)
        print(f"killed engine {engines[pid]}, process {pid}, under a task with {how}")
    print(f"  no retry: {error_of(doomed)}")
    print(f"  the task after that one: {error_of(needs_it)}")
    value = retried.get(timeout=TIMEOUT_S)
    print(f"  one retry: it ran again on engine {retried.engine_id}: {value}")


def main() -> None:
    """Connect, and show each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile-dir", help="of the cluster, if it is not the default one")
    parser.add_argument("--cluster-id", default="", help="of the cluster, if it has one")
    args = parser.parse_args()
    where = {"profile_dir": args.profile_dir} if args.profile_dir else {}
    try:
        client = ipp.Client(cluster_id=args.cluster_id, timeout=10, **where)
    except (OSError, TimeoutError) as error:
        why = str(error).splitlines()[0]
        sys.exit(f"no cluster: {why}\nTo start one: ipcluster start -n 4 --controller=headway")
    with client, tempfile.TemporaryDirectory(prefix="headway-example-") as directory:
        engines = engines_of(client)
        print(f"connected to {len(engines)} engines")
        view = client.load_balanced_view()
        show_dependencies(view)
        show_retry(view, engines, Path(directory) / "failed")
        show_death(view, engines, [Path(directory) / "first", Path(directory) / "second"])
        squares = view.map_sync(pow, range(100), [2] * 100)
        print(f"{len(client.ids)} engines are left, and made {len(squares)} squares")


if __name__ == "__main__":
    main()
