"""Promise: the kernel's log and counters are read as they are written, and never in the way.

The log here is recorded: what Linux 6 wrote into /dev/kmsg when it ended a process.
"""

from __future__ import annotations

import errno
import os

from headway.engine.oom import OomWatch

RECORDED = (
    "4,1079,2899326931,-;Memory cgroup stats for /some/group:\n"
    "6,1082,2899326937,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,"
    "oom_memcg=/some/group,task_memcg=/some/group,task=python3,pid={pid},uid=0\n"
    "3,1083,2899326957,-;Memory cgroup out of memory: Killed process {pid} (python3) "
    "total-vm:407192kB, anon-rss:108160kB, file-rss:2972kB, shmem-rss:0kB, UID:0\n"
    " SUBSYSTEM=memory\n"
)
WHOLE_MACHINE = "3,1084,2899400000,-;Out of memory: Killed process {pid} (python3) total-vm:1kB\n"


def recorded_log(tmp_path):
    log = tmp_path / "kmsg"
    log.write_text(RECORDED.format(pid=41))  # before anybody looked
    return log


def append(log, text):
    with open(log, "a") as file:
        file.write(text)


def test_the_log_says_which_process_was_killed_and_in_what_words(tmp_path):
    log = recorded_log(tmp_path)
    watch = OomWatch(log)
    append(log, RECORDED.format(pid=42) + WHOLE_MACHINE.format(pid=43))
    count = watch.begin(40)
    assert watch.evidence(42, count).log.startswith(
        "Memory cgroup out of memory: Killed process 42 (python3) total-vm:407192kB"
    )
    assert watch.evidence(43, count).log.startswith("Out of memory: Killed process 43")
    assert watch.evidence(44, count).log == ""
    watch.close()


def test_what_the_log_said_before_does_not_count(tmp_path):
    log = recorded_log(tmp_path)
    watch = OomWatch(log)
    assert watch.evidence(41, 0).log == ""
    # Nor what it said of an earlier process of the same number
    append(log, RECORDED.format(pid=42))
    count = watch.begin(42)
    assert watch.evidence(42, count).log == ""
    watch.close()


def test_a_log_that_is_closed_to_us_is_no_evidence_and_no_error(tmp_path):
    watch = OomWatch(tmp_path / "nothing")
    assert watch.evidence(42, watch.begin(42)).log == ""
    watch.close()
    watch.close()


def test_a_log_that_breaks_while_it_is_read_is_given_up(tmp_path, monkeypatch):
    def broken(fd, count):
        raise OSError(errno.EIO, "no more")

    watch = OomWatch(recorded_log(tmp_path))
    monkeypatch.setattr(os, "read", broken)
    assert watch.evidence(42, watch.begin(42)).log == ""
    assert watch._fd is None


def test_a_count_that_grew_is_evidence_and_one_that_shrank_is_none(monkeypatch, tmp_path):
    counts = iter([5, 7, 3])
    monkeypatch.setattr("headway.engine.vitals.count_oom_kills", lambda: next(counts))
    watch = OomWatch(tmp_path / "nothing")
    before = watch.begin(42)
    assert watch.evidence(42, before).kills == 2
    assert watch.evidence(42, before).kills == 0
    watch.close()
