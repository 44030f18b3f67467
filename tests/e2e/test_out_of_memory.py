"""An engine that the kernel kills for want of memory: it is told as that, with what is evidence.

Real kills, in a control group with a limit; skipped where no such group can be made (it takes
root, and the memory controller).
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import wait_until

ROOT = Path("/sys/fs/cgroup")
LIMIT_BYTES = 300_000_000


def own_groups() -> dict[str, str]:
    """Our control group in each hierarchy, by its controllers; "" is version 2."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    found = {}
    for line in lines:
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = group.lstrip("/")
    return found


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with a limit of memory."""
    groups = own_groups()
    name = f"headway-test-{uuid.uuid4().hex[:8]}"
    if "memory" in groups:
        group, limit = ROOT / "memory" / groups["memory"] / name, "memory.limit_in_bytes"
    else:
        group, limit = ROOT / groups.get("", "") / name, "memory.max"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            (group / limit).write_text(str(LIMIT_BYTES))
        except OSError as error:
            pytest.skip(f"no control group with a limit of memory can be made here: {error}")
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group to be empty")
        group.rmdir()


def run_in(group: Path, body: str) -> subprocess.CompletedProcess[str]:
    """A script in that group, with all that it starts."""
    script = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n{textwrap.dedent(body)}"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100
    )


@pytest.mark.usefixtures("nothing_left")
def test_a_task_that_takes_too_much_memory_is_told_that_the_kernel_killed_its_engine(small_group):
    done = run_in(
        small_group,
        """
        import headway
        def hog():
            taken = []
            while True:
                taken.append(bytearray(10_000_000))
        with headway.Client(engines=1) as client:
            future = client.options(crash_limit=2).submit(hog)
            print(type(future.exception(60)).__name__)
            print(future.exception())
            print(future.explain())
            print(client.submit(abs, -7).result(60))
        """,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "EngineError", done
    assert lines[-1] == "7", done
    # Each of the two deaths, in the error and in what explain says, by the log or by the counter
    told = done.stdout.count("for want of memory: the kernel's log says 'Memory cgroup out of mem")
    told += done.stdout.count("probably for want of memory: meanwhile the kernel's out-of-memory")
    assert told == 4, done
    assert "neither headway" not in done.stdout
    assert "peak RSS 2" in lines[1]  # the limit, or nearly so: 2xx MB


@pytest.mark.usefixtures("nothing_left")
def test_a_kill_by_a_user_is_not_taken_for_one_by_the_kernel(small_group):
    done = run_in(
        small_group,
        """
        import os, signal, headway
        def die():
            os.kill(os.getpid(), signal.SIGKILL)
        with headway.Client(engines=1) as client:
            print(client.options(crash_limit=1).submit(die).exception(60))
        """,
    )
    assert "neither headway sent that nor, as far as can be seen here, the kernel" in done.stdout
    assert "probably" not in done.stdout
