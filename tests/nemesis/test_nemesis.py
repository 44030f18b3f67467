"""Promise: whatever fails, nothing is lost and nothing is stuck. A bounded nemesis: a handful of
faults of real processes, connections, hosts and disks; `make nemesis` is the long one.

A test that can't be done here, since it needs root, is skipped in words.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.nemesis import disk, fuzz_controller, fuzz_peers, partition, rounds
from tests.nemesis.cluster import Cluster, wait_until
from tests.nemesis.faults import Fault, Plan
from tests.nemesis.result import Result


def small(faults: list[Fault], *, is_spread: bool, seed: int) -> Plan:
    """A round of seconds."""
    return Plan(
        seed, is_spread, is_impatient=True, clients=2, tasks=60, task_s=0.02, faults_s=2.0,
        faults=faults,
    )  # fmt: skip


def require_good(result: Result) -> None:
    if result.is_skipped:
        pytest.skip(result.note)
    assert not result.violations, "\n".join(result.violations)
    assert result.faults


def test_stories_end_well_though_processes_on_one_host_are_killed_and_stopped():
    faults = [
        Fault(0.1, "stop", "engine", 1.0, 0.6),
        Fault(0.3, "kill", "engine", which=0.9),
        Fault(0.5, "kill", "controller", 0.2),
        Fault(0.7, "stop", "client", 0.5, 0.0),
        Fault(1.0, "kill", "client", which=0.0),
        Fault(1.2, "kill starting", "controller", 0.1, 0.3),
        # Without keys, who says a handshake again takes over the identity in it.
        Fault(1.6, "replay", "clients"),
    ]
    result = rounds.play(small(faults, is_spread=False, seed=1))
    require_good(result)
    assert sum(result.faults.values()) == len(faults)


def test_stories_end_well_though_connections_break_in_every_way():
    faults = [
        Fault(0.1, "cut", "clients"),
        Fault(0.2, "replay", "nannies"),
        Fault(0.3, "stall up", "clients", 0.5),
        Fault(0.4, "lose", "nannies", 0.3),
        Fault(0.5, "half-open", "clients", which=0.5),
        Fault(0.6, "stall down", "nannies", 0.5),
        Fault(0.8, "forget", "clients"),
        Fault(1.0, "refuse", "nannies", 0.5),
        Fault(1.2, "kill", "nanny", 0.2, 0.9),
        Fault(1.4, "delay", "clients", 0.5, 0.1),
        Fault(1.5, "replay", "clients"),
    ]
    result = rounds.play(small(faults, is_spread=True, seed=2))
    require_good(result)
    assert sum(result.faults.values()) == len(faults)


def test_hosts_that_are_cut_off_for_less_and_for_more_than_patience_come_back():
    faults = [
        Fault(0.2, "part", "host of clients", 0.5),
        Fault(0.9, "part", "host of engines", 4.6),
        Fault(2.0, "kill", "controller", 0.2),
    ]
    result = partition.run(4, small(faults, is_spread=True, seed=4))
    require_good(result)
    assert result.faults["part host of engines"] == 1


@pytest.mark.parametrize("must_end", [False, True], ids=["soon", "late"])
def test_a_controller_goes_on_when_its_full_disk_has_room_again(must_end: bool):
    require_good(disk.run(5, must_end=must_end, program="tests.nemesis.impatient"))


def test_a_journal_in_a_read_only_directory_is_refused_with_what_to_do(tmp_path: Path):
    try:
        with disk.small_disk(tmp_path) as place:
            command = ["mount", "-o", "remount,ro", str(place)]
            subprocess.run(command, check=True, timeout=60)
            cluster = Cluster(tmp_path, 1, journal=place / "journal.db")
            with pytest.raises(RuntimeError, match="must be there, and writable for this user"):
                cluster.start()
            cluster.close()
    except disk.Unsupported as why:
        pytest.skip(str(why))


def test_a_good_client_works_on_while_strangers_send_malformed_frames():
    result = fuzz_controller.run(6, 2_000)
    require_good(result)
    assert sum(result.faults.values()) >= 2_000


def test_frames_do_nothing_to_a_decoder_but_be_a_message_or_be_refused():
    require_good(fuzz_peers.decoders(7, 20_000))


def test_an_engine_heeds_no_nonsense_and_one_that_hears_no_message_is_replaced():
    require_good(fuzz_peers.engines(8, 2_000))


def test_a_client_heeds_no_nonsense_and_is_told_of_what_is_no_message():
    require_good(fuzz_peers.clients(9, 4_000))


def test_ctrl_c_ends_the_nemesis_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    # Not tmp_path: a socket's path may have some hundred bytes only.
    with tempfile.TemporaryDirectory(prefix="hwn-") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        # Given a round that has begun
        command = [sys.executable, "-m", "tests.nemesis", "--only", "chaos", "--seed", "1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda: any(Path(directory).glob("hwn-*/runs*")), "a round to begin")
        # When it is interrupted
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        # Then it says so, and of all that it had started nothing is left
        assert b"interrupted" in err
        assert b"violations  0" in out
        assert not any(directory in " ".join(p.info["cmdline"] or ()) for p in processes())
        assert not any(Path(directory).iterdir())


def processes() -> Iterator[psutil.Process]:
    return psutil.process_iter(["cmdline"])
