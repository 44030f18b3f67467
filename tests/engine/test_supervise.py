"""The rules of a nanny by themselves: no process, and a clock that the test moves."""

from __future__ import annotations

import errno
import os

import pytest

from headway.config import EngineConfig
from headway.engine import child as child_module
from headway.engine import supervise
from headway.engine.child import Child, End
from headway.engine.death import Tail
from headway.engine.oom import OomWatch
from headway.engine.starter import EngineCommand, Starter
from headway.engine.status import Status
from headway.engine.supervise import Supervisor
from headway.wire import messages as m

CONFIG = EngineConfig()
EAGAIN = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
NO_FOLDER = FileNotFoundError(errno.ENOENT, "No such file or directory", "/gone")


class FakeChild:
    """An engine that does what the test says."""

    streams: dict = {}
    oom_kills_before = 0
    pid = None

    def __init__(self, token, tail_lines, *, stands_in=False):
        self.token = token
        self.stands_in = stands_in
        self.started_at_s = 0.0
        self.tail = Tail(tail_lines)
        self.is_ready = False
        self.runs = 0
        self.end = None

    def status(self):
        return Status(self.is_ready, self.runs, False, None, 0.0, 0.0, 0.0)

    def fds(self):
        return []

    def terminate(self):
        self.end = End(0, 0)

    def kill(self):
        self.end = End(-9, 0)

    def has_stack(self):
        return True

    def stack(self, crashed):
        return []

    def reap_if_dead(self):
        return self.end

    def close(self):
        pass


class FakeStarter:
    """Launches at once, or is refused by the system, as the test says."""

    def __init__(self, host, failed):
        self._host = host
        self._failed = failed

    def start(self, child, now_s):
        refusal = self._host.refusals.pop(0) if self._host.refusals else None
        if refusal is not None:
            self._failed(child, str(refusal), now_s)
            return
        child.pid, child.started_at_s = 1, now_s
        self._host.children.append(child)

    def fds(self):
        return []

    def on_readable(self, now_s):
        pass

    def on_children_changed(self, pids, now_s):
        pass

    def on_time(self, now_s):
        pass

    def next_due_s(self):
        return supervise.NEVER_S


class Host:
    """A supervisor, and the host on which it starts engines. `refusals` are what the next starts
    meet: an OSError, or None for none."""

    def __init__(self, monkeypatch, **config):
        self.refusals = []
        self.children = []
        self.said = []
        self.now_s = 100.0
        monkeypatch.setattr(supervise, "Child", FakeChild)
        monkeypatch.setattr(
            supervise, "Starter", lambda command, config, oom, failed: FakeStarter(self, failed)
        )
        command = EngineCommand(["engine"], [], {})
        self.supervisor = Supervisor(command, EngineConfig(**config), self.said.append)

    def start(self, engines):
        for _ in range(engines):
            self.supervisor.start(self.now_s)

    def pass_time(self):
        """Until something is due."""
        self.now_s = max(self.now_s, self.supervisor.next_due_s(self.now_s))
        self.supervisor.on_time(self.now_s)

    def end(self, child, exit_code=1):
        child.end = End(exit_code, 0)
        self.reap()

    def reap(self):
        self.supervisor.on_children_changed(self.now_s)

    @property
    def living(self):
        return [child for child in self.children if child.end is None]

    @property
    def failures(self):
        return [message.text for message in self.said if isinstance(message, m.EnginesFailed)]


@pytest.fixture
def host(monkeypatch):
    return Host(monkeypatch)


def test_a_start_that_the_system_refused_is_tried_again_after_a_pause(host):
    host.refusals = [EAGAIN]
    host.start(4)
    assert not host.children
    assert host.supervisor.next_due_s(host.now_s) == host.now_s + CONFIG.start_pause_s
    host.pass_time()
    assert len(host.living) == 4
    assert not host.failures


def test_pauses_double_and_after_so_many_refusals_it_gives_up_and_says_why(host):
    host.refusals = [EAGAIN, NO_FOLDER, NO_FOLDER]
    host.start(2)
    times_s = [host.now_s]
    while not host.failures:
        host.pass_time()
        times_s.append(host.now_s)
    pause_s = CONFIG.start_pause_s
    assert times_s == [100.0, 100.0 + pause_s, 100.0 + 3 * pause_s]
    assert host.failures == [
        "3 engines in a row did not get to a first task; the last one could not be started: "
        "[Errno 2] No such file or directory: '/gone'"
    ]
    # Then nothing is started any more
    host.start(1)
    assert host.supervisor.next_due_s(host.now_s) == supervise.NEVER_S
    assert not host.children


