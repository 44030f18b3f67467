"""Promise: the benchmarks of IPython clusters run, count what they say, judge by their figures, and
leave no process behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.house import source

BENCHMARKS = source.ROOT / "benchmarks"
DEADLINE_S = 120.0
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark of the schedulers, as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ipyparallel_scheduler

    return ipyparallel_scheduler


@pytest.mark.parametrize("name", ["STOCK", "HEADWAY", "PURE"])
def test_a_rate_is_that_of_tasks_which_were_all_answered(benchmark, name):
    rate = benchmark.rate(getattr(benchmark, name), 2, 1, 30)

    assert rate.tasks_per_s > 0
    assert rate.tasks_per_cpu_s > 0


def test_submissions_are_counted_while_the_engines_hold_their_answers(benchmark):
    assert benchmark.accept_rate(benchmark.HEADWAY, 2, 30).tasks_per_s > 0


@pytest.mark.parametrize("shape", ["independent", "chain", "targeted", "layered"])
def test_a_short_queue_is_worked_off_more_than_once(benchmark, monkeypatch, shape):
    monkeypatch.setattr(benchmark, "TASKS_MIN", 100)
    monkeypatch.setitem(benchmark.ENGINES, "layered", 2)

    drained = benchmark.queue_cost(benchmark.HEADWAY, shape, 50, DEADLINE_S)

    assert drained.ended == 50
    assert drained.us_a_task > 0


def test_a_queue_that_exceeds_its_budget_says_how_many_ended(benchmark):
    drained = benchmark.queue_cost(benchmark.STOCK, "chain", 300, 0.0)

    assert drained.ended < 300


def test_memory_is_that_of_a_task(benchmark):
    assert benchmark.waiting_bytes(benchmark.HEADWAY, 500) > 0
    assert benchmark.finished_bytes(benchmark.HEADWAY, 500) < 1_000_000


def rate_row(stock, headway):
    figures = {"ipyparallel": stock, "headway": headway, "pure ZMQ": [1e6] * len(stock)}
    return {"engines": 4, "hwm": 1, "tasks_per_cpu_s": figures}


def queue_row(stock, headway):
    return {"ipyparallel": {"us_a_task": stock}, "headway": {"us_a_task": headway}}


def test_a_rate_is_judged_by_the_median_ratio(benchmark):
    import ipyparallel_criteria

    results = {"rate": [rate_row([100, 100, 100], [900, 510, 100]), rate_row([100], [499])]}
    five, less = ipyparallel_criteria.criteria(results)

    assert five.met
    assert "5.10 x" in str(five)
    assert not less.met
    assert "4.99 x" in str(less)
    assert "MISSED" in str(less)


def test_a_queue_is_judged_by_its_dearest_and_cheapest_length(benchmark):
    import ipyparallel_criteria

    flat = queue_row({100: [300], 1000: [3000]}, {100: [10, 99, 11], 1000: [12], 10000: [16]})
    grown = queue_row({100: [300]}, {100: [10], 1000: [16]})
    one_length = queue_row({100: [300]}, {100: [10]})
    results = {"queue": {"flat": flat, "grown": grown, "one": one_length}}
    first, second, third = ipyparallel_criteria.criteria(results)

    assert first.met
    assert "1.45 x (ipyparallel to 1,000: 10.00 x)" in first.measured
    assert not second.met
    assert not third.met


def test_what_was_not_measured_is_said(benchmark, capsys):
    import ipyparallel_criteria

    ipyparallel_criteria.print_criteria({})

    assert "not measured in this run: rate, queue" in capsys.readouterr().out


def test_figures_of_other_benchmarks_in_the_file_stay(benchmark, tmp_path):
    import timing

    timing.write_json(tmp_path / "figures.json", "one", {"tasks": 1})
    timing.write_json(tmp_path / "figures.json", "two", {"tasks": 2})

    found = json.loads((tmp_path / "figures.json").read_text())
    assert {name: part["tasks"] for name, part in found.items()} == {"one": 1, "two": 2}


def end_to_end(*arguments):
    command = [sys.executable, str(BENCHMARKS / "ipyparallel_end_to_end.py"), "--engines", "1"]
    return subprocess.Popen(
        [*command, "--quick", "--repetitions", "1", "--tasks", "20", "--trips", "2", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_both_schedulers_are_measured_end_to_end(home):
    benchmark = end_to_end("--json", str(home / "figures.json"))
    out, err = benchmark.communicate(timeout=DEADLINE_S)

    assert benchmark.returncode == 0, out + err
    figures = json.loads((home / "figures.json").read_text())["end_to_end"]
    for part in ("independent", "layered", "round_trip_ms"):
        assert {"ipyparallel", "headway"} <= set(figures[part]), part
    assert figures["independent"]["headway"][0]["cpu_s"]["task scheduler"] > 0
    assert "round trip of one task" in out


def test_an_interrupted_benchmark_leaves_no_process_behind(home):
    benchmark = end_to_end()
    started = set()
    while benchmark.poll() is None and len(started) < 10:  # a controller, and an engine
        started |= set(psutil.Process(benchmark.pid).children(recursive=True))
        time.sleep(0.02)
    benchmark.send_signal(signal.SIGINT)
    _, err = benchmark.communicate(timeout=DEADLINE_S)
    _, alive = psutil.wait_procs(started, timeout=DEADLINE_S / 4)

    assert benchmark.returncode == 130, err
    assert started
    assert not alive
