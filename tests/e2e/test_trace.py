"""Promise: what a cluster ran can be seen afterwards, for Perfetto, with a critical path whose
parts are all of the time; a controller that was killed knows less, and says so."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

import headway
from tests.e2e.conftest import wait_until
from tests.traces.made import check_chrome


def work(*inputs: Any) -> int:
    return 1 + sum(inputs)


def fail_once(marker: str) -> str:
    if not os.path.exists(marker):
        with open(marker, "w", encoding="utf-8"):
            raise ValueError("the first time")
    return marker


def test_a_graph_is_traced_with_its_dependencies(client: headway.Client, tmp_path):
    first = client.options(label="first").submit(work)
    middle = client.map(work, [first] * 20)
    last = client.options(after=middle, label="last").submit(work, middle[3])
    again = client.options(retries=1).submit(fail_once, str(tmp_path / "marker"))
    assert client.gather([last, again])

    trace = client.trace([first, middle, last, again])

    trace.save(tmp_path / "trace.json")
    slices = check_chrome(json.loads((tmp_path / "trace.json").read_text(encoding="utf-8")))
    assert len(slices) == 1 + 20 + 1 + 2
    by_id = {task.id: task for task in trace.tasks}
    assert by_id[first.id].name == "first"
    assert by_id[middle[0].id].name == "work"
    assert by_id[middle[0].id].upstreams == [first.id]
    assert [attempt.end for attempt in by_id[again.id].attempts] == ["raised", "succeeded"]
    assert by_id[last.id].after in {future.id for future in middle}
    for task in trace.tasks:
        assert task.state == "succeeded"
        assert 0 <= task.submitted_s <= task.ready_s <= task.ended_s
        for attempt in task.attempts:
            assert attempt.assigned_s <= attempt.started_s <= attempt.ended_s <= attempt.heard_s
            assert attempt.engine in {engine.id for engine in client.engines()}
    path = client.trace([first, middle, last]).critical_path()
    assert path.run_s + sum(path.waited_s.values()) == pytest.approx(path.took_s)
    assert [step.id for step in path.steps] == [first.id, by_id[last.id].after, last.id]
    assert path.chain[0] == first.id
    # Of a group the one that ended last counts: another of it may have run for longer than `last`.
    assert path.chain[-1] in {last.id, *(future.id for future in middle)}
    figures = trace.summary()
    assert figures.states == {"succeeded": 23}
    assert figures.attempts == 24
    assert figures.busy_s + figures.idle_s == pytest.approx(2 * figures.took_s)
    assert repr(trace).startswith("<Trace of 23 tasks in ")


def test_without_names_it_is_of_all_tasks_of_this_client(client: headway.Client):
    mine = client.submit(work)
    mine.result()
    with headway.Client(client.connection_file) as other:
        theirs = other.submit(work)
        theirs.result()
        assert [task.id for task in other.trace().tasks] == [theirs.id]
        assert [task.id for task in other.trace(mine.id).tasks] == [mine.id]
    assert theirs.id not in {task.id for task in client.trace().tasks}


def test_what_is_asked_for_and_not_there_is_said(client: headway.Client, tmp_path):
    gate = tmp_path / "gate"
    done = client.submit(work)
    waits = client.submit(wait_for, str(gate))
    done.result()
    try:
        notes = client.trace([done, waits]).notes
        assert "1 of the 2 tasks asked for are not in it" in notes
    finally:
        gate.touch()
    waits.result()
    with pytest.raises(TypeError, match="trace takes futures"):
        client.trace(3.5)


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


def test_a_controller_that_was_killed_knows_what_ran_since(nothing_left: str):
    with headway.Client(engines=1, durability="normal") as client:
        client.submit(work).result()
        assert client.trace().notes == []
        os.kill(client._link.process.pid, signal.SIGKILL)
        after = client.submit(work)
        after.result()
        trace = client.trace()
        assert [task.id for task in trace.tasks] == [after.id]
        assert any("was started again" in note for note in trace.notes)
    wait_until(lambda: client.closed, "the client to be closed")
