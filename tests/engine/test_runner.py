"""Promise: whatever a task does by raising or by returning, one outcome says so; and a signal
hits the run that it is meant for, or nothing. All in this process, without sockets."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

import headway
from headway import errors
from headway.config import ValuesConfig, WireConfig
from headway.core import events as ev
from headway.engine.gate import Gate
from headway.engine.keeper import Keeper
from headway.engine.output import Output
from headway.engine.queue import Assigned
from headway.engine.runner import Function, Runner
from headway.engine.status import (
    INTERRUPT_ASKED,
    INTERRUPT_OVERRAN,
    StatusReader,
    StatusWriter,
    create_status_file,
)
from headway.values.reading import Reader
from headway.wire import payload
from headway.wire.endpoint import ConnectionInfo
from headway.wire.messages import Assignment

BYTES_MAX = 100_000


def keeper():
    """One on a host without a store: everything travels."""
    config, wire = ValuesConfig(), WireConfig()
    return Keeper(
        Reader(ConnectionInfo("c", "ipc:///nowhere"), config, wire), None, config, BYTES_MAX
    )


class Bench:
    """A runner with what it needs, and the nanny's view of it."""

    def __init__(self):
        fd = create_status_file()
        self.status, self.seen = StatusWriter(fd), StatusReader(fd)
        os.close(fd)
        self.stops = []
        self.deadlines = []
        self.gate = Gate(self.status, lambda: self.stops.append(1))
        self.output = Output(lambda: None)
        self.runner = Runner(
            self.gate,
            self.output,
            keeper(),
            BYTES_MAX,
            lambda now, at: self.deadlines.append(at - now),
        )

    def assigned(self, function, *args, task=1, run_timeout_s=None):
        digest, pickled = payload.dump_function(function)
        arguments, _ = payload.dump_arguments(args, {})
        assignment = Assignment(task, 1, 0, arguments, run_timeout_s=run_timeout_s)
        return Assigned(assignment, Function(digest, pickled))

    def run(self, function, *args, **options):
        return self.runner.run(self.assigned(function, *args, **options))

    def interrupt(self, reason=INTERRUPT_ASKED):
        """What the nanny does, from within a task."""
        self.seen.interrupt(self.seen.read().run, reason)
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def bench():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    made = Bench()
    made.gate.install()
    global current
    current = made
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)
    made.status.close()
    made.seen.close()


#: The bench, for functions that were pickled by reference and run in this very process.
current: Bench


def look():
    status = current.seen.read()
    return status.busy, status.task


def raise_it(error):
    raise error


def told(outcome):
    return payload.load_exception(outcome.payload)


def test_a_result_comes_with_times_and_is_seen_as_running_meanwhile(bench):
    before_s = time.time()
    outcome = bench.run(look, task=42)
    assert (outcome.task, outcome.attempt, outcome.status) == (42, 1, ev.RAN)
    assert payload.load_result(outcome.payload) == (True, 42)
    assert before_s <= outcome.started_at_s <= time.time()
    assert outcome.run_s >= 0
    assert not bench.seen.read().busy


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        MemoryError(),
        RecursionError("deep"),
        errors.InvalidDependency("of another task"),
    ],
)
def test_every_exception_becomes_an_outcome_and_the_runner_lives_on(bench, error):
    outcome = bench.run(raise_it, error)
    assert outcome.status == ev.RAISED
    assert type(told(outcome)) is type(error)
    assert outcome.error.types[0].endswith(type(error).__name__)
    assert bench.run(pow, 2, 3).status == ev.RAN


def test_endless_recursion_is_an_exception_like_any_other():
    # In an engine's own process: how deep this one may still go depends on what ran in it before.
    with headway.Client(engines=1) as client, pytest.raises(RecursionError):
        client.submit(recurse).result(60)


def recurse():
    return recurse()


def test_the_traceback_begins_with_the_users_code(bench):
    text = str(told(bench.run(raise_it, ValueError("no"))).__cause__)
    assert "raise_it" in text
    assert "headway/engine" not in text


def test_an_exception_that_cannot_be_described_is_told_all_the_same(bench):
    outcome = bench.run(raise_it, Indescribable())
    assert outcome.status == ev.RAISED
    assert "Indescribable that could not be described" in str(told(outcome))


class TerminatesWhenDescribed(Exception):
    def __str__(self):
        if not current.gate.stopping:
            signal.raise_signal(signal.SIGTERM)
        return "described"


class Indescribable(Exception):
    def __str__(self):
        raise SystemExit


def test_a_result_that_cannot_be_pickled_names_function_and_type(bench):
    outcome = bench.run(threading.Lock)
    assert outcome.status == ev.RAISED
    assert isinstance(told(outcome), errors.SerializationError)
    assert "lock" in str(told(outcome))


def test_a_result_too_large_to_travel_is_an_error_of_the_task(bench):
    outcome = bench.run(bytes, BYTES_MAX + 1)
    assert isinstance(told(outcome), errors.SerializationError)
    assert f"{BYTES_MAX:,}" in str(told(outcome))


def test_an_exception_too_large_to_travel_is_replaced(bench):
    outcome = bench.run(raise_it, ValueError(b"x" * BYTES_MAX))
    assert outcome.status == ev.RAISED
    assert len(outcome.payload) < BYTES_MAX
    assert "ValueError that the task raised" in str(told(outcome))


def test_an_unmet_functional_dependency_is_a_refusal(bench):
    outcome = bench.run(raise_it, errors.UnmetDependency("needs a GPU"))
    assert (outcome.status, outcome.error.message) == (ev.REFUSED, "needs a GPU")


