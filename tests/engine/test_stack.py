"""Promise: of a stack that was written down, the user's frames are shown, innermost first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

from headway.engine import stack

OURS = """\
  File "/x/headway/engine/runner.py", line 113 in run
  File "/x/headway/engine/process.py", line 132 in _run_tasks
  File "/x/headway/engine/process.py", line 108 in run
  File "/x/headway/engine/__main__.py", line 50 in main
  File "<frozen runpy>", line 88 in _run_code
"""

ASKED = f"""\
Thread 0x00007f0b8cdfd6c0 (most recent call first):
  File "/x/zmq/sugar/socket.py", line 975 in recv_multipart
  File "/x/headway/engine/process.py", line 180 in _receive
  File "/usr/lib/python3.11/threading.py", line 1045 in _bootstrap_inner

Thread 0x00007f0b8d5fe6c0 (most recent call first):
  File "/x/user.py", line 7 in worker
  File "/usr/lib/python3.11/threading.py", line 1045 in _bootstrap_inner

Current thread 0x00007f0b8e2c4b80 [python] (most recent call first):
  File "/x/user.py", line 3 in inner
  File "/x/user.py", line 5 in task
{OURS}"""


def test_the_task_comes_first_then_its_threads_and_nothing_of_ours():
    assert stack.trimmed(ASKED) == [
        'File "/x/user.py", line 3 in inner',
        'File "/x/user.py", line 5 in task',
        "Thread 0x00007f0b8d5fe6c0:",
        '  File "/x/user.py", line 7 in worker',
        '  File "/usr/lib/python3.11/threading.py", line 1045 in _bootstrap_inner',
    ]


def test_what_a_task_calls_of_ours_is_shown_as_its_own():
    text = f"""\
Current thread 0x1 (most recent call first):
  File "/x/headway/engine/output.py", line 120 in write
  File "/x/user.py", line 5 in task
{OURS}"""
    assert stack.trimmed(text) == [
        'File "/x/headway/engine/output.py", line 120 in write',
        'File "/x/user.py", line 5 in task',
    ]


def test_an_engine_between_tasks_shows_nothing():
    text = """\
Current thread 0x1 (most recent call first):
  File "/x/headway/engine/process.py", line 127 in _run_tasks
"""
    assert stack.trimmed(text) == []
    assert stack.trimmed("") == []
    assert stack.trimmed("what is this?") == []


def test_a_stack_without_end_is_cut():
    frames = "\n".join(f'  File "/x/user.py", line {n} in deeper' for n in range(100))
    text = f"Current thread 0x1 (most recent call first):\n{frames}\n  ...\n"
    assert len(stack.trimmed(text)) == 30


def test_a_real_crash_is_read_from_the_file_and_an_answer_from_before_is_not_taken_for_it():
    script = textwrap.dedent(
        """
        import os, signal, sys
        from headway.engine import stack
        stack.write_to(int(sys.argv[1]))
        def answer():
            signal.raise_signal(stack.STACK_SIGNAL)
        def crash():
            signal.raise_signal(signal.SIGSEGV)
        answer()
        crash()
        """
    )
    fd = stack.create_stack_file()
    try:
        done = subprocess.run([sys.executable, "-c", script, str(fd)], pass_fds=[fd])
        assert done.returncode == -signal.SIGSEGV
        crashed = "\n".join(stack.read(fd, crashed=True))
        assert "in crash" in crashed
        assert "in answer" not in crashed
        stack.empty(fd)
        assert stack.read(fd, crashed=True) == []
        # What was only asked for is no crash
        os.write(fd, ASKED.encode())
        assert stack.read(fd, crashed=True) == []
        assert stack.read(fd, crashed=False) == stack.trimmed(ASKED)
    finally:
        os.close(fd)
