"""Promise: a process is told from all others, also from a later one of the same id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from headway import processes
from headway.processes import is_running, process_identity, send_signal, wait_end

WAIT_S = 20.0


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture(params=["as the system can", "without pidfd"])
def system(request, monkeypatch):
    if request.param == "without pidfd":
        monkeypatch.delattr(os, "pidfd_open", raising=False)


def test_the_identity_of_a_process_stays_the_same_while_it_runs(child):
    identity = process_identity(child.pid)
    assert identity.split()[0] == str(child.pid)
    assert identity == process_identity(child.pid) != process_identity(os.getpid())
    assert is_running(identity)


def test_a_process_that_ended_is_not_running_also_if_nobody_has_waited_for_it(child):
    identity = process_identity(child.pid)
    child.kill()
    assert wait_end(identity, WAIT_S)
    assert not is_running(identity)
    assert process_identity(child.pid) == ""
    child.wait()
    assert process_identity(child.pid) == ""


def test_a_later_process_of_the_same_id_is_another(child, system):
    earlier = process_identity(child.pid).replace(" ", " 1", 1)
    assert not is_running(earlier)
    assert wait_end(earlier, WAIT_S)
    send_signal(earlier, signal.SIGKILL)
    assert is_running(process_identity(child.pid))


def test_a_signal_arrives_and_the_end_is_seen(child, system):
    identity = process_identity(child.pid)
    assert not wait_end(identity, 0.01)
    send_signal(identity, signal.SIGTERM)
    assert wait_end(identity, WAIT_S)
    assert child.wait() == -signal.SIGTERM
    send_signal(identity, signal.SIGTERM)


@pytest.mark.parametrize("identity", ["", "0 1", "-5 1", "words", "4194304999 1"])
def test_what_names_no_process_is_not_running(identity, system):
    assert not is_running(identity)
    assert wait_end(identity, WAIT_S)
    send_signal(identity, signal.SIGKILL)


@pytest.mark.skipif(not os.path.exists("/bin/ps"), reason="there is no ps")
def test_a_system_without_proc_is_asked_by_ps(child, monkeypatch):
    monkeypatch.setattr(processes, "_PROC", processes.Path("/no/such/folder"))
    identity = process_identity(child.pid)
    assert identity.split()[0] == str(child.pid)
    assert is_running(identity)
    child.kill()
    assert wait_end(identity, WAIT_S)
    assert process_identity(os.getpid()) != ""