def test_a_function_that_was_never_sent_is_an_error_of_the_task(bench):
    item = Assigned(Assignment(1, 1, 0, b""), Function(b"\xab" * 16, None))
    outcome = bench.runner.run(item)
    assert outcome.status == ev.RAISED
    assert "abab" in str(told(outcome))
    assert "never sent" in str(told(outcome))


def test_a_function_that_does_not_load_raises_what_loading_it_raised(bench):
    # cmodule_that_is_missing.f, as pickle protocol 0 writes it
    item = Assigned(Assignment(1, 1, 0, b""), Function(b"d", b"cmodule_that_is_missing\nf\n."))
    for _ in range(2):  # the second time as well
        outcome = bench.runner.run(item)
        assert isinstance(told(outcome), ModuleNotFoundError)


def test_only_functions_known_to_be_short_are_taken_to_be_short(bench):
    item = bench.assigned(pow, 2, 3)
    assert item.function.run_mean_s == float("inf")
    bench.runner.run(item)
    assert item.function.run_mean_s < 1.0


# --- signals ------------------------------------------------------------------------------------


def interrupt_self(reason):
    current.interrupt(reason)
    return "ran on"


def interrupt_and_raise(reason):
    try:
        current.interrupt(reason)
    except KeyboardInterrupt:
        raise ValueError("clean-up failed") from None


def interrupt_and_return(reason):
    try:
        current.interrupt(reason)
    except KeyboardInterrupt:
        return "done anyway"


@pytest.mark.parametrize("function", [interrupt_self, interrupt_and_raise])
@pytest.mark.parametrize(
    ("reason", "status"), [(INTERRUPT_ASKED, ev.STOPPED), (INTERRUPT_OVERRAN, ev.OVERRAN)]
)
def test_an_interrupted_run_says_why(bench, function, reason, status):
    assert bench.run(function, reason).status == status
    assert bench.run(pow, 2, 3).status == ev.RAN


def interrupt_unheard(reason):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    current.interrupt(reason)
    return "heard nothing"


@pytest.mark.parametrize("function", [interrupt_and_return, interrupt_unheard])
@pytest.mark.parametrize(
    ("reason", "status"), [(INTERRUPT_ASKED, ev.STOPPED), (INTERRUPT_OVERRAN, ev.OVERRAN)]
)
def test_a_run_that_was_to_be_interrupted_has_no_result_whatever_it_returns(
    bench, function, reason, status
):
    outcome = bench.run(function, reason)
    assert (outcome.status, outcome.payload) == (status, b"")
    bench.gate.install()
    assert bench.run(pow, 2, 3).status == ev.RAN


def test_an_interrupt_between_tasks_is_harmless(bench):
    bench.run(pow, 2, 3)
    bench.interrupt()
    assert bench.run(pow, 2, 3).status == ev.RAN


def raise_sigint():
    signal.raise_signal(signal.SIGINT)
    return "ran on"


def test_an_interrupt_for_the_run_before_does_not_hit_this_one(bench):
    # Given an interrupt that names the first run
    bench.run(pow, 2, 3)
    bench.seen.interrupt(1, INTERRUPT_ASKED)
    # When its signal comes in the middle of the second
    outcome = bench.run(raise_sigint)
    # Then nobody was hit
    assert outcome.status == ev.RAN


def test_an_interrupt_that_comes_before_the_code_has_begun_is_not_lost(bench):
    bench.status.begin(1, 1.0)
    bench.interrupt()  # the gate is closed: nothing happens yet
    with pytest.raises(KeyboardInterrupt):
        bench.gate.enter("item")
    bench.gate.leave()


def test_a_stop_from_another_thread_hits_the_task_that_is_meant(bench):
    item = bench.assigned(stop_item_from_a_thread)
    bench.item = item
    assert bench.runner.run(item).status == ev.STOPPED


def test_a_stop_of_another_task_hits_nobody(bench):
    bench.item = bench.assigned(pow, 2, 3)
    outcome = bench.run(stop_item_from_a_thread)
    assert outcome.status == ev.RAN


def stop_item_from_a_thread():
    thread = threading.Thread(target=current.gate.stop, args=(current.item,))
    thread.start()
    thread.join()
    return "ran on"


def test_sigterm_ends_the_engine_and_leaves_the_task_running_in_the_status_file(bench):
    with pytest.raises(SystemExit):
        bench.run(signal.raise_signal, signal.SIGTERM, task=5)
    assert bench.gate.stopping
    assert (bench.seen.read().task, bench.seen.read().busy) == (5, True)


def terminate_and_raise():
    try:
        signal.raise_signal(signal.SIGTERM)
    except SystemExit:
        raise ValueError("clean-up failed") from None


def test_a_task_whose_clean_up_fails_at_sigterm_has_no_outcome_either(bench):
    with pytest.raises(SystemExit):
        bench.run(terminate_and_raise)


def test_a_task_that_raised_just_before_sigterm_has_its_outcome(bench):
    # Given SIGTERM while the exception is being described, when the task's code has ended
    outcome = bench.run(raise_it, TerminatesWhenDescribed())
    assert outcome.status == ev.RAISED
    assert bench.gate.stopping


def test_sigterm_between_tasks_wakes_the_main_thread(bench):
    signal.raise_signal(signal.SIGTERM)
    assert (bench.gate.stopping, bench.stops) == (True, [1])


def test_signal_handlers_that_a_task_left_behind_are_taken_back(bench):
    bench.run(signal.signal, signal.SIGINT, signal.SIG_IGN)
    bench.gate.install()
    assert bench.run(interrupt_self, INTERRUPT_ASKED).status == ev.STOPPED


def test_a_time_limit_is_announced_and_stands_in_the_status_file(bench):
    bench.run(pow, 2, 3, run_timeout_s=30.0)
    assert bench.deadlines == [pytest.approx(30.0)]
    assert bench.seen.read().deadline_s > time.monotonic()
