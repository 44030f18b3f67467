"""Promise: engines on this host, and on hosts that ssh reaches, come with a client and go with it,
however it ends; what is wrong is said in the words of ssh.

The sshd is a real one, on loopback, with keys that are thrown away.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import headway
from headway import launchers
from headway.errors import StartError
from headway.launchers import BlockState
from tests.launchers.kit import engines, served, wait_until


def test_a_client_has_engines_of_a_launcher_as_long_as_it_lives():
    launcher = launchers.Local(per_node=2, resources={"gpu": 1.0})
    with headway.Client(launcher=launcher, output=False) as client:
        assert client.options(resources={"gpu": 1}).submit(abs, -3).result(60) == 3
        wait_until(lambda: engines(client) == 2, "both engines")
        pids = [engine.pid for engine in client.engines()]

    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_one_rank_of_many_has_its_own_engines(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1")
    with headway.Client(launcher=launchers.Local(per_node=1), output=False) as client:
        assert client.submit(abs, -3).result(60) == 3


def test_a_block_is_cancelled_alone_and_a_failed_one_says_why(tmp_path):
    with served(tmp_path) as file, headway.Client(file, output=False) as client:
        launcher = launchers.Local(per_node=1)
        first, second = launcher.start(file), launcher.start(file)
        wait_until(lambda: engines(client) == 2, "the engines")

        launcher.cancel([first])
        launcher.wait(30.0)
        wait_until(lambda: engines(client) == 1, "one to leave")
        told = launcher.status([first, second])
        assert told[first].state is BlockState.CANCELLED
        assert told[second].state is BlockState.RUNNING
        launcher.close()

        other = launchers.Local(per_node=1, cwd=str(tmp_path), python="/bin/false")
        failed = other.start(file)
        wait_until(lambda: other.status([failed])[failed].state.is_over, "its end")
        assert "this host ended with status 1" in str(other.status([failed])[failed])
        other.close()


def test_a_launcher_is_asked_for_nothing_where_its_engines_could_not_connect():
    wanted = pytest.raises(StartError, match="start it with `headway start --listen")
    with headway.Client(engines=1, output=False) as client, wanted:
        launchers.SSH(["node1"]).start(client.connection_file)
    with pytest.raises(TypeError, match="is none of headway"):
        headway.Client(launcher="slurm")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    """The command that reaches an sshd of our own."""
    sshd = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if sshd is None or shutil.which("ssh") is None or os.geteuid() != 0:
        pytest.skip("no ssh or sshd here (Debian: openssh-server), or not root")
    place = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)]
        subprocess.run(command, check=True, timeout=60)
    (place / "authorized").write_text((place / "user.pub").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = not Path("/run/sshd").exists()
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it to be there
    options = [
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {place / 'host'}", "StrictModes no",
        f"AuthorizedKeysFile {place / 'authorized'}", "UsePAM no", "PidFile none",
        "PermitRootLogin prohibit-password", "PasswordAuthentication no",
    ]  # fmt: skip
    config = place / "sshd_config"
    config.write_text("\n".join(options) + "\n")
    server = subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), "sshd to listen")
        yield ["ssh", "-p", str(port), "-i", str(place / "user"), "-o", "IdentitiesOnly=yes",
               "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={place / 'known'}",
               "-o", "LogLevel=ERROR", "-F", "none"]  # fmt: skip
    finally:
        server.terminate()
        server.wait(60)
        if made:
            Path("/run/sshd").rmdir()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_engines_come_over_ssh_with_no_file_there_and_end_with_the_session(ssh, tmp_path):
    host = f"{getpass.getuser()}@127.0.0.1"
    launcher = launchers.SSH([host], per_node=2, python=sys.executable, cwd=str(tmp_path), ssh=ssh)
    with served(tmp_path) as file, headway.Client(file, output=False) as client:
        block = launcher.start(file)
        with pytest.raises(StartError, match="have their engines already"):
            launcher.start(file)
        wait_until(lambda: engines(client) == 2, "the engines")
        assert client.submit(os.getcwd).result(60) == str(tmp_path)
        assert launcher.status([block])[block].state is BlockState.RUNNING

        launcher.close()
        wait_until(lambda: engines(client) == 0, "the engines to leave")
    assert os.listdir(tmp_path) == []


def test_what_ssh_says_is_said(ssh, tmp_path):
    launcher = launchers.SSH(["nobody-of-that-name@127.0.0.1"], per_node=1, ssh=ssh)
    with served(tmp_path) as file:
        block = launcher.start(file)
        wait_until(lambda: launcher.status([block])[block].state.is_over, "ssh to end")
        told = launcher.status([block])[block]
        assert told.state is BlockState.FAILED
        assert "Permission denied" in told.text
        launcher.close()
