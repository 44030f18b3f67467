"""Promise: a death is told in words that a user can act on, and claims nothing without evidence."""

from __future__ import annotations

import os

import pytest

from headway.engine import vitals
from headway.engine.death import Tail, describe_end, format_bytes


@pytest.mark.parametrize(
    ("exit_code", "rss", "expected"),
    [
        (-9, 1_234_000_000, "killed by SIGKILL, peak RSS 1.2 GB"),
        (-11, 0, "killed by SIGSEGV"),
        (-40, 0, "killed by signal 40"),
        (3, 45_600_000, "exited with code 3, peak RSS 45.6 MB"),
    ],
)
def test_signal_or_exit_code_and_memory_are_told(exit_code, rss, expected):
    assert describe_end(exit_code, rss) == expected


def test_want_of_memory_is_told_where_the_kernel_counted_a_kill():
    assert "out-of-memory killer ended 1 process" in describe_end(-9, 1, oom_kills=1)


@pytest.mark.parametrize(("exit_code", "oom_kills"), [(-9, 0), (-11, 1), (1, 1)])
def test_want_of_memory_is_not_told_without_evidence(exit_code, oom_kills):
    assert "memory" not in describe_end(exit_code, 1, oom_kills=oom_kills)


def test_the_last_lines_follow():
    assert describe_end(1, 0, tail=["a", "b"]) == (
        "exited with code 1; its last output:\n    a\n    b"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999 B"), (1000, "1.0 kB"), (99_960, "100 kB"), (999_600, "1.0 MB"), (5e12, "5.0 TB")],
)
def test_bytes_read_as_people_write_them(count, text):
    assert format_bytes(count) == text


def test_a_tail_keeps_the_last_lines_of_both_streams():
    tail = Tail(3)
    tail.add("stdout", "1\n2\n3")
    tail.add("stderr", "e1\n")
    tail.add("stdout", "x\nlast, and not ended")
    assert tail.lines() == ["e1", "3x", "last, and not ended"]


def test_a_tail_is_bounded_whatever_is_written():
    tail = Tail(2)
    tail.add("stdout", "y" * 10_000)
    tail.add("stdout", "z" * 10_000 + "\n\n\n")
    assert [len(line) for line in tail.lines()] == []  # the two last lines are empty
    tail.add("stdout", "y" * 10_000 + "\nend\n")
    assert [len(line) for line in tail.lines()] == [503, 3]


def test_memory_of_a_process_is_read_and_is_zero_for_one_that_is_gone():
    assert vitals.rss_bytes(os.getpid()) > 1_000_000
    assert vitals.rss_bytes(2**22 + 1) == 0


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("0::/a/b", "sys/a/b/memory.events", "low 0\noom 2\noom_kill 5\n"),
        ("4:memory:/x", "sys/memory/x/memory.oom_control", "under_oom 0\noom_kill 5\n"),
        # In a container: the group as it is named outside, its files at the root
        ("0::/docker/x", "sys/memory.events", "oom_kill 5\n"),
        ("4:memory:/docker/x", "sys/memory/memory.oom_control", "oom_kill 5\n"),
        # Both kinds, and only the old one has the memory controller
        ("4:memory:/x\n0::/", "sys/memory/x/memory.oom_control", "oom_kill 5\n"),
        ("", "proc/vmstat", "pgfault 1\noom_kill 5\n"),
    ],
)
def test_kills_for_want_of_memory_are_counted_where_the_system_counts(tmp_path, cgroup, file, text):
    for path, content in (("proc/self/cgroup", cgroup), (file, text)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    assert vitals.count_oom_kills(tmp_path / "sys", tmp_path / "proc") == 5


def test_a_system_that_does_not_count_kills_counts_none(tmp_path):
    assert vitals.count_oom_kills(tmp_path / "sys", tmp_path / "proc") == 0
