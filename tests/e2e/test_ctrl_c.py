"""Promise: Ctrl-C raises KeyboardInterrupt, wherever it comes, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.conftest import wait_until
from tests.processes import marked

STARTING = """
import pathlib, signal, sys, threading
import headway

CLIENT = str(pathlib.Path(headway.__file__).parent / "client")

def run_and_call(at_return):
    '''A Client starts; `at_return` is called with the place of each return in headway.client.'''
    def trace(frame, event, argument):
        if event == "return":
            at_return((frame.f_code.co_filename, frame.f_code.co_name))
        return trace if frame.f_code.co_filename.startswith(CLIENT) else None
    sys.settrace(trace)
    try:
        return headway.Client(engines=1)
    finally:
        sys.settrace(None)

headway.Client(engines=1).close()         # imports all that is imported late
places = {}
run_and_call(lambda place: places.setdefault(place)).close()

def interrupt_at(wanted):
    def at_return(place):
        if place == wanted and wanted in waiting:
            waiting.discard(wanted)
            signal.raise_signal(signal.SIGINT)
    waiting = {wanted}
    try:
        client = run_and_call(at_return)
    except KeyboardInterrupt:
        return True
    client.close()
    return False

# Those at the end of which more exists than before, and a sample of the others.
started = [p for p in places if p[1] in ("__init__", "start", "wait_welcomed", "connection_file")]
sample = list(dict.fromkeys([*started, *list(places)[::6]]))
interrupted = sum(map(interrupt_at, sample))
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(20)
print(interrupted, len(sample), threading.active_count(), flush=True)
sys.stdin.read()
"""


def test_ctrl_c_while_a_client_starts_leaves_neither_processes_nor_threads(nothing_left: str):
    process = subprocess.Popen(
        [sys.executable, "-c", STARTING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    # When the start is interrupted at many places, one after the other
    interrupted, tried, threads = map(int, process.stdout.readline().split())
    assert interrupted == tried > 10
    assert threads == 1
    # Then nothing is left, though the program goes on
    wait_until(lambda: len(marked(nothing_left)) == 1, "all but the program to end")
    _, err = process.communicate(timeout=60)
    assert (err, process.returncode) == ("", 0)


FULL = """
import os, signal, sys, threading, time
import headway
from headway.config import WireConfig

client = headway.Client(engines=1, wire=WireConfig(window_tasks=100))
client.wait_for_engines(1)
controller = client._link.process.pid
os.kill(controller, signal.SIGSTOP)       # nothing is acknowledged from here on

def press_ctrl_c():
    # The main thread waits for room: full, and it does not come any further.
    count = 0
    while not client._link.session.is_full or count != len(submitted):
        count = len(submitted)
        time.sleep(0.1)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

submitted = []
threading.Thread(target=press_ctrl_c).start()
try:
    while True:
        submitted.append(client.submit(abs, -len(submitted)))
except KeyboardInterrupt:
    print(len(submitted), flush=True)
os.kill(controller, signal.SIGCONT)
{then}
"""


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("then", "last"),
    [
        ("print(sum(client.gather(submitted)), client.submit(abs, -7).result())", "4950 7"),
        ("raise SystemExit('bye')", ""),
    ],
    ids=["and-goes-on", "and-ends"],
)
def test_ctrl_c_while_submit_waits_for_room_interrupts_it_and_harms_nothing(then: str, last: str):
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(then=then)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.split("\n")[:2] == ["100", last], done.stderr
    assert "Traceback" not in done.stderr
