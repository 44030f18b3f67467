"""Promise: engines of any host join by the connection file alone; a host that is cut off gives its
tasks to others, and when it is healed its engines are there again.

Two hosts and a controller, each a network namespace of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nemesis.cluster import Cluster
from tests.nemesis.hosts import Hosts, Unsupported

#: Asks the cluster, from the controller's host: this process is on none of them.
ASK = """
import os, sys, time
import headway

def where():
    import socket, time
    time.sleep(0.05)
    return socket.gethostname()

wanted = sys.argv[1:]
with headway.Client(os.environ["HEADWAY_CONNECTION"], output=False) as client:
    deadline_s = time.monotonic() + 60
    while True:
        hosts = set(client.gather(client.map(lambda n: where(), range(8)), timeout=60))
        if hosts == set(wanted):
            break
        assert time.monotonic() < deadline_s, (hosts, wanted)
"""


def test_a_host_that_is_cut_off_and_healed_has_its_engines_back(tmp_path: Path):
    try:
        hosts = Hosts(("controller", "one", "two"))
    except Unsupported as why:
        pytest.skip(str(why))
    cluster = Cluster(
        tmp_path, 0, listen=f"tcp://{hosts.address('controller')}:0",
        program="tests.nemesis.impatient", prefix=hosts.prefix("controller"),
    )  # fmt: skip
    nannies: list[subprocess.Popen[bytes]] = []

    def ask(*wanted: str) -> None:
        env = {**os.environ, "HEADWAY_CONNECTION": str(cluster.connection)}
        command = [sys.executable, "-c", ASK, *wanted]
        subprocess.run([*hosts.prefix("controller"), *command], check=True, timeout=90, env=env)

    try:
        cluster.start()
        for name in ("one", "two"):
            command = [sys.executable, "-m", "headway", "engines", "-n", "2",
                       "--connect", str(cluster.connection)]  # fmt: skip
            nannies.append(
                subprocess.Popen(
                    [*hosts.prefix(name), *command], stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            )  # fmt: skip
        ask("one", "two")
        # When a cable is out for longer than anybody is patient
        hosts.cut("two")
        ask("one")
        # And in again
        hosts.join("two")
        ask("one", "two")
        # Then one that is told to end drains, and the other goes on
        nannies[0].terminate()
        assert nannies[0].wait(60) == 0
        ask("two")
    finally:
        for nanny in nannies:
            nanny.terminate()
            nanny.wait(60)
        cluster.close()
        hosts.close()
