"""Promise: no message grows beyond what its receiver takes, whatever is in it; a task that no
message can carry ends, in words, and nothing else is disturbed.

A peer breaks the connection on which a larger frame than `frame_bytes_max` comes; so each of
these hears what it should, or the test fails at its deadline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from headway.config import SchedulerConfig
from headway.core import events as ev
from headway.core.events import ErrorInfo, Outcome, TaskId, TaskSpec
from headway.core.problems import KIND_TOO_LARGE
from headway.core.states import TaskState
from headway.wire import messages as m
from tests.controller.conftest import DIGEST, WIRE, Kit, Peer, ran

LARGE = WIRE.inline_bytes_max + 1
#: Frames of some MB, so that a test need not send GB.
SMALL_FRAMES = dataclasses.replace(WIRE, frame_bytes_max=4 << 20)
NO_LIMIT = SchedulerConfig(hwm=0)

StartKit = Callable[..., Kit]


def hear_assigned(engine: Peer, count: int) -> list[m.Assignment]:
    """All assignments, once there are `count`."""
    tasks: list[m.Assignment] = []
    while len(tasks) < count:
        tasks += engine.hear(m.Assigned).tasks
    return tasks


def run_one(kit: Kit, client: Peer, engine: Peer, result: bytes) -> TaskId:
    """Submit a task and let it return `result`; its id."""
    (task,) = client.submit()
    kit.results_of(engine).say(ran(engine.hear(m.Assigned), payload=result))
    client.hear(m.Results)
    return task


def test_large_functions_arguments_and_inputs_of_one_task_all_arrive_in_their_places(kit: Kit):
    client, engine = kit.client(), kit.engine()
    inputs = [run_one(kit, client, engine, bytes([n]) * LARGE) for n in (1, 2)]
    # Given one that begins with a function that is known, and ends with one that is new
    specs = [client.spec() for _ in range(2)]
    for spec, letter in zip(specs, (b"a", b"b"), strict=True):
        spec.payload, spec.inputs = letter * LARGE, inputs
    specs[1].function = 1
    client.say(m.Submit(3, [DIGEST, b"another"], [], specs, {b"another": b"f" * LARGE}))
    assigned = engine.hear(m.Assigned)
    assert assigned.new_functions == {b"another": b"f" * LARGE}
    for task, letter in zip(assigned.tasks, (b"a", b"b"), strict=True):
        assert task.payload == letter * LARGE
        assert task.inputs == [b"\x01" * LARGE, b"\x02" * LARGE]


def test_any_number_of_small_inputs_reaches_the_engine(start_kit: StartKit):
    kit = start_kit(wire=SMALL_FRAMES)
    client, engine = kit.client(), kit.engine()
    values = [bytes([n]) * 60_000 for n in range(100)]
    inputs = [run_one(kit, client, engine, value) for value in values]
    (spec,) = specs = [client.spec()]
    spec.inputs = inputs
    client.submit_specs(specs)
    (task,) = hear_assigned(engine, 1)
    assert task.inputs == values


def test_any_number_of_small_functions_reaches_the_engine(start_kit: StartKit):
    kit = start_kit(wire=SMALL_FRAMES, scheduler=NO_LIMIT)
    client = kit.client()
    for n in range(100):
        spec = client.spec()
        client.say(m.Submit(n + 1, [b"f%d" % n], [], [spec], {b"f%d" % n: b"f" * 60_000}))
        client.hear(m.Accepted)
    engine = kit.engine()
    assert len(hear_assigned(engine, 100)) == 100


def test_any_number_of_long_problems_reaches_the_client(start_kit: StartKit):
    kit = start_kit(wire=SMALL_FRAMES, scheduler=NO_LIMIT)
    client, engine = kit.client(), kit.engine()
    client.submit(3_000)
    error = ErrorInfo(["builtins.ValueError"], "x" * 2_000)
    tasks = hear_assigned(engine, 3_000)
    for start in range(0, 3_000, 1_000):
        outcomes = [
            Outcome(task.task, 1, ev.RAISED, b"exception", error=error)
            for task in tasks[start : start + 1_000]
        ]
        engine.say(m.Outcomes(0, outcomes))
    assert kit.router.poll(10_000)
    ended: list[m.Result] = []
    while len(ended) < 3_000:
        ended += client.hear(m.Results).results
    assert [result.task for result in ended] == [task.task for task in tasks]


def test_a_task_that_no_message_can_carry_ends_in_words_and_others_run(start_kit: StartKit):
    kit = start_kit(wire=dataclasses.replace(WIRE, frame_bytes_max=100_000))
    client, engine = kit.client(), kit.engine()
    upstream = run_one(kit, client, engine, b"value")
    before, enormous, after = specs = [client.spec() for _ in range(3)]
    enormous.inputs = [upstream] * 10_300
    client.submit_specs(specs)
    results = client.hear(m.Results, also=[m.Accepted]).results
    assert [(r.task, r.state) for r in results] == [(enormous.id, TaskState.IMPOSSIBLE)]
    problem = results[0].problem
    assert problem.kind == KIND_TOO_LARGE
    assert "can't be sent to an engine: the list of its 10,300 inputs takes" in problem.text
    assert "at most 100,000 may travel in one frame" in problem.text
    assert [task.task for task in hear_assigned(engine, 2)] == [before.id, after.id]


def test_a_task_just_below_that_is_sent(start_kit: StartKit):
    kit = start_kit(wire=dataclasses.replace(WIRE, frame_bytes_max=100_000))
    client, engine = kit.client(), kit.engine()
    upstream = run_one(kit, client, engine, b"v" * 1_000)
    spec: TaskSpec = client.spec()
    spec.inputs = [upstream] * 9_900
    client.submit_specs([spec])
    (task,) = hear_assigned(engine, 1)
    assert task.inputs == [b"v" * 1_000] * 9_900