def test_a_replacement_that_the_system_refuses_leaves_the_others_running(host):
    host.start(2)
    for child in host.children:
        child.is_ready, child.runs = True, 5
    host.pass_time()
    host.refusals = [NO_FOLDER] * 3
    host.end(host.children[0], exit_code=-9)
    while not host.failures:
        host.pass_time()
    assert host.living == [host.children[1]]
    assert "No such file or directory" in host.failures[0]


def test_a_slow_start_counts_as_one_failure_and_another_engine_takes_its_place(host):
    host.start(1)
    host.pass_time()
    assert host.now_s == 100.0 + CONFIG.start_timeout_s
    host.pass_time()
    host.reap()
    assert not host.failures
    (replacement,) = host.living
    replacement.is_ready, replacement.runs = True, 1
    host.supervisor.on_time(host.now_s)
    # Then that one, which came to its task, has made good for it
    for _ in range(2):
        host.end(host.living[0])
    assert not host.failures


def test_only_slow_starts_in_a_row_are_given_up(host):
    host.start(1)
    while not host.failures:
        host.pass_time()
        host.reap()
    assert len(host.children) == CONFIG.start_failures_max
    assert "the last one was not ready 30 s after its start" in host.failures[0]
    assert not host.living


def test_that_it_gave_up_is_told_when_no_engine_is_on_its_way_any_more(host):
    # Given one engine that starts slowly, beside others that fail at once
    host.start(2)
    slow = host.children[0]
    for _ in range(3):
        host.end(host.living[1])
    assert host.living == [slow]
    assert not host.failures
    # When that one has become ready, Then it is told, since no other will come
    slow.is_ready = True
    host.supervisor.on_time(host.now_s)
    assert len(host.failures) == 1


def test_that_it_gave_up_is_told_when_the_last_on_its_way_has_failed_too(host):
    host.start(2)
    for _ in range(3):
        host.end(host.living[1])
    assert not host.failures
    host.end(host.living[0])
    assert len(host.failures) == 1
    assert "exited with code 1" in host.failures[0]


def test_nothing_is_told_of_starts_once_all_engines_are_to_stop(host):
    host.start(2)
    for _ in range(3):
        host.end(host.living[1])
    host.supervisor.stop_all("the cluster stops", host.now_s)
    host.reap()
    assert not len(host.supervisor)
    assert not host.failures


@pytest.mark.parametrize("interpreter", ["/no/such/python", "/no/such/wrapper"])
def test_a_start_that_fails_leaves_no_descriptor_open(monkeypatch, interpreter):
    def count():
        return len(os.listdir("/dev/fd"))

    failed = []
    before = count()
    oom = OomWatch()
    starter = Starter(
        EngineCommand([interpreter], [], {}), CONFIG, oom, lambda *why: failed.append(why)
    )
    child = Child("token", 5)
    starter.start(child, 0.0)
    assert failed == [(child, f"[Errno 2] No such file or directory: '{interpreter}'", 0.0)]
    child.close()
    starter.close()
    oom.close()
    assert count() == before


def test_an_engine_for_which_no_files_are_left_leaves_none_open(monkeypatch):
    def count():
        return len(os.listdir("/dev/fd"))

    real, left = os.pipe, [1, 2]

    def refuse():
        if not left:
            raise OSError(errno.EMFILE, "Too many open files")
        left.pop()
        return real()

    before = count()
    monkeypatch.setattr(child_module.os, "pipe", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        Child("token", 5)
    monkeypatch.undo()
    assert count() == before


def test_one_that_stands_in_is_not_replaced_when_it_has_ended(host):
    host.start(1)
    host.supervisor.start(host.now_s, stands_in=True)
    own, other = host.living
    assert [own.stands_in, other.stands_in] == [False, True]
    for child in host.living:
        child.is_ready, child.runs = True, 1
    host.supervisor.on_time(host.now_s)
    host.end(other, exit_code=-9)
    host.supervisor.on_time(host.now_s)
    assert host.living == [own]
